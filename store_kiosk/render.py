"""Answers, states and measurements as documents for programs and as text for people."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c2rec.runtime.records import COMPONENTS, AnswerPath, Language, Tier

if TYPE_CHECKING:
    from c2rec.runtime.answer import Answer
    from c2rec.runtime.home.state import State

SCHEMA = 1
"""Version of every JSON document."""

TIER_WORDS: dict[Tier, str] = {
    "similar": "from what is like it",
    "personal": "from what the customer buys",
    "basket": "from what is in the basket",
    "store-popular": "from what sells best",
    "catalogue": "from the catalogue",
}

PATH_WORDS: dict[AnswerPath, str] = {
    "offline": "too old to count",
    "blend": "blended in",
    "rank-fusion": "joined by rank",
}
"""What became of a customer's online scores."""

_WORDS = ("name", "item", "tier", "reason")
"""Columns of words."""

_LINE = 96
"""Longest line of a sentence."""

_WIDTH = 40
"""Longest name or id that a table shows whole."""


def plain(text: str) -> str:
    """Text that a terminal shows and never obeys: what isn't printable becomes ``�``."""
    return "".join(c if c.isprintable() else "�" for c in text)


def answer_document(answer: "Answer", language: Language = "en") -> dict[str, Any]:
    """Make the JSON document of an answer, with reasons in a language."""
    return {
        "schema": SCHEMA,
        "customer_id": answer.customer_id,
        "channel": answer.channel,
        "tier": answer.tier,
        "release": answer.release,
        "goes_with": answer.goes_with,
        "instead_of": answer.instead_of,
        "items": [
            {
                "item_id": item.item_id,
                "score": item.score,
                "reason": item.reason.words(language),
                "attention": {k: getattr(item.attention, k) for k in COMPONENTS},
                "name": item.name,
                "tier": item.tier,
            }
            for item in answer.items
        ],
        "path": answer.path,
        "online_as_of": answer.online_as_of,
        "online_age_s": answer.online_age_s,
        "arm": answer.arm,
        "model": answer.model,
        "unknown_items": list(answer.unknown_items),
        "notes": [
            {"kind": n.kind, "rule": n.rule, "items": n.items, "text": n.words(language)}
            for n in answer.notes
        ],
        "elapsed_ms": round(answer.elapsed_ms, 3),
    }


def answer_text(answer: "Answer", data_to: str, language: Language = "en") -> str:
    """Lay an answer out as a head line and a table.

    Args:
        answer: what to show.
        data_to: last day of the release's data.
        language: of the reasons.
    """
    who = "anyone" if answer.customer_id is None else f"customer {short(answer.customer_id)}"
    lines = [
        f"For {who}, {answer.channel}{_about(answer)}: {_tiers(answer)}",
        f"Release {answer.release}, data up to {data_to}",
    ]
    if answer.online_age_s is not None:
        age = duration(answer.online_age_s)
        lines.append(f"Online scores: {age} old, {PATH_WORDS[answer.path]} ({answer.path})")
    if answer.arm is not None:
        instead = answer.model == "main" and not answer.arm.endswith("/main")
        lines.append(f"Arm {answer.arm}" + (", answered by the main model" if instead else ""))
    lines.append("")
    several = ["tier"] if len(answer.tiers) > 1 else []
    head = ["", "name", "item", "score", *COMPONENTS, *several, "reason"]
    rows = []
    for rank, item in enumerate(answer.items, start=1):
        alphas = [getattr(item.attention, k) for k in COMPONENTS]
        shares = [f"{alpha:.0%}" if any(alphas) else "–" for alpha in alphas]
        # units sold, weighed by age, need no third decimal
        sold = answer.path == "offline" and item.tier in ("store-popular", "catalogue")
        score = f"{item.score:.1f}" if sold else ""
        score = score or f"{item.score:.{4 if answer.path == 'rank-fusion' else 3}f}"
        reason = plain(item.reason.words(language))  # it may hold an item's name
        tiers = [item.tier] if several else []
        told = [short(item.name), short(item.item_id), score, *shares, *tiers, reason]
        rows.append([str(rank), *told])
    lines += _table(head, rows) if rows else ["Nothing is left to recommend."]
    if answer.notes:
        lines += ["", f"No more than {len(answer.items)}, for some items are kept back:"]
        lines += [plain(f"  {note.words(language)}") for note in answer.notes]
    if answer.unknown_items:
        lines += ["", "Not in this release: " + ", ".join(map(short, answer.unknown_items))]
    return "\n".join(lines)


