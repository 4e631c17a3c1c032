"""Pictures of items: files in a folder, named ``<item id>.<suffix>``."""

from pathlib import Path
from urllib.parse import quote

SUFFIXES = {
    ".avif": "image/avif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
"""No SVG: a picture must not be able to run anything."""


class Pictures:
    """The pictures that there were at the start.

    Args:
        folder: where they lie; None for none.
    """

    def __init__(self, folder: Path | None) -> None:
        found = sorted(folder.iterdir()) if folder is not None else []
        self._paths = {
            path.stem: path for path in found if path.suffix.lower() in SUFFIXES and path.is_file()
        }

    def find(self, item_id: str) -> tuple[Path, str] | None:
        """An item's picture and its media type; only names that were in the folder are found."""
        path = self._paths.get(item_id)
        return None if path is None else (path, SUFFIXES[path.suffix.lower()])

    def address(self, item_id: str) -> str | None:
        """Where a browser finds it."""
        return f"/pictures/{quote(item_id, safe='')}" if item_id in self._paths else None
