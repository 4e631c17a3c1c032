"""Reading a bundle: nothing in it is believed before it has been checked.

Checks come in an order that bounds what a bad bundle can cost: names, sizes and digests first,
then dtypes and shapes, and only then values, in pieces.
"""

import hashlib
import json
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from c2rec.runtime.errors import DataError, ReleaseError, TooNewError
from c2rec.runtime.home.disk import kept_path, sha256_of
from c2rec.runtime.home.identity import NAME_LENGTH
from c2rec.runtime.release.manifest import (
    MANIFEST,
    MANIFEST_BYTES,
    ListedFile,
    Manifest,
    parse_manifest,
    shown,
)
from c2rec.runtime.release.tensors import TensorFile, expected_tensors
from c2rec.runtime.rules.rules_file import RULES, parse_rules, read_rules_text

LINE_BYTES = 1 << 20
"""A longer line of a .jsonl file is refused."""

CUSTOMERS_AT_ONCE = 2048
"""Customers in memory at once while streaming."""


@dataclass(frozen=True, slots=True)
class Item:
    """A row of items.jsonl."""

    item_id: str
    name: str
    metadata: dict[str, str]
    """Every further column."""


@dataclass(frozen=True, slots=True)
class CustomerBlock:
    """A run of customers: n ids, their embeddings and what they bought."""

    customer_ids: list[str]
    stores: list[tuple[str, ...]]
    """Where each bought offline, ascending."""
    components: npt.NDArray[np.float32]
    """(n, 3, d)"""
    has: npt.NDArray[np.uint8]
    """(n, 3), 0 or 1"""
    offsets: npt.NDArray[np.int64]
    """(n + 1,), from 0, into the three below"""
    history_items: npt.NDArray[np.int32]
    history_channels: npt.NDArray[np.uint8]
    history_days: npt.NDArray[np.int32]
    """The last purchase of the item in the channel, days since 1970-01-01 UTC"""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose every file has been checked by ``read_bundle``.

    Reading checks again, for the folder may change in between: every method raises ReleaseError.
    """

    folder: Path
    manifest: Manifest
    kept: bool = False
    """Whether its files lie where a kiosk keeps them, named by their digests."""

    def path(self, name: str) -> Path:
        """Where a file lies."""
        if self.kept:
            return kept_path(self.folder, name, self.manifest.files[name].sha256)
        return self.folder / name

    def graph(self, name: str) -> bytes:
        """Content of one of the ONNX graphs."""
        try:
            content = self.path(name).read_bytes()
        except OSError as error:
            raise ReleaseError(f"{name}: can't be read: {error}") from error
        _check_digest(name, hashlib.sha256(content).hexdigest(), self.manifest.files[name])
        return content

    def rules(self) -> str | None:
        """Text of rules.toml, which was checked; None where there is none."""
        if RULES not in self.manifest.files:
            return None
        path = self.path(RULES)
        try:
            text = read_rules_text(path)
        except DataError as error:
            raise ReleaseError(str(error)) from error
        _check_digest(RULES, sha256_of(path), self.manifest.files[RULES])
        parsed = parse_rules(text, file=RULES, origin="release")
        if parsed.newer:
            raise TooNewError("\n".join(parsed.errors))
        if parsed.errors:
            raise ReleaseError("\n".join(parsed.errors))
        return text

    def tensors(self, name: str) -> TensorFile:
        """One of the safetensors files."""
        return TensorFile(self.path(name), expected_tensors(self.manifest)[name])

    def items(self) -> Iterator[Item]:
        """Rows of items.jsonl, ids ascending by code point."""
        previous = ""
        for where, row in _json_lines(self.path("items.jsonl"), self.manifest.counts.items):
            if not isinstance(row, dict) or not all(isinstance(v, str) for v in row.values()):
                raise ReleaseError(f"{where}: {shown(row)}; allowed: an object of strings")
            if not {"item_id", "name"} <= row.keys():
                raise ReleaseError(f"{where}: item_id or name is missing in {shown(row)}")
            _check_id(where, previous, previous := row.pop("item_id"))
            _check_unicode(where, "".join([*row, *row.values()]))
            yield Item(previous, row.pop("name") or previous, row)

    def customers(self) -> Iterator[CustomerBlock]:
        """All customers, ids ascending by code point, at most 2048 at once."""
        ids, total = self._customer_ids(), self.manifest.counts.customers
        stores = self._stores()
        file = self.tensors("customers.safetensors")
        for first in range(0, total, CUSTOMERS_AT_ONCE):
            last = min(first + CUSTOMERS_AT_ONCE, total)
            offsets = file.rows("history_offsets", first, last + 1)
            _check_offsets(offsets, first, self.manifest)
            start, end = int(offsets[0]), int(offsets[-1])
            items = file.rows("history_items", start, end)
            channels = file.rows("history_channels", start, end)
            customers = np.repeat(np.arange(last - first), np.diff(offsets))  # (end - start,)
            _check_distinct(customers + first, channels, items)
            yield CustomerBlock(
                customer_ids=[next(ids) for _ in range(last - first)],
                stores=[next(stores) for _ in range(last - first)],
                components=file.rows("components", first, last),
                has=file.rows("has", first, last),
                offsets=offsets - start,
                history_items=items,
                history_channels=channels,
                history_days=file.rows("history_days", start, end),
            )
        for lines in (ids, stores):
            next(lines, None)  # reads past the last row: a further one is refused there

    def _customer_ids(self) -> Iterator[str]:
        path, previous = self.path("customers.jsonl"), ""
        for where, row in _json_lines(path, self.manifest.counts.customers):
            if not isinstance(row, str):
                raise ReleaseError(f"{where}: {shown(row)}; allowed: a JSON string")
            _check_id(where, previous, previous := row)
            yield row

    def _stores(self) -> Iterator[tuple[str, ...]]:
        path = self.folder / "stores.jsonl"
        for where, row in _json_lines(path, self.manifest.counts.customers):
            if not isinstance(row, list) or not all(isinstance(each, str) for each in row):
                raise ReleaseError(f"{where}: {shown(row)}; allowed: a list of store ids, strings")
            previous = ""
            for store in row:
                _check_id(where, previous, previous := store)
                if len(store) > NAME_LENGTH or not store.isprintable():
                    raise ReleaseError(
                        f"{where}: store id {shown(store)}; allowed: 1 to {NAME_LENGTH} printable "
                        "characters"
                    )
            yield tuple(row)


def read_bundle(folder: Path, *, report: Callable[[str], None] = lambda _: None) -> Bundle:
    """Check all of a bundle.

    Args:
        folder: the bundle.
        report: called with what is being done, for a person to read.

    Raises:
        ReleaseError: the folder is no bundle, or a file is missing, unlisted, no regular file,
            of another size or digest, or holds what ``docs/release-format.md`` doesn't allow.
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise ReleaseError(f"{folder} is not a folder with a bundle: {error.strerror}") from error
    if MANIFEST not in names:
        raise ReleaseError(f"{folder} is not a bundle: it holds no {MANIFEST}")
    manifest = parse_manifest(_read_manifest(folder / MANIFEST))
    for name in sorted(set(names) - {MANIFEST, *manifest.files}):
        raise ReleaseError(f"{name!r} is in the bundle but not listed in {MANIFEST}")
    for name, listed in manifest.files.items():
        report(f"checking {name}")
        _check_file(folder / name, listed)

    bundle = Bundle(folder, manifest)
    bundle.tensors("customers.safetensors")  # its header is checked before any values
    check_item_side(bundle, report=report)
    bundle.rules()
    report("checking items.jsonl line by line")
    for _ in bundle.items():
        pass
    report("checking customers")
    for _ in bundle.customers():
        pass
    return bundle


