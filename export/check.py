"""Whether a bundle is whole, runs as a kiosk would run it, and answers as its model does."""

import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from c2rec.export.arms import arm_tensors
from c2rec.export.bundle import collect
from c2rec.export.parity import Parity, compare
from c2rec.runtime.engine.scorer import Encoder, Scorer
from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.release.build import build_cache
from c2rec.runtime.release.bundle import Bundle, read_bundle
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.release.experiment import Arm
from c2rec.runtime.release.golden import ABSOLUTE, RELATIVE, check_golden
from c2rec.runtime.release.item_side import ArmSide, told_of
from c2rec.runtime.release.manifest import Manifest
from c2rec.runtime.release.tensors import Array
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
    arms: Mapping[str, "CheckedArm"]
    """The same of each arm with a model of its own."""


@dataclass(frozen=True, slots=True)
class CheckedArm:
    """What a check saw of an arm's own model."""

    golden: int
    parity: Parity | None


def check_bundle(
    folder: Path,
    run: Run | None = None,
    data: Dataset | None = None,
    *,
    arms: Mapping[str, Run] | None = None,
) -> Checked:
    """Check a bundle.

    Names, sizes, digests, shapes and values; both graphs with ``onnx.checker``; golden inputs
    through the cache and the onnxruntime sessions of a kiosk; and, against its run, that it says
    what the run says and that onnxruntime computes what PyTorch does.

    Args:
        folder: the bundle.
        run: the run it was made of, or None.
        data: the purchases it was made of; None for the run's own.
        arms: the runs of arms with a model of their own, by name; they need ``run``.

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
                parity = _parity(run, cache)
            checked = {
                arm.name: _check_arm(bundle, cache, arm, (arms or {}).get(arm.name), run, data)
                for arm in bundle.manifest.own_arms
            }
        finally:
            cache.close()
    for name in sorted((arms or {}).keys() - checked.keys()):
        listed = ", ".join(checked) or "none"
        raise ReleaseError(
            f"the bundle has no arm {name!r} with a model of its own; it has: {listed}"
        )
    return Checked(bundle.manifest, golden, parity, checked)


def _check_arm(
    bundle: Bundle,
    cache: Cache,
    arm: Arm,
    its_run: Run | None,
    run: Run | None,
    data: Dataset | None,
) -> CheckedArm:
    with closing(ArmSide(cache, arm)) as side:
        with told_of(f"arm {arm.name}"):
            check_golden(side)
        parity = None
        if its_run is not None and run is not None:
            tensors = arm_tensors(arm.name, its_run, run, data or run.data.dataset)
            ours = {f"{arm.name}.{file}": each for file, each in tensors.items()}
            _compare_tensors(bundle, ours, its_run)
            with told_of(f"arm {arm.name}"):
                parity = _parity(its_run, side)
        return CheckedArm(len(side.array("golden/has")), parity)


def _parity(run: Run, source: Cache | ArmSide) -> Parity:
    encoder = Encoder(source) if source.manifest().encoder == "history" else None
    scale = float(source.array("golden/components").std())
    return compare(run.model, Scorer(source), encoder, scale=scale)


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
    tensors = {
        "items.safetensors": content.items,
        "customers.safetensors": content.customers,
        "golden.safetensors": content.golden,
    }
    _compare_tensors(bundle, tensors, run)


def _compare_tensors(bundle: Bundle, tensors: Mapping[str, Mapping[str, Array]], run: Run) -> None:
    for file, expected_of in tensors.items():
        stored = bundle.tensors(file)
        for name, expected in expected_of.items():
            got: Array = np.concatenate(list(stored.chunks(name)))
            tolerance = (ABSOLUTE, RELATIVE) if expected.dtype == np.float32 else (0, 0)
            if got.shape != expected.shape or not np.allclose(
                got, expected, atol=tolerance[0], rtol=tolerance[1]
            ):
                raise ReleaseError(
                    f"{file}: tensor {name!r} is not what the run in {run.folder} gives"
                )
