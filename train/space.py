"""What ``tune`` searches over, and why so far.

Left out: ``neighbours``, whose length is a matter of how large a release may be; the encoder and
the objective, which decide what a model can do and not only how well; the blend, which ``fit``
searches for itself; and ``epochs``, which validation decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from c2rec.train.config import RunConfig

Parameters: TypeAlias = Mapping[str, float]
"""Values by the names of ``SPACE``; whole numbers are int."""


@dataclass(frozen=True, slots=True)
class Range:
    """Both ends belong to it; whole numbers where they are int. All defaults lie inside."""

    low: float
    high: float
    log: bool = False
    """Whether the steps are factors rather than differences."""


SPACE: dict[str, Range] = {
    # of a release's size and a kiosk's time, which both grow with it, at most twice the default's
    "embedding_size": Range(16, 128, log=True),
    # 0: the sum over a history; 1: the mean over it
    "pooling": Range(0.0, 1.0),
    # beyond, AdamW diverges or has not arrived after 60 epochs
    "learning_rate": Range(0.0003, 0.03, log=True),
    # times the learning rate it is what a step takes from a weight: from next to nothing to so
    # much that rare items keep no taste of their own
    "weight_decay": Range(0.001, 1.0, log=True),
    # 0 leaves the term out; at 1 it weighs as much as what the model is for
    "class_weight": Range(0.0, 1.0),
    "attention_weight": Range(0.001, 1.0, log=True),
    # of a mean over the last 10 to 500 steps
    "average_decay": Range(0.9, 0.998),
    # smaller ones are slow on every machine, larger ones make few steps of a small retailer
    "batch_size": Range(64, 1024, log=True),
    # the two don't overlap, so any pair of them is a range
    "hold_out_low": Range(0.05, 0.6),
    "hold_out_high": Range(0.65, 0.95),
}


def defaults(config: RunConfig) -> dict[str, float]:
    """Name the values that a configuration has."""
    model, training = config.model, config.training
    return {
        "embedding_size": model.embedding_size,
        "pooling": model.pooling,
        "learning_rate": training.learning_rate,
        "weight_decay": training.weight_decay,
        "class_weight": training.class_weight,
        "attention_weight": training.attention_weight,
        "average_decay": training.average_decay,
        "batch_size": training.batch_size,
        "hold_out_low": training.hold_out.low,
        "hold_out_high": training.hold_out.high,
    }


def configured(config: RunConfig, parameters: Parameters) -> RunConfig:
    """Put values into a configuration."""
    training = replace(
        config.training,
        learning_rate=parameters["learning_rate"],
        weight_decay=parameters["weight_decay"],
        class_weight=parameters["class_weight"],
        attention_weight=parameters["attention_weight"],
        average_decay=parameters["average_decay"],
        batch_size=int(parameters["batch_size"]),
        hold_out=replace(
            config.training.hold_out,
            low=parameters["hold_out_low"],
            high=parameters["hold_out_high"],
        ),
    )
    model = replace(
        config.model,
        embedding_size=int(parameters["embedding_size"]),
        pooling=parameters["pooling"],
    )
    return replace(config, model=model, training=training)
