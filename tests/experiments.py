"""Gives bundles made at random an experiment, with arms of each kind."""

import json
import shutil
from pathlib import Path
from typing import Any

from tests.release import Release, make_release, reseal

NAME = "spring"
SHARES = {"main": 0.5, "challenger": 0.3, "holdout": 0.2}
FILES = ("scorer.onnx", "encoder.onnx", "items.safetensors", "golden.safetensors")


def add_experiment(
    folder: Path,
    *,
    name: str = NAME,
    shares: dict[str, float] = SHARES,
    own: dict[str, int] = {"challenger": 7},  # noqa: B006 - never changed
    items: int = 40,
    size: int = 12,
    calibration: dict[str, Any] | None = None,
) -> dict[str, Release]:
    """Add an experiment to a bundle; the arms in ``own`` have a model made by a seed.

    Returns:
        The release that each such model comes from; its folder is gone.
    """
    others = {}
    arms: list[dict[str, Any]] = []
    for arm, share in shares.items():
        described: dict[str, Any] = {"name": arm, "share": share}
        described["serves"] = "main" if arm == "main" else "popular"
        if arm in own:
            place = folder.parent / f"{folder.name}-{arm}"
            other = make_release(place, items=items, size=size, seed=own[arm])
            for file in FILES:
                shutil.copy(other.folder / file, folder / f"{arm}.{file}")
            described["serves"] = "own"
            described["model"] = {
                "attention": "softmax",
                "embedding_size": size,
                "space": other.manifest.space,
            }
            if calibration is not None:
                described["model"]["calibration"] = calibration
            shutil.rmtree(other.folder)
            others[arm] = other
        arms.append(described)
    document = json.loads((folder / "manifest.json").read_text())
    document["experiment"] = {"name": name, "arms": arms}
    (folder / "manifest.json").write_text(json.dumps(document))
    reseal(folder)
    return others
