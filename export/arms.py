"""What an experiment adds to a bundle: further models over the same items, and who gets which.

A further model adds its item side alone. Its customers are encoded from their histories, which the
release has already, so it has no row of anybody's that would have to be erased.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from c2rec.export.bundle import Further, calibration, graphs_of, item_side, safetensors
from c2rec.export.golden import golden_tensors
from c2rec.export.space import space_of
from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.records import COMPONENTS
from c2rec.runtime.release.experiment import MAIN, Arm, Experiment, OwnModel
from c2rec.runtime.release.tensors import Array
from c2rec.train.config import parse_blend
from c2rec.train.model import C2Rec
from c2rec.train.run import Run
from c2rec.train.split import all_history
from c2rec.train.strangers import popularity
from c2rec.train.transactions import Dataset


@dataclass(frozen=True, slots=True)
class PlannedArm:
    """An arm beside the main one."""

    name: str
    share: float
    """Of the customers, above 0."""
    run: Run | None
    """The run whose model serves it; None: what sells."""


def plan_experiment(name: str, arms: Sequence[PlannedArm], run: Run, data: Dataset) -> Further:
    """Gather what an experiment adds to the bundle of a run; ``main`` gets the rest of the shares.

    Args:
        name: of the experiment.
        arms: all but ``main``, one or more.
        run: the main model's.
        data: the purchases that the bundle knows.

    Raises:
        ReleaseError: a name or a share can't be so, or a run can't serve in this bundle.
    """
    rest = round(1 - math.fsum(arm.share for arm in arms), 9)
    if rest <= 0:
        raise ReleaseError(
            f"the shares of the arms sum up to {1 - rest:g}; allowed: less than 1, for {MAIN} gets "
            "the rest"
        )
    files: dict[str, bytes] = {}
    described = [Arm(MAIN, rest, "main")]
    for arm in arms:
        if arm.run is None:
            described.append(Arm(arm.name, arm.share, "popular"))
            continue
        tensors = arm_tensors(arm.name, arm.run, run, data)
        model = arm.run.model
        nameless = [graph.SerializeToString(deterministic=True) for graph in graphs_of(model, "")]
        item_ids = run.data.split.vocabulary.item_ids
        own = OwnModel(
            attention="sigmoid" if model.config.attention == "sigmoid" else "softmax",
            embedding_size=model.config.embedding_size,
            space=space_of(item_ids, tensors["items.safetensors"], nameless),
            calibration=calibration(arm.run),
        )
        described.append(Arm(arm.name, arm.share, "own", own))
        files |= {f"{arm.name}.{file}": safetensors(each) for file, each in tensors.items()}
    runs = {arm.name: arm.run.model for arm in arms if arm.run is not None}
    return Further(
        Experiment(name, tuple(described)), files, lambda release: _graphs(runs, release)
    )


def arm_tensors(name: str, run: Run, main: Run, data: Dataset) -> dict[str, dict[str, Array]]:
    """Tensors of an arm's items.safetensors and golden.safetensors, by file.

    Args:
        name: of the arm, for messages.
        run: that serves it.
        main: the main model's run.
        data: the purchases that the bundle knows; what sells is told by them.

    Raises:
        ReleaseError: the run can't serve beside the main one.
    """
    model = run.model
    _check_fits(name, run, main)
    item_ids = main.data.split.vocabulary.item_ids
    blend = parse_blend(run.blended["blend"], f"{run.folder}: blend: ")
    _, everything = all_history(data, item_ids)
    sold = popularity(everything, model.items, blend)
    nobody = np.empty((0, len(COMPONENTS), model.config.embedding_size), np.float32)
    with torch.inference_mode():
        golden = golden_tensors(model, sold, nobody)
    return {
        "items.safetensors": {**item_side(model), "popularity": sold},
        "golden.safetensors": golden,
    }


def _check_fits(name: str, run: Run, main: Run) -> None:
    config, ids = run.model.config, run.data.split.vocabulary.item_ids
    if config.encoder != "history":
        raise ReleaseError(
            f"arm {name}: {run.folder} was fitted with --encoder {config.encoder}; allowed: "
            "history, so that customers need no further rows"
        )
    if config.components != len(COMPONENTS):
        raise ReleaseError(
            f"arm {name}: {run.folder} was fitted with --components {config.components}, which is "
            f"for trials; a release takes {len(COMPONENTS)}"
        )
    expected = main.data.split.vocabulary.item_ids
    if ids != expected:
        ours, theirs = set(ids), set(expected)
        other = min(ours ^ theirs)
        who = run.folder if other in ours else main.folder
        raise ReleaseError(
            f"arm {name}: {run.folder} ranks {len(ids)} items and {main.folder} {len(expected)}; "
            f"{other!r} is in {who} alone; allowed: the same items; fit both on the same data, "
            "with the same split"
        )


def _graphs(runs: Mapping[str, C2Rec], release: str) -> dict[str, bytes]:
    names = ("scorer.onnx", "encoder.onnx")
    return {
        f"{arm}.{name}": graph.SerializeToString(deterministic=True)
        for arm, model in runs.items()
        for name, graph in zip(names, graphs_of(model, release), strict=True)
    }
