"""The item sides of an installed release, one for each model, and what reading them may raise.

numpy is imported where an array is read, so that a report stays quick.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from c2rec.runtime.errors import HomeError, ReleaseError
from c2rec.runtime.home.disk import ITEMS, home_errors, install_command, kept_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from c2rec.runtime.release.cache import Cache
    from c2rec.runtime.release.experiment import Arm
    from c2rec.runtime.release.manifest import Manifest


class ItemSide:
    """An items.safetensors, open, so that it can be read though it be deleted.

    Args:
        path: the file.
        expected: its length in bytes, which tells whether it was cut off.
        manifest: gives that of a release of this model alone; it holds nothing that holds this, or
            files would stay open until the garbage collector finds them.

    Raises:
        ValueError: here and in ``array``: it is missing or damaged.
        OSError: the same: it can't be read.
    """

    def __init__(self, path: Path, expected: int, manifest: Callable[[], Manifest]) -> None:
        self.path, self._manifest = path, manifest
        if not path.is_file():
            raise ValueError(f"{path} is missing")
        self._file = path.open("rb")
        found = os.fstat(self._file.fileno()).st_size
        if found != expected:
            self._file.close()
            raise ValueError(f"{path} has {found} bytes instead of {expected}")

    def close(self) -> None:
        """Close the file; arrays that were taken stay."""
        self._file.close()

    @property
    def replaced(self) -> bool:
        """Whether another file lies there by now, as after a repair."""
        try:
            there = self.path.stat()
        except OSError:  # what is open can be read on
            return False
        return not os.path.samestat(there, os.fstat(self._file.fileno()))

    def array(self, name: str) -> npt.NDArray[Any]:
        """Map a tensor, read only.

        Raises:
            ReleaseError: one is missing, unknown, or of another dtype or shape.
        """
        if name not in self._tensors:
            raise ValueError(f"{self.path} lacks {name!r}")
        return self._tensors[name]

    @cached_property
    def _tensors(self) -> dict[str, npt.NDArray[Any]]:
        from c2rec.runtime.release.item_file import map_tensors
        from c2rec.runtime.release.tensors import check_tensors, expected_tensors

        tensors = map_tensors(self._file)
        found = {name: (array.dtype.name, array.shape) for name, array in tensors.items()}
        check_tensors(self.path.name, found, expected_tensors(self._manifest())[ITEMS])
        return tensors


class ArmSide:
    """What a release has of one arm's own model, read as if the release were made of it alone.

    Args:
        cache: the open release; used in the thread that opened it.
        arm: one with a model of its own.

    Raises:
        HomeError: here and in every method: a file is missing or damaged.
    """

    def __init__(self, cache: Cache, arm: Arm) -> None:
        self._cache, self._prefix = cache, f"{arm.name}."
        self._manifest = manifest = cache.manifest().of_arm(arm)
        listed, name = manifest.files[ITEMS], self._prefix + ITEMS
        with cache_errors(cache.path):
            path = kept_path(cache.path.parent, name, listed.sha256)
            self._side = ItemSide(path, listed.bytes, lambda: manifest)

    def close(self) -> None:
        """Close its file."""
        self._side.close()

    @property
    def replaced(self) -> bool:
        """Whether another file lies in the place of its own by now."""
        return self._side.replaced

    def manifest(self) -> Manifest:
        """The manifest of a release of this model alone."""
        return self._manifest

    def graph(self, name: str) -> bytes:
        """Content of its ``scorer.onnx`` or ``encoder.onnx``."""
        return self._cache.graph(self._prefix + name)

    def array(self, name: str) -> npt.NDArray[Any]:
        """One of its arrays, by the name that ``Cache.array`` takes."""
        if "/" in name:
            return self._cache.array(self._prefix + name)
        with cache_errors(self._cache.path):
            return self._side.array(name)

    def item_names(self, rows: Sequence[int]) -> list[tuple[str, str]]:
        """(item id, name) of items, in the order of ``rows``."""
        return self._cache.item_names(rows)


@contextmanager
def told_of(whose: str) -> Iterator[None]:
    """Begin the message of a ReleaseError with whose it is."""
    try:
        yield
    except ReleaseError as error:
        raise ReleaseError(f"{whose}: {error}") from error


@contextmanager
def cache_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a release's cache at ``path`` is read into HomeError."""
    try:
        yield
    except (OSError, sqlite3.Error, ValueError, TypeError, MemoryError, ReleaseError) as error:
        # Worked out only now, for every read comes by here. The home is two up from gen/NAME.db.
        advice = f"install the release again: {install_command(path.absolute().parents[1])}"
        with home_errors(f"can't read the release's cache {path}", advice):
            if isinstance(error, OSError | sqlite3.Error):
                raise
        # an SQLite file, but not ours
        raise HomeError(f"the release's cache {path} is damaged: {error}; {advice}") from error
