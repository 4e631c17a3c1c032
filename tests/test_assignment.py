"""Who is in which arm: the same everywhere, as the shares say, and changed for as few as can be."""

import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.release.bundle import read_bundle
from c2rec.runtime.release.experiment import Arm, Experiment, assign
from c2rec.runtime.release.manifest import parse_manifest
from tests.experiments import NAME, SHARES, add_experiment
from tests.release import make_release, reseal
from tests.spoiled import set_value

CUSTOMERS = [hashlib.md5(f"{n}".encode()).hexdigest() for n in range(20_000)]  # noqa: S324 - ids
"""Made up, and always the same: what is found of them is no matter of luck."""


def arms_of(shares: dict[str, float], name: str = NAME) -> list[str]:
    return [assign(name, shares, customer) for customer in CUSTOMERS]


def moves(before: dict[str, float], after: dict[str, float]) -> Counter[tuple[str, str]]:
    pairs = zip(arms_of(before), arms_of(after), strict=True)
    return Counter(pair for pair in pairs if pair[0] != pair[1])


# --- the function


def test_arms_of_customers_are_those_that_anybody_computes_by_the_recipe() -> None:
    """Also written down, for another version must not move anybody."""
    for customer in CUSTOMERS[:50]:
        distances = {}
        for arm, share in SHARES.items():
            digest = hashlib.sha256(b"\0".join([b"spring", arm.encode(), customer.encode()]))
            n = int(digest.hexdigest()[:16], 16) // 2**11
            distances[arm] = -math.log((n + 0.5) / 2**53) / share
        assert assign("spring", SHARES, customer) == min(distances, key=distances.__getitem__)
    expected = ["challenger", "main", "main", "challenger", "challenger", "main"]
    assert [assign("spring", SHARES, f"c{n:06}") for n in range(3, 9)] == expected


def test_shares_are_kept() -> None:
    """Chi-square over three arms, which is above 13.8 once in a thousand names."""
    found = Counter(arms_of(SHARES))
    expected = {arm: share * len(CUSTOMERS) for arm, share in SHARES.items()}
    assert found.keys() == expected.keys()
    assert sum((found[a] - e) ** 2 / e for a, e in expected.items()) < 13.8


def test_another_experiment_divides_anew() -> None:
    """Its arms are spread over those of the first one as if that had never been."""
    pairs = Counter(zip(arms_of(SHARES), arms_of(SHARES, "summer"), strict=True))
    expected = {
        (one, two): p * q * len(CUSTOMERS) for one, p in SHARES.items() for two, q in SHARES.items()
    }
    chi = sum((pairs[pair] - e) ** 2 / e for pair, e in expected.items())
    assert chi < 26.1  # eight degrees of freedom, once in a thousand


def test_an_arm_that_grows_takes_from_the_others_and_nobody_else_moves() -> None:
    after = {"main": 0.4, "challenger": 0.44, "holdout": 0.16}
    found = moves(SHARES, after)
    assert {to for _, to in found} == {"challenger"}
    assert found.total() / len(CUSTOMERS) == pytest.approx(0.44 - 0.3, abs=0.01)


def test_a_new_arm_takes_from_the_others_and_nobody_else_moves() -> None:
    before = {"main": 0.625, "challenger": 0.375}
    assert {to for _, to in moves(before, SHARES)} == {"holdout"}


def test_an_arm_that_grows_at_one_other_s_cost_moves_a_few_more() -> None:
    """At least a tenth has to move; as docs/experiments-in-stores.md says."""
    moved = moves(SHARES, {"main": 0.4, "challenger": 0.4, "holdout": 0.2})
    assert 0.1 < moved.total() / len(CUSTOMERS) < 0.14


@given(st.text(max_size=30), st.permutations(list(SHARES)))
def test_any_text_has_an_arm_whatever_the_order_and_the_scale(text: str, order: list[str]) -> None:
    shares = {arm: SHARES[arm] * 7 for arm in order}
    assert assign(NAME, shares, text) == assign(NAME, SHARES, text)


def test_bytes_that_are_no_text_have_an_arm() -> None:
    assert assign(NAME, SHARES, "\udcff") in SHARES


