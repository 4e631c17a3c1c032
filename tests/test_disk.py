"""Files and folders that outlast a power cut: whatever is made is synced, its name too."""

import os
from pathlib import Path

import pytest

from c2rec.export.storage import FolderStorage
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.home.disk import make_folder
from tests.kiosks import make_identity, purchase


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths that are synced, as Python asks for it."""
    paths, real = list[Path](), os.fsync

    def note(handle: int) -> None:
        paths.append(Path(f"/proc/self/fd/{handle}").readlink())
        real(handle)

    monkeypatch.setattr(os, "fsync", note)
    return paths


def test_the_name_of_each_new_folder_is_synced(tmp_path: Path, synced: list[Path]) -> None:
    make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]
    make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2


def test_so_are_those_of_a_new_repository(tmp_path: Path, synced: list[Path]) -> None:
    FolderStorage(tmp_path / "repo").write("targets/rel/1.json", b"{}")
    for folder in (tmp_path, tmp_path / "repo", tmp_path / "repo" / "targets"):
        assert folder in synced


def test_so_is_that_of_a_home_before_an_event_is_acknowledged(
    tmp_path: Path, synced: list[Path]
) -> None:
    outbox = Outbox(tmp_path / "home", make_identity())
    outbox.record(purchase())
    outbox.close()
    assert tmp_path in synced
