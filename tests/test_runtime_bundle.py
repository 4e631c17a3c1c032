"""Bad bundles: each is refused with one clear error, and what was there serves on."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.release.bundle import read_bundle
from c2rec.runtime.release.install import install
from c2rec.runtime.release.manifest import parse_manifest
from tests.homes import assert_old_serves, make_homes
from tests.release import Release, change_tensor, make_release, reseal
from tests.spoiled import BAD, flip_a_byte, set_value


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_homes(folder)
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return shutil.copytree(made, tmp_path / "place")


@pytest.mark.parametrize("what", BAD)
def test_a_bad_bundle_is_refused_and_the_old_release_serves_on(place: Path, what: str) -> None:
    spoil, message = BAD[what]
    spoil(place / "new")
    with pytest.raises(ReleaseError, match=message):
        install(place / "new", place / "home")
    assert_old_serves(place / "home")


def test_the_place_of_a_bad_value_is_told_in_a_later_block_too(tmp_path: Path) -> None:
    make_release(tmp_path / "bundle", customers=2100)
    set_value("customers", "components", (2099, 1, 3), np.nan)(tmp_path / "bundle")
    with pytest.raises(ReleaseError, match=r"'components' at \[2099, 1, 3\] is nan"):
        read_bundle(tmp_path / "bundle")


def test_a_bad_bundle_leaves_no_home_behind(place: Path) -> None:
    flip_a_byte(place / "new")
    with pytest.raises(ReleaseError):
        install(place / "new", place / "other")
    assert not (place / "other").exists()


def test_golden_items_whose_scores_tie_may_swap(place: Path) -> None:
    """Two items alike: which of them comes first is not the release's to say."""

    def twin(values: Any) -> Any:
        values[..., 1] = values[..., 0]
        return values

    for name in ("item_bias", "attention_bias"):
        change_tensor(place / "new", "items.safetensors", name, twin)
    change_tensor(
        place / "new", "items.safetensors", "item_embeddings", lambda a: twin(a.T.copy()).T
    )
    golden = load_file(place / "new" / "golden.safetensors")
    with pytest.raises(ReleaseError, match="differ"):  # what ranked before ranks no more
        install(place / "new", place / "home")
    made = make_release(place / "twins", name="twins", seed=1)
    shutil.copy(place / "new" / "items.safetensors", made.folder)
    made.items.update(load_file(made.folder / "items.safetensors"))
    bought = [
        [(int(item), 0) for item in items[weights > 0]]
        for items, weights in zip(golden["history_items"], golden["history_weights"], strict=True)
    ]
    for channel in (0, 1):
        for row in range(6):
            scores, alphas = made.score(
                golden["components"][row], golden["has"][row], channel, bought[row]
            )
            best = sorted(range(40), key=lambda item: (-scores[item], -item))[:10]  # 1 before 0
            golden["top_items"][channel, row] = best
            golden["top_scores"][channel, row] = scores[best]
            golden["top_attention"][channel, row] = alphas[:, best].T
    assert 0 in golden["top_items"], "or the test shows nothing"
    save_file(golden, made.folder / "golden.safetensors")
    reseal(made.folder)
    assert install(made.folder, place / "home").changed


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.data(),
)
def test_whatever_a_manifest_says_it_is_read_or_refused(
    made: Path, value: object, data: st.DataObject
) -> None:
    document = json.loads((made / "new" / "manifest.json").read_text())
    target = document
    while True:
        name = data.draw(st.sampled_from(sorted(target)))
        if not isinstance(target[name], dict) or data.draw(st.booleans()):
            break
        target = target[name]
    target[name] = value
    try:
        manifest = parse_manifest(json.dumps(document))
    except ReleaseError:
        return
    assert parse_manifest(manifest.to_json()) == manifest


@settings(deadline=None)
@given(st.binary() | st.text())
def test_whatever_a_manifest_is_made_of_it_is_refused(content: bytes | str) -> None:
    with pytest.raises(ReleaseError):
        parse_manifest(content)


def test_the_release_helper_reads_as_it_was_written(made: Path, tmp_path: Path) -> None:
    release: Release = make_release(tmp_path / "bundle", encoder="table")
    assert read_bundle(release.folder).manifest.encoder == "table"
    assert read_bundle(made / "old").manifest.encoder == "history"
