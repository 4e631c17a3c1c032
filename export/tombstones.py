"""Customers who asked to be erased: told to every kiosk, and left out of every release."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from c2rec.export.keys import Keys
from c2rec.export.signed import SignedRepository
from c2rec.runtime.errors import PublishError, ReleaseError
from c2rec.runtime.home.identity import check_customer_id, pseudonym
from c2rec.runtime.sync.documents import parse_tombstones, tombstones_json

TARGET = "tomb/tombstones.json"


@dataclass(frozen=True, slots=True)
class Erased:
    """What became of the tombstones."""

    added: int
    total: int


def erased(repository: SignedRepository) -> frozenset[bytes]:
    """Read the pseudonyms of erased customers.

    Raises:
        PublishError: the document can't be understood.
    """
    content = repository.read_target(TARGET)
    try:
        return frozenset() if content is None else parse_tombstones(content)
    except ReleaseError as error:
        raise PublishError(f"the repository's {error}") from error


def add_tombstones(repository: SignedRepository, keys: Keys, customer_ids: Sequence[str]) -> Erased:
    """Add customers; seen after ``commit``. Who is there already stays.

    Raises:
        RequestError: an id can't be one.
    """
    for customer in customer_ids:
        check_customer_id(customer)
    before = erased(repository)
    after = before | {pseudonym(keys.customer_key, customer) for customer in customer_ids}
    if after != before:
        document = tombstones_json([each.hex() for each in after], datetime.now(UTC))
        repository.write_target(TARGET, document.encode())
    return Erased(len(after) - len(before), len(after))


def read_ids(file: Path) -> list[str]:
    """Read customer ids, one a line; empty lines are left out.

    Raises:
        PublishError: the file can't be read, or is no text.
    """
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line]
    except OSError as error:
        raise PublishError(f"{file}: can't be read: {error.strerror}") from error
    except ValueError as error:
        raise PublishError(f"{file}: is not text in UTF-8: {error}") from error
