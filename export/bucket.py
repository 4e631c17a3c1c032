"""A repository in a bucket, through obstore: s3://, gs:// or az:// and what else it knows."""

from collections.abc import Iterator
from contextlib import contextmanager

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import ObjectStore, from_url

from c2rec.export.storage import Entry
from c2rec.runtime.errors import PublishError


class BucketStorage:
    """A repository below a URL; credentials come from the environment.

    Args:
        url: such as ``s3://bucket/prefix``.

    Raises:
        PublishError: the URL can't be understood.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        with self._errors(""):
            self._store: ObjectStore = from_url(self._url)

    def list(self, folder: str) -> Iterator[Entry]:
        """Yield every file below a folder, at any depth."""
        with self._errors(folder):
            for page in obstore.list(self._store, f"{folder}/"):
                for each in page:
                    yield Entry(each["path"], each["size"], each["last_modified"])

    def read(self, name: str) -> bytes | None:
        """Content of a file; None where there is none."""
        with self._errors(name):
            try:
                return bytes(obstore.get(self._store, name).bytes())
            except (NotFoundError, FileNotFoundError):
                return None

    def write(self, name: str, content: bytes) -> None:
        """Put a file there, or replace it."""
        with self._errors(name):
            obstore.put(self._store, name, content, use_multipart=False)

    def create(self, name: str, content: bytes) -> bool:
        """Put a file there as ``write`` does; False where there is one already."""
        with self._errors(name):
            try:
                obstore.put(self._store, name, content, mode="create", use_multipart=False)
            except (AlreadyExistsError, FileExistsError):
                return False
        return True

    def exists(self, name: str) -> bool:
        """Whether a file is there."""
        with self._errors(name):
            try:
                obstore.head(self._store, name)
            except (NotFoundError, FileNotFoundError):
                return False
        return True

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._errors(name):
            try:
                obstore.delete(self._store, name)
            except (NotFoundError, FileNotFoundError):
                return

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, ValueError, OSError) as error:
            reason = str(error).split("\n")[0].split(": <?xml")[0]  # the rest is for machines
            if isinstance(error, NotFoundError) or "404 Not Found" in reason:
                reason = "there is no such bucket"
            raise PublishError(
                f"{self._url}/{name}: can't be read or written: {reason}; nothing that kiosks read "
                "has changed; check the address and the credentials in the environment, and run "
                "the command again"
            ) from error
