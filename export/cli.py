"""``c2rec-export``: from a trained run to a release."""

import click

from c2rec.export.commands.bundle import bundle, check
from c2rec.export.commands.collect import collect
from c2rec.train.commands.options import errors_to_exit


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="c2rec")
def cli() -> None:
    """Make releases that kiosks can serve."""


for command in (
    bundle,
    check,
    collect,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line."""
    with errors_to_exit("export"):
        cli()


if __name__ == "__main__":
    main()
