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
from c2rec.store_kiosk.commands.explain import explain
from c2rec.store_kiosk.commands.install import install
from c2rec.store_kiosk.commands.options import NonEmptyPath
from c2rec.store_kiosk.commands.queue import queue
from c2rec.store_kiosk.commands.recommend import recommend
from c2rec.store_kiosk.commands.record import record
from c2rec.store_kiosk.commands.rollback import rollback
from c2rec.store_kiosk.commands.serve import serve
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
    explain,
    status,
    doctor,
    rollback,
    serve,
    bench,
    record,
    queue,
    erase,
):
    main.add_command(command)


if __name__ == "__main__":
    main()
