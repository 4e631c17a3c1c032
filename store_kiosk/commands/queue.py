"""The command that tells what waits for head office, and sends it."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from c2rec.store_kiosk.commands.options import JSON, Seconds, echo_json, log_format, progress_line
from c2rec.store_kiosk.commands.record import enrolled
from c2rec.store_kiosk.logs import Logger
from c2rec.store_kiosk.render import plain

if TYPE_CHECKING:
    from c2rec.runtime.events.outbox import Outbox
    from c2rec.runtime.events.push import Sent
    from c2rec.runtime.events.waiting import Waiting


@click.command()
@click.option("--send", is_flag=True, help="Send it now, whatever went wrong before.")
@click.option(
    "--when-due",
    is_flag=True,
    help="With --send: not before the wait is over that the last failure asked for.",
)
@click.option("--retry-dead", is_flag=True, help="Try once more what head office refused for good.")
@click.option(
    "--deadline",
    type=Seconds(1, 86400),
    default=60.0,
    show_default=True,
    help="Seconds after which --send begins no further batch.",
)
@log_format("text")
@JSON
@click.pass_obj
def queue(
    home: Path,
    *,
    send: bool,
    when_due: bool,
    retry_dead: bool,
    deadline: float,
    log: Logger,
    as_json: bool,
) -> None:
    """Tell which events wait here for head office, and what became of those that don't.

    Exits 1 where --send didn't get all of it there.
    """
    from c2rec.runtime.events.outbox import Outbox
    from c2rec.runtime.events.push import due
    from c2rec.runtime.events.waiting import count_waiting

    if when_due and not send:
        raise click.UsageError("--when-due goes with --send")
    outbox = Outbox(home, enrolled(home))
    try:
        retried = outbox.retry_dead() if retry_dead else 0
        early = when_due and not due(outbox)
        sent = _send(outbox, deadline) if send and not early else None
        waiting = count_waiting(outbox)
    finally:
        outbox.close()
    if sent is not None and log.form == "json":
        _log(log, sent, waiting)
    if as_json:
        echo_json(_document(waiting, sent, retried))
    elif sent is None or log.form == "text":
        lines = [*_sent_lines(sent), *_lines(waiting)]
        if early:
            lines.insert(0, "Not sent: it is too early after the last failure.")
        if retried:
            lines.insert(0, f"{retried} dead letters wait to be sent again.")
        click.echo("\n".join(map(plain, lines)))
    if sent is not None and sent.error is not None:
        raise click.exceptions.Exit(1)


def _send(outbox: "Outbox", deadline: float) -> "Sent":
    from c2rec.runtime.events.inbox import open_inbox
    from c2rec.runtime.events.push import send
    from c2rec.runtime.home.settings import read_settings

    inbox = open_inbox(read_settings(outbox.home))
    progress = progress_line()
    try:
        return send(outbox, inbox, deadline=deadline, report=progress)
    finally:
        progress("")
        inbox.close()


def _log(log: Logger, sent: "Sent", waiting: "Waiting") -> None:
    fields = {
        "events": sent.events,
        "batches": sent.batches,
        "refused": len(sent.refused),
        "conflicts": len(sent.conflicts),
        "waiting": waiting.events,
    }
    if sent.error is None:
        log.log("info", "send", fields)
    else:
        log.log("error", "send", fields | {"message": sent.error})


def _document(waiting: "Waiting", sent: "Sent | None", retried: int) -> dict[str, Any]:
    return {
        "schema": 1,
        "events": waiting.events,
        **asdict(waiting),
        "retried": retried,
        "this_time": None if sent is None else asdict(sent),
    }


def _sent_lines(sent: "Sent | None") -> list[str]:
    if sent is None:
        return []
    lines = [f"{sent.events} events sent in {sent.batches} batches"]
    if sent.error is not None:
        lines.append(f"Not all could be sent: {sent.error}")
    return [*lines, ""]


def _lines(waiting: "Waiting") -> list[str]:
    lines = [f"{waiting.events} events wait, {waiting.bytes:,} of {waiting.quota:,} bytes"]
    for kind, states in waiting.kinds.items():
        if any(states.values()):
            told = ", ".join(f"{number} {name}" for name, number in states.items() if number)
            lines.append(f"  {kind:<9}  {told}")
    if waiting.oldest is not None:
        when = datetime.fromtimestamp(waiting.oldest / 1000, UTC)
        days = (datetime.now(UTC) - when).total_seconds() / 86400
        lines.append(f"The oldest is of {when:%Y-%m-%d %H:%M} UTC, {days:.1f} days ago")
    lines.append(f"Recorded in all {waiting.recorded}, arrived {waiting.sent}")
    if waiting.failures:
        lines.append(f"{waiting.failures} attempts failed since the last success: {waiting.error}")
    lines += [
        f"Dead letter of {each.events} events, {each.key}: {each.reason}; try again: "
        "c2rec-kiosk queue --retry-dead --send"
        for each in waiting.dead
    ]
    lines += [
        f"Conflict at {each.at} under {each.key}: this disk was restored, or another kiosk is a "
        "copy of this one; give each its own identity: c2rec-export keys kiosk"
        for each in waiting.conflicts
    ]
    for what, counts in (
        ("Dropped for want of room", waiting.dropped),
        ("Not recorded for want of room", waiting.refused),
    ):
        if counts:
            told = ", ".join(f"{number} {kind}" for kind, number in counts.items())
            lines.append(f"{what}: {told}")
    if waiting.recovered or waiting.set_aside:
        lines.append(
            f"events.db was damaged: {waiting.recovered} events were taken out of it, "
            f"{waiting.set_aside} damaged files are kept in set-aside/"
        )
    return lines
