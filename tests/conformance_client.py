"""Our TUF client behind the command line that the public conformance suite speaks to.

What answers is ``c2rec.runtime.sync.trust`` over a web source, with its floors and its sorting of
errors; nothing here calls python-tuf. ``docs/reliability.md`` tells how to run the suite. ::

    conformance_client.py --metadata-dir DIR init ROOT
    conformance_client.py --metadata-dir DIR --metadata-url URL refresh
    conformance_client.py --metadata-dir DIR --metadata-url URL --target-base-url URL
                          --target-name NAME [--target-name NAME ...] --target-dir DIR download

Exits with 0 when all went well and with 1 when the repository was refused or couldn't be reached.
Any other error is a bug of ours, not a refusal, and exits with 70, which the suite takes for a
failure.
"""

import argparse
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from c2rec.runtime.errors import C2RecError
from c2rec.runtime.home.disk import only_one
from c2rec.runtime.home.settings import Settings
from c2rec.runtime.sync.source import open_source
from c2rec.runtime.sync.trust import ROOT, Repository, open_repository

DONE, REFUSED, BUG = 0, 1, 70


class WantedError(Exception):
    """A target that the repository doesn't have."""


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    metadata: Path = options.metadata_dir
    try:
        if options.command == "init":
            _init(metadata, options.trusted_root)
        elif options.command == "refresh":
            with _opened(metadata, options.metadata_url):
                pass
        else:
            base: str = options.target_base_url
            with _opened(metadata, options.metadata_url, base) as repository:
                for name in options.target_name:
                    _download(repository, name, options.target_dir)
    except (C2RecError, WantedError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return REFUSED
    except Exception:
        traceback.print_exc()
        return BUG
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="c2rec's TUF client, to be tested")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url")
    parser.add_argument("--target-base-url")
    parser.add_argument("--target-name", action="append")
    parser.add_argument("--target-dir", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    return parser


def _home(metadata: Path) -> Path:
    """A kiosk's home, in the suite's folder: state, floors and cache last from call to call."""
    return metadata / "home"


def _init(metadata: Path, root: Path) -> None:
    home = _home(metadata)
    home.mkdir()
    shutil.copyfile(root, home / ROOT)


@contextmanager
def _opened(metadata: Path, url: str, target_base: str | None = None) -> Iterator[Repository]:
    """Ask the repository what is newest, and show the suite afterwards what is trusted."""
    home, repository = _home(metadata), url.rstrip("/").removesuffix("/metadata")
    # a source has one address, and knows the folders below it
    if target_base is not None and target_base.rstrip("/") != f"{repository}/targets":
        raise ValueError(f"--target-base-url is {target_base}; allowed: {repository}/targets")
    try:
        with (
            only_one(home),
            open_source(Settings(repository=repository)) as source,
            open_repository(home, source) as opened,
        ):
            yield opened
    finally:
        _show(home / "tuf", metadata)


def _show(cache: Path, metadata: Path) -> None:
    """Copy what the client trusts to where the suite looks, byte for byte."""
    for stale in metadata.glob("*.json"):
        stale.unlink()
    for trusted in cache.glob("*.json"):
        shutil.copyfile(trusted, metadata / trusted.name)


def _download(repository: Repository, name: str, folder: Path) -> None:
    content = repository.target(name)
    if content is None:
        raise WantedError(f"the repository has no {name}")
    path = folder / quote(name, safe="")
    # the suite reads from the files' times which came last
    if not path.exists() or path.read_bytes() != content:
        path.write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
