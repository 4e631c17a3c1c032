"""What about the collected batches a person has to look into, found from all of them anew.

Nothing here holds events back: their ids are unique, so that a kiosk that was copied, or put back
to an old state, costs neither a purchase nor counts one twice. But somebody has to mend it.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

_LONGEST = 5
"""Missing ranges that one line names."""
_MISSING = (
    "wait for the kiosk's next sync; if they stay away, look for dead letters: c2rec-kiosk queue"
)
_CLONED = (
    "its disk was put back to an old state, or another machine is a copy of it: give each machine "
    "its own identity with c2rec-export keys kiosk"
)
_TOGETHER = 3_600_000
"""Milliseconds that two epochs of one kiosk may overlap, for clocks that are set."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """One thing to look into."""

    kind: str
    """``gap``, ``clone``, ``damaged``, ``anew``, ``moved``, ``dropped``, ``refused``, ``altered``,
    ``changed``, ``clock``, ``rate`` or ``unknown``."""
    store: str | None
    device: str | None
    text: str
    advice: str

    @property
    def line(self) -> str:
        """All of it in one line."""
        who = f"{self.store}/{self.device}: " if self.store is not None else ""
        return f"{self.kind}: {who}{self.text}; {self.advice}"


@dataclass(frozen=True, slots=True)
class _Batch:
    store: str
    device: str
    epoch: str
    reason: str
    previous: str | None
    previous_arrived: int | None
    first: int
    last: int
    count: int
    dropped: int
    made_at: int
    runs: str
    backwards: int
    altered: int

    @property
    def starts(self) -> list[tuple[str, int, int]]:
        """Starts of the machine, one after the other, with the first and last clock of each."""
        return [(boot, first, last) for boot, first, last in json.loads(self.runs)]


def find_doubts(db: sqlite3.Connection) -> list[Doubt]:
    """Look through all batches and files of ``collected.db``."""
    query = (
        "SELECT store, device, epoch, reason, previous, previous_arrived, first, last, count,"
        " dropped, made_at, runs, backwards, altered FROM batches"
        " ORDER BY store, device, epoch, first, last"
    )
    kiosks = defaultdict[tuple[str, str], dict[str, list[_Batch]]](lambda: defaultdict(list))
    for row in db.execute(query):
        batch = _Batch(*row)
        kiosks[batch.store, batch.device][batch.epoch].append(batch)
    doubts = []
    for (store, device), epochs in kiosks.items():
        for kind, text, advice in _of_kiosk(epochs):
            doubts.append(Doubt(kind, store, device, text, advice))
    return doubts + list(_of_files(db))


def _of_kiosk(epochs: dict[str, list[_Batch]]) -> Iterator[tuple[str, str, str]]:
    closed = {
        batches[0].previous: batches[0].previous_arrived
        for batches in epochs.values()
        if batches[0].reason != "moved"
    }
    firsts = [name for name, batches in epochs.items() if batches[0].reason == "first"]
    firsts.sort(key=lambda name: epochs[name][0].made_at)
    for epoch, batches in epochs.items():
        if epoch not in closed:  # what an epoch left behind comes in the next one
            yield from _gaps(epoch, batches)
        yield from _clones(epoch, batches)
        yield from _beginnings(epoch, batches[0], again=epoch in firsts[1:])
        yield from _drops(epoch, batches)
        if altered := sum(batch.altered for batch in batches):
            yield (
                "altered",
                f"{altered} events of epoch {epoch[:8]} came before with another content",
                "the first content counts; find out who else has this kiosk's key",
            )
    for name, arrived in closed.items():
        here = sum(batch.count for batch in epochs.get(name or "", []))
        if name is not None and arrived is not None and arrived > here:
            yield (
                "gap",
                f"{arrived - here} events of epoch {name[:8]} arrived once and are not here",
                "restore the files of the inbox from a backup",
            )
    if _at_once(list(epochs.values())):
        yield (
            "clone",
            "two epochs were written at the same time",
            "two machines use one identity: give each its own with c2rec-export keys kiosk",
        )


def _gaps(epoch: str, batches: Sequence[_Batch]) -> Iterator[tuple[str, str, str]]:
    missing, at = list[str](), 0
    for batch in batches:
        if batch.first > at + 1:
            missing.append(_range(at + 1, batch.first - 1))
        at = max(at, batch.last)
    if missing:
        more = f" and {len(missing) - _LONGEST} more ranges" if len(missing) > _LONGEST else ""
        yield (
            "gap",
            f"events {', '.join(missing[:_LONGEST])}{more} of epoch {epoch[:8]} are missing",
            _MISSING,
        )


def _clones(epoch: str, batches: Sequence[_Batch]) -> Iterator[tuple[str, str, str]]:
    at, seen = 0, dict[str, int]()
    current = ""
    overlaps = back = again = False
    for batch in batches:
        overlaps |= batch.first <= at
        at = max(at, batch.last)
        back |= bool(batch.backwards)
        for boot, first, last in batch.starts:
            again |= boot != current and boot in seen
            back |= first < seen.get(boot, 0)
            current, seen[boot] = boot, last
    if overlaps:
        yield "clone", f"different batches of epoch {epoch[:8]} have the same sequences", _CLONED
    elif again:
        yield "clone", f"two starts of a machine take turns in epoch {epoch[:8]}", _CLONED
    elif back:
        yield "clone", f"the clock since start goes backwards in epoch {epoch[:8]}", _CLONED


def _beginnings(epoch: str, head: _Batch, *, again: bool) -> Iterator[tuple[str, str, str]]:
    if head.reason == "conflict":
        yield (
            "clone",
            f"epoch {epoch[:8]} began because another content lay under a batch's name",
            _CLONED,
        )
    elif head.reason == "damaged":
        yield (
            "damaged",
            f"epoch {epoch[:8]} began because events.db was damaged",
            "what could be read of it was sent; look at the kiosk's disk, and at set-aside/ there",
        )
    elif head.reason == "moved":
        yield "moved", f"epoch {epoch[:8]} began with a new identity", "nothing has to be done"
    elif again:
        yield (
            "anew",
            f"epoch {epoch[:8]} knows nothing of the one before it",
            "if the kiosk was not reinstalled, events.db was lost, with what waited in it",
        )


def _drops(epoch: str, batches: Sequence[_Batch]) -> Iterator[tuple[str, str, str]]:
    dropped = max(batch.dropped for batch in batches)
    missing = sum(batch.last - batch.first + 1 - batch.count for batch in batches)
    if dropped:
        yield (
            "dropped",
            f"{dropped} events of epoch {epoch[:8]}, none of them a purchase, had no room",
            "let the kiosk reach head office more often",
        )
    if missing > dropped:
        yield (
            "gap",
            f"{missing - dropped} events of epoch {epoch[:8]} are missing within their batches",
            "look at the kiosk's disk",
        )


def _at_once(epochs: Sequence[Sequence[_Batch]]) -> bool:
    """Whether two epochs, of which none began with the other, go on side by side."""
    spans = sorted(
        (min(b.made_at for b in batches), max(b.made_at for b in batches)) for batches in epochs
    )
    return any(
        end - start > _TOGETHER and following < end - _TOGETHER
        for (start, end), (following, _) in pairwise(spans)
    )


def _of_files(db: sqlite3.Connection) -> Iterator[Doubt]:
    query = "SELECT name, reason FROM files WHERE reason IS NOT NULL ORDER BY name"
    for name, reason in db.execute(query):
        advice = "its bytes are in quarantine/; one that was still being written is read next time"
        yield Doubt("refused", None, None, f"{name}: {reason}", advice)
    query = "SELECT name, contents FROM files WHERE contents > 1 ORDER BY name"
    for name, contents in db.execute(query):
        text = f"{name} had {contents} contents, one after the other"
        advice = "the inbox must not replace files: have it answer 412 to a PUT of a name it has"
        yield Doubt("changed", None, None, text, advice)


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}–{last}"
