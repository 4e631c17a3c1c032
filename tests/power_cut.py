"""Power cuts: what a disk may hold when the current goes at any moment of a process's life.

``power_cut.c`` records every write, sync, and change of a folder. A cut at one of them leaves what
was synced, and of the rest, sector by sector, what chance will have; of names in a folder, those up
to some moment since the folder was synced.
"""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512


@dataclass
class Operation:
    """One thing that a process did to its files."""

    kind: str
    """``O`` made a file, ``W`` wrote, ``T`` cut to ``offset``, ``S`` synced, ``D`` synced a folder,
    ``U`` removed, ``R`` renamed."""
    offset: int
    path: str
    """Below the folder; two, with a tab between, of a renaming."""
    data: bytes


@dataclass
class _File:
    safe: bytearray = field(default_factory=bytearray)
    pending: list[Operation] = field(default_factory=list)


def build(folder: Path) -> Path:
    """Compile the recorder."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None, "power cuts are recorded by a C library: install a C compiler"
    library = folder / "power_cut.so"
    source = Path(__file__).with_name("power_cut.c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return library


def record(library: Path, folder: Path, log: Path, script: str) -> list[Operation]:
    """Run a script, and tell what it did below a folder.

    Args:
        library: of ``build``.
        folder: what is watched; the script's first argument.
        log: a file to write.
        script: Python.
    """
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        "POWER_CUT_DIR": str(folder),
        "POWER_CUT_LOG": str(log),
    }
    command = [sys.executable, "-c", script, str(folder)]
    subprocess.run(command, check=True, env=environment, timeout=120)
    content, at, found = log.read_bytes(), 0, []
    while at < len(content):
        end = content.index(b"\n", at)
        kind, offset, length, path = content[at:end].decode().split(" ", 3)
        at = end + 1 + int(length)
        found.append(Operation(kind, int(offset), path, content[end + 1 : at]))
    return found


def cut(operations: Iterable[Operation], folder: Path, chance: random.Random) -> None:
    """Write into a folder what the disk may hold after these operations and a power cut."""
    files, names = dict[int, _File](), dict[str, int]()
    safe_names, pending_names = dict[str, int](), list[dict[str, int]]()
    for operation in operations:
        kind, path = operation.kind, operation.path
        if kind == "O":
            files[len(files)] = _File()
            names = names | {path: len(files) - 1}
        elif kind == "U":
            names = {name: number for name, number in names.items() if name != path}
        elif kind == "R":
            old, new = path.split("\t")
            names = {k: v for k, v in names.items() if k != old} | {new: names[old]}
        elif kind == "D":
            safe_names, pending_names = names, []
        elif path in names:
            file = files[names[path]]
            file.pending.append(operation)
            if kind == "S":
                file.safe, file.pending = _applied(file, None), []
        if kind in "OUR":
            pending_names.append(names)
    kept = chance.choice([safe_names, *pending_names])
    for name, number in kept.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(_applied(files[number], chance))


def _applied(file: _File, chance: random.Random | None) -> bytearray:
    """What a file holds with all that is pending, or with what chance leaves of it."""
    content = bytearray(file.safe)
    for operation in file.pending:
        if operation.kind == "T" and (chance is None or chance.random() < 0.5):
            del content[operation.offset :]
            content.extend(bytes(operation.offset - len(content)))
        elif operation.kind == "W":
            for start in range(0, len(operation.data), SECTOR):
                if chance is None or chance.random() < 0.5:
                    piece = operation.data[start : start + SECTOR]
                    at = operation.offset + start
                    content.extend(bytes(max(0, at - len(content))))
                    content[at : at + len(piece)] = piece
    return content
