"""Which release each ring of kiosks takes: read, changed and written."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise

from c2rec.export.signed import SignedRepository
from c2rec.runtime.errors import PublishError, ReleaseError
from c2rec.runtime.fields import MOMENT, moment_text
from c2rec.runtime.sync.documents import Ring, Wave, parse_ring

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a ring."""

    ring: Ring
    before: Ring | None


def ring_target(name: str) -> str:
    """The target of a ring's document.

    Raises:
        PublishError: no ring can be named so.
    """
    if not _NAME.fullmatch(name):
        raise PublishError(
            f"a ring can't be named {name!r}; allowed: 1 to 50 of a–z 0–9 _ -, the first of a–z 0–9"
        )
    return f"channel/{name}.json"


def rings(repository: SignedRepository) -> list[Ring]:
    """Read all rings."""
    found = []
    for target in repository.target_names("channel"):
        ring = find_ring(repository, target.removeprefix("channel/").removesuffix(".json"))
        found += [ring] if ring is not None else []
    return found


def find_ring(repository: SignedRepository, name: str) -> Ring | None:
    """Read a ring; None where it was never published to.

    Raises:
        PublishError: its document can't be understood.
    """
    content = repository.read_target(ring_target(name))
    try:
        return None if content is None else parse_ring(content, name)
    except ReleaseError as error:
        raise PublishError(f"the repository's {error}") from error


def point_ring(
    repository: SignedRepository,
    name: str,
    seq: int,
    *,
    waves: Sequence[Wave] = (),
    floor: int | None = None,
    forget_floor: bool = False,
) -> Moved:
    """Let a ring take a release; seen after ``commit``.

    Args:
        repository: opened for change.
        name: of the ring.
        seq: the release, which is published already or about to be.
        waves: when which share of the kiosks may install; none: everybody at once.
        floor: the least seq that may still be installed; None leaves it, or lowers nothing.
        forget_floor: leave the floor of before out of account; kiosks do so once the channel's
            key is another.

    Raises:
        PublishError: as ``check_floor``.
    """
    before = find_ring(repository, name)
    chosen = check_floor(None if forget_floor else before, name, seq, floor)
    ring = Ring(name, seq, chosen, False, tuple(waves), _now())
    repository.write_target(ring_target(name), ring.to_json().encode())
    return Moved(ring, before)


def check_floor(before: Ring | None, name: str, seq: int, floor: int | None) -> int:
    """Choose a ring's floor.

    Args:
        before: the ring as it is; None where it was never published to.
        name: of the ring.
        seq: the release that it is to take.
        floor: as it is asked for; None leaves it.

    Raises:
        PublishError: it is above ``seq``, or below what it was.
    """
    least = 0 if before is None else before.floor
    chosen = least if floor is None else floor
    if chosen < least:
        raise PublishError(
            f"--floor {chosen} is below ring {name}'s floor, {least}, which kiosks remember; "
            f"allowed: {least} to {seq}"
        )
    if chosen > seq:
        raise PublishError(
            f"ring {name}'s floor would be {chosen}, above the release {seq}; allowed: up to "
            f"{seq}, or a newer release"
        )
    return chosen


def halt_ring(repository: SignedRepository, name: str, *, halt: bool) -> Moved:
    """Let nobody begin to install a ring's release, or let them again; seen after ``commit``.

    Raises:
        PublishError: there is no such ring.
    """
    before = find_ring(repository, name)
    if before is None:
        known = ", ".join(ring.ring for ring in rings(repository)) or "none"
        raise PublishError(f"there is no ring {name!r}; the repository has: {known}")
    ring = replace(before, halt=halt, issued_at=_now())
    repository.write_target(ring_target(name), ring.to_json().encode())
    return Moved(ring, before)


def parse_waves(text: str) -> tuple[Wave, ...]:
    """Read waves as an operator writes them: ``2026-12-01T06:00:00Z=0.01,…``.

    Raises:
        PublishError: they can't be read, or times or shares fall.
    """
    waves = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        moment, _, share = part.partition("=")
        try:
            at = datetime.strptime(moment, MOMENT).replace(tzinfo=UTC)
            waves.append(Wave(at, float(share)))
        except ValueError as error:
            raise PublishError(
                f"a wave is {part!r}; allowed: a time in UTC and a share, as in "
                "2026-12-01T06:00:00Z=0.1"
            ) from error
        if not 0 <= waves[-1].share <= 1:
            raise PublishError(f"a wave is {part!r}; allowed: a share from 0 to 1")
    for one, two in pairwise(waves):
        if two.at <= one.at or two.share < one.share:
            raise PublishError(
                f"wave {moment_text(two.at)}={two.share:g} comes after "
                f"{moment_text(one.at)}={one.share:g}; allowed: later times, and shares that "
                "don't fall"
            )
    return tuple(waves)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
