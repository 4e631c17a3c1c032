"""Sending what waits in the outbox to head office.

At least once on the wire: a batch whose answer was lost is sent again, the same bytes under the
same name, and what is found there tells that it had arrived. What is refused for good is put aside,
so that the rest flows; everything else is tried later, after a wait that grows and is never the
same for two kiosks.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from c2rec.runtime.errors import HomeError, NetworkError
from c2rec.runtime.events.inbox import Inbox, Reply
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.events.outbox_rows import Frozen
from c2rec.runtime.home.disk import alone, home_errors

DEADLINE = 60.0
"""Seconds after which no further batch is begun."""
FIRST_WAIT, LONGEST_WAIT = 30.0, 3600.0
"""Seconds to wait after the first failure in a row, and at most."""
STUCK = 3
"""Batches in a row that were not taken after which sending ends: it is not about one of them."""
MOST_FROZEN = 8
"""Batches that may be frozen while others wait for another attempt."""


@dataclass(slots=True)
class Sent:
    """What came of sending."""

    events: int = 0
    batches: int = 0
    refused: list[str] = field(default_factory=list)
    """Names of batches that became dead letters."""
    conflicts: list[str] = field(default_factory=list)
    """Names under which another content lay."""
    error: str | None = None
    """Why not all was sent; None: nothing waits but dead letters."""


def send(
    outbox: Outbox,
    inbox: Inbox,
    *,
    deadline: float = DEADLINE,
    report: Callable[[str], None] = lambda _: None,
    chance: Callable[[], float] = random.random,
) -> Sent:
    """Send all that waits, or as much as can be until the deadline.

    Args:
        outbox: what waits.
        inbox: where it goes.
        deadline: seconds.
        report: is told what is being done.
        chance: draws from 0 to 1, for the wait after a failure.

    Raises:
        HomeError: another process is sending, or the outbox can't be used.
    """
    sent, stuck, seen = Sent(), 0, set[int]()
    until = time.monotonic() + deadline
    wait: float | None = None
    with _only_sender(outbox.home):
        while stuck < STUCK:
            batch = _next(outbox, seen)
            if batch is None:
                break
            if time.monotonic() > until:
                sent.error = f"the deadline of {deadline:g} s was reached"
                break
            seen.add(batch.number)
            report(f"sending {batch.key}, {sent.events} events sent")
            try:
                reply = _deliver(outbox, inbox, batch, sent)
            except NetworkError as error:
                sent.error = str(error)
                break
            if reply.outcome in ("created", "refused"):
                stuck = 0
            else:
                stuck += 1
            if reply.outcome == "later":
                outbox.attempted(batch)
                sent.error, wait = reply.reason, reply.wait
        if stuck == STUCK and sent.error is None:
            sent.error = reply.reason
        if sent.error is not None:
            outbox.postpone(wait if wait is not None else _backoff(outbox, chance), sent.error)
    return sent


def due(outbox: Outbox) -> bool:
    """Whether it is time to try, after the wait that the last failure asked for."""
    not_before, now = outbox.delivery().not_before, outbox.now()
    # a clock that was set back must not make a kiosk wait for years
    return not_before <= now or not_before > now + LONGEST_WAIT


def _next(outbox: Outbox, seen: set[int]) -> Frozen | None:
    """Choose a batch: one that nobody was asked to take yet, a new one, then the others."""
    ready = outbox.ready()
    left = [number for number, attempts in ready if number not in seen and not attempts]
    if not left and len(ready) < MOST_FROZEN and (batch := outbox.freeze()) is not None:
        return batch
    left += [number for number, attempts in ready if number not in seen and attempts]
    return outbox.frozen(left[0]) if left else None


def _deliver(outbox: Outbox, inbox: Inbox, batch: Frozen, sent: Sent) -> Reply:
    """Try one batch once, and note in the outbox what came of it.

    Raises:
        NetworkError: nobody answered, or somebody else.
    """
    reply = inbox.put(batch.key, batch.content)
    if reply.outcome in ("exists", "unsure"):
        reply = _compare(outbox, inbox, batch, reply, sent)
    if reply.outcome == "created":
        outbox.arrived(batch)
        sent.events += batch.count
        sent.batches += 1
    elif reply.outcome == "refused":
        outbox.refused(batch, reply.reason)
        sent.refused.append(batch.key)
    return reply


def _compare(outbox: Outbox, inbox: Inbox, batch: Frozen, reply: Reply, sent: Sent) -> Reply:
    """Read what lies under a batch's name, and tell whether it is the batch."""
    there = inbox.get(batch.key)
    if there == batch.content:
        return Reply("created")
    if there is None:
        return Reply("later", f"{reply.reason}, but nothing lies under {batch.key}")
    if reply.outcome == "unsure":
        return Reply("later", f"{reply.reason}, but something else lies under {batch.key}")
    outbox.conflict(batch, hashlib.sha256(there).hexdigest())
    sent.conflicts.append(batch.key)
    return Reply("exists", f"another content lies under {batch.key}")


def _backoff(outbox: Outbox, chance: Callable[[], float]) -> float:
    longest = min(FIRST_WAIT * 2.0 ** min(outbox.delivery().failures, 20), LONGEST_WAIT)
    return longest * (0.5 + chance() / 2)


@contextmanager
def _only_sender(home: Path) -> Iterator[None]:
    busy = HomeError(f"another process is sending the events of {home}; let it")
    with ExitStack() as held:
        with home_errors(f"can't write to the home folder {home}"):
            held.enter_context(alone(home / "push.lock", busy))
        yield
