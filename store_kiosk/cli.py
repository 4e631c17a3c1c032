"""``c2rec-kiosk``: what a store's machine runs.

Each command imports what it needs when it runs: ``status`` loads no numpy, ``recommend`` no
sqlite_utils, for a person waits for both.
"""

import io
import sys
from pathlib import Path
from typing import Any

import click

from c2rec.runtime.errors import C2RecError
from c2rec.store_kiosk.commands.bench import bench
from c2rec.store_kiosk.commands.doctor import doctor
from c2rec.store_kiosk.commands.enrol import enrol
from c2rec.store_kiosk.commands.erase import erase
from c2rec.store_kiosk.commands.install import install
from c2rec.store_kiosk.commands.options import NonEmptyPath
from c2rec.store_kiosk.commands.queue import queue
from c2rec.store_kiosk.commands.recommend import recommend
from c2rec.store_kiosk.commands.record import record
from c2rec.store_kiosk.commands.rollback import rollback
from c2rec.store_kiosk.commands.status import status
from c2rec.store_kiosk.commands.sync import sync
from c2rec.store_kiosk.render import plain


class _Kiosk(click.Group):
    def main(self, *args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a character that it lacks is no error
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # the library wraps its own: this is standard output, full
            click.echo(f"Error: can't write to standard output: {error.strerror}", err=True)
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except C2RecError as error:
            raise click.ClickException(plain(str(error))) from error
        except KeyboardInterrupt:
            ctx.exit(130)  # as a shell reports a command ended by Ctrl-C


def _default_home() -> str:
    import platformdirs  # only where neither --home nor C2REC_HOME says it

    return platformdirs.user_data_dir("c2rec")


_LIST = click.Path(exists=True, dir_okay=False, path_type=Path)
_LIST_LENGTH = 100_000_000
"""Letters in such a file at most: 5,000,000 ids of 19 are fewer."""


@click.group(cls=_Kiosk, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--home",
    type=NonEmptyPath(path_type=Path),
    envvar="C2REC_HOME",
    default=_default_home,
    help="Folder with the installed releases; default: C2REC_HOME, else the user's data folder.",
)
@click.version_option(package_name="c2rec", prog_name="c2rec-kiosk")
@click.pass_context
def main(ctx: click.Context, home: Path) -> None:
    """Recommend in a store, with no network, from what is known of both channels."""
    ctx.obj = home


for command in (
    enrol,
    sync,
    install,
    recommend,
    status,
    doctor,
    rollback,
    bench,
    record,
    queue,
    erase,
):
    main.add_command(command)
@main.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.pass_obj
def install(home: Path, bundle: Path) -> None:
    """Check the release in the folder BUNDLE, store it, and make it the active one.
    Whatever goes wrong, the release that was active serves on.
    """
    from c2rec.runtime.install import install as install_bundle
    progress = _progress()
    try:
        installed = install_bundle(bundle, home, report=progress)
    finally:
        progress("")
    if not installed.changed:
        click.echo(f"Release {installed.release} is active already; nothing to do.")
        return
    was = f", was {installed.previous}" if installed.previous else ""
    click.echo(f"Release {installed.release} is active{was}.")
@main.command()
@click.argument("customer", required=False)
@click.option("-k", default=10, show_default=True, help="How many items, 1 to 1000.")
@click.option(
    "--basket",
    multiple=True,
    metavar="ITEM,ITEM",
    help="Items in the basket; repeatable. Quote an id that holds a comma: '\"a,b\",c'.",
@click.option(
    "--channel",
    type=click.Choice(CHANNELS),
    default="offline",
    show_default=True,
    help="Where the customer is.",
@click.option(
    "--only",
    type=_LIST,
    help="A file with the ids of the items that may be shown, one in a line: what is in stock.",
@click.option(
    "--without",
    type=_LIST,
    help="A file with the ids of items that may not be shown, one in a line.",
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
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
    as_json: bool,
) -> None:
    """Recommend to CUSTOMER, to a basket, to both, or without either what sells best."""
    from c2rec.runtime.recommender import Recommender
    items = _split(basket)
    if customer is not None:  # bytes that are no text are nobody's id, and no JSON
        customer = customer.encode(errors="surrogateescape").decode(errors="replace")
    recommender = Recommender.open(home)
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
        answer = recommender.recommend(customer, basket=items, k=k, channel=channel, shown=shown)
        for warning in recommender.warnings:
            click.echo(plain(f"Warning: {warning}"), err=True)
        data_to = recommender.manifest.data_to
    finally:
        recommender.close()
    if as_json:
        _echo_json(answer_document(answer))
    else:
        click.echo(answer_text(answer, data_to))
@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def status(home: Path, as_json: bool) -> None:
    """Tell which release is active, how old its data is, and what it takes on disk."""
    from c2rec.runtime.cache import Cache
    from c2rec.runtime.disk import generation_path, home_errors
    from c2rec.runtime.state import read_state
    state = read_state(home)
    cache = Cache(generation_path(home, state.active.release))
    manifest = cache.manifest_document()
    cache.close()
    with home_errors(f"can't read the home folder {home}"):
        try:
            document = status_document(home, state, manifest)
        except (KeyError, TypeError, ValueError) as error:
            raise HomeError(
                f"the cache of release {state.active.release} is damaged: its manifest lacks "
                f"{error}; install the release again"
            ) from error
    if as_json:
        _echo_json(document)
    else:
        click.echo(status_text(document))
@main.command()
@click.option(
    "--items",
    type=click.IntRange(1, 10_000_000),
    help="Measure a random catalogue of so many items; no release has to be installed.",
@click.option(
    "--dim",
    type=click.IntRange(1, 4096),
    help="Embedding size of the random catalogue; default: 64.",
@click.option("--flat", is_flag=True, help="A random catalogue in which no item sells far more.")
@click.option(
    "--uncorrelated",
    is_flag=True,
    help="A random catalogue whose customers' tastes in the two channels have nothing in common.",
@click.option(
    "-k", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many items."
@click.option(
    "--requests",
    type=click.IntRange(1, 100_000),
    default=300,
    show_default=True,
    help="How many requests the engine is timed on.",
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Of the customers drawn, or of the random catalogue.",
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def bench(
    home: Path,
    *,
    items: int | None,
    dim: int | None,
    flat: bool,
    uncorrelated: bool,
    k: int,
    requests: int,
    seed: int,
    as_json: bool,
) -> None:
    """Measure on this machine how the installed release finds the best items.
    It is compared with scoring every item by the release's graph, and by PyTorch where that is
    installed, and with reading memory. Customers are drawn at random from the release. With
    --items, neither a release nor --home is needed. It takes a quarter of a minute, more with
    millions of items, and nothing is written.
    """
    given = {"--dim": dim is not None, "--flat": flat, "--uncorrelated": uncorrelated}
    if items is None and (lone := [name for name, there in given.items() if there]):
        raise click.UsageError(
            f"{lone[0]} is about a random catalogue, and the installed release was asked for; "
            "add --items, as in --items 10000"
        )
    from c2rec.store_kiosk.bench import bench_random, bench_release
    progress = _progress()
    try:
        if items is None:
            document = bench_release(home, k=k, requests=requests, seed=seed, report=progress)
        else:
            document = bench_random(
                items,
                dim or 64,
                flat=flat,
                uncorrelated=uncorrelated,
                k=k,
                requests=requests,
                seed=seed,
                report=progress,
            )
    finally:
        progress("")
    if as_json:
        _echo_json(document)
    else:
        click.echo(bench_text(document))
    if not document["exact"]:
        raise click.ClickException(
            "the engine did not find what the graph ranks first; please report it, with the output "
            "of the same command and --json"
        )
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
def _split(values: tuple[str, ...]) -> list[str]:
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
def _echo_json(document: dict[str, Any]) -> None:
    import json
    click.echo(json.dumps(document))
def _progress() -> Callable[[str], None]:
    """Show what is being done on one line of a terminal; nowhere else."""
    if sys.stderr is None or not sys.stderr.isatty():
        return lambda _: None
    return lambda stage: click.echo(f"\r\x1b[K{plain(stage)}", nl=False, err=True)


if __name__ == "__main__":
    main()
