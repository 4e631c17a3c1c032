"""Signs of life for the service manager, each after an answer of the kiosk's own.

A process that runs is not yet one that answers: its event loop may be held up, its thread may hang
on a disk, its release may be gone. So the loop that serves shoppers asks the desk through the
queue that they wait in, and says ``READY=1``, then ``WATCHDOG=1``, only when it is answered. What
isn't answered is not told, and the manager ends the process and starts another.

Until a release can be read there is nothing to answer from, and no restart would bring one. The
desk says so itself; the start is then drawn out, and goes on as soon as a sync has brought one.
"""

import asyncio
from collections.abc import Awaitable, Callable

from c2rec.runtime.errors import HomeError
from c2rec.store_kiosk.notify import Manager, status_line
from c2rec.store_kiosk.problems import RefusedError

UNWATCHED_S = 15.0
"""Seconds between two answers where the manager has no watchdog: for its status line."""
PER_WATCHDOG = 4
"""Answers in a watchdog's time: one that is late is not yet the end."""
AGAIN_S = 1.0
"""Seconds until the next try after none was answered."""
DRAWN_OUT_S = 60
"""So much longer may the start take, each time that there is no release yet."""

Report = Callable[[str], None]
"""Is told what an operator should know."""


async def beat(
    manager: Manager, answer: Callable[[], Awaitable[str]], report: Report = lambda _: None
) -> None:
    """Give signs of life until this is cancelled.

    Args:
        manager: who is told.
        answer: has the desk answer, and says how it did.
        report: is told of an error that nobody expected, each once.
    """
    pause_s = manager.watchdog_s / PER_WATCHDOG if manager.watchdog_s else UNWATCHED_S
    ready, reported = False, set[str]()
    while True:
        try:
            told = await answer()
        except RefusedError:  # too many wait: they are being answered, or we shall not be
            await asyncio.sleep(min(AGAIN_S, pause_s))
        except HomeError as error:
            drawn_out = [] if ready else [f"EXTEND_TIMEOUT_USEC={DRAWN_OUT_S * 1_000_000}"]
            manager.tell(status_line(f"Can't recommend: {error}"), *drawn_out)
            await asyncio.sleep(min(AGAIN_S, pause_s))
        except Exception as error:  # whatever it is, it is no answer
            name = type(error).__name__
            if name not in reported:
                reported.add(name)
                report(f"the kiosk could not answer itself: {name}")
            await asyncio.sleep(min(AGAIN_S, pause_s))
        else:
            manager.tell(*([] if ready else ["READY=1"]), "WATCHDOG=1", status_line(told))
            ready = True
            await asyncio.sleep(pause_s)
