"""A head office that collects what kiosks sent, for tests to spoil."""

from dataclasses import dataclass
from pathlib import Path

from c2rec.export.collect import Collection, collect
from c2rec.export.keys import Keys, make_keys
from c2rec.export.storage import FolderStorage


@dataclass
class Office:
    """A head office: keys, an inbox, and what it collected."""

    folder: Path
    keys: Keys

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def collect(self, **options: object) -> Collection:
        storage = FolderStorage(self.inbox)
        return collect(storage, self.out, self.keys, **options)  # type: ignore[arg-type] # as collect has them

    def batches(self) -> list[Path]:
        """Files of the inbox, oldest first."""
        found = [path for path in self.inbox.rglob("*") if path.is_file()]
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def make_office(folder: Path) -> Office:
    """Make one."""
    keys = make_keys(folder / "keys", passphrase=None)
    office = Office(folder, keys)
    office.inbox.mkdir()
    return office
