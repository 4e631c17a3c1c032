"""Golden customers: inputs with PyTorch's answers, by which a kiosk tries a release.

They are made up, with a fixed seed. A real customer's vectors would outlive their erasure in a
file that every kiosk keeps.
"""

import numpy as np
import numpy.typing as npt
import torch

from c2rec.runtime.ranking import top_k
from c2rec.runtime.records import CHANNELS, COMPONENTS
from c2rec.runtime.release.tensors import GOLDEN_K, Array
from c2rec.train.model import C2Rec, Histories

GOLDEN_CUSTOMERS = 32
_LONGEST = 60
"""Purchases of a golden history."""
_MEAN = 12


def golden_tensors(
    model: C2Rec, sold: npt.NDArray[np.float32], components: npt.NDArray[np.float32]
) -> dict[str, Array]:
    """Make up customers and let PyTorch answer them: the tensors of golden.safetensors.

    With the history encoder their components are what it makes of their histories; a table's are
    drawn as long as real ones.

    Args:
        model: in evaluation mode, without gradients.
        sold: float32 (2, items), popularity.
        components: float32 (customers, 3, d), real ones; only their scale is used.
    """
    rng = np.random.default_rng(0)
    histories = _histories(rng, sold)
    if model.config.encoder == "history":
        encoded, present = model.encode(flat_histories(histories))
        x, has = encoded.numpy(), present.numpy()
    else:
        shape = (GOLDEN_CUSTOMERS, len(COMPONENTS), model.config.embedding_size)
        x = rng.normal(0, float(components.std()) or 1.0, shape).astype(np.float32)
        # every pattern of the components that a customer has
        numbers = np.arange(GOLDEN_CUSTOMERS)[:, None]  # (g, 1)
        has = (numbers >> np.arange(len(COMPONENTS)) & 1).astype(np.bool_)  # (g, 3)
    return histories | _answers(model, x, has, histories)


def flat_histories(padded: dict[str, Array]) -> Histories:
    """Turn padded histories, as ``encoder.onnx`` takes them, into the PyTorch model's input."""
    present = padded["history_weights"] > 0  # (batch, length)
    owners, _ = np.nonzero(present)
    items, channels = padded["history_items"][present], padded["history_channels"][present]
    bags = owners * len(CHANNELS) + channels
    order = np.argsort(bags, kind="stable")
    counts = np.bincount(bags, minlength=len(present) * len(CHANNELS))
    return Histories(
        customers=torch.arange(len(present)),
        items=torch.from_numpy(items[order]),
        counts=torch.from_numpy(counts.reshape(-1, len(CHANNELS))),
    )


def _histories(rng: np.random.Generator, sold: npt.NDArray[np.float32]) -> dict[str, Array]:
    """Draw padded histories by popularity; each item at most once per channel."""
    weights = sold.astype(np.float64).reshape(-1)  # (2 * items,): what is bought, and where
    weights += weights.mean() / 10 or 1.0  # an item that nobody bought can be drawn as well
    items, longest = sold.shape[1], min(_LONGEST, len(weights))
    padded: dict[str, Array] = {
        "history_items": np.zeros((GOLDEN_CUSTOMERS, longest), np.int64),
        "history_channels": np.zeros((GOLDEN_CUSTOMERS, longest), np.int64),
        "history_weights": np.zeros((GOLDEN_CUSTOMERS, longest), np.float32),
    }
    for row in range(GOLDEN_CUSTOMERS):
        # at least four: a real customer may well have bought one popular item and no other
        length = min(3 + int(rng.geometric(1 / _MEAN)), longest)
        drawn = rng.choice(len(weights), length, replace=False, p=weights / weights.sum())
        padded["history_items"][row, :length] = drawn % items
        padded["history_channels"][row, :length] = drawn // items
        padded["history_weights"][row, :length] = 1
    return padded


def _answers(
    model: C2Rec,
    components: npt.NDArray[np.float32],
    has: npt.NDArray[np.bool_],
    histories: dict[str, Array],
) -> dict[str, Array]:
    items, scores, attention = [], [], []
    flat = flat_histories(histories)
    for channel in range(len(CHANNELS)):
        attended, alpha = model.score(
            torch.from_numpy(components), torch.from_numpy(has), channel, torch.arange(model.items)
        )  # (g, items), (g, 3, items)
        s = attended + model.neighbour_scores(flat, channel)  # (g, items)
        top = top_k(s.numpy(), GOLDEN_K)  # (g, k)
        items.append(top)
        scores.append(np.take_along_axis(s.numpy(), top, 1))
        attention.append(np.take_along_axis(alpha.numpy(), top[:, None], 2).transpose(0, 2, 1))
    return {
        "components": components,
        "has": has.astype(np.uint8),
        "top_items": np.stack(items).astype(np.int32),
        "top_scores": np.stack(scores),
        "top_attention": np.stack(attention),
    }
