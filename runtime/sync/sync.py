"""Taking what head office publishes: ``c2rec-kiosk sync``.

Cut anywhere before the flip, the release that was active serves on; the flip is one transaction;
and whatever was cut, the next sync completes. Serving reads neither the network nor TUF.
``docs/sync.md`` tells the steps on one screen.
"""

import importlib.metadata
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from c2rec.runtime.erasure.erase import take_tombstones
from c2rec.runtime.errors import (
    C2RecError,
    HomeError,
    IdentityError,
    ReleaseError,
    SyncError,
    TrustError,
)
from c2rec.runtime.home.disk import generation_path, home_errors, make_folder, only_one
from c2rec.runtime.home.identity import Identity, find_identity
from c2rec.runtime.home.settings import Settings, read_settings
from c2rec.runtime.home.state import (
    State,
    changing_state,
    find_floors,
    find_state,
    mend_state,
    note_outcome,
    raise_floors,
    read_tables,
)
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.release.flip import SPARE_BYTES, free_bytes, remove_leftovers, remove_unused
from c2rec.runtime.release.whole import damaged_arms, whole_cache
from c2rec.runtime.sync.assemble import install_release
from c2rec.runtime.sync.documents import (
    PublishedRelease,
    Ring,
    parse_release,
    parse_ring,
    parse_tombstones,
    wave_place,
)
from c2rec.runtime.sync.download import keep_blobs
from c2rec.runtime.sync.online_documents import parse_online_scores
from c2rec.runtime.sync.source import Source, open_source
from c2rec.runtime.sync.take_scores import take_scores
from c2rec.runtime.sync.trust import Repository, open_repository, signed_at_most

TOMBSTONES = "tomb/tombstones.json"
SCORES = "scores/index.json"


@dataclass(slots=True)
class Synced:
    """What a sync did."""

    outcome: str = "up to date"
    """``installed``, ``up to date``, ``halted``, or ``waiting`` for its wave."""
    seq: int | None = None
    """The release that the ring takes."""
    release: str | None = None
    """The release that is active now."""
    previous: str | None = None
    moved: int = 0
    """Bytes that came over the network or from the folder."""
    erased: int = 0
    """Customers that are erased from now on."""
    warnings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """What was done, in one line."""
        said = {
            "installed": f"release {self.release} (seq {self.seq}) is active",
            "up to date": f"release {self.release} (seq {self.seq}) is active already",
            "halted": f"head office has halted seq {self.seq}; {self._serving()}",
            "waiting": f"seq {self.seq} is not this kiosk's turn yet; {self._serving()}",
        }[self.outcome]
        return f"{said}; {self.moved:,} bytes moved"

    def _serving(self) -> str:
        return f"{self.release} serves on" if self.release else "no release is installed"


def sync(home: Path, *, report: Callable[[str], None] = lambda _: None) -> Synced:
    """Take the release that this kiosk's ring takes, and what else is new.

    Args:
        home: the home folder of a kiosk that is enrolled.
        report: called with what is being done, for a person to read.

    Raises:
        IdentityError: the kiosk is not enrolled, or its keys or settings can't be used.
        NetworkError: the repository can't be reached, or something else answers.
        TrustError: what it says is refused.
        SyncError: a file of it is missing or damaged, or the release is refused.
        ReleaseError: the release is not what the format allows, or answers otherwise here.
        HomeError: the home can't be written, is full, or another sync is running.
    """
    settings, identity = read_settings(home), _identity(home)
    with only_one(home):
        synced = Synced()
        try:
            with open_source(settings) as source:
                try:
                    _sync(home, settings, identity, source, synced, report)
                finally:
                    synced.moved = source.moved
        except C2RecError as error:
            note_outcome(home, "sync", ok=False, text=str(error))
            raise
        note_outcome(home, "sync", ok=True, text=synced.text())
        return synced


def turn(home: Path) -> float:
    """A kiosk's place among all, 0 <= turn < 1: so that not all of them sync at once.

    Raises:
        IdentityError: the kiosk is not enrolled.
    """
    identity = _identity(home)
    return wave_place(f"{identity.store}/{identity.device}", 0)


def _identity(home: Path) -> Identity:
    identity = find_identity(home)
    if identity is None:
        raise IdentityError(f"{home} has no identity; enrol it: c2rec-kiosk enrol KIT")
    return identity


def _sync(
    home: Path,
    settings: Settings,
    identity: Identity,
    source: Source,
    synced: Synced,
    report: Callable[[str], None],
) -> None:
    report("removing what is not needed")
    mend_state(home)  # an old one names other files, and would have these removed
    _clean(home)
    report("asking what is new")
    with open_repository(home, source) as repository:
        synced.warnings += repository.warnings
        ring = _ring(home, settings, repository)
        synced.seq = ring.seq
        synced.erased = _take_tombstones(home, identity, repository)
        # before the release, which may be bad here, and stay so for days
        synced.warnings += _take_scores(home, identity, source, repository, report)
        state = find_state(home)
        synced.release = state.active.release if state else None
        synced.outcome = _decide(home, ring, identity, state)
        if synced.outcome == "installed":
            release = _release(repository, ring.seq)
            state = _install(home, release, identity, source, state, report)
            synced.release = state.active.release
        with home_errors(f"can't write to the home folder {home}"):
            if synced.outcome != "halted":  # a halt ends: what was fetched then is not lost
                keep_blobs(home, ())
            repository.forget_the_rest()
    state = find_state(home)
    synced.previous = state.previous.release if state and state.previous else None
    with suppress(HomeError):  # a release that waits for its turn may be damaged meanwhile
        if state is not None and (trouble := nobody_here(home, state, identity.store)):
            synced.warnings.append(trouble)


