"""An explanation as a document for programs and as text for an operator."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from c2rec.store_kiosk.render import PATH_WORDS, SCHEMA, TIER_WORDS, duration, plain, short

if TYPE_CHECKING:
    from c2rec.runtime.rules.policy import Touch
    from c2rec.runtime.serving.explain import Explanation, OnlineList, Score, Speaker

_EFFECTS = {
    "denied": "never shown",
    "not allowed": "never shown: outside what may be shown",
    "sold out": "not shown: {:g} in stock",
    "stock unknown": "not shown: its stock is not known",
    "boosted": "odds times {:g}",
    "buried": "odds times {:g}",
    "window": "may be shown again {:g} days after it was bought",
    "cap": "at most {:g} of its kind in an answer",
}
_BARS = {"basket": "in the basket already", "bought": "bought here, and not to be shown again yet"}


def explanation_document(explanation: "Explanation") -> dict[str, Any]:
    """Make the JSON document of an explanation."""
    from dataclasses import asdict

    document = asdict(explanation)
    document["touches"] = [touch._asdict() for touch in explanation.touches]
    document["reason"] = str(explanation.reason)
    return {"schema": SCHEMA, **document}


def explanation_text(e: "Explanation") -> str:
    """Lay an explanation out: the score as a sum, then what becomes of it."""
    who = "anyone" if e.customer_id is None else f"customer {short(e.customer_id)}"
    known = "" if e.customer_id is None or e.known else ", whom the release doesn't know"
    lines = [
        f"{short(e.name)} ({short(e.item_id)}) for {who}{known}, {e.channel}",
        f"Release {e.release}; {TIER_WORDS[e.tier]} ({e.tier})",
        f"Reason: {e.reason}",
        "",
    ]
    if e.arm is not None:
        ranks = "what sells" if e.model is None else f"model {e.model}"
        lines[2:2] = [f"Arm {e.arm}, by {ranks}"]
    if e.unknown_items:
        lines[-1:-1] = ["Not in this release: " + ", ".join(map(short, e.unknown_items))]
    by = "units sold" if e.score is None else "score"
    lines += ["No model takes part."] if e.score is None else _score(e.score)
    lines += [
        "",
        f"Units sold here, each counting less with its age: {e.sold:.1f}",
        f"Rank by the {by}, without rules: {e.rank:,} of {e.items:,}",
        "",
        *_rules(e.touches, e.factor),
        *(f"Not shown to this customer: {_BARS[bar]}" for bar in e.bars),
    ]
    if e.online is not None:
        lines += ["", *_online(e.online, e)]
    lines += ["", *_outcome(e)]
    return "\n".join(plain(line) for line in lines)


def _score(score: "Score") -> list[str]:
    rows = [["", "α", "x · y", "adds"]]
    for part in score.parts:
        told = [f"{part.weight:.4f}", f"{part.affinity:.4f}", f"{part.product:+.5f}"]
        rows.append([part.component, *(told if part.has else ["–", "–", f"{0:+.5f}"])])
    rows.append(["neighbours", "", "", f"{score.neighbours:+.5f}"])
    rows += [
        [f"  {short(each.name)} ({_where(each)})", "", "", "", f"{each.says:+.5f}"]
        for each in score.speakers
    ]
    if score.more_speakers:
        rows.append([f"  and {score.more_speakers} more", "", "", ""])
    rows.append(["bias", "", "", f"{score.bias:+.5f}"])
    rows.append(["score", "", "", f"{score.total:+.5f}"])
    return _aligned(rows)


def _where(speaker: "Speaker") -> str:
    where = "in the store" if speaker.channel == "offline" else "online"
    return "in the basket" if speaker.in_basket else f"bought {where}"


def _rules(touches: Sequence["Touch"], factor: float) -> list[str]:
    if not touches:
        return ["No rule touches it."]
    lines = ["Rules that touch it:"]
    for touch in touches:
        effect = _EFFECTS[touch.effect].format(touch.number)
        lines.append(f"  {touch.rule} ({touch.origin}): {effect}")
    if factor != 1:
        lines.append(f"  together: odds times {factor:g}")
    return lines


def _online(online: "OnlineList", e: "Explanation") -> list[str]:
    place = "not in it" if online.place is None else f"place {online.place}"
    bought = (
        "" if online.probability is None else f", bought with probability {online.probability:.4f}"
    )
    age, path = duration(online.age_s), f"{PATH_WORDS[e.path]} ({e.path})"
    lines = [
        f"Online list: {age} old, weighs {online.weight:.4f}, {path}",
        f"  {place}{bought}",
    ]
    if e.path != "offline" and e.value is not None:
        lines.append(
            f"  {online.from_release:+.5f} from the release, {online.from_list:+.5f} from the list"
        )
    return lines


def _outcome(e: "Explanation") -> list[str]:
    if e.value is None:
        return [f"It may not be shown; {e.shown:,} of {e.items:,} items may."]
    place = f"place {e.place}" if e.place is not None else "not in it"
    return [
        f"Ranked by: {e.value:.5f}",
        f"Rank among what may be shown: {e.shown_rank:,} of {e.shown:,}",
        f"In an answer of {e.k}: {place}",
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Words to the left, numbers under each other; a fifth cell stands beside the last column."""
    padded = [[*row, *[""] * (5 - len(row))] for row in rows]
    widths = [max(map(len, column)) for column in zip(*padded, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in padded
    ]
