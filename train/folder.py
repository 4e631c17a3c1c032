"""A folder that keeps what one long job has done, so that the same command goes on with it.

A small JSON file in it says what the job is. What belongs to another job is never mixed with this
one's, and what is none of ours is never touched.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from c2rec.runtime.errors import RunError
from c2rec.train.files import write_bytes
from c2rec.train.run import only_fit


def refuse_none_of_ours(folder: Path, name: str, what: str) -> None:
    """Make sure that a folder is not there, or empty, or has the file that says what it holds.

    Raises:
        RunError: it holds something else.
    """
    if folder.exists() and not (folder / name).exists():
        inside = (each for each in folder.iterdir() if each.suffix != ".tmp")
        if any(each.name != "lock" for each in inside):
            raise RunError(f"{folder}: is not empty and holds no {what}; choose another --out")


@contextmanager
def opened(
    folder: Path,
    name: str,
    identity: dict[str, Any],
    *,
    what: str,
    made: Sequence[str],
    restart: bool,
) -> Iterator[None]:
    """Hold a folder, having made sure that what is in it belongs to this job.

    Args:
        folder: made if it is not there.
        name: of the file that says what the job is.
        identity: that file's contents; ``schema`` and ``dataset``, a fingerprint, are among them.
        what: what messages call the job.
        made: patterns of the files and folders that the job makes.
        restart: delete them first.

    Raises:
        RunError: the folder holds something else, or another process holds it.
    """
    path = folder / name
    refuse_none_of_ours(folder, name, what)
    folder.mkdir(parents=True, exist_ok=True)
    with only_fit(folder):
        if path.exists():
            before = _read_identity(path, what)  # never delete, or mix with, what is none of ours
            if restart:
                for each in (match for pattern in made for match in folder.glob(pattern)):
                    shutil.rmtree(each) if each.is_dir() else each.unlink()
            else:
                _refuse_difference(folder, before, identity, what)
        # after the deletion: what was left of it must not pass for this job's
        write_bytes(path, (json.dumps(identity, indent=2) + "\n").encode())
        yield


def _read_identity(path: Path, what: str) -> dict[str, Any]:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: can't be read: {error}") from error
    if not isinstance(before, dict) or before.get("schema") != 1:
        raise RunError(f"{path}: is not of a {what} that this version can go on with")
    return before


def _refuse_difference(
    folder: Path, before: dict[str, Any], now: dict[str, Any], what: str
) -> None:
    for name, value in now.items():
        if before.get(name) != value:
            change = "dataset (its files have changed)"
            if name != "dataset":
                change = f"{name} (it has {before.get(name)}, you asked for {value})"
            raise RunError(
                f"{folder}: holds a {what} with another {change}; choose another --out, "
                "or add --restart to throw it away"
            )
