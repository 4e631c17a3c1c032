"""Where the files of a repository come from: a web server, or a folder.

Every failure to get a file is told apart here, so that nobody has to guess later: it isn't there
(``MissingError``), or it can't be had now (``NetworkError``). A captive portal, which answers
with a page of its own, or sends elsewhere, is the network.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

import urllib3

from c2rec.runtime.errors import NetworkError, SyncError
from c2rec.runtime.home.settings import Settings, is_url
from c2rec.runtime.sync.web import ended_after, web_pool

PIECE_BYTES = 1 << 18
_GONE = (404, 410)
_FORBIDDEN = 403
"""What a bucket answers that doesn't let its names be listed: the file isn't there."""


class MissingError(SyncError):
    """The repository answers, but has no such file."""


class Source(Protocol):
    """A repository's files."""

    moved: int
    """Bytes that came so far."""

    def read(self, path: str, *, first: int = 0) -> tuple[int, Iterator[bytes]]:
        """Begin to read a file.

        Args:
            path: in the repository, as in ``metadata/timestamp.json``; percent-encoded, which
                no name of ours needs. In a folder, files have the encoded names.
            first: the byte to begin at.

        Returns:
            The byte at which it begins, which is 0 where the server can't begin later, and the
            content from there in pieces.

        Raises:
            MissingError: there is no such file.
            NetworkError: it can't be had now; reading the pieces raises it too.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def open_source(settings: Settings, *, seconds: float | None = None) -> "Source":
    """Open the repository that the settings name.

    Args:
        settings: where it is.
        seconds: after which reading fails; None: the settings' deadline.

    Raises:
        IdentityError: certificates or proxies can't be used.
    """
    seconds = settings.deadline if seconds is None else seconds
    if is_url(settings.repository):
        return WebSource(settings, seconds)
    return FolderSource(Path(settings.repository), seconds)


class FolderSource:
    """A repository in a folder: a disk, a stick, or a share that may not be mounted.

    Args:
        folder: the repository.
        seconds: after which reading fails.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self.moved = 0
        self._folder = folder
        self._end, self._seconds = time.monotonic() + seconds, seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, path: str, *, first: int = 0) -> tuple[int, Iterator[bytes]]:
        """See ``Source.read``."""
        try:
            file = (self._folder / path).open("rb")
        except FileNotFoundError as error:
            if (self._folder / "metadata").is_dir():
                raise MissingError(f"{self._folder} has no {path}") from error
            raise NetworkError(
                f"{self._folder} holds no repository; is its disk or share mounted?"
            ) from error
        except OSError as error:
            raise NetworkError(f"{self._folder / path} can't be read: {error.strerror}") from error

        def pieces() -> Iterator[bytes]:
            with file:
                try:
                    file.seek(first)
                    while piece := file.read(PIECE_BYTES):
                        if time.monotonic() > self._end:
                            raise _too_slow(str(self._folder), self._seconds)
                        self.moved += len(piece)
                        yield piece
                except OSError as error:
                    raise NetworkError(
                        f"{self._folder / path} can't be read: {error.strerror}"
                    ) from error

        return first, pieces()


class WebSource:
    """A repository behind a web server. Open it in the thread that uses it.

    Args:
        settings: where, with which certificates and timeouts.
        seconds: after which reading fails.

    Raises:
        IdentityError: certificates or proxies can't be used.
    """

    def __init__(self, settings: Settings, seconds: float) -> None:
        self.moved = 0
        self._url = settings.repository.rstrip("/")
        self._host = urlsplit(self._url).netloc.rpartition("@")[2]
        self._pool = web_pool(self._url, settings)
        self._seconds = seconds
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._over = self._stack.enter_context(ended_after(self._seconds))
        self._stack.callback(self._pool.clear)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, path: str, *, first: int = 0) -> tuple[int, Iterator[bytes]]:
        """See ``Source.read``."""
        headers = dict(self._pool.headers) | {"Accept-Encoding": "identity"}
        if first:
            headers["Range"] = f"bytes={first}-"
        try:
            answer = self._pool.request(
                "GET",
                f"{self._url}/{path}",
                preload_content=False,
                redirect=False,  # not even looked at: it may be no address
                headers=headers,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._trouble(error) from error
        status = answer.status
        begins = first if status == 206 else 0
        said = answer.headers.get("Content-Range", "")
        if status == 200 or (status == 206 and first and said.startswith(f"bytes {first}-")):
            return begins, self._pieces(answer)
        # the connection isn't used again: nobody knows how long a portal's page is
        answer.close()
        if status == 416 and first:  # what is there already is longer than the file
            return self.read(path)
        if status in (*_GONE, _FORBIDDEN):
            raise MissingError(f"{self._host} answers {status} for {path}")
        if 300 <= status < 400:
            raise NetworkError(
                f"{self._host} sends elsewhere, with status {status}, for {path}; is there a "
                "network that asks for a login first?"
            )
        raise NetworkError(f"{self._host} answers with status {status} for {path}")

    def _pieces(self, answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        try:
            # read1 returns what is there: a piece that drips in doesn't hold up the rest
            while piece := answer.read1(PIECE_BYTES):
                self.moved += len(piece)
                yield piece
                if self._over.is_set():
                    break
            if self._over.is_set():  # a connection that was ended looks like one that is done
                raise _too_slow(self._host, self._seconds)
            answer.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._trouble(error) from error
        finally:
            answer.close()  # where it wasn't read to its end, the connection is of no more use

    def _trouble(self, error: Exception) -> NetworkError:
        if self._over.is_set():
            return _too_slow(self._host, self._seconds)
        cause: BaseException = error
        while isinstance(cause, urllib3.exceptions.MaxRetryError) and cause.reason is not None:
            cause = cause.reason
        if isinstance(cause, urllib3.exceptions.ReadTimeoutError):
            return NetworkError(f"{self._host} has stopped sending")
        return NetworkError(f"{self._host} can't be reached: {_last_words(cause)}")


def _too_slow(host: str, seconds: float) -> NetworkError:
    return NetworkError(f"{host} is too slow: the {seconds:g} seconds allowed are over")


def _last_words(error: BaseException) -> str:
    """What went wrong, without the names of urllib3's objects."""
    text = str(error.args[-1]) if error.args else ""
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        text = str(error).rpartition(": ")[2]
    return text or type(error).__name__
