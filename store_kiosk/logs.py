"""One shape for what an unattended kiosk logs: time, level, event, and the event's own fields.

A line is JSON, for a collector, or text, for a person. Nothing of a customer and no token may be a
field: whoever logs sees to it, and a test searches the log of a whole session.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from c2rec.store_kiosk.render import plain

LogFormat: TypeAlias = Literal["text", "json"]
Level: TypeAlias = Literal["info", "warning", "error"]


def to_stderr(line: str) -> None:
    """Write to standard error, where a service manager collects it."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class Logger:
    """Writes lines.

    Args:
        form: of the lines.
        write: takes a line.
    """

    def __init__(self, form: LogFormat = "json", write: Callable[[str], None] = to_stderr) -> None:
        self.form = form
        self._write = write

    def __str__(self) -> str:
        return self.form

    def log(self, level: Level, event: str, fields: Mapping[str, object]) -> None:
        """Write what happened.

        Args:
            level: how bad it is.
            event: one word for what it is, the same every time.
            fields: what else there is to tell; values are of JSON's types.
        """
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.form == "json":
            head = {"time": now, "level": level, "event": event}
            self._write(json.dumps(head | dict(fields)))
        else:
            told = (f"{name}={_text(value)}" for name, value in fields.items())
            self._write(" ".join([now, level, event, *told]))

    def warn(self, message: str) -> None:
        """Write what an operator should know."""
        self.log("warning", "warning", {"message": message})


def _text(value: object) -> str:
    text = plain(value) if isinstance(value, str) else json.dumps(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text
