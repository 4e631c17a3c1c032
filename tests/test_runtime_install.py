"""An install makes a release serve; a home that can't be used is one clear error."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from c2rec.runtime.errors import HomeError
from c2rec.runtime.home.disk import generation_path, only_one
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.release.bundle import read_bundle
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.release.install import install
from tests.homes import NEW, OLD, assert_old_serves, files_of, files_with, make_homes
from tests.release import make_release


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_homes(folder)
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return shutil.copytree(made, tmp_path / "place")


# --- good installs


def test_every_array_and_customer_comes_back_as_released(tmp_path: Path) -> None:
    # more than one piece of every matrix, and more than one block of customers
    release = make_release(tmp_path / "bundle", items=70_000, customers=2100, size=32)
    install(release.folder, tmp_path / "home")
    cache = Cache(generation_path(tmp_path / "home", OLD))
    for name, values in release.items.items():
        np.testing.assert_array_equal(cache.array(name), values)
        assert cache.array(name).dtype == values.dtype
        assert not cache.array(name).flags.writeable
    for row in (0, 1, 2047, 2048, 2099):
        customer = cache.customer(release.customer_ids[row])
        assert customer is not None
        np.testing.assert_array_equal(customer.components, release.customers["components"][row])
        assert customer.has.tolist() == release.customers["has"][row].astype(bool).tolist()
        channels = customer.history_channels.tolist()
        bought = list(zip(customer.history_items.tolist(), channels, strict=True))
        assert bought == release.history(row)
        assert customer.history_days.tolist() == release.days(row)
    assert cache.item_row("été") == 69_999
    assert cache.manifest() == read_bundle(release.folder).manifest
    cache.close()


def test_one_item_and_one_customer_are_a_release(tmp_path: Path) -> None:
    release = make_release(tmp_path / "bundle", items=3, customers=2, size=1)
    install(release.folder, tmp_path / "home")
    recommender = Recommender.open(tmp_path / "home")
    assert len(recommender.recommend("c000001").items) < 3
    recommender.close()


def test_only_the_active_and_the_previous_generation_stay(place: Path) -> None:
    third = make_release(place / "third", name="third", seed=2).folder
    assert install(place / "new", place / "home").previous == OLD
    installed = install(third, place / "home")
    assert (installed.release, installed.previous, installed.changed) == ("third", NEW, True)
    assert files_of(place / "home") == files_with(place / "new", third)


def test_the_previous_release_can_be_installed_again(place: Path) -> None:
    install(place / "new", place / "home")
    installed = install(place / "old", place / "home")
    assert (installed.release, installed.previous) == (OLD, NEW)


def test_installing_the_active_release_changes_nothing(place: Path) -> None:
    before = (place / "home" / "state.db").read_bytes()
    installed = install(place / "old", place / "home")
    assert (installed.release, installed.changed) == (OLD, False)
    assert (place / "home" / "state.db").read_bytes() == before


@pytest.mark.parametrize("damage", ["missing", "flipped bit"])
@pytest.mark.parametrize("suffix", [".db", ".safetensors"])
def test_installing_the_active_release_repairs_it(place: Path, damage: str, suffix: str) -> None:
    (path,) = (place / "home" / "gen").glob(f"*{suffix}")
    if damage == "missing":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert install(place / "old", place / "home").changed
    assert_old_serves(place / "home")


def test_repairing_the_active_release_keeps_the_previous_one(place: Path) -> None:
    install(place / "new", place / "home")
    generation_path(place / "home", NEW).unlink()
    installed = install(place / "new", place / "home")
    assert (installed.release, installed.previous) == (NEW, OLD)


def test_a_reader_of_a_removed_generation_goes_on(place: Path) -> None:
    recommender = Recommender.open(place / "home")
    install(place / "new", place / "home")
    install(make_release(place / "third", name="third").folder, place / "home")
    assert recommender.recommend("c000003").release == OLD
    recommender.close()


# --- bad homes


def file_for_a_home(home: Path) -> None:
    shutil.rmtree(home)
    home.write_text("")


def file_for_gen(home: Path) -> None:
    shutil.rmtree(home / "gen")
    (home / "gen").write_text("")


def spoil_the_state(home: Path) -> None:
    (home / "state.db").write_text("no database" * 99)
    (home / "state.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (file_for_a_home, "can't write to the home folder .*: File exists"),
        (file_for_gen, "can't write to the home folder .*: File exists"),
        (spoil_the_state, "file is not a database"),
    ],
)
def test_a_home_that_cannot_be_used_is_one_clear_error(
    place: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(place / "home")
    with pytest.raises(HomeError, match=message):
        install(place / "new", place / "home")


def test_a_home_that_cannot_be_made_is_one_clear_error(made: Path) -> None:
    with pytest.raises(HomeError, match="can't write to the home folder /proc/c2rec: No such file"):
        install(made / "new", Path("/proc/c2rec"))


def test_a_second_install_at_the_same_time_is_refused(place: Path) -> None:
    with (
        only_one(place / "home"),
        pytest.raises(HomeError, match=r"another install or sync is running in .*; wait"),
    ):
        install(place / "new", place / "home")
    assert_old_serves(place / "home")


def items_of(home: Path, release: str) -> Path:
    cache = Cache(generation_path(home, release))
    cache.close()
    return cache.items_path


@pytest.mark.parametrize(
    "damage", ["missing", "no SQLite", "another database", "empty", "no items", "items cut"]
)
def test_a_generation_that_cannot_be_read_gives_way_to_the_previous(
    place: Path, damage: str
) -> None:
    install(place / "new", place / "home")
    for release in (NEW, OLD):
        path = generation_path(place / "home", release)
        if "items" in damage:
            items = items_of(place / "home", release)
            os.truncate(items, 1000)
            if damage == "no items":
                items.unlink()
        else:
            path.unlink()
        if damage == "no SQLite":
            path.write_text("no database" * 99)
        elif damage == "another database":
            with closing(sqlite3.connect(path)) as db:
                db.execute("CREATE TABLE manifest (json)")
                db.commit()
        elif damage == "empty":
            path.touch()
        if release == NEW:
            recommender = Recommender.open(place / "home")
            assert recommender.recommend("c000003").release == OLD
            assert "install the release again: c2rec-kiosk" in recommender.warnings[0]
            recommender.close()
    with pytest.raises(HomeError, match=f"{NEW}.db"):
        Recommender.open(place / "home")


@pytest.mark.parametrize("byte", [0, 7, 12, 30, 60, 200])
def test_a_damaged_header_of_the_items_gives_way_to_the_previous(place: Path, byte: int) -> None:
    install(place / "new", place / "home")
    path = items_of(place / "home", NEW)
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)
    recommender = Recommender.open(place / "home")
    assert recommender.recommend("c000003").release == OLD
    assert "damaged" in recommender.warnings[0]
    recommender.close()


def test_another_content_under_the_same_name_leaves_no_file_behind(place: Path) -> None:
    other = make_release(place / "other", name=OLD, seed=5)
    install(other.folder, place / "home")
    assert files_of(place / "home") == files_with(other.folder)


def test_a_folder_beside_the_releases_is_left_alone(place: Path) -> None:
    (place / "home" / "gen" / "lost+found").mkdir()
    assert install(place / "new", place / "home").changed
    assert (place / "home" / "gen" / "lost+found").is_dir()
