"""The command that takes what head office publishes."""

import time
from pathlib import Path

import click

from c2rec.store_kiosk.commands.options import JSON, Seconds, echo_json, log_format, progress_line
from c2rec.store_kiosk.logs import Logger
from c2rec.store_kiosk.render import SCHEMA, plain


@click.command()
@click.option(
    "--jitter",
    type=Seconds(0, 86400),
    default=0,
    metavar="SECONDS",
    help="Wait first, up to so long: each kiosk its own while, always the same.",
)
@log_format("text")
@JSON
@click.pass_obj
def sync(home: Path, *, jitter: float, log: Logger, as_json: bool) -> None:
    """Take the release that this kiosk's ring takes, and tell how many bytes moved.

    Exits with 0 also when there is nothing new, or it is not this kiosk's turn yet. Whatever goes
    wrong, the release that was active serves on, and the next sync completes what was begun.
    """
    from c2rec.runtime.sync.sync import sync as sync_home
    from c2rec.runtime.sync.sync import turn

    if jitter:
        time.sleep(jitter * turn(home))
    progress = progress_line()
    started = time.monotonic()
    try:
        synced = sync_home(home, report=progress)
    finally:
        progress("")
    document = {
        "outcome": synced.outcome,
        "seq": synced.seq,
        "release": synced.release,
        "previous": synced.previous,
        "bytes": synced.moved,
        "erased": synced.erased,
    }
    if log.form == "json":
        for warning in synced.warnings:
            log.warn(warning)
        seconds = round(time.monotonic() - started, 3)
        log.log("info", "sync", document | {"seconds": seconds})
    else:
        for warning in synced.warnings:
            click.echo(plain(f"Warning: {warning}"), err=True)
    if as_json:
        echo_json({"schema": SCHEMA} | document | {"warnings": synced.warnings})
    elif log.form == "text":
        text = synced.text()
        click.echo(plain(f"{text[:1].upper()}{text[1:]}."))
