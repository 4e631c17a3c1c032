"""A release's manifest.json: what it may say, read and written in one place.

``docs/release-format.md`` is the contract. Nothing here imports numpy, so that a command that
only reports stays quick. Fields that format 1 doesn't know are ignored; a changed meaning gets
a greater ``format``, which is refused.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from c2rec.runtime.errors import ReleaseError, TooNewError
from c2rec.runtime.release.experiment import MODEL_FILES, Arm, Experiment, parse_experiment
from c2rec.runtime.release.manifest_fields import (
    MANIFEST,
    AttentionName,
    Calibration,
    ChannelCalibration,
    calibration_document,
    check_day,
    check_digest,
    check_int,
    check_model,
    check_moment,
    check_name,
    check_producer,
    get,
    get_object,
    parse_calibration,
    refused,
    shown,
)

__all__ = [
    "FORMAT",
    "MANIFEST",
    "MANIFEST_BYTES",
    "OPTIONAL_FILES",
    "AttentionName",
    "ChannelCalibration",
    "Counts",
    "EncoderName",
    "ListedFile",
    "Manifest",
    "parse_manifest",
    "required_files",
    "shown",
]

EncoderName: TypeAlias = Literal["history", "table"]

FORMAT = 1
"""The greatest format that this version reads, and the one that it writes."""

MANIFEST_BYTES = 1 << 20
"""A longer manifest.json is refused unread."""

_FILES = (
    "scorer.onnx",
    "items.safetensors",
    "items.jsonl",
    "customers.safetensors",
    "customers.jsonl",
    "stores.jsonl",
    "golden.safetensors",
)
OPTIONAL_FILES: tuple[str, ...] = ("rules.toml",)
"""What a bundle may hold besides."""


@dataclass(frozen=True, slots=True)
class ListedFile:
    """How a file of a bundle must be."""

    sha256: str
    """64 lower-case hex digits."""
    bytes: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Lengths of a release's arrays."""

    items: int
    customers: int
    interactions: int
    """Rows of all customers' histories together."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What manifest.json says; making one checks every field.

    Raises:
        ReleaseError: a field can't be so; the message names it, its value and what is allowed.
    """

    release: str
    created_at: str
    """UTC, as in ``2026-01-31T09:30:00Z``."""
    producer: str
    encoder: EncoderName
    attention: AttentionName
    """How scorer.onnx makes weights of logits."""
    embedding_size: int
    """d, of every embedding."""
    space: str
    """Digest of what gives meaning to customers' rows and vectors, 64 hex digits."""
    counts: Counts
    data_from: str
    """First day of the data, as in ``2020-07-01``."""
    data_to: str
    """Last day of the data."""
    files: Mapping[str, ListedFile]
    calibration: Calibration | None = None
    """Offline and online; None where it is not known."""
    experiment: Experiment | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        _check_format(self.format)
        check_name("release", self.release)
        check_moment("created_at", self.created_at)
        check_producer("producer", self.producer)
        if self.encoder not in get_args(EncoderName):
            raise refused("encoder", self.encoder, " or ".join(map(repr, get_args(EncoderName))))
        check_model(self.attention, self.embedding_size, self.space, self.calibration)
        # Bounds far above any retailer, and low enough that no product of them overflows int64.
        check_int("counts.items", self.counts.items, 1, 10**7)
        check_int("counts.customers", self.counts.customers, 1, 10**9)
        check_int("counts.interactions", self.counts.interactions, 1, 10**11)
        for field, day in (("data.from", self.data_from), ("data.to", self.data_to)):
            check_day(field, day)
        if self.data_from > self.data_to:
            raise refused("data.from", self.data_from, f"a day up to data.to, {self.data_to}")
        for name, listed in self.files.items():
            check_name("file name", name)
            check_digest(f"files.{name}.sha256", listed.sha256)
            check_int(f"files.{name}.bytes", listed.bytes, 1, 2**44)
        needed = required_files(self.encoder, self.experiment)
        for name in sorted(set(needed) ^ set(self.files)):
            if name in OPTIONAL_FILES:
                continue
            what = "not a file of format 1" if name in self.files else "missing"
            raise ReleaseError(
                f"{MANIFEST}: files: {name!r} is {what}; allowed: exactly {', '.join(needed)}, "
                f"and perhaps {', '.join(OPTIONAL_FILES)}"
            )

    @property
    def bytes(self) -> int:
        """Size of all listed files together."""
        return sum(listed.bytes for listed in self.files.values())

    @property
    def own_arms(self) -> tuple[Arm, ...]:
        """Arms with a model of their own."""
        return self.experiment.own if self.experiment else ()

    def of_arm(self, arm: Arm) -> "Manifest":
        """What it would say of a release with the model of an arm alone.

        Args:
            arm: one with a model of its own.
        """
        if arm.own is None:
            raise ValueError(f"arm {arm.name} has no model of its own")
        files = {name: self.files[name] for name in required_files("table", None)}
        files |= {name: self.files[f"{arm.name}.{name}"] for name in MODEL_FILES}
        return replace(
            self,
            encoder="history",
            attention=arm.own.attention,
            embedding_size=arm.own.embedding_size,
            space=arm.own.space,
            calibration=arm.own.calibration,
            files=files,
            experiment=None,
        )

    def to_json(self) -> str:
        """Write the text of manifest.json, ending in a newline."""
        counts, files = self.counts, self.files
        document = {
            "format": self.format,
            "release": self.release,
            "created_at": self.created_at,
            "producer": self.producer,
            "encoder": self.encoder,
            "attention": self.attention,
            "embedding_size": self.embedding_size,
            "space": self.space,
            "counts": {
                "items": counts.items,
                "customers": counts.customers,
                "interactions": counts.interactions,
            },
            "data": {"from": self.data_from, "to": self.data_to},
            "files": {
                name: {"sha256": files[name].sha256, "bytes": files[name].bytes}
                for name in sorted(files)
            },
        }
        if self.calibration is not None:
            document["calibration"] = calibration_document(self.calibration)
        if self.experiment is not None:
            document["experiment"] = self.experiment.document()
        return json.dumps(document, indent=2) + "\n"


