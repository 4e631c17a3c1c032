"""The command that answers."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from c2rec.runtime.records import LANGUAGES
from c2rec.store_kiosk.commands.options import (
    BASKET,
    CHANNEL,
    JSON,
    VISITORS,
    echo_json,
)
from c2rec.store_kiosk.render import answer_document, answer_text, plain

if TYPE_CHECKING:
    from c2rec.runtime.records import Channel, Language
    from c2rec.runtime.rules.rules import Price

_LIST = click.Path(exists=True, dir_okay=False, path_type=Path)
_LIST_LENGTH = 100_000_000
"""Letters in such a file at most: 5,000,000 ids of 19 are fewer."""


@click.command()
@click.argument("customer", required=False)
@click.option("-k", default=10, show_default=True, help="How many items, 1 to 1000.")
@BASKET
@CHANNEL
@click.option(
    "--only",
    type=_LIST,
    help="A file with the ids of the items that may be shown, one in a line: what is in stock.",
)
@click.option(
    "--without",
    type=_LIST,
    help="A file with the ids of items that may not be shown, one in a line.",
)
@click.option(
    "--where",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Only items that have this value in a column; repeatable: of one column any value, of "
    "several columns each.",
)
@click.option(
    "--price", metavar="FROM..TO", help="Only items of such a price, as in 10..50, 10.. or ..50."
)
@click.option(
    "--at-most",
    multiple=True,
    metavar="COLUMN=N",
    help="At most N items with the same value in a column; repeatable.",
)
@click.option(
    "--diversity",
    type=click.FloatRange(0, 1),
    help="How much less an item counts for being like those above it; default: as the rules say.",
)
@click.option(
    "--goes-with",
    metavar="ITEM",
    help="Only what goes with this item: what sells together with it.",
)
@click.option(
    "--instead-of",
    metavar="ITEM",
    help="What can stand in for this item: first what is alike, then what goes with it.",
)
@click.option(
    "--alike-in",
    metavar="COLUMN",
    help="With --instead-of, the column in which items must be the same; default: product_type, "
    "category, or the one that tells most kinds of items apart.",
)
@click.option(
    "--shelf",
    type=_LIST,
    help="A CSV file with price and stock, instead of the home's shelf.csv.",
)
@VISITORS
@click.option(
    "--language",
    type=click.Choice(LANGUAGES),
    default="en",
    show_default=True,
    help="Language of the reasons.",
)
@JSON
@click.pass_obj
def recommend(
    home: Path,
    customer: str | None,
    *,
    k: int,
    basket: tuple[str, ...],
    channel: "Channel",
    only: Path | None,
    without: Path | None,
    where: tuple[str, ...],
    price: str | None,
    at_most: tuple[str, ...],
    diversity: float | None,
    goes_with: str | None,
    instead_of: str | None,
    alike_in: str | None,
    shelf: Path | None,
    visitors: bool | None,
    language: "Language",
    as_json: bool,
) -> None:
    """Recommend to CUSTOMER, to a basket, to both, or without either what sells best.

    Rules of head office and of the store (rules.toml in the home), and the store's stock (shelf.csv
    in the home), hold.
    """
    from c2rec.runtime.recommender import Recommender
    from c2rec.runtime.rules.options import Options
    from c2rec.runtime.rules.shelf import read_shelf
    from c2rec.runtime.rules.store_side import StoreSide

    items = split_basket(basket)
    options = Options(
        where=_categories(where),
        price=_price(price),
        at_most=_counts(at_most),
        diversity=diversity,
        goes_with=None if goes_with is None else id_of(goes_with),
        instead_of=None if instead_of is None else id_of(instead_of),
        alike_in=alike_in,
    )
    if shelf is not None:
        read_shelf(shelf)  # what can't be read now would show what is sold out
    customer = None if customer is None else id_of(customer)
    store = StoreSide(home, shelf=shelf)
    recommender = Recommender.open(home, visitors=visitors, store=store)
    try:
        shown = None
        if only is not None or without is not None:
            shown = recommender.shown(
                only=None if only is None else _ids(only),
                without=() if without is None else _ids(without),
            )
            if shown.unknown:
                note = f"Note: ids of --only and --without not in this release: {shown.unknown}"
                click.echo(note, err=True)
        answer = recommender.recommend(
            customer, basket=items, k=k, channel=channel, shown=shown, options=options
        )
        for warning in recommender.warnings:
            click.echo(plain(f"Warning: {warning}"), err=True)
        data_to = recommender.manifest.data_to
    finally:
        recommender.close()
    if as_json:
        echo_json(answer_document(answer, language))
    else:
        click.echo(answer_text(answer, data_to, language))


def id_of(value: str) -> str:
    """Make an id of what was typed: bytes that are no text are nobody's id, and no JSON."""
    return value.encode(errors="surrogateescape").decode(errors="replace")


def _ids(path: Path) -> list[str]:
    """Read a file with an id in each line."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_LIST_LENGTH + 1)
    except OSError as error:
        raise click.ClickException(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.ClickException(
            f"{path}: byte {error.start} is no UTF-8; allowed: one item id in a line"
        ) from error
    if len(text) > _LIST_LENGTH:
        raise click.ClickException(
            f"{path}: holds more than {_LIST_LENGTH:,} letters; allowed: one item id in a line"
        )
    ids = [each.removesuffix("\r") for each in text.split("\n")]
    ids = [each for each in ids if each]
    if not ids:
        raise click.ClickException(f"{path}: holds no id; allowed: one item id in a line")
    return ids


def _categories(values: tuple[str, ...]) -> dict[str, list[str]]:
    """Values by column of --where."""
    found: dict[str, list[str]] = {}
    for value in values:
        column, sign, wanted = value.partition("=")
        if not (column and sign and wanted):
            raise click.BadParameter(
                f"is {value!r}; allowed: a column and a value, as in colour=red",
                param_hint="--where",
            )
        found.setdefault(column, []).append(wanted)
    return found


def _counts(values: tuple[str, ...]) -> dict[str, int]:
    """Counts by column of --at-most."""
    found: dict[str, int] = {}
    for value in values:
        column, _, n = value.rpartition("=")
        if not column or not (n.isascii() and n.isdigit() and len(n) <= 6):
            raise click.BadParameter(
                f"is {value!r}; allowed: a column and a whole number, as in category=2",
                param_hint="--at-most",
            )
        found[column] = int(n)
    return found


def _price(value: str | None) -> "Price | None":
    """The range of --price."""
    from c2rec.runtime.rules.rules import Price

    if value is None:
        return None
    low, dots, high = value.partition("..")
    try:
        if not dots or not (low or high):
            raise ValueError
        ends = Price()
        return Price(float(low) if low else ends.low, float(high) if high else ends.high)
    except ValueError as error:
        raise click.BadParameter(
            f"is {value!r}; allowed: two numbers, as in 10..50, 10.. or ..50",
            param_hint="--price",
        ) from error


def split_basket(values: tuple[str, ...]) -> list[str]:
    """Split each value of --basket as a line of CSV."""
    import csv

    try:
        rows = [
            row
            for value in values
            for row in csv.reader([value], strict=True, skipinitialspace=True)
        ]
    except csv.Error as error:
        raise click.BadParameter(f"not a line of CSV: {error}", param_hint="--basket") from error
    return [item for row in rows for item in row if item]
