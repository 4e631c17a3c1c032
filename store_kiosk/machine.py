"""What Linux tells of the machine and of this process; None where it doesn't."""

import os
import platform
from pathlib import Path
from typing import Any


def resident_mb() -> float | None:
    """Resident memory of this process in MB (10⁶ bytes), pages of mapped files included."""
    return _megabytes("/proc/self/status", "VmRSS")


def available_mb(root: Path = Path("/")) -> float | None:
    """Memory that can be had without swapping, in MB (10⁶ bytes), by a container's limits as well.

    Args:
        root: what holds ``proc`` and ``sys``.
    """
    spare = _spare_of_groups(root)
    machine = _megabytes(str(root / "proc/meminfo"), "MemAvailable")
    return min([*spare, *([] if machine is None else [machine])], default=None)


def _spare_of_groups(root: Path) -> list[float]:
    """What each control group that this process is in may still take, in MB.

    Both versions (https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files and
    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html) are looked for where they are
    usually mounted. A group's limit holds for all groups in it.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    spare = []
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers == "":
            mounts = ["sys/fs/cgroup", "sys/fs/cgroup/unified"]
            names = "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mounts = ["sys/fs/cgroup/memory"]
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        folders = ["/".join(parts[:length]) for length in range(len(parts) + 1)]
        spare += [_spare(root / mount / folder, *names) for mount in mounts for folder in folders]
    return [each for each in spare if each is not None]


def _spare(group: Path, limit: str, usage: str, reclaimable: str) -> float | None:
    """What a group may still take, in MB; None where it has no limit, or there is no such group."""
    try:
        left = int((group / limit).read_text()) - int((group / usage).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        left += int(stat.get(reclaimable, 0))  # pages of files count as used
    except (OSError, ValueError):  # "max" is no number
        return None
    return max(0.0, left / 1e6)


def machine_facts() -> dict[str, Any]:
    """What a figure depends on: the processor, its threads, the versions."""
    import numpy as np

    from c2rec.runtime.engine.ort import onnxruntime

    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "threads": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
    }


def _megabytes(file: str, name: str) -> float | None:
    value = _field(file, name)  # as in "52340 kB", which are 1024 bytes each
    return None if value is None else round(int(value.split()[0]) * 1024 / 1e6, 1)


def _field(file: str, name: str) -> str | None:
    try:
        lines = Path(file).read_text(errors="replace").splitlines()
    except OSError:
        return None
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in fields if key.strip() == name), None)
