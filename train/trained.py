"""One model trained in one test window, and the files in which its figures are kept.

A file is named by all that tells it from others, and written whole or not at all, so one that is
there never has to be made again. It holds no customer's id.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch

from c2rec.runtime.errors import RunError
from c2rec.runtime.records import CHANNELS
from c2rec.train.baselines.settings import Candidate, Settings
from c2rec.train.checkpoint import read_tensors, write_tensors
from c2rec.train.config import RunConfig
from c2rec.train.metrics import ChannelMetrics
from c2rec.train.run import refit_config
from c2rec.train.windows import Window

METRICS = ("hr", "ndcg", "recall")
_TENSORS = ("customers", *METRICS)


@dataclass(frozen=True, slots=True)
class Variant:
    """C2Rec with some configuration; the seed, and the window's data, are filled in."""

    name: str
    config: RunConfig
    meaning: str = ""
    """How it differs from C2Rec as it is, in a few words."""


Model: TypeAlias = Candidate | Variant


def settings_of(model: Model) -> Settings:
    """Tell a candidate's settings; those of a variant are its config, which has a file."""
    return model.settings if isinstance(model, Candidate) else {}


def document_of(model: Model | None) -> dict[str, Any] | None:
    """Everything that decides what is learnt, but for the data and the seed."""
    if not isinstance(model, Variant):
        return None if model is None else dict(model.settings)
    config = asdict(model.config)
    del config["training"]["seed"]
    return {part: config[part] for part in ("model", "training", "blend")}


def is_seeded(model: Model) -> bool:
    """Tell whether the seed changes what is learnt."""
    return not isinstance(model, Candidate) or model.seeded


@dataclass(frozen=True, slots=True)
class Trained:
    """A model, where it is trained, and with which seed."""

    window: Window
    model: Model
    seed: int
    whole: bool = False
    """Whether it is measured on everybody and the whole catalogue."""
    refit: bool = False
    """Whether it is trained on the validation days too, with what they chose."""

    @property
    def chooser(self) -> "Trained":
        """The same, trained without the validation days, which chose what it is."""
        return replace(self, refit=False)

    def __str__(self) -> str:
        settings = settings_of(self.model).items()
        parts = [self.model.name, *(f"{key.replace('_', ' ')} {value}" for key, value in settings)]
        parts += [f"seed {self.seed}"] if is_seeded(self.model) else []
        parts += ["trained again"] if self.refit else []
        return ", ".join([*parts, f"window {self.window.number}"])

    def run(self, folder: Path) -> Path:
        """Name the run of a variant, a folder as ``fit`` writes it."""
        again = "-refit" if self.refit else ""
        return self._window(folder) / f"{self._slug()}-{self.seed}{again}"

    def run_config(self, folder: Path, variant: Variant) -> RunConfig:
        """Fill in what a variant's config leaves open.

        Raises:
            RunError: it is to be trained again, and its first run is not finished.
        """
        if self.refit:
            first, data = self.chooser.run(folder), variant.config.data
            test_days = self.window.split.test_days
            return refit_config(first, data, self.window.fingerprint, test_days=test_days)
        return replace(
            variant.config,
            fingerprint=self.window.fingerprint,
            split=self.window.split,
            training=replace(variant.config.training, seed=self.seed),
        )

    def path(self, folder: Path, channel: int) -> Path:
        """Name the file of a channel's figures."""
        settings = [f"{key}={value}" for key, value in settings_of(self.model).items()]
        ground = ["whole"] if self.whole else []
        again = ["refit"] if self.refit else []
        name = "_".join([*settings, f"seed={self.seed}", *ground, *again, CHANNELS[channel]])
        return self._window(folder) / self._slug() / f"{name}.safetensors"

    def _window(self, folder: Path) -> Path:
        return folder / f"window-{self.window.number}"

    def _slug(self) -> str:
        return self.model.name.replace(", ", " ").replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Record:
    """Figures of a trained model in one channel."""

    metrics: ChannelMetrics
    """Of the test days; customers are numbered as in the whole dataset, by their sorted ids."""
    validation: float | None
    """NDCG of the validation days, by a model that has not seen them; None where none could be
    trained."""
    failed: str | None
    """Why it did."""


def write_record(path: Path, record: Record, settings: Settings) -> None:
    """Write a record, with the settings that it belongs to, to one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: torch.from_numpy(getattr(record.metrics, name)) for name in _TENSORS}
    state = {"settings": settings, "validation": record.validation, "failed": record.failed}
    write_tensors(path, tensors, state)


def read_record(path: Path) -> Record:
    """Read what ``write_record`` wrote.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        tensors, state = read_tensors(path)
        metrics = ChannelMetrics(*(tensors[name].numpy() for name in _TENSORS))
        return Record(metrics, state["validation"], state["failed"])
    except (KeyError, RunError) as error:
        raise RunError(
            f"{path}: is damaged ({error}); delete it, and run the same command again"
        ) from error
