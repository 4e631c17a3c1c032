"""An experiment that a release carries: its arms, their shares, and who is in which.

A customer's arm is computed and never stored, so that every kiosk and head office come to the same
one, with no network. ``docs/experiments-in-stores.md`` tells how to run one.

Nothing here imports numpy, so that a command that only reports stays quick.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal, TypeAlias, get_args

from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.release.manifest_fields import (
    MANIFEST,
    AttentionName,
    Calibration,
    calibration_document,
    check_model,
    check_number,
    get,
    get_object,
    parse_calibration,
    refused,
)

Serves: TypeAlias = Literal["main", "own", "popular"]
"""What ranks for an arm: the release's main model, a model of its own, or what sells."""

MAIN = "main"
"""Name of the arm that the main model serves."""
MODEL_FILES = ("scorer.onnx", "encoder.onnx", "items.safetensors", "golden.safetensors")
"""What a model of a release consists of; an arm's have its name and a dot before."""
MOST_ARMS = 10
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_LEAST_SHARE = 0.0001


def assign(experiment: str, shares: Mapping[str, float], customer: str) -> str:
    """Tell which arm a customer is in: a pure function, the same on every machine.

    For each arm, take the first 8 bytes of sha256(experiment + NUL + arm + NUL + customer), all in
    UTF-8, as a whole number, big endian, without its last 11 bits: n, below 2^53. Then u, which is
    (n + 0.5) / 2^53, lies between 0 and 1, and is another for each arm. The customer is in the arm
    whose -ln(u) / share is least (weighted rendezvous hashing). A share is a probability so, and:

    - as long as the experiment's name and the shares stay, so does everybody, whatever the release;
    - the order of the arms means nothing;
    - where an arm is added or grows and all others shrink in proportion, as many customers as it
      grows by move into it, and nobody else moves: nothing could move fewer. Where it grows at one
      other arm's cost alone, some more move.

    Args:
        experiment: its name.
        shares: of each arm, above 0; only how they relate counts.
        customer: the customer's pseudonym, 32 hex digits, on a kiosk that is enrolled, as
            collected events have it; else the id.
    """

    def distance(arm: str) -> float:
        # an id from a command line may hold bytes that are no text
        text = f"{experiment}\0{arm}\0{customer}".encode(errors="surrogatepass")
        n = int.from_bytes(sha256(text).digest()[:8], "big") >> 11
        return -math.log((n + 0.5) / 2**53) / shares[arm]

    return min(sorted(shares), key=distance)


@dataclass(frozen=True, slots=True)
class OwnModel:
    """What a manifest says of an arm's own model; the fields are as the manifest's."""

    attention: AttentionName
    embedding_size: int
    space: str
    calibration: Calibration | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """An arm of an experiment."""

    name: str
    share: float
    """Of the customers, above 0."""
    serves: Serves
    own: OwnModel | None = None
    """There where ``serves`` is ``own``."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its files in the bundle, those of ``MODEL_FILES``."""
        if self.serves != "own":
            return ()
        return tuple(f"{self.name}.{file}" for file in MODEL_FILES)


@dataclass(frozen=True, slots=True)
class Experiment:
    """The experiment of a release; making one checks every field.

    Raises:
        ReleaseError: a field can't be so; the message names it, its value and what is allowed.
    """

    name: str
    arms: tuple[Arm, ...]
    """Two or more."""

    def __post_init__(self) -> None:
        _check_word("experiment.name", self.name)
        if not 2 <= len(self.arms) <= MOST_ARMS:
            raise refused(
                "number of experiment.arms", len(self.arms), f"2 to {MOST_ARMS}, {MAIN} one of them"
            )
        for number, arm in enumerate(self.arms):
            _check_arm(f"experiment.arms[{number}].", arm)
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names) or MAIN not in names:
            raise refused("names of experiment.arms", names, f"each once, {MAIN!r} one of them")
        total = math.fsum(arm.share for arm in self.arms)
        if abs(total - 1) > 1e-9:
            raise refused("sum of the shares of experiment.arms", total, "1")

    def arm_of(self, customer: str) -> Arm:
        """The arm that a customer is in, see ``assign``."""
        name = assign(self.name, {arm.name: arm.share for arm in self.arms}, customer)
        return next(arm for arm in self.arms if arm.name == name)

    def label(self, arm: Arm) -> str:
        """What answers and events call an arm: ``experiment/arm``."""
        return f"{self.name}/{arm.name}"

    @property
    def own(self) -> tuple[Arm, ...]:
        """Arms with a model of their own."""
        return tuple(arm for arm in self.arms if arm.serves == "own")

    def document(self) -> dict[str, Any]:
        """Arrange as JSON."""
        return {"name": self.name, "arms": [_arm_document(arm) for arm in self.arms]}


def parse_experiment(document: Mapping[str, Any]) -> Experiment | None:
    """Read the field ``experiment`` of manifest.json; None where there is none.

    Raises:
        ReleaseError: a field is missing or wrong.
    """
    if document.get("experiment") is None:
        return None
    fields = get_object(document, "experiment")
    arms = get(fields, "arms", "experiment.")
    if not isinstance(arms, list) or not all(isinstance(arm, dict) for arm in arms):
        raise refused("experiment.arms", arms, "a list of objects")
    return Experiment(
        get(fields, "name", "experiment."),
        tuple(_parse_arm(arm, f"experiment.arms[{n}].") for n, arm in enumerate(arms)),
    )


def _parse_arm(fields: Mapping[str, Any], path: str) -> Arm:
    serves = get(fields, "serves", path)
    own = None
    if serves == "own":
        model, here = get_object(fields, "model", path), f"{path}model."
        own = OwnModel(
            attention=get(model, "attention", here),
            embedding_size=get(model, "embedding_size", here),
            space=get(model, "space", here),
            calibration=parse_calibration(model, here),
        )
    return Arm(get(fields, "name", path), get(fields, "share", path), serves, own)


def _arm_document(arm: Arm) -> dict[str, Any]:
    document: dict[str, Any] = {"name": arm.name, "share": arm.share, "serves": arm.serves}
    if arm.own is not None:
        document["model"] = {
            "attention": arm.own.attention,
            "embedding_size": arm.own.embedding_size,
            "space": arm.own.space,
        }
        if arm.own.calibration is not None:
            document["model"]["calibration"] = calibration_document(arm.own.calibration)
    return document


def _check_arm(path: str, arm: Arm) -> None:
    _check_word(f"{path}name", arm.name)
    check_number(f"{path}share", arm.share, _LEAST_SHARE, 1)
    if arm.serves not in get_args(Serves):
        raise refused(f"{path}serves", arm.serves, " or ".join(map(repr, get_args(Serves))))
    if (arm.name == MAIN) != (arm.serves == "main"):
        raise refused(f"{path}serves", arm.serves, f"'main' for the arm {MAIN!r}, and for no other")
    if (arm.serves == "own") != (arm.own is not None):
        raise ReleaseError(f"{MANIFEST}: {path}model; allowed: where serves is 'own', and there")
    if arm.own is not None:
        own = arm.own
        check_model(own.attention, own.embedding_size, own.space, own.calibration, f"{path}model.")


def _check_word(field: str, value: object) -> None:
    """Check a name, which may begin a file's: of lower case, for some disks know no other."""
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= 40
        or value[0] == "-"
        or not _LETTERS.issuperset(value)
    ):
        raise refused(field, value, "1 to 40 of a–z 0–9 -, the first of a–z 0–9")
