"""What the libraries that a server stands on log, in the kiosk's own log and shape."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from c2rec.store_kiosk.logs import Logger


def place_of(error: BaseException) -> str:
    """Where in the code it happened, and its class; its message may name a shopper."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"


class _Handler(logging.Handler):
    """Says which library warns, and of what: its first line, without what is filled in."""

    def __init__(self, log: Logger) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as a warning."""
        error = record.exc_info[1] if record.exc_info else None
        said = str(record.msg).partition("\n")[0] if error is None else place_of(error)
        self._log.warn(f"{record.name.partition('.')[0]}: {said}")


@contextmanager
def foreign_logs(log: Logger, *names: str) -> Iterator[None]:
    """Take what loggers of these names say into the log, until the end of the block."""
    handler = _Handler(log)
    loggers = [logging.getLogger(name) for name in names]
    before = [(each, each.propagate) for each in loggers]
    for each in loggers:
        each.addHandler(handler)
        each.propagate = False
    try:
        yield
    finally:
        for each, propagated in before:
            each.removeHandler(handler)
            each.propagate = propagated
