"""``c2rec-train``: from purchases to an evaluated run.

torch and polars are imported by the commands that use them, so that ``--help`` is quick and a
missing extra can be named.
"""

import signal

import click

from c2rec.train.commands.compare import compare
from c2rec.train.commands.completion import completion_of
from c2rec.train.commands.data import import_hm, join, simulate, validate
from c2rec.train.commands.evaluate import evaluate
from c2rec.train.commands.experiment import experiment, simulate_experiment
from c2rec.train.commands.fit import fit
from c2rec.train.commands.options import errors_to_exit
from c2rec.train.commands.tune import tune


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="c2rec")
def cli() -> None:
    """Train C2Rec on purchases from a store and a web shop."""


for command in (
    simulate,
    import_hm,
    validate,
    join,
    fit,
    evaluate,
    compare,
    tune,
    experiment,
    simulate_experiment,
):
    cli.add_command(command)
cli.add_command(completion_of("c2rec-train"))


def main() -> None:
    """Run the command line. A SIGTERM is what Ctrl-C is; training steps end before either."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with errors_to_exit("train"):
            cli()
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    main()
