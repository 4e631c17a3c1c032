"""The command that makes training data of what kiosks sent."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from c2rec.runtime.errors import PublishError
from c2rec.train.commands.options import FILE, FOLDER, JSON, NonEmptyPath, progress

if TYPE_CHECKING:
    from c2rec.export.collect import Collection
    from c2rec.export.keys import Keys

_GROUPS = {"gap": "gaps", "clone": "clones", "refused": "refused"}
_OTHER = "doubts"
"""Names in the JSON document of what has to be looked into: by kind, and all other kinds."""


@click.command()
@click.argument("inbox", type=NonEmptyPath())
@click.argument("out", type=FOLDER)
@click.option(
    "--keys",
    type=FOLDER,
    envvar="C2REC_KEYS",
    required=True,
    help="Head office's keys; or set C2REC_KEYS.",
)
@click.option(
    "--items",
    type=FILE,
    help="A table with item_id; purchases of other items are held back.",
)
@click.option(
    "--customers",
    type=FILE,
    help="A table with customer_id; pseudonyms of these customers become their ids again.",
)
@click.option(
    "--repository",
    type=NonEmptyPath(path_type=str),
    help="The repository; its erased customers are nobody in all that is kept and written.",
)
@click.option(
    "--delete-erased",
    is_flag=True,
    help="Delete batches from INBOX that name erased customers; OUT has their events.",
)
@click.option(
    "--max-per-hour",
    type=click.IntRange(1),
    default=5_000,
    show_default=True,
    help="Units that one kiosk can sell in an hour; all of an hour with more is held back.",
)
@JSON
def collect(
    inbox: str,
    out: Path,
    *,
    keys: Path,
    items: Path | None,
    customers: Path | None,
    repository: str | None,
    delete_erased: bool,
    max_per_hour: int,
    as_json: bool,
) -> None:
    """Read what kiosks sent to INBOX, a folder or bucket, and write training data into OUT.

    Only what is new since the last run is read. OUT/transactions.parquet is what c2rec-train reads;
    OUT/impressions.parquet tells what was shown, tapped and bought. What can't be so is held back,
    and told with what to do about it.
    """
    from c2rec.export.collect import collect as collect_events
    from c2rec.export.collect import forget_batches, read_customers, read_items
    from c2rec.export.keys import Keys
    from c2rec.export.storage import open_storage

    if "://" not in inbox and not Path(inbox).is_dir():
        raise PublishError(f"{inbox} is no folder with what kiosks sent; is its share mounted?")
    head_office = Keys(keys)
    known = None if customers is None else read_customers(customers, head_office.customer_key)
    erased = frozenset[bytes]() if repository is None else _erased(repository, head_office)
    storage, deleted = open_storage(inbox), list[str]()
    with progress() as report:
        found = collect_events(
            storage,
            out,
            head_office,
            items=None if items is None else read_items(items),
            customers=known,
            erased=erased,
            max_per_hour=max_per_hour,
            report=report,
        )
        if delete_erased:
            deleted = forget_batches(storage, out, report=report)
    if as_json:
        click.echo(json.dumps(_document(found) | {"deleted": deleted}))
        return
    click.echo("\n".join(_lines(found, out)))
    if delete_erased:
        click.echo(f"{inbox}: {len(deleted)} batches that named erased customers are deleted")


def _erased(repository: str, keys: "Keys") -> frozenset[bytes]:
    from c2rec.export.signed import open_repository
    from c2rec.export.tombstones import erased

    with open_repository(repository, keys) as opened:
        if opened.is_new:
            raise PublishError(f"--repository {repository}: nothing is published there")
        return erased(opened)


def _document(found: "Collection") -> dict[str, Any]:
    groups: dict[str, list[dict[str, Any]]] = {name: [] for name in (*_GROUPS.values(), _OTHER)}
    for doubt in found.doubts:
        groups[_GROUPS.get(doubt.kind, _OTHER)].append(asdict(doubt) | {"line": doubt.line})
    told = asdict(found)
    del told["doubts"]
    told["refused_now"] = told.pop("refused")
    return {"schema": 1, **told, **groups}


def _lines(found: "Collection", out: Path) -> list[str]:
    from c2rec.runtime.events.events import KINDS

    known = f"{found.repeated} known already, {found.refused} files refused"
    lines = [f"{found.files} batches read, {found.events} new events, {known}"]
    for kiosk in found.kiosks:
        counts = ", ".join(f"{kiosk[kind]} {kind}" for kind in KINDS if kiosk[kind])
        lines.append(f"  {kiosk['store']}/{kiosk['device']}: {counts}")
    if (written := found.written) is not None:
        held = sum(written.held.values())
        lines.append(
            f"{out}: {written.transactions} purchases of customers, {written.anonymous} of nobody "
            f"known, {held} held back, {written.impressions} rows of impressions"
        )
        if found.made_nameless:
            lines.append(f"{found.made_nameless} events lost the name of an erased customer")
        if written.mended:
            lines.append(f"The times of {written.mended} events were put right")
    return [*lines, *(f"! {doubt.line}" for doubt in found.doubts)]
