"""What Linux tells of the machine and of this process; None where it doesn't."""

import os
import platform
from pathlib import Path
from typing import Any


def resident_mb() -> float | None:
    """Resident memory of this process in MB (10⁶ bytes), pages of mapped files included."""
    return _megabytes("/proc/self/status", "VmRSS")


def available_mb() -> float | None:
    """Memory that can be had without swapping, in MB (10⁶ bytes)."""
    return _megabytes("/proc/meminfo", "MemAvailable")


def machine_facts() -> dict[str, Any]:
    """What a figure depends on: the processor, its threads, the versions."""
    import numpy as np
    import onnxruntime

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
