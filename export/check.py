"""Whether a bundle is whole, runs as a kiosk would run it, and answers as its model does."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from c2rec.export.bundle import collect
from c2rec.export.parity import Parity, compare
from c2rec.runtime.build import build_cache
from c2rec.runtime.bundle import Bundle, read_bundle
from c2rec.runtime.cache import Cache
from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.golden import ABSOLUTE, RELATIVE, check_golden
from c2rec.runtime.manifest import Manifest
from c2rec.runtime.scorer import Encoder, Scorer
from c2rec.runtime.tensors import Array
from c2rec.train.run import Run
from c2rec.train.transactions import Dataset


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check saw; there is one only if everything held."""

    manifest: Manifest
    golden: int
    """Golden customers, each answered in both channels."""
    parity: Parity | None
    """The comparison with PyTorch; None without a run."""


def check_bundle(folder: Path, run: Run | None = None, data: Dataset | None = None) -> Checked:
    """Check a bundle.

    Names, sizes, digests, shapes and values; both graphs with ``onnx.checker``; golden inputs
    through the cache and the onnxruntime sessions of a kiosk; and, against its run, that it says
    what the run says and that onnxruntime computes what PyTorch does.

    Args:
        folder: the bundle.
        run: the run it was made of, or None.
        data: the purchases it was made of; None for the run's own.

    Raises:
        ReleaseError: something doesn't hold.
    """
    bundle = read_bundle(folder)
    for name in bundle.manifest.files:
        if name.endswith(".onnx"):
            _check_graph(bundle, name)
    with tempfile.TemporaryDirectory(prefix="c2rec-check-") as scratch:
        path = Path(scratch) / "check.db"
        build_cache(bundle, path)
        cache = Cache(path)
        try:
            check_golden(cache)
            golden = len(cache.array("golden/has"))
            parity = None
            if run is not None:
                _compare_content(bundle, run, data or run.data.dataset)
                encoder = Encoder(cache) if bundle.manifest.encoder == "history" else None
                scale = float(cache.array("golden/components").std())
                parity = compare(run.model, Scorer(cache), encoder, scale=scale)
        finally:
            cache.close()
    return Checked(bundle.manifest, golden, parity)


def _check_graph(bundle: Bundle, name: str) -> None:
    try:
        graph = onnx.load_model_from_string(bundle.graph(name))
        onnx.checker.check_model(graph, full_check=True)
    except Exception as error:  # protobuf, checker and shape inference share no base
        raise ReleaseError(f"{name}: onnx.checker refuses it: {error}") from error
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    expected = {"release": bundle.manifest.release, "format": str(bundle.manifest.format)}
    if metadata != expected:
        raise ReleaseError(f"{name}: its metadata is {metadata}; allowed: {expected}")


def _compare_content(bundle: Bundle, run: Run, data: Dataset) -> None:
    """Make sure that the bundle says what an export of the run would say now."""
    content = collect(run, data)
    counts = bundle.manifest.counts
    ours = (len(content.item_rows), len(content.customer_ids), content.interactions)
    theirs = (counts.items, counts.customers, counts.interactions)
    if ours != theirs or bundle.manifest.encoder != run.model.config.encoder:
        raise ReleaseError(
            f"the bundle has {theirs} items, customers and interactions and the encoder "
            f"{bundle.manifest.encoder}; the run in {run.folder} has {ours} and "
            f"{run.model.config.encoder}: it is not the run of this bundle"
        )
    for ids, kind in (
        (
            ([item.item_id for item in bundle.items()], [r["item_id"] for r in content.item_rows]),
            "item",
        ),
        (
            ([c for block in bundle.customers() for c in block.customer_ids], content.customer_ids),
            "customer",
        ),
    ):
        if ids[0] != ids[1]:
            raise ReleaseError(f"the bundle's {kind} ids are not those of the run in {run.folder}")
    if [list(each) for block in bundle.customers() for each in block.stores] != content.stores:
        raise ReleaseError(f"stores.jsonl is not what the run in {run.folder} gives")
    for file, tensors in (
        ("items.safetensors", content.items),
        ("customers.safetensors", content.customers),
        ("golden.safetensors", content.golden),
    ):
        stored = bundle.tensors(file)
        for name, expected in tensors.items():
            got: Array = np.concatenate(list(stored.chunks(name)))
            tolerance = (ABSOLUTE, RELATIVE) if expected.dtype == np.float32 else (0, 0)
            if got.shape != expected.shape or not np.allclose(
                got, expected, atol=tolerance[0], rtol=tolerance[1]
            ):
                raise ReleaseError(
                    f"{file}: tensor {name!r} is not what the run in {run.folder} gives"
                )
