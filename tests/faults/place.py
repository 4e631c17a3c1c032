"""A head office, a web server and an enrolled kiosk, for tests to spoil.

``safe`` is what every fault has in common: the release that was active serves on, and the next good
sync succeeds.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from c2rec.export.keys import Keys
from c2rec.export.kit import write_kit
from c2rec.runtime.home.enrol import enrol
from c2rec.runtime.home.settings import Settings, changed, read_settings, settings_path
from c2rec.runtime.home.state import State, read_state
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.sync.sync import Synced, sync
from tests.faults.server import Server, serve
from tests.repositories import Head, make_head

STORE, DEVICE, CUSTOMER = "S1", "K1", "c000003"
OLD = "2020-07-27-00000001"


@dataclass
class Place:
    """A head office and one kiosk."""

    head: Head
    home: Path

    def sync(self) -> Synced:
        """Sync this kiosk."""
        return sync(self.home)

    @property
    def state(self) -> State:
        """What is installed."""
        return read_state(self.home)

    def settings(self, **values: object) -> Settings:
        """Change the kiosk's settings."""
        settings = changed(read_settings(self.home), **values)
        settings_path(self.home).write_text(settings.to_toml())
        return settings

    @contextmanager
    def served(self) -> Iterator[Server]:
        """Serve the repository by HTTP, to a kiosk that doesn't wait long."""
        with serve(self.head.repo) as server:
            self.settings(repository=server.url, connect_timeout=1.0, read_timeout=1.0)
            try:
                yield server
            finally:
                self.settings(repository=str(self.head.repo), deadline=60.0)

    def answers(self, release: str, *, tier: str = "personal") -> None:
        """Show that a release answers, undisturbed."""
        recommender = Recommender.open(self.home, thorough=True)
        answer = recommender.recommend(CUSTOMER)
        recommender.close()
        assert (answer.release, answer.tier, recommender.warnings) == (release, tier, [])

    def safe(self, *, seq: int = 2) -> None:
        """Show that the old release serves unchanged, and that the next good sync succeeds."""
        assert self.state.active.seq == 1
        self.answers(OLD)
        assert self.sync().outcome == "installed"
        assert self.state.active.seq == seq
        self.answers(self.head.releases[-1].manifest.release)
        assert not list((self.home / "blob").iterdir()), "customers lie about on the disk"


def make_place(folder: Path) -> Place:
    """Make a head office with one release, and a kiosk that has it."""
    head = make_head(folder / "head", publish=False)
    head.publish(name=OLD)
    place = Place(head, folder / "home")
    make_kit(head, folder / "kit")
    enrol(place.home, folder / "kit", Settings(repository=str(head.repo)))
    place.sync()
    return place


def make_kit(head: Head, folder: Path, *, store: str = STORE, device: str = DEVICE) -> Path:
    """Make what a kiosk is enrolled with."""
    write_kit(head.keys, store, device, folder)
    return folder


def copy_place(made: Place, folder: Path) -> Place:
    """Copy a place, to be spoiled."""
    root = made.home.parent
    shutil.copytree(root, folder, symlinks=True)
    # copying has changed inodes, as restoring a backup does; that costs one reading
    head = Head(folder / "head", Keys(folder / "head" / "keys"), list(made.head.releases))
    place = Place(head, folder / "home")
    place.settings(repository=str(head.repo))
    return place


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place that nobody changes."""
    return make_place(tmp_path_factory.mktemp("made"))


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Place:
    """A copy of it that a test may spoil."""
    return copy_place(made, tmp_path / "place")


@pytest.fixture
def fresh(place: Place) -> Place:
    """The same, with a second release published whose every file is another."""
    place.head.publish(seed=1)
    return place
