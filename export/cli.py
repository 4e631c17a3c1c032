"""``c2rec-export``: from a trained run to a release."""

import click

from c2rec.export.commands.bundle import bundle, check
from c2rec.export.commands.collect import collect
from c2rec.export.commands.collect_garbage import collect_garbage
from c2rec.export.commands.expiry import expiry
from c2rec.export.commands.halt import halt
from c2rec.export.commands.keys import keys
from c2rec.export.commands.kiosk_pack import kiosk_pack
from c2rec.export.commands.online_scores import online_scores
from c2rec.export.commands.promote import promote
from c2rec.export.commands.publish import publish
from c2rec.export.commands.resign import resign
from c2rec.export.commands.tombstone import tombstone
from c2rec.train.commands.completion import completion_of
from c2rec.train.commands.options import errors_to_exit


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="c2rec")
def cli() -> None:
    """Make releases that kiosks can serve, and publish them."""


for command in (
    bundle,
    check,
    keys,
    publish,
    promote,
    halt,
    tombstone,
    online_scores,
    resign,
    expiry,
    collect_garbage,
    collect,
    kiosk_pack,
):
    cli.add_command(command)
cli.add_command(completion_of("c2rec-export"))


def main() -> None:
    """Run the command line."""
    with errors_to_exit("export"):
        cli()


if __name__ == "__main__":
    main()
