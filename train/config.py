"""What decides a run, and the file that says it; imports no torch.

The defaults here are the command line's.
"""

import json
import types
import typing
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from c2rec.runtime.errors import RunError
from c2rec.train.files import write_bytes

EncoderName: TypeAlias = Literal["history", "table"]
ObjectiveName: TypeAlias = Literal["softmax", "sampled-softmax", "bce", "bpr"]
ObjectiveChoice: TypeAlias = Literal["auto"] | ObjectiveName
AttentionName: TypeAlias = Literal["softmax", "sigmoid", "learned", "none"]

CONFIG = "config.json"
FULL_CATALOGUE = 20_000
"""Up to so many items the objective ``auto`` is softmax over all of them."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What shapes the model."""

    encoder: EncoderName = "history"
    """``history`` sums source embeddings of what the customer bought; ``table`` learns rows."""
    embedding_size: int = 64
    """d, of every embedding."""
    pooling: float = 0.5
    """A history of n purchases is summed and divided by n to this power."""
    components: int = 3
    """Of a customer. 3: shared, offline, online; 2: without shared; 4: also what they bought in
    both channels. A release takes 3."""
    attention: AttentionName = "softmax"
    """How the logits e become weights. ``softmax`` over the components, ``sigmoid`` of each, or
    ``learned``: softmax of b_{c,k} alone, the same for all customers and items; ``none``: all
    components weigh the same."""
    attributes: bool = True
    """Whether items are also what their attributes say."""
    shared_start: float = 2.0
    """b_{c,shared} before training: attention starts biased towards the shared component."""
    neighbours: int = 256
    """Items that each item's row of the neighbour term names; 0 leaves the term out. A release
    takes 8 bytes for each."""


@dataclass(frozen=True, slots=True)
class HoldOut:
    """How much of a customer's history is hidden and has to be predicted in one step."""

    low: float = 0.3
    """Each customer's share is uniform between this …"""
    high: float = 0.9
    """… and this."""


@dataclass(frozen=True, slots=True)
class SplitConfig:
    """How purchases are divided by date."""

    valid_days: int = 7
    """UTC days before the test period that decide when to stop; 0 for none."""
    test_days: int = 7
    """Last UTC days, kept for ``evaluate``; 0 to train on everything."""
    min_interactions: int = 5
    """k of the k-core over training purchases, for customers and items."""
    held_out: float = 0.0
    """Share of the customers that the model never sees, to measure how it serves newcomers."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How the model is trained."""

    seed: int = 1
    """Of the weights and of every random choice."""
    objective: ObjectiveChoice = "auto"
    """``auto``: softmax up to ``FULL_CATALOGUE`` items, sampled-softmax beyond."""
    negatives: int = 2048
    """Items drawn per step by the objectives that draw."""
    class_weight: float = 0.3
    """λ_cls."""
    attention_weight: float = 0.01
    """λ_attn."""
    offline_weight: float = 1.0
    """Of L_off; 0 leaves the term out."""
    online_weight: float = 1.0
    """Of L_on; 0 leaves the term out."""
    learning_rate: float = 0.003
    """Of AdamW."""
    weight_decay: float = 0.05
    """Of AdamW, on embeddings and matrices."""
    average_decay: float = 0.98
    """Per step, of the moving average of the weights that is validated and kept."""
    batch_size: int = 256
    """Customers per step."""
    epochs: int = 60
    """At most."""
    patience: int = 8
    """Epochs without a better validation NDCG before stopping."""
    hold_out: HoldOut = field(default_factory=HoldOut)
    """For the history encoder."""
    item_dropout: float = 0.0
    """Share of the items that are, for one step, only what their attributes say."""
    threads: int = 2
    """CPU threads; part of the run, since another number rounds sums differently."""


