"""Which processes still have a deleted file of a home open, as far as the system tells."""

import os
from pathlib import Path

_DELETED = " (deleted)"


def readers_of_deleted(home: Path) -> list[int]:
    """Ids of processes, ascending; none where there is no ``/proc``, or it may not be read."""
    prefix, found = f"{home.resolve()}{os.sep}", set()
    try:
        processes = [each for each in os.scandir("/proc") if each.name.isdigit()]
    except OSError:
        return []
    for process in processes:
        try:
            for handle in Path(process.path, "fd").iterdir():
                target = str(handle.readlink())
                if target.startswith(prefix) and target.endswith(_DELETED):
                    found.add(int(process.name))
        except OSError:  # it has ended, or is another user's
            continue
    return sorted(found)
