"""The clock that nobody sets, and the start of the machine that it counts from."""

import time
import uuid
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Name this start of the machine: 32 hex digits, other ones after every start."""
    try:
        return uuid.UUID(_BOOT_ID.read_text("ascii").strip()).hex
    except (OSError, ValueError):  # no Linux, or a container without /proc: the process stands in
        return _PROCESS


def boot_clock() -> int:
    """Milliseconds since the machine started, time asleep included."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1_000_000


_PROCESS = uuid.uuid4().hex
