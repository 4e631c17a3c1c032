"""Commands that make and check datasets."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from c2rec.train.commands.options import FILE, FOLDER, JSON, progress


@click.command()
@click.option("--out", type=FOLDER, required=True, help="Folder to write the dataset to.")
@click.option("--customers", type=click.IntRange(1, 10_000_000), default=2000, help="How many.")
@click.option("--items", type=click.IntRange(20, 1_000_000), default=600, help="How many.")
@click.option("--days", type=click.IntRange(1, 3650), default=60, help="Length of the period.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=1,
    help="The same seed gives the same files.",
)
@click.option("--shuffle-channels", is_flag=True, help="Placebo: permute the channel labels.")
@click.option("--force", is_flag=True, help="Replace a dataset that is there.")
def simulate(
    out: Path,
    customers: int,
    items: int,
    days: int,
    seed: int,
    shuffle_channels: bool,
    force: bool,
) -> None:
    """Make a retailer whose customers' tastes are known.

    Writes transactions.parquet, items.parquet and, beside them, the truth: tastes per customer,
    item vectors, and the weight of shared against channel taste.
    """
    from c2rec.train.simulate import simulate as run

    run(
        out,
        customers=customers,
        items=items,
        days=days,
        seed=seed,
        shuffle_channels=shuffle_channels,
        force=force,
    )
    click.echo(f"{out}: a simulated retailer; next: c2rec-train fit {out} --out RUN")


@click.command("import-hm")
@click.argument("transactions", type=FILE)
@click.option("--articles", type=FILE, required=True, help="articles.csv of the same download.")
@click.option("--out", type=FOLDER, required=True, help="Folder to write the dataset to.")
@click.option(
    "--item",
    type=click.Choice(["product", "article"]),
    default="product",
    help="product: articles that differ in colour or size alone are one item.",
)
@click.option("--force", is_flag=True, help="Replace a dataset that is there.")
def import_hm(transactions: Path, articles: Path, out: Path, item: str, force: bool) -> None:
    """Turn the files of Kaggle's H&M competition into a dataset.

    TRANSACTIONS is transactions_train.csv. Channel 1, the stores, becomes offline and 2 online. The
    full file takes 3 GB of memory.
    """
    from c2rec.train.hm import import_hm as run

    with progress() as report:
        run(
            transactions,
            articles,
            out,
            item="product" if item == "product" else "article",
            force=force,
            report=report,
        )
    click.echo(f"{out}: imported; next: c2rec-train fit {out} --out RUN")


@click.command()
@click.argument("data", type=FOLDER)
@click.argument("others", type=FOLDER, nargs=-1, required=True)
@click.option("--out", type=FOLDER, required=True, help="Folder to write the dataset to.")
@click.option("--force", is_flag=True, help="Replace a dataset that is there.")
def join(data: Path, others: tuple[Path, ...], out: Path, force: bool) -> None:
    """Make one dataset of DATA and OTHERS, such as what c2rec-export collect wrote.

    Customers and items are the same where their ids are. A purchase that is equal in several of
    them is there once. Items are those of DATA.
    """
    from c2rec.train.join import join as run

    joined = run([data, *others], out, force=force)
    click.echo(
        f"{out}: {joined.transactions} purchases, {joined.repeated} left out that are there "
        f"already; {joined.shared_customers} customers of {data} are in the others too; next: "
        f"c2rec-train fit {out} --out RUN"
    )
    if not joined.shared_customers:
        click.echo(
            "! No customer is the same: are the ids of collect pseudonyms? Run it with --customers",
            err=True,
        )


@click.command()
@click.argument("data", type=FOLDER)
@JSON
def validate(data: Path, as_json: bool) -> None:
    """Check a dataset and report every bad row.

    DATA is a folder with transactions.parquet or .csv and, optionally, items.parquet or .csv.
    Exits 1 if a row is bad.
    """
    from c2rec.train.transactions import find_problems

    problems, facts = find_problems(data)
    if as_json:
        document = {
            "schema": 1,
            "data": str(data),
            "ok": not problems,
            "facts": facts,
            "problems": [asdict(problem) for problem in problems],
        }
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        for problem in problems:
            click.echo(str(problem))
        for name, value in (facts or {}).items():
            click.echo(f"{name.replace('_', ' ')}: {value}")
    if problems:
        if not as_json:
            click.echo(f"Error: {data}: problems found: {len(problems)}", err=True)
        sys.exit(1)
