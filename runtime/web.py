"""One way to speak HTTP for everything a kiosk does: releases, events, visitors.

Proxies come from the environment (``HTTPS_PROXY``, ``HTTP_PROXY``, ``NO_PROXY``), certificates from
the settings. No redirect is followed: a captive portal answers by one, and a repository needs none.
"""

import ssl
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from c2rec.runtime.errors import IdentityError
from c2rec.runtime.settings import SETTINGS, Settings

USER_AGENT = "c2rec-kiosk"


def web_pool(url: str, settings: Settings, *, attempts: int = 3) -> urllib3.PoolManager:
    """Make the pool of connections to the server of a URL.

    Args:
        url: http or https; only its server is looked at.
        settings: certificates and timeouts.
        attempts: how often a request is tried that no server has answered. What was sent once
            and got an answer, of whatever status, is not sent again.

    Returns:
        A pool; the caller clears it. Its requests raise urllib3's HTTPError. They follow no
        redirect: the answer with its 3xx comes back.

    Raises:
        IdentityError: a certificate or key can't be used, or a proxy is no URL.
    """
    parts = urlsplit(url)
    options = {
        "num_pools": 4,
        "maxsize": 4,
        "headers": {"User-Agent": USER_AGENT},
        "timeout": urllib3.Timeout(connect=settings.connect_timeout, read=settings.read_timeout),
        "retries": urllib3.Retry(
            attempts - 1, redirect=False, status=0, backoff_factor=0.2, raise_on_status=False
        ),
        "ssl_context": _context(settings) if parts.scheme == "https" else None,
    }
    host = parts.hostname or ""
    proxy = getproxies().get(parts.scheme)
    if proxy is None or proxy_bypass(f"{host}:{parts.port}" if parts.port else host):
        return urllib3.PoolManager(**options)  # type: ignore[arg-type]
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        given = urlsplit(proxy)
        if given.username is not None:
            secret = f"{unquote(given.username)}:{unquote(given.password or '')}"
            options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=secret)
        return urllib3.ProxyManager(proxy, **options)  # type: ignore[arg-type]
    except (ValueError, urllib3.exceptions.HTTPError) as error:
        # the URL may hold a password: no message tells it
        raise IdentityError(
            f"the environment's {parts.scheme.upper()}_PROXY can't be used; "
            "allowed: a URL, as in http://proxy.example.com:3128"
        ) from error


def _context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise IdentityError(
            f"{SETTINGS}: ca_bundle {settings.ca_bundle} can't be used: {error}; "
            "allowed: certificates in PEM"
        ) from error
    if settings.client_cert is not None:
        try:
            # an empty password: a key that has one is refused, instead of asked for on a terminal
            context.load_cert_chain(settings.client_cert, settings.client_key, password="")
        except (OSError, ssl.SSLError) as error:
            raise IdentityError(
                f"{SETTINGS}: client_cert {settings.client_cert} with its key can't be used: "
                f"{error}; allowed: a certificate and its key in PEM, without a password"
            ) from error
    return context