# --- the manifest


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    release = make_release(tmp_path_factory.mktemp("made") / "bundle")
    add_experiment(release.folder)
    return release.folder


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bundle"))


def test_a_manifest_with_an_experiment_comes_back_as_it_was_written(bundle: Path) -> None:
    calibration = {"offline": {"slope": 1.5, "intercept": -4.0}}
    calibration["online"] = {"slope": 2.0, "intercept": -5.0}
    change_arm(1, "model", lambda model: model | {"calibration": calibration})(bundle)
    manifest = read_bundle(bundle).manifest
    assert manifest.experiment is not None
    assert [arm.name for arm in manifest.experiment.arms] == list(SHARES)
    assert parse_manifest(manifest.to_json()) == manifest
    (challenger,) = manifest.own_arms
    alone = manifest.of_arm(challenger)
    assert (alone.embedding_size, alone.experiment) == (12, None)
    assert alone.calibration is not None
    assert alone.calibration[1] == (2.0, -5.0)
    assert alone.files["items.safetensors"] == manifest.files["challenger.items.safetensors"]


def change_arm(number: int, field: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        def edit(document: dict[str, Any]) -> None:
            arm = document["experiment"]["arms"][number]
            arm[field] = change(arm.get(field))
            if arm[field] is ...:
                del arm[field]

        reseal(folder, edit)

    return spoil


def set_arm(number: int, field: str, to: Any) -> Callable[[Path], None]:
    return change_arm(number, field, lambda _: to)


def set_model(field: str, to: Any) -> Callable[[Path], None]:
    def change(model: dict[str, Any]) -> dict[str, Any]:
        changed = model | {field: to}
        return {name: value for name, value in changed.items() if value is not ...}

    return change_arm(1, "model", change)


def set_experiment(to: Any) -> Callable[[Path], None]:
    def edit(document: dict[str, Any]) -> None:
        document["experiment"] = to

    return lambda folder: reseal(folder, edit)


def drop(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        reseal(folder)

    return spoil


def add(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(b"x")
        reseal(folder)

    return spoil


ONE = {"name": "main", "share": 1, "serves": "main"}
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a list": (set_experiment([]), r"experiment is \[\]; allowed: an object"),
    "no name": (set_experiment({"arms": [ONE]}), r"experiment\.name is missing"),
    "no arms": (set_experiment({"name": "a"}), r"experiment\.arms is missing"),
    "arms of a text": (set_experiment({"name": "a", "arms": "x"}), r"arms is 'x'; allowed: a list"),
    "an arm of a text": (set_experiment({"name": "a", "arms": ["x"]}), r"allowed: a list of obj"),
    "one arm": (set_experiment({"name": "a", "arms": [ONE]}), r"experiment\.arms is 1; allowed: 2"),
    "eleven arms": (set_experiment({"name": "a", "arms": [ONE] * 11}), r"arms is 11; allowed: 2 t"),
    "a path for a name": (
        lambda f: reseal(f, lambda d: d["experiment"].update(name="../x")),
        r"experiment\.name is '\.\./x'; allowed: 1 to 40 of a–z 0–9 -",
    ),
    "capitals": (set_arm(1, "name", "Challenger"), r"arms\[1\]\.name is 'Challenger'; allowed"),
    "a dash first": (set_arm(2, "name", "-h"), r"arms\[2\]\.name is '-h'; allowed"),
    "a dot in an arm": (set_arm(1, "name", "a.b"), r"arms\[1\]\.name is 'a\.b'; allowed"),
    "an arm of a number": (set_arm(1, "name", 3), r"arms\[1\]\.name is 3; allowed"),
    "an arm without name": (set_arm(1, "name", ...), r"experiment\.arms\[1\]\.name is missing"),
    "an arm twice": (set_arm(2, "name", "challenger"), r"each once, 'main' one of them"),
    "no main": (
        lambda f: (set_arm(0, "name", "x")(f), set_arm(0, "serves", "popular")(f)),
        r"each once, 'main' one of them",
    ),
    "a share of none": (set_arm(1, "share", 0), r"arms\[1\]\.share is 0; allowed: a number from"),
    "a share in words": (set_arm(1, "share", "0.3"), r"arms\[1\]\.share is '0\.3'; allowed"),
    "a share of NaN": (set_arm(1, "share", math.nan), r"arms\[1\]\.share is nan; allowed"),
    "shares that don't add up": (set_arm(1, "share", 0.31), r"sum of the shares .* is 1\.01; allo"),
    "serves what": (set_arm(1, "serves", "all"), r"arms\[1\]\.serves is 'all'; allowed: 'main' or"),
    "serves nothing": (set_arm(2, "serves", ...), r"experiment\.arms\[2\]\.serves is missing"),
    "main by sales": (set_arm(0, "serves", "popular"), r"serves is 'popular'; allowed: 'main' for"),
    "main twice": (
        set_arm(2, "serves", "main"),
        r"arms\[2\]\.serves is 'main'; allowed: 'main' for",
    ),
    "no model": (set_arm(1, "model", ...), r"experiment\.arms\[1\]\.model is missing"),
    "a model of a list": (set_arm(1, "model", []), r"arms\[1\]\.model is \[\]; allowed: an object"),
    "no attention": (set_model("attention", ...), r"arms\[1\]\.model\.attention is missing"),
    "attention unknown": (set_model("attention", "tanh"), r"model\.attention is 'tanh'; allowed"),
    "no size": (set_model("embedding_size", ...), r"model\.embedding_size is missing"),
    "a huge size": (set_model("embedding_size", 10**9), r"model\.embedding_size is 10+; allowed"),
    "another size": (
        set_model("embedding_size", 8),
        r"challenger\.items\.safetensors: .* is float32 \(40, 12\); allowed: float32 \(40, 8\)",
    ),
    "a space in words": (set_model("space", "x"), r"model\.space is 'x'; allowed: 64 lower-case"),
    "no space": (set_model("space", ...), r"model\.space is missing"),
    "calibration of one": (
        set_model("calibration", {"offline": {"slope": 1, "intercept": 0}}),
        r"arms\[1\]\.model\.calibration\.online is missing",
    ),
    "a flat calibration": (
        set_model("calibration", {c: {"slope": 0, "intercept": 0} for c in ("offline", "online")}),
        r"arms\[1\]\.model\.calibration\.offline\.slope is 0; allowed",
    ),
    "no graph": (drop("challenger.scorer.onnx"), r"'challenger\.scorer\.onnx' is missing"),
    "no encoder": (drop("challenger.encoder.onnx"), r"'challenger\.encoder\.onnx' is missing"),
    "files of nobody": (add("other.scorer.onnx"), r"'other\.scorer\.onnx' is not a file of format"),
    "files of a holdout": (add("holdout.scorer.onnx"), r"'holdout\.scorer\.onnx' is not a file"),
    "NaN embeddings": (
        set_value("challenger.items", "item_embeddings", (7, 3), math.nan),
        r"challenger\.items\.safetensors: tensor 'item_embeddings' at \[7, 3\] is nan",
    ),
    "a neighbour out of range": (
        set_value("challenger.items", "neighbour_items", (7, 3), 40),
        r"tensor 'neighbour_items' at \[7, 3\] is 40; allowed: whole numbers from 0 to 39",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_experiment_is_refused(bundle: Path, what: str) -> None:
    spoil, message = BAD[what]
    spoil(bundle)
    with pytest.raises(ReleaseError, match=message):
        read_bundle(bundle)


def test_a_model_where_none_is_allowed_is_refused() -> None:
    """A reader leaves the field out; a writer must not make it."""
    with pytest.raises(ReleaseError, match=r"arms\[1\]\.model; allowed: where serves is 'own'"):
        Experiment("a", (Arm("main", 0.5, "main"), Arm("b", 0.5, "own")))


def test_an_experiment_of_null_is_none(bundle: Path) -> None:
    document = json.loads((bundle / "manifest.json").read_text())
    for name in [name for name in document["files"] if name.startswith("challenger.")]:
        del document["files"][name]
    assert parse_manifest(json.dumps(document | {"experiment": None})).experiment is None
