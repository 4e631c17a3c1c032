"""Whether onnxruntime computes what PyTorch does, on random inputs.

Golden inputs are compared by the runtime itself, at every install and in ``check``; here the
graphs are compared with the model they came from.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from c2rec.export.golden import flat_histories
from c2rec.runtime.engine.scorer import Encoder, Scorer
from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.ranking import top_k
from c2rec.runtime.records import CHANNELS, COMPONENTS
from c2rec.runtime.release.golden import ABSOLUTE, RELATIVE
from c2rec.runtime.release.tensors import Array
from c2rec.train.model import C2Rec

TOP = 10
"""Lists of so many items have to be the same."""


@dataclass(frozen=True, slots=True)
class Parity:
    """What the comparison saw."""

    requests: int
    """Customers scored, over both channels."""
    score_difference: float
    """Greatest absolute difference of a score."""
    attention_difference: float
    """Greatest absolute difference of an attention weight."""
    encoder_difference: float
    """Greatest absolute difference of a customer's component; 0 without an encoder."""
    ties: int
    """Lists that differ only by swaps of items whose scores are closer than allowed."""


def compare(
    model: C2Rec,
    scorer: Scorer,
    encoder: Encoder | None,
    *,
    scale: float,
    batches: int = 16,
    seed: int = 0,
) -> Parity:
    """Score random customers with both.

    Components are drawn as large as real ones, with every pattern of missing ones; histories of
    0 to 30 purchases go through both encoders and are scored as well.

    Args:
        model: PyTorch's side.
        scorer: onnxruntime's side, over the same catalogue.
        encoder: onnxruntime's side of the history encoder, or None.
        scale: standard deviation of real components.
        batches: how many batches of 8 random customers and 8 random histories.
        seed: of the random inputs.

    Raises:
        ReleaseError: a difference is greater than allowed, or a list of 10 differs.
    """
    rng = np.random.default_rng(seed)
    requests, ties = 0, 0
    worst = {"score": 0.0, "attention": 0.0, "component": 0.0}

    def match(what: str, ours: Array, theirs: Array, where: str) -> None:
        difference = np.abs(ours - theirs)
        worst[what] = max(worst[what], float(difference.max(initial=0.0)))
        if not (difference <= ABSOLUTE + RELATIVE * np.abs(ours)).all():
            raise ReleaseError(
                f"{where}: onnxruntime's {what} differs from PyTorch's by {difference.max():.2e}; "
                f"allowed: {ABSOLUTE:g} absolute plus {RELATIVE:g} relative"
            )

    with torch.inference_mode():
        for batch in range(batches):
            where = f"random batch {batch} (seed {seed})"
            components, has = _random_customers(rng, model.config.embedding_size, scale)
            padded = _random_histories(rng, model.items)
            bought, weights = padded["history_items"], padded["history_weights"]
            histories = flat_histories(padded)
            if encoder is not None:
                x, present = model.encode(histories)
                encoded, encoded_has = encoder.encode(bought, padded["history_channels"], weights)
                match("component", x.numpy(), encoded, f"encoder.onnx: {where}")
                if not np.array_equal(present.numpy(), encoded_has):
                    raise ReleaseError(f"encoder.onnx: {where}: another component is missing")
                components = np.concatenate([components, encoded])
                has = np.concatenate([has, encoded_has])
                # random customers and encoded histories bought the same
                bought, weights = np.tile(bought, (2, 1)), np.tile(weights, (2, 1))
            for channel, name in enumerate(CHANNELS):
                attended, attention = model.score(
                    torch.from_numpy(components),
                    torch.from_numpy(has),
                    channel,
                    torch.arange(model.items),
                )
                neighbours = model.neighbour_scores(histories, channel)  # (8, items)
                scores = attended + neighbours.repeat(len(components) // len(neighbours), 1)
                onnx_scores, onnx_attention = scorer.score(
                    components, has, channel, bought, weights
                )
                here = f"scorer.onnx: {where}, {name}"
                match("score", scores.numpy(), onnx_scores, here)
                match("attention", attention.numpy(), onnx_attention, here)
                ties += _compare_lists(scores.numpy(), onnx_scores, here)
                requests += len(components)
    return Parity(requests, worst["score"], worst["attention"], worst["component"], ties)


def _compare_lists(
    ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32], where: str
) -> int:
    """Count the lists that differ by ties alone.

    Raises:
        ReleaseError: a list differs by more.
    """
    ties = 0
    for row, (a, b) in enumerate(zip(top_k(ours, TOP), top_k(theirs, TOP), strict=True)):
        if np.array_equal(a, b):
            continue
        gap = np.abs(ours[row, a] - ours[row, b])
        if (gap > ABSOLUTE + RELATIVE * np.abs(ours[row, a])).any():
            raise ReleaseError(f"{where}: the top {TOP} of customer {row} differ: {a} and {b}")
        ties += 1
    return ties


def _random_customers(
    rng: np.random.Generator, size: int, scale: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Eight customers, one for every pattern of components that they have."""
    patterns = (np.arange(8)[:, None] >> np.arange(len(COMPONENTS))) & 1  # (8, 3)
    components = rng.normal(0, scale, (8, len(COMPONENTS), size)).astype(np.float32)
    return components, patterns.astype(np.bool_)


def _random_histories(rng: np.random.Generator, items: int) -> dict[str, Array]:
    """Eight padded histories of 0 to 30 purchases."""
    lengths = rng.integers(0, 31, 8)
    shape = (8, 30)
    present = np.arange(shape[1]) < lengths[:, None]  # (8, 30)
    return {
        "history_items": np.where(present, rng.integers(0, items, shape), 0),
        "history_channels": np.where(present, rng.integers(0, 2, shape), 0),
        "history_weights": present.astype(np.float32),
    }
