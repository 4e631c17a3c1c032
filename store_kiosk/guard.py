"""Who may ask the page's server at all, what every answer says, and what is logged of it."""

import hashlib
import hmac
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from c2rec.store_kiosk.foreign import place_of
from c2rec.store_kiosk.logs import Level, Logger
from c2rec.store_kiosk.meter import Meter
from c2rec.store_kiosk.problems import Code, problem

COOKIE = "c2rec"
PUBLIC = ("/api/health", "/page/")
"""What needs no token: whether the server is there, and files that every install has."""

SECURITY_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "object-src 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Door:
    """Who may come in."""

    hosts: frozenset[str]
    """Values of the Host header, with the port: others come by a name that was bent here."""
    token: str | None
    """None lets everybody in."""
    open_paths: frozenset[str] = frozenset()
    """What needs no token besides ``PUBLIC``."""

    @property
    def cookie(self) -> str:
        """What a browser keeps instead of the token."""
        return hashlib.sha256(f"c2rec cookie {self.token}".encode()).hexdigest()

    def closed_to(self, scope: Scope) -> Code | None:
        """Why a request is refused; None where it isn't."""
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if host not in self.hosts:
            return "wrong-host"
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and origin not in (
            None,
            f"{scope['scheme']}://{host}",
        ):
            return "foreign-origin"
        public = scope["path"].startswith(PUBLIC) or scope["path"] in self.open_paths
        return None if public or self._has_token(headers) else "no-token"

    def is_token(self, text: str) -> bool:
        """Whether it is the token, found out in a time that tells nothing."""
        return self.token is not None and hmac.compare_digest(text.encode(), self.token.encode())

    def _has_token(self, headers: Headers) -> bool:
        if self.token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        return any(
            hmac.compare_digest(each.encode(), self.cookie.encode()) for each in _ours(headers)
        )


def _ours(headers: Headers) -> Iterator[str]:
    for line in headers.getlist("cookie"):
        try:
            found = SimpleCookie(line).get(COOKIE)
        except CookieError:
            continue
        if found is not None:
            yield found.value


class Guard:
    """Stands before the app.

    Args:
        app: what answers.
        door: who may come in.
        locked: a page for a browser without the token.
        log: is told each request. It names the route, never what was in the path, the query or
            the body, for these may be a shopper's.
        meter: counts it, in the same terms.
    """

    def __init__(self, app: ASGIApp, door: Door, *, locked: str, log: Logger, meter: Meter) -> None:
        self._app, self._door, self._locked = app, door, locked
        self._log, self._meter = log, meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(raw=message["headers"]).update(SECURITY_HEADERS)
            await send(message)

        place = ""
        try:
            refusal = self._refusal(scope)
            await (refusal or self._app)(scope, receive, send_guarded)
        except Exception as error:
            place = place_of(error)
            if not status:
                await problem("failed")(scope, receive, send_guarded)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route: str | None = getattr(scope.get("route"), "path", None)
        seconds = time.perf_counter() - started
        self._meter.requested(method, route, status, seconds)
        entry: dict[str, object] = {
            "method": method,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
        }
        level: Level = "error" if place else "info"
        self._log.log(level, "request", entry | ({"error": place} if place else {}))

    def _refusal(self, scope: Scope) -> Response | None:
        code = self._door.closed_to(scope)
        if scope["path"] != "/" or scope["method"] != "GET" or code not in (None, "no-token"):
            return None if code is None else problem(code)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])
        if not self._door.is_token(given[-1]):
            return None if code is None else FileResponse(self._locked, 401)
        response = RedirectResponse("/", 303)  # the token stays in no history
        secure = scope["scheme"] == "https"
        response.set_cookie(
            COOKIE, self._door.cookie, httponly=True, samesite="strict", secure=secure
        )
        return response


_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
