"""One way to speak HTTP for everything a kiosk does: releases, events, visitors.

Proxies come from the environment (``HTTPS_PROXY``, ``HTTP_PROXY``, ``NO_PROXY``), certificates from
the settings. No redirect is followed: a captive portal answers by one, and a repository needs none.
"""

import contextlib
import socket
import ssl
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from c2rec.runtime.errors import IdentityError
from c2rec.runtime.home.settings import SETTINGS, Settings

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
        return _watched(urllib3.PoolManager(**options))  # type: ignore[arg-type]
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        given = urlsplit(proxy)
        if given.username is not None:
            secret = f"{unquote(given.username)}:{unquote(given.password or '')}"
            options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=secret)
        return _watched(urllib3.ProxyManager(proxy, **options))  # type: ignore[arg-type]
    except (ValueError, urllib3.exceptions.HTTPError) as error:
        # the URL may hold a password: no message tells it
        raise IdentityError(
            f"the environment's {parts.scheme.upper()}_PROXY can't be used; "
            "allowed: a URL, as in http://proxy.example.com:3128"
        ) from error


@contextmanager
def ended_after(seconds: float) -> Iterator[threading.Event]:
    """End every connection of this thread when a time is over, whatever it is waiting for.

    urllib3's timeouts begin anew with each byte: a server that drips would never be too slow.
    Only connections of ``web_pool`` are ended; what waits for a name to be resolved is not.

    Yields:
        An event that is set once the time is over; then the request in hand fails.
    """
    owner, over = threading.get_ident(), threading.Event()

    def end() -> None:
        over.set()
        for connection in list(_OPEN):
            for opened in connection.watched if connection.owner == owner else ():
                with contextlib.suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield over
    finally:
        timer.cancel()


class _Connection(HTTPConnection):
    owner = 0
    watched: tuple[socket.socket, ...] = ()

    def _new_conn(self) -> socket.socket:
        # the connection forgets its socket as soon as a server says that it is going to close
        opened = super()._new_conn()
        self.owner, self.watched = threading.get_ident(), (opened,)
        _OPEN.add(self)
        return opened


class _SecureConnection(HTTPSConnection):
    owner = 0
    watched: tuple[socket.socket, ...] = ()

    def _new_conn(self) -> socket.socket:
        opened = super()._new_conn()
        self.owner, self.watched = threading.get_ident(), (opened,)
        _OPEN.add(self)
        return opened

    def connect(self) -> None:
        super().connect()
        if isinstance(self.sock, socket.socket):  # TLS has taken over the one above
            self.watched = (*self.watched, self.sock)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_OPEN: weakref.WeakSet[_Connection | _SecureConnection] = weakref.WeakSet()


def _watched(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return manager


def check_certificates(settings: Settings) -> None:
    """Make sure that the settings' certificates and key can be used.

    Raises:
        IdentityError: one can't.
    """
    _context(settings)


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
