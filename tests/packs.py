"""A pack for this machine, for tests to install."""

import subprocess
from pathlib import Path

from c2rec.export.kiosk_pack import Target, make_pack


def unpacked(folder: Path) -> Path:
    """Make a pack, and unpack it into a folder; where its install.sh lies."""
    made = make_pack(folder, Target())
    subprocess.run(["tar", "-xf", str(made.path), "-C", str(folder)], check=True, timeout=60)
    return folder / made.path.stem
