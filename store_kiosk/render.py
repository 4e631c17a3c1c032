"""Answers and states as documents for programs and as text for people."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c2rec.runtime.records import COMPONENTS, Tier

if TYPE_CHECKING:
    from c2rec.runtime.answer import Answer
    from c2rec.runtime.state import State

SCHEMA = 1
"""Version of every JSON document."""

TIER_WORDS: dict[Tier, str] = {
    "personal": "from what the customer buys",
    "basket": "from what is in the basket",
    "store-popular": "from what sells best",
    "catalogue": "from the catalogue",
}

_WIDTH = 40
"""Longest name or id that a table shows whole."""


def plain(text: str) -> str:
    """Text that a terminal shows and never obeys: what isn't printable becomes ``�``."""
    return "".join(c if c.isprintable() else "�" for c in text)


def answer_document(answer: "Answer") -> dict[str, Any]:
    """Make the JSON document of an answer."""
    return {
        "schema": SCHEMA,
        "customer_id": answer.customer_id,
        "channel": answer.channel,
        "tier": answer.tier,
        "release": answer.release,
        "items": [
            {
                "item_id": item.item_id,
                "score": item.score,
                "reason": item.reason,
                "attention": {k: getattr(item.attention, k) for k in COMPONENTS},
                "name": item.name,
            }
            for item in answer.items
        ],
        "unknown_items": list(answer.unknown_items),
        "elapsed_ms": round(answer.elapsed_ms, 3),
    }


def answer_text(answer: "Answer", data_to: str) -> str:
    """Lay an answer out as a head line and a table.

    Args:
        answer: what to show.
        data_to: last day of the release's data.
    """
    who = "anyone" if answer.customer_id is None else f"customer {_short(answer.customer_id)}"
    lines = [
        f"For {who}, {answer.channel}: {TIER_WORDS[answer.tier]} ({answer.tier})",
        f"Release {answer.release}, data up to {data_to}",
        "",
    ]
    head = ["", "name", "item", "score", *COMPONENTS, "reason"]
    rows = []
    for rank, item in enumerate(answer.items, start=1):
        alphas = [getattr(item.attention, k) for k in COMPONENTS]
        shares = [f"{alpha:.0%}" if any(alphas) else "–" for alpha in alphas]
        # units sold, weighed by age, need no third decimal
        score = f"{item.score:.3f}" if any(alphas) else f"{item.score:.1f}"
        rows.append(
            [str(rank), _short(item.name), _short(item.item_id), score, *shares, item.reason]
        )
    lines += _table(head, rows) if rows else ["Nothing is left to recommend."]
    if answer.unknown_items:
        lines += ["", "Not in this release: " + ", ".join(map(_short, answer.unknown_items))]
    return "\n".join(lines)


def status_document(home: Path, state: "State", manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Make the JSON document of a home: its active release, how old it is, what it takes.

    Args:
        home: the kiosk's folder.
        state: which releases it has.
        manifest: the active release's manifest.json, parsed; it was checked at the install.
    """
    import sqlite3

    files = [home / "state.db", *sorted((home / "gen").glob("*.db"))]
    days = manifest["data"]
    age = datetime.now(UTC).date() - date.fromisoformat(days["to"])
    known = ("format", "producer", "encoder", "embedding_size", "counts", "created_at")
    return {
        "schema": SCHEMA,
        "home": str(home),
        "release": state.active.release,
        "previous": state.previous.release if state.previous else None,
        **{name: manifest[name] for name in known},
        "data": {"from": days["from"], "to": days["to"], "age_days": age.days},
        "installed_at": state.active.installed_at,
        "files": {str(p.relative_to(home)): p.stat().st_size for p in files if p.is_file()},
        "sqlite": sqlite3.sqlite_version,
    }


def status_text(document: dict[str, Any]) -> str:
    """Lay a status document out as aligned lines."""
    counts, data = document["counts"], document["data"]
    lines = {
        "home": document["home"],
        "release": document["release"],
        "previous": document["previous"] or "none",
        "installed": document["installed_at"],
        "data": f"{data['from']} to {data['to']}, {data['age_days']} days old",
        "items": f"{counts['items']:,}",
        "customers": f"{counts['customers']:,}",
        "interactions": f"{counts['interactions']:,}",
        "model": f"{document['encoder']} encoder, embedding size {document['embedding_size']}",
        "made": f"{document['created_at']} by {document['producer']}, format {document['format']}",
        "SQLite": document["sqlite"],
    }
    lines |= {name: f"{size:,} bytes" for name, size in document["files"].items()}
    width = max(map(len, lines))
    return "\n".join(plain(f"{name:<{width}}  {value}") for name, value in lines.items())


def _short(text: str) -> str:
    text = plain(text)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for row in (head, *rows):
        # name, id and reason read from the left; rank and numbers stand right under each other
        cells = [
            cell.ljust(width) if i in (1, 2, len(head) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