def _about(answer: "Answer") -> str:
    if answer.instead_of is not None:
        return f", instead of {short(answer.instead_of)}"
    return "" if answer.goes_with is None else f", with {short(answer.goes_with)}"


def _tiers(answer: "Answer") -> str:
    """Where the items come from, in words and by name."""
    item = answer.goes_with if answer.instead_of is None else answer.instead_of
    known = item is not None and item not in answer.unknown_items
    words = TIER_WORDS | ({"basket": "from what goes with it"} if known else {})
    return ", then ".join(f"{words[tier]} ({tier})" for tier in answer.tiers)


def status_document(
    home: Path,
    state: "State",
    manifest: Mapping[str, Any],
    *,
    here: int,
    enrolled: Mapping[str, str],
    outcomes: Mapping[str, Mapping[str, Any]],
    scores: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Make the JSON document of a home: its active release, how old it is, what it takes.

    Args:
        home: the kiosk's folder.
        state: which releases it has.
        manifest: the active release's manifest.json, parsed; it was checked at the install.
        here: how many of its customers are here.
        enrolled: ``store``, ``device`` and ``ring``; empty where the kiosk is not enrolled.
        outcomes: of the last sync and the last good one, as the state keeps them.
        scores: the online scores, the same; None where there are none.
    """
    import sqlite3

    files = [home / "state.db", *sorted((home / "gen").iterdir())]
    days = manifest["data"]
    age = datetime.now(UTC).date() - date.fromisoformat(days["to"])
    known = ("format", "producer", "encoder", "embedding_size", "counts", "created_at")
    return {
        "schema": SCHEMA,
        "home": str(home),
        "release": state.active.release,
        "previous": state.previous.release if state.previous else None,
        "seq": state.active.seq,
        "trial": state.trial._asdict() if state.trial else None,
        "store": enrolled.get("store"),
        "device": enrolled.get("device"),
        "ring": enrolled.get("ring"),
        "sync": _sync_document(outcomes),
        "online_scores": _scores_document(scores),
        "customers_here": here,
        **{name: manifest[name] for name in known},
        "data": {"from": days["from"], "to": days["to"], "age_days": age.days},
        "experiment": _experiment_document(manifest),
        "installed_at": state.active.installed_at,
        "files": {str(p.relative_to(home)): p.stat().st_size for p in files if p.is_file()},
        "sqlite": sqlite3.sqlite_version,
    }


def _experiment_document(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    experiment = manifest.get("experiment")
    if experiment is None:
        return None
    arms = [{each: arm[each] for each in ("name", "share", "serves")} for arm in experiment["arms"]]
    return {"name": experiment["name"], "arms": arms}


def _sync_document(outcomes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    last, good = outcomes.get("sync"), outcomes.get("good sync")
    if last is None:
        return None
    return {
        "at": last["at"],
        "ok": bool(last["ok"]),
        "text": last["text"],
        "last_good": good["at"] if good else None,
    }


def _scores_document(scores: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    as_of = datetime.fromisoformat(scores["as_of"])
    age = (datetime.now(UTC) - as_of).total_seconds()
    return {"seq": scores["seq"], "as_of": scores["as_of"], "age_s": max(0, round(age))}


def status_text(document: dict[str, Any]) -> str:
    """Lay a status document out as aligned lines."""
    counts, data = document["counts"], document["data"]
    lines = {
        "home": document["home"],
        "release": document["release"],
        "previous": document["previous"] or "none",
        "seq": _seq_text(document),
        "kiosk": _kiosk_text(document),
        "last sync": _sync_text(document["sync"]),
        "online scores": _scores_text(document["online_scores"]),
        "installed": document["installed_at"],
        "data": f"{data['from']} to {data['to']}, {data['age_days']} days old",
        "items": f"{counts['items']:,}",
        "customers": f"{document['customers_here']:,} here, of {counts['customers']:,}",
        "interactions": f"{counts['interactions']:,}",
        "model": f"{document['encoder']} encoder, embedding size {document['embedding_size']}",
        "experiment": _experiment_text(document["experiment"]),
        "made": f"{document['created_at']} by {document['producer']}, format {document['format']}",
        "SQLite": document["sqlite"],
    }
    lines |= {name: f"{size:,} bytes" for name, size in document["files"].items()}
    width = max(map(len, lines))
    return "\n".join(plain(f"{name:<{width}}  {value}") for name, value in lines.items())


def erased_text(document: Mapping[str, Any], receipt: str) -> str:
    """Say what erasing did, and what is left to do."""
    rewritten, searched = document["rewritten"], document["searched"]
    events = searched.get("events_made_nameless", 0)
    places = [f"{len(rewritten)} files"] if rewritten else []
    places += [f"{events} events"] if events else []
    found = f"was erased from {' and '.join(places)}" if document["found"] else "was not found"
    lines = [
        f"The customer {found}, and won't come back.",
        (
            f"Nothing is left of them in {searched['files']} files, {searched['bytes']:,} bytes, "
            "all of which were searched."
        ),
    ]
    if readers := document["still_open_in"]:
        lines.append(
            f"These processes still have an old file open, until their next answer or their end: "
            f"{', '.join(map(str, readers))}"
        )
    return "\n".join(plain(line) for line in [*lines, f"Receipt: {receipt}"])


def duration(seconds: int) -> str:
    """Tell a time in the greatest unit of which there are two."""
    for name, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {name}"
    return f"{seconds} s"


def _experiment_text(experiment: Mapping[str, Any] | None) -> str:
    if experiment is None:
        return "none"
    words = {"main": "the main model", "own": "its own model", "popular": "what sells"}
    arms = [
        f"{arm['name']} {100 * arm['share']:g} % by {words[arm['serves']]}"
        for arm in experiment["arms"]
    ]
    return f"{experiment['name']}: {', '.join(arms)}"


def _seq_text(document: Mapping[str, Any]) -> str:
    seq = "installed by hand" if document["seq"] is None else str(document["seq"])
    trial = document["trial"]
    if trial is None:
        return f"{seq}, confirmed"
    return f"{seq}, on trial: {trial['answers']} good answers, {trial['starts']} failed starts"


def _kiosk_text(document: Mapping[str, Any]) -> str:
    if document["store"] is None:
        return "not enrolled"
    return f"{document['device']} of store {document['store']}, ring {document['ring']}"


def _sync_text(sync: Mapping[str, Any] | None) -> str:
    if sync is None:
        return "never"
    if sync["ok"]:
        return f"{sync['at']}: {sync['text']}"
    return f"{sync['at']} failed: {sync['text']}; last good one: {sync['last_good'] or 'never'}"


def _scores_text(scores: Mapping[str, Any] | None) -> str:
    if scores is None:
        return "none"
    return f"{scores['seq']}, of {scores['as_of']}, {duration(scores['age_s'])} old"


def bench_text(document: Mapping[str, Any]) -> str:
    """Lay a bench document out: what was measured, a table of times, and what the rest means."""
    lines = [
        *_bench_head(document),
        "",
        *_bench_table(document),
        "",
        *(line for text in _bench_sentences(document) for line in _folded(text)),
    ]
    return "\n".join(plain(line) for line in lines)


def _bench_head(document: Mapping[str, Any]) -> list[str]:
    machine = document["machine"]
    facts = ("threads", "python", "onnxruntime", "numpy")
    return [
        f"{document['source']}: {document['items']:,} items, embedding size {document['dim']:,}",
        ", ".join([machine["cpu"], *(f"{name} {machine[name]}" for name in facts)]),
        "",
        (
            f"The {document['k']} best for one customer, on one thread, by turns of some calls; "
            f"{document['requests']:,} requests:"
        ),
    ]


def _bench_table(document: Mapping[str, Any]) -> list[str]:
    engine = document["engine_ms"]["p50"]
    times = {
        "the engine": document["engine_ms"],
        "every item, by the graph": document["plain_graph_ms"],
        "every item, by PyTorch": document["torch_ms"],
        "reading 8-bit items once": {"p50": document["read_int8_ms"]},
    }
    rows = [["", "p50 ms", "p99 ms", "engine = 1"]]
    for name, ms in times.items():
        if ms is not None:
            p99 = f"{ms['p99']:.3f}" if "p99" in ms else ""
            rows.append([name, f"{ms['p50']:.3f}", p99, f"{ms['p50'] / engine:.2f}"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]


def _bench_sentences(d: Mapping[str, Any]) -> list[str]:
    if d["exact"]:
        exact = (
            f"Exact: yes; for {d['compared']} requests the engine found what the graph ranks "
            "first among all items, in the same order, with scores within 0.00001."
        )
    else:
        exact = (
            f"Exact: NO; for at least one of {d['compared']} requests the engine did not find "
            "what the graph ranks first among all items. Please report it."
        )
    search = (
        f"Search: the engine bounds {d['scanned']:.0%} of the catalogue in 8-bit integers and "
        f"scores {d['scored']:,.0f} items by the graph; {d['widened']:.1%} of requests need a "
        "second scoring."
    )
    if not d["scanned"]:
        search = "Search: so small a catalogue the engine scores whole, by the graph."
    if d["source"].startswith("release"):
        start = "from starting a process to its first answer"
        owner = "After some more answers it"
    else:
        start = "from a catalogue in memory to the first answer"
        owner = "This process, its catalogue included,"
    memory = "" if d["rss_mb"] is None else f" {owner} has {d['rss_mb']:,.0f} MB resident."
    return [
        (
            "p50: half of the requests took no longer; p99: 99 of 100 took no longer. Nothing that "
            "reads the whole catalogue can be quicker than the table's last line."
        ),
        exact,
        search,
        (
            "With caches emptied before each call, as other programs leave them (p50): the engine "
            f"{d['engine_cold_ms']['p50']:.3f} ms, every item by the graph "
            f"{d['plain_graph_cold_ms']['p50']:.3f} ms, reading 8-bit items "
            f"{d['read_int8_cold_ms']:.3f} ms."
        ),
        f"Together: {d['batch64_ms']:.1f} ms for 64 customers, {d['batch64_ms'] / 64:.3f} ms each.",
        (
            "Processor: at 20 requests a second, each costs "
            f"{d['cpu_ms_per_paced_request']:.1f} ms of processor time. Where every item is scored "
            "by the graph with onnxruntime's default settings, whose threads wait by spinning, it "
            f"is {d['default_session_cpu_ms_per_paced_request']:.1f} ms."
        ),
        (
            f"Start: {d['open_to_first_ms']:.0f} ms {start}; a process that does nothing but "
            f"import onnxruntime takes {d['import_onnxruntime_ms']:.0f} ms.{memory}"
        ),
        f"Memory: one thread reads {d['memory_read_gb_s']:.1f} GB a second in a row.",
    ]


def _folded(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, _LINE, subsequent_indent="  ", break_on_hyphens=False)


def short(text: str) -> str:
    """A name or id, cut where it is long, that a terminal never obeys."""
    text = plain(text)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for row in (head, *rows):
        # words read from the left; rank and numbers stand right under each other
        cells = [
            cell.ljust(width) if title in _WORDS else cell.rjust(width)
            for title, cell, width in zip(head, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