def nobody_here(home: Path, state: State, store: str) -> str | None:
    """Tell where the active release, which came by sync, knows no customer of the kiosk's store.

    Raises:
        HomeError: it can't be read.
    """
    if state.active.seq is None:
        return None
    cache = Cache(generation_path(home, state.active.name))
    try:
        known = bool(cache.shards())
    finally:
        cache.close()
    if known:
        return None
    return (
        f"the release knows no customers of store {store!r}: it is new, or its id in the "
        "transactions is another; enrol the kiosk with a kit for that one"
    )


def _clean(home: Path) -> None:
    """Collect garbage first: a full disk would stay full else."""
    with home_errors(f"can't write to the home folder {home}"):
        make_folder(home / "gen")
        remove_unused(home)
        if free_bytes(home) < SPARE_BYTES:
            keep_blobs(home, ())


def _ring(home: Path, settings: Settings, repository: Repository) -> Ring:
    """Read what the ring takes, and remember what it signed."""
    content = repository.target(f"channel/{settings.ring}.json")
    if content is None:
        raise SyncError(
            f"the repository has no ring {settings.ring!r}; check `ring` in kiosk.toml, or "
            "publish to it"
        )
    ring = parse_ring(content, settings.ring)
    floors, floor = find_floors(home), repository.floor_of(f"seq {ring.ring}", "channel")
    signed = {"time": signed_at_most(ring.issued_at, repository), floor: ring.floor}
    if ring.seq < floors.get(floor, 0):
        raise TrustError(
            f"ring {ring.ring} takes seq {ring.seq}, below the floor of {floors[floor]} that head "
            "office has signed before; compare the repository with head office's, and if the key "
            "of channel was stolen, rotate it"
        )
    if any(value > floors.get(name, 0) for name, value in signed.items()):
        with changing_state(home) as db:
            raise_floors(db, signed)
    return ring


def _take_tombstones(home: Path, identity: Identity, repository: Repository) -> int:
    """Erase who asked for it, from what is installed too."""
    content = repository.target(TOMBSTONES)
    return take_tombstones(home, parse_tombstones(content), identity) if content else 0


def _take_scores(
    home: Path,
    identity: Identity,
    source: Source,
    repository: Repository,
    report: Callable[[str], None],
) -> list[str]:
    """Take online scores that are newer; where they can't be, the release serves all the same.

    Returns:
        Warnings: why they were not taken.
    """
    try:
        content = repository.target(SCORES)
        if content is not None:
            floor = repository.floor_of("scores", "scores")
            take_scores(home, parse_online_scores(content), identity, source, floor, report=report)
    except (HomeError, ReleaseError, SyncError) as error:
        return [f"online scores were not taken: {error}"]
    return []


def _decide(home: Path, ring: Ring, identity: Identity, state: State | None) -> str:
    """Say what is to be done: ``installed`` means that the ring's release is to be."""
    bad = read_tables(home, ("bad",)).get("bad", [])
    for row in bad:
        if row["seq"] == ring.seq:
            raise SyncError(
                f"seq {ring.seq} is known to be bad here: {row['reason']}; it is not taken again, "
                "the next release is"
            )
    if state is not None and state.active.seq == ring.seq and _is_ours(home, state, identity):
        return "up to date"
    if ring.halt:
        return "halted"
    place = wave_place(f"{identity.store}/{identity.device}", ring.seq)
    return "installed" if place < ring.share(datetime.now(UTC)) else "waiting"


def _is_ours(home: Path, state: State, identity: Identity) -> bool:
    """Whether the active generation is whole, and of the store that the kiosk stands in."""
    try:
        cache = whole_cache(home, state.active, thorough=False)
    except HomeError:
        return False
    try:
        ours = cache.about("store") == identity.store
        return ours and not damaged_arms(home, cache, thorough=False)
    except HomeError:
        return False
    finally:
        cache.close()


def _release(repository: Repository, seq: int) -> PublishedRelease:
    content = repository.target(f"rel/{seq}.json")
    if content is None:
        raise SyncError(f"the repository has no release {seq}; head office publishes it again")
    release = parse_release(content, seq)
    if _numbers(release.min_runtime) > _numbers(importlib.metadata.version("c2rec")):
        raise SyncError(
            f"release {seq} needs c2rec {release.min_runtime}, this is "
            f"{importlib.metadata.version('c2rec')}; upgrade it: pip install --upgrade c2rec"
        )
    return release


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(each) for each in found[0].split(".")) if found else ()


def _install(
    home: Path,
    release: PublishedRelease,
    identity: Identity,
    source: Source,
    state: State | None,
    report: Callable[[str], None],
) -> State:
    unfinished = generation_path(home, f"{release.seq}").with_suffix(".db.tmp")
    try:
        return install_release(
            home, release, identity, source, state, unfinished=unfinished, report=report
        )
    finally:
        remove_leftovers(home, unfinished)
