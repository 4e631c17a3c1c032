"""Events of an experiment in stores, as collect writes them, for tests to spoil."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
_IMPRESSIONS: dict[str, Any] = {
    "event_id": pl.String,
    "kind": pl.String,
    "customer_id": pl.String,
    "item_id": pl.String,
    "timestamp": pl.Datetime("us", "UTC"),
    "store_id": pl.String,
    "device": pl.String,
    "arm": pl.String,
    "impossible": pl.Boolean,
}
_PURCHASES: dict[str, Any] = {
    "customer_id": pl.String,
    "item_id": pl.String,
    "channel": pl.String,
    "timestamp": pl.Datetime("us", "UTC"),
}


class Stores:
    """What kiosks and tills tell; times are hours since ``START``."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.bought: list[dict[str, Any]] = []
        self.data: list[dict[str, Any]] = []

    def event(self, hour: float, customer: str | None, item: str = "A", **fields: Any) -> None:
        """Something happened at a kiosk; it was shown in the arm main, unless told otherwise."""
        made = {
            "event_id": f"e{len(self.events)}",
            "kind": "shown",
            "customer_id": customer,
            "item_id": item,
            "timestamp": START + timedelta(hours=hour),
            "store_id": "S1",
            "device": "k1",
            "arm": "spring/main",
            "impossible": False,
        }
        self.events.append(made | fields)

    def sale(
        self, hour: float, customer: str, item: str = "A", channel: str = "offline"
    ) -> dict[str, Any]:
        """A purchase, to be added to what kiosks or what tills and the web shop tell."""
        return {
            "customer_id": customer,
            "item_id": item,
            "channel": channel,
            "timestamp": START + timedelta(hours=hour),
        }

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write collected/ and data/."""
        collected, data = folder / "collected", folder / "data"
        for each in (collected, data):
            each.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(self.events, _IMPRESSIONS).write_parquet(collected / "impressions.parquet")
        pl.DataFrame(self.bought, _PURCHASES).write_parquet(collected / "transactions.parquet")
        pl.DataFrame(self.data, _PURCHASES).write_parquet(data / "transactions.parquet")
        return collected, data
