"""Names, dtypes, shapes and ranges of a release's tensors, and reading them with care.

``expected_tensors`` is the one place that knows them: the exporter writes by it, the runtime
refuses whatever differs from it before a tensor is loaded.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.release.item_file import DTYPES
from c2rec.runtime.release.manifest import Manifest

DType: TypeAlias = Literal["float16", "float32", "int64", "int32", "uint8"]
Array: TypeAlias = npt.NDArray[Any]

GOLDEN_K = 10
"""Length of golden lists, or the whole catalogue where that is shorter."""

LAST_DAY = 47_481
"""2099-12-31 in days since 1970-01-01, the latest that a transaction may have."""

CHUNK_BYTES = 4 << 20
"""About how much of a tensor is in memory at once while streaming."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """How a tensor must be."""

    dtype: DType
    shape: tuple[int | str, ...]
    """A name instead of a length is free, at least 1, and the same all over the file."""
    low: int | None = None
    """Least value; None: 0 for whole numbers, none for others, which must be finite."""
    high: int = 2**53
    """Greatest value of an integer tensor."""


def expected_tensors(manifest: Manifest) -> dict[str, dict[str, TensorSpec]]:
    """Tell which tensors a release holds: ``{file name: {tensor name: TensorSpec}}``.

    An arm's own model has its files beside the main one's, under its name.
    """
    items, customers = manifest.counts.items, manifest.counts.customers
    interactions, size = manifest.counts.interactions, manifest.embedding_size
    k, last = min(GOLDEN_K, items), items - 1
    expected = {
        "items.safetensors": {
            "item_embeddings": TensorSpec("float32", (items, size)),
            "item_bias": TensorSpec("float32", (2, items)),
            "attention_bias": TensorSpec("float32", (2, 3, items)),
            "popularity": TensorSpec("float32", (2, items), low=0),
            "neighbour_items": TensorSpec("int32", (items, "neighbours"), high=last),
            "neighbour_weights": TensorSpec("float16", (items, 2, "neighbours")),
        },
        "customers.safetensors": {
            "components": TensorSpec("float32", (customers, 3, size)),
            "has": TensorSpec("uint8", (customers, 3), high=1),
            "history_offsets": TensorSpec("int64", (customers + 1,), high=interactions),
            "history_items": TensorSpec("int32", (interactions,), high=last),
            "history_channels": TensorSpec("uint8", (interactions,), high=1),
            "history_days": TensorSpec("int32", (interactions,), high=LAST_DAY),
        },
        "golden.safetensors": {
            "components": TensorSpec("float32", ("g", 3, size)),
            "has": TensorSpec("uint8", ("g", 3), high=1),
            "top_items": TensorSpec("int32", (2, "g", k), high=last),
            "top_scores": TensorSpec("float32", (2, "g", k)),
            "top_attention": TensorSpec("float32", (2, "g", k, 3)),
            "history_items": TensorSpec("int64", ("g", "length"), high=last),
            "history_channels": TensorSpec("int64", ("g", "length"), high=1),
            "history_weights": TensorSpec("float32", ("g", "length")),
        },
    }
    if manifest.encoder == "history":
        expected["items.safetensors"]["source_embeddings"] = TensorSpec("float32", (items, size))
    for arm in manifest.own_arms:
        its_own = expected_tensors(manifest.of_arm(arm))
        for name in ("items.safetensors", "golden.safetensors"):
            expected[f"{arm.name}.{name}"] = its_own[name]
    return expected


def check_tensors(
    file: str,
    found: Mapping[str, tuple[str, tuple[int, ...]]],
    specs: Mapping[str, TensorSpec],
    *,
    least: int = 1,
) -> None:
    """Make sure that a file holds the tensors it must, and no others.

    Args:
        file: its name, for messages.
        found: dtype and shape by name.
        specs: what must be there.
        least: the shortest that a free axis may be.

    Raises:
        ReleaseError: a tensor is missing, unknown, or of another dtype or shape.
    """
    for name in sorted(found.keys() ^ specs.keys()):
        what = "is not a tensor of format 1" if name in found else "is missing"
        raise ReleaseError(f"{file}: tensor {name!r} {what}; allowed: exactly {', '.join(specs)}")
    free: dict[str, int] = {}
    for name, spec in specs.items():
        dtype, shape = found[name]
        if len(shape) == len(spec.shape):
            for length, axis in zip(shape, spec.shape, strict=True):
                if isinstance(axis, str) and length >= least:
                    free.setdefault(axis, length)
        allowed = tuple(free.get(a, a) if isinstance(a, str) else a for a in spec.shape)
        if dtype != spec.dtype or shape != allowed:
            raise ReleaseError(
                f"{file}: tensor {name!r} is {dtype} {shape}; allowed: {spec.dtype} {allowed}"
            )


def check_values(where: str, values: Array, spec: TensorSpec, *, first: int = 0) -> None:
    """Make sure that a tensor's values are as they must be.

    Args:
        where: starts the message.
        values: some rows of the tensor.
        spec: how they must be.
        first: the number of the first row.

    Raises:
        ReleaseError: a NaN or an infinity, or a number out of range.
    """
    if spec.dtype in ("float16", "float32"):
        wrong, allowed = ~np.isfinite(values), "finite numbers"
        if spec.low is not None:
            wrong, allowed = wrong | (values < spec.low), f"{allowed} from {spec.low}"
    else:
        low = spec.low or 0
        wrong = (values < low) | (values > spec.high)
        allowed = f"whole numbers from {low} to {spec.high}"
    if wrong.any():
        at = np.argwhere(wrong)[0]
        got = values[tuple(at)]
        at[0] += first
        raise ReleaseError(f"{where} at {at.tolist()} is {got}; allowed: {allowed}")


class TensorFile:
    """A safetensors file whose names, dtypes and shapes are as expected.

    Args:
        path: the file; it is mapped into memory, not loaded.
        specs: every tensor it must hold.

    Raises:
        ReleaseError: the file is damaged, or a tensor is missing, unknown, or of another dtype
            or shape.
    """

    def __init__(self, path: Path, specs: Mapping[str, TensorSpec]) -> None:
        self.name = path.name
        self._specs = specs
        self._handle = _open(path)
        found = {}
        for name in self._handle.keys():  # noqa: SIM118 - the handle is no mapping
            stored = self._handle.get_slice(name)
            dtype = stored.get_dtype()
            found[name] = DTYPES.get(dtype, dtype), tuple(stored.get_shape())
        check_tensors(path.name, found, specs)
        self._shapes = {name: shape for name, (_, shape) in found.items()}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._shapes[name]

    def rows(self, name: str, first: int, last: int) -> Array:
        """Load rows ``first`` to ``last`` - 1 of a tensor, checked.

        Raises:
            ReleaseError: a NaN or an infinity, or an integer out of range.
        """
        from safetensors import SafetensorError

        spec = self._specs[name]
        try:
            values: Array = self._handle.get_slice(name)[first:last]
        except SafetensorError as error:
            raise ReleaseError(f"{self.name}: tensor {name!r}: {error}") from error
        check_values(f"{self.name}: tensor {name!r}", values, spec, first=first)
        return values

    def chunks(self, name: str) -> Iterator[Array]:
        """Stream a tensor's rows, checked as by ``rows``, in pieces of about 4 MiB."""
        rows, *rest = self._shapes[name]
        row_bytes = int(np.prod(rest, dtype=np.int64)) * np.dtype(self._specs[name].dtype).itemsize
        step = max(1, CHUNK_BYTES // row_bytes)
        for first in range(0, rows, step):
            yield self.rows(name, first, min(first + step, rows))


def _open(path: Path) -> Any:  # the handle's own stub has no types
    from safetensors import SafetensorError, safe_open  # a kiosk that answers needs neither

    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise ReleaseError(f"{path.name}: can't be read: {error}") from error
