"""Homes with a release in them, for tests to spoil."""

import json
from pathlib import Path

from c2rec.runtime.recommender import Recommender
from c2rec.runtime.release.install import install
from tests.release import make_release

OLD, NEW = "2020-07-27-00000001", "2020-08-27-00000002"


def make_homes(folder: Path) -> None:
    """Put a home with release OLD into a folder, and bundles of OLD and NEW beside it."""
    make_release(folder / "old", name=OLD)
    make_release(folder / "new", name=NEW, seed=1)
    install(folder / "old", folder / "home")


def files_with(*bundles: Path) -> set[str]:
    """Paths of all files of a home that holds the releases of these bundles, and no more."""
    expected = {"lock", "state.db", "state.json", "whole.json"}
    for bundle in bundles:
        manifest = json.loads((bundle / "manifest.json").read_text())
        digest = manifest["files"]["items.safetensors"]["sha256"]
        expected |= {f"gen/{manifest['release']}.db", f"gen/{digest[:32]}.items.safetensors"}
    return expected


def files_of(home: Path) -> set[str]:
    """Paths of all files, relative to the home."""
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}


def assert_old_serves(home: Path) -> None:
    """Show that release OLD answers, and that nothing else is there."""
    assert files_of(home) == files_with(home.parent / "old")
    recommender = Recommender.open(home)
    answer = recommender.recommend("c000003")
    recommender.close()
    assert (answer.release, answer.tier, len(answer.items)) == (OLD, "personal", 10)