@dataclass(frozen=True, slots=True)
class ChannelBlend:
    """What is added to the attention's scores in one channel, and how much of it.

    Weights are in units of the attention's scores: at 1 a term's scores spread as widely over
    the catalogue as the attention's do.
    """

    regression: float = 0.3
    """Weight of the items that the items bought predict (EASE)."""
    alike: float = 0.2
    """Weight of what customers who bought the same items bought in this channel."""
    bought: float = 3.0
    """Weight of the items that the customer bought in the other channel."""
    recent_1: float = 0.1
    """Weight of log(1 + purchases), each counting less with its age, by half in 1 day."""
    recent_3: float = 0.1
    """The same, by half in 3 days."""
    recent_10: float = 0.1
    """The same, by half in 10 days."""
    recent_30: float = 0.0
    """The same, by half in 30 days."""
    recent_100: float = 0.0
    """The same, by half in 100 days."""
    season: float = 0.0
    """Weight of log(1 + purchases in the four weeks that came next a year ago)."""
    half_life: float = 0.0
    """Days after which a sale counts half as much in the popularity that customers are shown of
    whom nothing is known; 0: all sales count alike."""
    rare: float = -1.0
    """Added to the scores of items with too few purchases to be trained on."""
    new: float = -1.0
    """Added to the scores of items that nobody has bought yet …"""
    kin: float = 8.0
    """… and for each that is like one that the customer bought, by its attributes, this much more,
    times how much, the mean over what they bought."""


@dataclass(frozen=True, slots=True)
class BlendConfig:
    """The neighbour term and the recent popularity beside the attention."""

    search: bool = True
    """Whether the weights are where a search on the validation period starts, or fixed."""
    regularisation: float = 300.0
    """λ of EASE; searched as well."""
    offline: ChannelBlend = field(default_factory=ChannelBlend)
    online: ChannelBlend = field(default_factory=ChannelBlend)


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything that decides what a run's weights are."""

    data: str
    """Absolute path of the dataset folder when it was fitted."""
    fingerprint: str
    """sha256 of the dataset's files, hex."""
    split: SplitConfig
    model: ModelConfig
    training: TrainingConfig
    blend: BlendConfig = field(default_factory=BlendConfig)


def write_config(folder: Path, config: RunConfig) -> None:
    """Write ``config.json``."""
    write_bytes(folder / CONFIG, (json.dumps(asdict(config), indent=2) + "\n").encode())


def read_config(folder: Path) -> RunConfig:
    """Read and check ``config.json``.

    Raises:
        RunError: there is none, or a field is missing, unknown or of the wrong type.
    """
    path = folder / CONFIG
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(
            f"{folder}: not a training run, it has no {CONFIG}; make one with "
            "'c2rec-train fit DATA --out RUN'"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: can't be read: {error}") from error
    return _parse(RunConfig, document, f"{path}: ")


def parse_blend(document: Any, where: str) -> BlendConfig:
    """Read a blend that was written as a JSON object.

    Raises:
        RunError: a field is missing, unknown or of the wrong type.
    """
    return _parse(BlendConfig, document, where)


_T = TypeVar("_T")


def _parse(kind: type[_T], value: Any, where: str) -> _T:
    """Check a parsed JSON value against a dataclass or a plain type, and build it."""
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise RunError(f"{where}is {value!r}, not an object")
        hints = typing.get_type_hints(kind)
        names = {field_.name for field_ in fields(kind)}
        if set(value) != names:
            odd = sorted(set(value) ^ names)
            raise RunError(f"{where}missing or unknown: {', '.join(odd)}")
        parts = {name: _parse(hints[name], value[name], f"{where}{name}: ") for name in names}
        return typing.cast(_T, kind(**parts))
    choices = _choices(kind)
    if choices:
        if value not in choices:
            raise RunError(f"{where}is {value!r}, not one of {', '.join(choices)}")
        return typing.cast(_T, value)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise RunError(f"{where}is {value!r}, not of type {kind.__name__}")
    return value


def _choices(kind: Any) -> tuple[str, ...]:
    origin = typing.get_origin(kind)
    if origin is Literal:
        return typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return tuple(choice for part in typing.get_args(kind) for choice in _choices(part))
    return ()