def check_item_side(bundle: Bundle, *, report: Callable[[str], None] = lambda _: None) -> None:
    """Check the values of a bundle's item side; lines are checked by whoever reads them.

    Raises:
        ReleaseError: a file can't be read, or holds what the format doesn't allow.
    """
    expected = expected_tensors(bundle.manifest)
    names = [name for name in expected if name != "customers.safetensors"]
    files = {name: bundle.tensors(name) for name in names}
    for name in names:
        report(f"checking the values of {name}")
        for tensor in expected[name]:
            for _ in files[name].chunks(tensor):
                pass


def _read_manifest(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ReleaseError(f"{MANIFEST} is not a regular file")
        with path.open("rb") as file:
            content = file.read(MANIFEST_BYTES + 1)
    except OSError as error:
        raise ReleaseError(f"{MANIFEST}: can't be read: {error.strerror}") from error
    if len(content) > MANIFEST_BYTES:
        raise ReleaseError(f"{MANIFEST} is longer than the {MANIFEST_BYTES} bytes allowed")
    return content


def _check_file(path: Path, listed: ListedFile) -> None:
    try:
        status = path.lstat()  # a link could point out of the bundle
        if not stat.S_ISREG(status.st_mode):
            raise ReleaseError(f"{path.name} is not a regular file; links and folders are refused")
        if status.st_size != listed.bytes:
            raise ReleaseError(
                f"{path.name} has {status.st_size} bytes; {MANIFEST} says {listed.bytes}"
            )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise ReleaseError(f"{path.name} is listed in {MANIFEST} but missing") from error
    except OSError as error:
        raise ReleaseError(f"{path.name}: can't be read: {error.strerror}") from error
    _check_digest(path.name, digest, listed)


def _check_digest(name: str, digest: str, listed: ListedFile) -> None:
    if digest != listed.sha256:
        raise ReleaseError(
            f"{name} is damaged: its sha256 is {digest}, {MANIFEST} says {listed.sha256}; "
            "fetch the bundle again"
        )


def _json_lines(path: Path, rows: int) -> Iterator[tuple[str, Any]]:
    """Yield (``file:line``, value) for exactly ``rows`` lines of JSON."""
    number = 0
    try:
        with path.open("rb") as file:
            while line := file.readline(LINE_BYTES + 1):
                number += 1
                where = f"{path.name}:{number}"
                if len(line) > LINE_BYTES:
                    raise ReleaseError(f"{where} is longer than the {LINE_BYTES} bytes allowed")
                if number > rows:
                    raise ReleaseError(f"{path.name} has more than the {rows} rows counted")
                try:
                    yield where, json.loads(line.decode())
                except (ValueError, RecursionError) as error:
                    raise ReleaseError(f"{where} is not valid JSON: {error}") from error
    except OSError as error:
        raise ReleaseError(f"{path.name}: can't be read: {error.strerror}") from error
    if number != rows:
        raise ReleaseError(f"{path.name} has {number} rows; {MANIFEST} counts {rows}")


def _check_id(where: str, previous: str, value: str) -> None:
    if value <= previous:  # the first is compared with "", so that an empty id is refused
        raise ReleaseError(
            f"{where}: id {shown(value)} after {shown(previous)}; allowed: ids that are not empty, "
            "in ascending order of code points, each once"
        )
    _check_unicode(where, value)


def _check_unicode(where: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:  # half a surrogate pair, which SQLite can't store
        raise ReleaseError(f"{where}: {shown(value)} is not valid Unicode") from error


def _check_offsets(offsets: npt.NDArray[np.int64], first: int, manifest: Manifest) -> None:
    """Check a run of offsets that starts at customer ``first``."""
    name = "customers.safetensors: tensor 'history_offsets'"
    if first == 0 and offsets[0] != 0:
        raise ReleaseError(f"{name} starts at {offsets[0]}; allowed: 0")
    falls = np.flatnonzero(np.diff(offsets) < 0)
    if len(falls):
        raise ReleaseError(f"{name} falls after row {first + falls[0]}; allowed: ascending")
    end = manifest.counts.interactions
    if first + len(offsets) == manifest.counts.customers + 1 and offsets[-1] != end:
        raise ReleaseError(f"{name} ends at {offsets[-1]}; allowed: interactions, {end}")


def _check_distinct(
    customers: npt.NDArray[np.int64],
    channels: npt.NDArray[np.uint8],
    items: npt.NDArray[np.int32],
) -> None:
    """Check that an item stands at most once per customer and channel; all int (n,)."""
    order = np.lexsort((items, channels, customers))
    rows = np.stack([customers[order], channels[order], items[order]])  # (3, n)
    same = np.flatnonzero((rows[:, 1:] == rows[:, :-1]).all(0))
    if len(same):
        customer, channel, item = rows[:, same[0]]
        raise ReleaseError(
            f"customers.safetensors: customer row {customer} has item row {item} twice in channel "
            f"{channel}; allowed: each item at most once per channel"
        )
