"""The command that tells why an item is where it is."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from c2rec.store_kiosk.commands.options import (
    BASKET,
    CHANNEL,
    JSON,
    VISITORS,
    echo_json,
)
from c2rec.store_kiosk.commands.recommend import id_of, split_basket
from c2rec.store_kiosk.render import plain

if TYPE_CHECKING:
    from c2rec.runtime.records import Channel


@click.command()
@click.argument("item")
@click.option("--customer", metavar="CUSTOMER", help="Whom it is or isn't recommended to.")
@BASKET
@CHANNEL
@click.option(
    "-k", default=10, show_default=True, help="Items of the answer in which its place is told."
)
@VISITORS
@JSON
@click.pass_obj
def explain(
    home: Path,
    item: str,
    *,
    customer: str | None,
    basket: tuple[str, ...],
    channel: "Channel",
    k: int,
    visitors: bool | None,
    as_json: bool,
) -> None:
    """Tell every number and every rule that puts ITEM where it is.

    It names what the customer bought: what it prints is for an operator alone.
    """
    from c2rec.runtime.recommender import Recommender
    from c2rec.store_kiosk.explained import explanation_document, explanation_text

    recommender = Recommender.open(home, visitors=visitors)
    try:
        explanation = recommender.explain(
            id_of(item),
            None if customer is None else id_of(customer),
            basket=split_basket(basket),
            k=k,
            channel=channel,
        )
        for warning in recommender.warnings:
            click.echo(plain(f"Warning: {warning}"), err=True)
    finally:
        recommender.close()
    if as_json:
        echo_json(explanation_document(explanation))
    else:
        click.echo(explanation_text(explanation))
