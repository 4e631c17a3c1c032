"""From the batches that kiosks sent to training data.

What lies in the inbox is outside input: nothing of it is believed before the batch's HMAC, by a key
that head office derives from the kiosk's name, has proved it. What is refused is copied into
``OUT/quarantine``, and never deletes or blocks anything else. A run reads what is new since the
last, goes on with one that was cut off, and writes the tables anew. Who asked to be erased is
nobody in all of it, and batches that name them can be deleted (``forget_batches``).
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from c2rec.export.collected import Collected, Known, database_errors, written_name
from c2rec.export.doubts import Doubt, find_doubts
from c2rec.export.event_tables import MAX_PER_HOUR, Written, write_tables
from c2rec.export.keys import Keys
from c2rec.export.storage import Entry, Storage
from c2rec.runtime.errors import DataError, EventError, PublishError
from c2rec.runtime.events.batches import LONGEST, Batch, claimed_kiosk, parse_batch
from c2rec.runtime.home.disk import alone
from c2rec.runtime.home.identity import pseudonym
from c2rec.train.files import write_bytes
from c2rec.train.tables import read_table

_TOGETHER = 100
"""Files that are noted in one transaction."""
_PSEUDONYM = re.compile(rb"(?=([0-9a-f]{32}))")
"""32 hex digits wherever they begin."""


@dataclass(slots=True)
class Collection:
    """What a run found."""

    files: int = 0
    """Batches taken in this run."""
    events: int = 0
    """Events that were new in this run."""
    repeated: int = 0
    """Events of this run that were known already."""
    refused: int = 0
    """Files refused in this run."""
    made_nameless: int = 0
    """Events that lost the name of an erased customer in this run."""
    kiosks: list[dict[str, int | str]] = field(default_factory=list)
    """For every kiosk, ever: store, device, batches, and events by kind."""
    doubts: list[Doubt] = field(default_factory=list)
    written: Written | None = None


def collect(
    inbox: Storage,
    out: Path,
    keys: Keys,
    *,
    items: frozenset[str] | None = None,
    customers: Mapping[str, str] | None = None,
    erased: frozenset[bytes] = frozenset(),
    max_per_hour: int = MAX_PER_HOUR,
    report: Callable[[str], None] = lambda _: None,
) -> Collection:
    """Take new batches, and write the tables.

    Args:
        inbox: where kiosks' batches lie, in ``events/``.
        out: folder with ``collected.db``, the tables and ``quarantine/``; made if it isn't there.
        keys: of head office.
        items: ids that are known; None: all are.
        customers: customer ids by pseudonym.
        erased: pseudonyms of customers who asked to be erased; those of earlier runs still count.
        max_per_hour: units that one kiosk may sell in an hour.
        report: is told what is being done.

    Raises:
        PublishError: the inbox or the keys can't be read, ``collected.db`` can't be used, or
            another collect is running.
        OSError: ``out`` can't be written.
    """
    found = Collection()
    keys.identity("store", "device")  # keys that can't be read must not refuse every batch
    out.mkdir(parents=True, exist_ok=True)
    with _only_collector(out), database_errors(out / "collected.db"):
        collected = Collected(out / "collected.db")
        try:
            _take_new(collected, inbox, out, keys, found, report)
            found.made_nameless = _erase(collected, erased)
            report("writing tables")
            found.written = write_tables(
                collected.db, out, items=items, customers=customers, max_per_hour=max_per_hour
            )
            found.kiosks = _kiosks(collected)
            found.doubts = [*find_doubts(collected.db), *_held_doubts(found.written)]
        finally:
            collected.close()
    return found


def forget_batches(
    inbox: Storage, out: Path, *, report: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Delete the batches that name an erased customer, once their events are in ``collected.db``.

    Quarantined copies that name one go too, and what was refused stays in the inbox: it may be read
    by other keys. A kiosk that never learned that its batch arrived may put it there again; the
    next run knows its events.

    Args:
        inbox: as for ``collect``, which has run.
        out: its folder.
        report: is told what is being done.

    Returns:
        Names of the batches that were deleted.

    Raises:
        PublishError: the inbox can't be read or written, ``collected.db`` can't be used, or a
            collect is running.
    """
    with _only_collector(out), database_errors(out / "collected.db"):
        collected = Collected(out / "collected.db")
        try:
            erased, known = collected.erased(), collected.known()
        finally:
            collected.close()
        if not erased:
            return []
        gone = list[str]()
        for number, entry in enumerate(list(inbox.list("events"))):
            report(f"searching batches, {number} of {len(known)}")
            taken = known.get(entry.name)
            if taken is None or taken.reason is not None:
                continue
            content = inbox.read(entry.name)
            if content is None or hashlib.sha256(content).hexdigest() != taken.sha256:
                continue  # removed or replaced in between; the next run reads it
            if _names(content) & erased:
                inbox.delete(entry.name)
                gone.append(entry.name)
        for path in sorted((out / "quarantine").glob("*.batch")):
            if _names(path.read_bytes()) & erased:
                path.unlink()
                path.with_suffix(".txt").unlink(missing_ok=True)
        return gone


def _names(content: bytes) -> set[str]:
    """Everything in a file that may be a customer's pseudonym."""
    return {each.decode() for each in _PSEUDONYM.findall(content)}


def _erase(collected: Collected, erased: frozenset[bytes]) -> int:
    collected.db.execute("BEGIN IMMEDIATE")
    try:
        nameless = collected.erase([each.hex() for each in erased])
        collected.db.execute("COMMIT")
    finally:
        if collected.db.in_transaction:
            collected.db.execute("ROLLBACK")
    return nameless


