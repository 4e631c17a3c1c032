"""Where batches go: a folder, or a web server that keeps what is PUT. Nothing is ever replaced.

The server has to answer 201 to a PUT that made a file, and 412 or 409 where there was one already,
as ``If-None-Match: *`` asks; and to give it back by GET. Any other success, as a captive portal
pretends, is looked into by GET before it counts.
"""

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from c2rec.runtime.errors import NetworkError
from c2rec.runtime.events.batches import LONGEST
from c2rec.runtime.home.disk import make_folder, sync_to_disk
from c2rec.runtime.home.settings import Settings, is_url

if TYPE_CHECKING:
    import urllib3

Outcome: TypeAlias = Literal["created", "exists", "unsure", "refused", "later"]

_OF_THE_PLACE = frozenset({401, 403, 404, 405, 407, 408, 421, 425, 426, 429, 451})
"""Statuses from 400 that are no judgement on the batch: its server, its address, or this hour."""
_LONGEST_WAIT = 3600.0
LONGEST_REQUEST = 600.0
"""Seconds that one request may take in all: a batch of 1 MB over 14 kbit/s."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a PUT."""

    outcome: Outcome
    """``created``: it is there. ``exists``: something of that name is. ``unsure``: it may be.
    ``refused``: it will never be taken. ``later``: try again."""
    reason: str = ""
    """What was answered, for a person."""
    wait: float | None = None
    """Seconds that the server asks to wait."""


class Inbox(Protocol):
    """Where batches go."""

    def put(self, key: str, content: bytes) -> Reply:
        """Keep a batch, unless there is one of that name.

        Raises:
            NetworkError: nobody answered.
        """

    def get(self, key: str) -> bytes | None:
        """Read what lies under a name; None: nothing.

        Raises:
            NetworkError: it can't be read, or is no batch but a page in its place.
        """

    def close(self) -> None:
        """Let connections go."""


def open_inbox(settings: Settings) -> Inbox:
    """Open the place that the settings name for events.

    Raises:
        IdentityError: a certificate can't be used.
        NetworkError: the settings name none.
    """
    if settings.events is None:
        raise NetworkError(
            "the settings name no place for events, so that they stay here; add to kiosk.toml: "
            'events = "https://…"'
        )
    if is_url(settings.events):
        return WebInbox(settings.events, settings)
    return FolderInbox(Path(settings.events))


class FolderInbox:
    """A folder, perhaps one that a store's server shares.

    Args:
        folder: where ``events/`` is made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, key: str, content: bytes) -> Reply:
        """Write a file beside, synced, and link it to its name, which fails where there is one."""
        path = self._folder / key
        temporary = path.with_name(f".{secrets.token_hex(8)}")
        try:
            if not self._folder.is_dir():  # a share that isn't mounted
                raise NetworkError(f"there is no folder {self._folder}; is it mounted?")
            make_folder(path.parent)
            try:
                with temporary.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(temporary, path)
            except FileExistsError:
                return Reply("exists")
            finally:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
            sync_to_disk(path.parent)
        except OSError as error:
            raise NetworkError(f"can't write {path}: {error.strerror}") from error
        return Reply("created")

    def get(self, key: str) -> bytes | None:
        """Read a file."""
        try:
            with (self._folder / key).open("rb") as file:
                return file.read(LONGEST + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise NetworkError(f"can't read {self._folder / key}: {error.strerror}") from error

    def close(self) -> None:
        """Nothing is open."""


class WebInbox:
    """A web server.

    Args:
        url: before ``events/``.
        settings: certificates and timeouts.
        seconds: that one request may take in all.

    Raises:
        IdentityError: a certificate can't be used.
    """

    def __init__(self, url: str, settings: Settings, *, seconds: float = LONGEST_REQUEST) -> None:
        from c2rec.runtime.sync.web import web_pool  # urllib3 is loaded by who sends

        self._url, self._seconds = url.rstrip("/"), seconds
        # a batch is tried again as a whole, later, and not in between
        self._pool: urllib3.PoolManager = web_pool(url, settings, attempts=1)

    def put(self, key: str, content: bytes) -> Reply:
        """PUT a batch."""
        headers = {"If-None-Match": "*", "Content-Type": "application/x-ndjson"}
        status, sent, _ = self._ask("PUT", key, content, headers, 1 << 10)
        reason = f"the server answered {status}"
        if status == 201:
            return Reply("created")
        if status in (409, 412):
            return Reply("exists", reason)
        if 200 <= status < 300:
            return Reply("unsure", reason)
        if 400 <= status < 500 and status not in _OF_THE_PLACE:
            return Reply("refused", reason)
        return Reply("later", reason, _wait(sent.get("Retry-After")))

    def get(self, key: str) -> bytes | None:
        """GET a batch."""
        # proxies may keep what nobody had a moment ago
        status, sent, body = self._ask("GET", key, None, {"Cache-Control": "no-cache"}, LONGEST + 1)
        if status in (404, 410):
            return None
        if status != 200:
            raise NetworkError(
                f"the server answered {status} to GET {self._url}/{key}; a kiosk needs to read "
                "back what it sends"
            )
        if "html" in sent.get("Content-Type", "").lower() or body.lstrip().startswith(b"<"):
            raise NetworkError(f"a page answers in place of {self._url}: is this a guest network?")
        return body

    def close(self) -> None:
        """Close connections."""
        self._pool.clear()

    def _ask(
        self, method: str, key: str, content: bytes | None, headers: dict[str, str], most: int
    ) -> tuple[int, dict[str, str], bytes]:
        import urllib3

        from c2rec.runtime.sync.web import ended_after

        # urllib3's timeouts begin anew with each byte that drips in
        with ended_after(self._seconds) as over:
            try:
                # what path_part escaped is escaped again, so that the server sees its name
                path = key.replace("%", "%25")
                response = self._pool.request(
                    method,
                    f"{self._url}/{path}",
                    body=content,
                    headers=self._pool.headers | headers,  # type: ignore[operator] # a dict
                    preload_content=False,
                    redirect=False,  # not even looked at: it may be no address
                )
                try:
                    body = response.read(most)
                finally:
                    response.close()
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if not over.is_set():
                    raise NetworkError(f"{self._url} can't be reached: {error}") from error
            if over.is_set():  # a connection that was ended looks like one that is done
                raise NetworkError(
                    f"{self._url} is too slow: the {self._seconds:g} seconds allowed are over"
                )
        return response.status, dict(response.headers), body


def _wait(header: str | None) -> float | None:
    try:
        wait = float(header or "")
    except ValueError:
        return None
    # not min and max alone: of NaN they make NaN, which no column takes
    return min(wait, _LONGEST_WAIT) if wait >= 0 else None