def required_files(encoder: EncoderName, experiment: Experiment | None = None) -> tuple[str, ...]:
    """Names of the files that a bundle must hold, manifest.json left out."""
    of_arms = [name for arm in (experiment.own if experiment else ()) for name in arm.files]
    return (*_FILES, *(["encoder.onnx"] if encoder == "history" else []), *of_arms)


def parse_manifest(text: str | bytes) -> Manifest:
    """Read manifest.json.

    Args:
        text: the file's content; bytes are UTF-8.

    Raises:
        ReleaseError: not JSON, a field missing or wrong, or a newer format.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:  # JSONDecodeError, UnicodeDecodeError, digits
        raise ReleaseError(f"{MANIFEST} is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise refused("the document", document, "an object")
    _check_format(get(document, "format"))  # before the rest, which may mean something else
    counts, data = get_object(document, "counts"), get_object(document, "data")
    files = get_object(document, "files")
    listed = {name: get_object(files, name, "files.") for name in files}
    return Manifest(
        release=get(document, "release"),
        created_at=get(document, "created_at"),
        producer=get(document, "producer"),
        encoder=get(document, "encoder"),
        attention=get(document, "attention"),
        embedding_size=get(document, "embedding_size"),
        space=get(document, "space"),
        counts=Counts(
            items=get(counts, "items", "counts."),
            customers=get(counts, "customers", "counts."),
            interactions=get(counts, "interactions", "counts."),
        ),
        data_from=get(data, "from", "data."),
        data_to=get(data, "to", "data."),
        files={
            name: ListedFile(
                sha256=get(entry, "sha256", f"files.{name}."),
                bytes=get(entry, "bytes", f"files.{name}."),
            )
            for name, entry in listed.items()
        },
        calibration=parse_calibration(document),
        experiment=parse_experiment(document),
        format=document["format"],
    )


def _check_format(value: object) -> None:
    if type(value) is int and value > FORMAT:
        raise TooNewError(
            f"{MANIFEST}: format is {shown(value)}, newer than the {FORMAT} that this version "
            "reads; upgrade it: pip install --upgrade c2rec"
        )
    check_int("format", value, 1, FORMAT)