def read_customers(path: Path, customer_key: bytes) -> dict[str, str]:
    """Read a table with ``customer_id``, to find whose pseudonym is whose.

    Raises:
        DataError: it can't be read.
    """
    ids = _column(path, "customer_id")
    return {pseudonym(customer_key, each).hex(): each for each in ids}


def read_items(path: Path) -> frozenset[str]:
    """Read the ids of a table with ``item_id``.

    Raises:
        DataError: it can't be read.
    """
    return frozenset(_column(path, "item_id"))


def _column(path: Path, name: str) -> list[str]:
    column = read_table(path, [name], None).rows[name].cast(pl.String).drop_nulls().unique()
    if column.is_empty():
        raise DataError(f"{path}: column '{name}' is empty")
    return column.to_list()


def _take_new(
    collected: Collected,
    inbox: Storage,
    out: Path,
    keys: Keys,
    found: Collection,
    report: Callable[[str], None],
) -> None:
    known = collected.known()
    listed = inbox.list("events")
    new = [entry for entry in listed if _is_new(entry, known.get(written_name(entry)))]
    for start in range(0, len(new), _TOGETHER):
        report(f"reading batches, {start} of {len(new)}")
        collected.db.execute("BEGIN IMMEDIATE")
        try:
            for entry in new[start : start + _TOGETHER]:
                _take(collected, inbox, entry, out, keys, known.get(written_name(entry)), found)
            collected.db.execute("COMMIT")
        finally:
            if collected.db.in_transaction:
                collected.db.execute("ROLLBACK")


def _is_new(entry: Entry, known: Known | None) -> bool:
    if entry.name.rsplit("/", 1)[-1].startswith("."):  # still being written
        return False
    if known is None or known.reason is not None:  # refused by other keys, it may be good now
        return True
    return (entry.bytes, entry.modified.timestamp()) != (known.bytes, known.modified)


def _take(
    collected: Collected,
    inbox: Storage,
    entry: Entry,
    out: Path,
    keys: Keys,
    known: Known | None,
    found: Collection,
) -> None:
    """Read one file, and take it or refuse it."""
    content = b"" if entry.bytes > LONGEST else inbox.read(entry.name)
    if content is None:  # removed in between
        return
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        if entry.bytes > LONGEST:
            raise EventError(f"it has {entry.bytes} bytes; allowed: {LONGEST}")
        batch = _prove(entry.name, content, keys)
    except EventError as error:
        if known is not None and (known.sha256, known.reason) == (sha256, str(error)):
            return  # as before
        found.refused += 1
        _quarantine(out, entry.name, content, str(error))
        collected.note(entry, sha256, str(error))
        return
    if known is None or known.reason is not None or known.sha256 != sha256:
        taken = collected.take(entry.name, batch, int(entry.modified.timestamp() * 1000))
        found.files += 1
        found.events += taken.new
        found.repeated += taken.repeated
    _release(out, entry.name)
    collected.note(entry, sha256, None)


def _prove(name: str, content: bytes, keys: Keys) -> Batch:
    """Read a batch by the key of the kiosk that it says to come from, under its own name.

    Raises:
        EventError: it is none.
    """
    store, device = claimed_kiosk(content)
    try:
        device_key = keys.identity(store, device).device_key
    except PublishError as error:  # no kiosk has such a name
        raise EventError(str(error)) from error
    batch = parse_batch(content, device_key)
    if batch.header.key != name:
        raise EventError(f"it is {batch.header.key}, and lies under another name")
    return batch


def _quarantine(out: Path, name: str, content: bytes, reason: str) -> None:
    """Keep a file's bytes and the reason; the file's own name may lead anywhere."""
    folder = out / "quarantine"
    folder.mkdir(exist_ok=True)
    place = folder / hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:32]
    write_bytes(place.with_suffix(".batch"), content)
    text = f"{name}\n{reason}\n".encode(errors="backslashreplace")
    write_bytes(place.with_suffix(".txt"), text)


def _release(out: Path, name: str) -> None:
    place = out / "quarantine" / hashlib.sha256(name.encode()).hexdigest()[:32]
    for suffix in (".batch", ".txt"):
        place.with_suffix(suffix).unlink(missing_ok=True)


def _kiosks(collected: Collected) -> list[dict[str, int | str]]:
    query = (
        "SELECT store, device, (SELECT count(*) FROM batches b WHERE b.store = e.store AND"
        " b.device = e.device), sum(kind = 'shown'), sum(kind = 'tapped'), sum(kind = 'bought'),"
        " sum(kind = 'dismissed') FROM events e GROUP BY store, device ORDER BY store, device"
    )
    names = ("store", "device", "batches", "shown", "tapped", "bought", "dismissed")
    return [dict(zip(names, row, strict=True)) for row in collected.db.execute(query)]


def _held_doubts(written: Written) -> Iterator[Doubt]:
    texts = {
        "clock": ("have an impossible time", "set the kiosks' clocks"),
        "rate": (
            "are more than a kiosk sells in an hour",
            "look into it, or set --max-per-hour",
        ),
        "unknown": ("are of items that --items doesn't know", "bring the list of items up to date"),
    }
    for reason, rows in written.held.items():
        text, advice = texts[reason]
        yield Doubt(reason, None, None, f"{rows} purchases {text}, see held.parquet", advice)


@contextmanager
def _only_collector(out: Path) -> Iterator[None]:
    busy = f"another collect is at work in {out}; wait for it to end, then try again"
    with alone(out / ".collect-lock", PublishError(busy)):
        yield
