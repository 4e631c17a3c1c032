"""The command that erases a customer."""

from pathlib import Path

import click

from c2rec.store_kiosk.commands.options import JSON, NonEmptyPath, echo_json, progress_line
from c2rec.store_kiosk.render import erased_text


@click.command()
@click.argument("customer")
@click.option(
    "--receipt",
    type=NonEmptyPath(dir_okay=False, path_type=Path),
    required=True,
    help="File to write once the customer is gone, outside the home.",
)
@JSON
@click.pass_obj
def erase(home: Path, customer: str, *, receipt: Path, as_json: bool) -> None:
    """Erase CUSTOMER from every file of this kiosk, and keep them from coming back.

    The receipt is written last, after every byte of the home was searched. Ended at any moment,
    the same command completes it. Head office erases them everywhere: c2rec-export tombstone.
    """
    from c2rec.runtime.erasure.erase import erase as erase_customer

    progress = progress_line()
    try:
        document = erase_customer(home, customer, receipt, report=progress)
    finally:
        progress("")
    if as_json:
        echo_json(document)
    else:
        click.echo(erased_text(document, str(receipt)))
