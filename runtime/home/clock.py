"""What time it is, for a machine whose clock may be wrong.

A kiosk's clock can be years behind after its battery is empty. Metadata is judged by the latest
time that is known for sure: the clock, when this version was made, or what head office signed last.
"""

from datetime import UTC, datetime, timedelta

MADE = datetime(2026, 1, 1, tzinfo=UTC)
"""This version is no older."""
_BEHIND = timedelta(days=1)
_AHEAD = timedelta(days=366)


def reference_time(now: datetime, floor: int) -> datetime:
    """The time by which expiry is judged.

    Args:
        now: by the system's clock.
        floor: the latest time that was signed, seconds since 1970.
    """
    return max(now, MADE, datetime.fromtimestamp(floor, UTC))


def clock_trouble(now: datetime, floor: int) -> str | None:
    """Say what is wrong with the clock, beside what was signed last; None where nothing is."""
    signed = max(MADE, datetime.fromtimestamp(floor, UTC))
    said = f"this machine's clock says {now:%Y-%m-%d %H:%M}Z"
    if now < signed - _BEHIND:
        return f"{said}, but head office has signed at {signed:%Y-%m-%d %H:%M}Z: set the clock"
    if floor and now > signed + _AHEAD:
        return f"{said}, more than a year after head office signed last: check the clock"
    return None
