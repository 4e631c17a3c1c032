"""One thread for what must stay in one, behind a queue that has an end."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from c2rec.store_kiosk.problems import RefusedError

_Given = ParamSpec("_Given")
_Done = TypeVar("_Done")


class Worker:
    """Runs functions one after the other in a thread of its own; use it in one event loop.

    Args:
        most: so many may be waiting or running.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pending = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="desk")

    async def run(
        self, function: Callable[_Given, _Done], *args: _Given.args, **kwargs: _Given.kwargs
    ) -> _Done:
        """Wait for a function's result.

        Raises:
            RefusedError: too many are waiting.
        """
        if self._pending >= self._most:
            raise RefusedError("busy")
        self._pending += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, lambda: function(*args, **kwargs))
        finally:
            self._pending -= 1

    def close(self) -> None:
        """Wait for what runs, and end the thread."""
        self._thread.shutdown(cancel_futures=True)
