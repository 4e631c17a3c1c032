"""What the page's server answers when it can't do what was asked: problem documents (RFC 9457).

A document names a field and what is allowed, never what was sent: that may be a shopper's.
"""

from http import HTTPStatus
from typing import Literal, TypeAlias

from starlette.responses import JSONResponse

from c2rec.runtime.errors import C2RecError

Code: TypeAlias = Literal[
    "bad-json",
    "no-token",
    "foreign-origin",
    "not-found",
    "session-ended",
    "unknown-item",
    "unknown-column",
    "wrong-method",
    "not-enrolled",
    "receipt-used",
    "too-large",
    "not-json",
    "wrong-host",
    "bad-field",
    "failed",
    "busy",
    "no-release",
    "not-kept",
]

PROBLEMS: dict[Code, tuple[int, str]] = {
    "bad-json": (400, "The body is no JSON object in UTF-8"),
    "no-token": (401, "The token is missing or wrong"),
    "foreign-origin": (403, "Another site may not ask"),
    "not-found": (404, "There is nothing here"),
    "session-ended": (404, "The session has ended"),
    "unknown-item": (404, "The release doesn't know this item"),
    "unknown-column": (404, "The items have no such column"),
    "wrong-method": (405, "The method is not allowed here"),
    "not-enrolled": (409, "The kiosk is not enrolled, so that it keeps no events"),
    "receipt-used": (409, "The receipt is another purchase's of this session"),
    "too-large": (413, "The body is too large"),
    "not-json": (415, "The body is not declared as application/json"),
    "wrong-host": (421, "This server doesn't go by the name that was asked for"),
    "bad-field": (422, "A field can't be used"),
    "failed": (500, "Something went wrong"),
    "busy": (503, "Too much is asked at once"),
    "no-release": (503, "No release can be read"),
    "not-kept": (503, "It could not be kept, and doesn't count"),
}
"""Status and title of each."""


class RefusedError(C2RecError):
    """A request is answered with a problem document."""

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(detail or PROBLEMS[code][1])
        self.code = code
        self.detail = detail


def problem(code: Code, detail: str = "") -> JSONResponse:
    """Make the answer."""
    status, title = PROBLEMS[code]
    document = {"type": f"urn:c2rec:problem:{code}", "title": title, "status": status}
    if detail:
        document["detail"] = detail
    headers = {"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    if code == "no-token":
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(document, status, headers, "application/problem+json")
