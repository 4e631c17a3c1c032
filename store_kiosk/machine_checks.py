"""What may be wrong with the machine that a kiosk runs on: its processor, memory, disk, services.

Nothing is changed: what is written to try the disk never has a name there.
"""

import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from c2rec.store_kiosk.findings import Check, Found
from c2rec.store_kiosk.machine import available_mb

_X86_V2 = {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}
"""What numpy's wheels are built for, https://gitlab.com/x86-psABIs/x86-64-ABI."""
_GLIBC = 2, 28
"""What onnxruntime's wheels are built for."""
_OWN_MB = 128
"""Memory that a process takes to answer, beside what it maps of a release."""
_SLOW_MS = 100.0
"""A shopper waits for an event's flush; a worn card takes so long."""
_STUCK_MS = 1000.0
_WRITES, _BLOCK = 20, 4096
_NETWORK = {
    *("9p", "afs", "ceph", "cifs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3"),
    *("fuse.ceph", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "vboxsf"),
}
_UNITS = ("c2rec-kiosk.service", "c2rec-sync.timer", "c2rec-send.timer")
_MANY_RESTARTS = 5


def _cpu(_: Path, root: Path = Path("/")) -> Found:
    """What of the processor the wheels need, and what speeds them up."""
    try:
        lines = (root / "proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return
    named = {key.strip().lower(): value for key, _, value in (x.partition(":") for x in lines)}
    flags = set(named.get("flags", named.get("features", "")).split())
    if platform.machine() != "x86_64":
        has = ", dot products" if "asimddp" in flags else ""
        yield "ok", f"{platform.machine()}{has}", None
        return
    if missing := sorted(_X86_V2 - flags):
        yield (
            "failure",
            f"the processor lacks {', '.join(missing)}, which numpy's wheels need",
            (
                "use a machine with an x86-64-v2 processor, of 2009 or later; give a virtual one "
                "the host's processor"
            ),
        )
    elif "avx2" not in flags:
        yield (
            "warning",
            "the processor lacks AVX2: answers take longer",
            "measure it: c2rec-kiosk bench; give a virtual machine the host's processor",
        )
    else:
        vnni = {"avx512_vnni", "avx_vnni"} & flags
        yield "ok", f"x86-64 with AVX2{' and VNNI' if vnni else ', without VNNI'}", None


def _libc(_: Path) -> Found:
    try:
        found = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):  # musl knows no such name
        found = ""
    yield from libc_verdict(found)


def libc_verdict(found: str) -> Found:
    """Judge a C library by what it calls itself, as in "glibc 2.36"."""
    name, _, version = found.partition(" ")
    try:
        numbers = tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        numbers = ()
    fix = "use a system such as Debian 10, Ubuntu 20.04, RHEL 8 or later"
    if name != "glibc":
        yield "failure", "the C library is not glibc: onnxruntime has no wheels for it", fix
    elif numbers < _GLIBC:
        yield "failure", f"{found} is older than 2.28, which onnxruntime's wheels need", fix
    else:
        yield "ok", found, None


_TRY = """
from importlib.resources import files
from c2rec.runtime.engine.ort import onnxruntime
from c2rec.runtime.engine.scorer import open_session
import numpy
open_session("scorer", files("c2rec.runtime").joinpath("scorer.onnx").read_bytes(), 1)
print(f"onnxruntime {onnxruntime.__version__} and numpy {numpy.__version__} run here")
"""


def _engine(_: Path) -> Found:
    """Whether onnxruntime runs here, in another process: it may end on an unknown instruction."""
    command = [sys.executable, "-P", "-c", _TRY]
    done = subprocess.run(  # noqa: S603 - this Python, and the script above
        command, capture_output=True, text=True, errors="replace", timeout=120, check=False
    )
    if done.returncode == 0:
        yield "ok", done.stdout.strip(), None
        return
    if done.returncode < 0:
        why = f"it was ended by {signal.Signals(-done.returncode).name}"
    else:
        why = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    yield (
        "failure",
        f"onnxruntime can't be used here: {why}",
        (
            "see cpu and libc above; if they are ok, install again: pip install --force-reinstall "
            "onnxruntime numpy"
        ),
    )


def _memory(home: Path, root: Path = Path("/")) -> Found:
    available = available_mb(root)
    if available is None:
        return
    sizes = [path.stat().st_size for path in (home / "gen").glob("*.items.safetensors")]
    needed = _OWN_MB + max(sizes, default=0) / 1e6
    text = f"{available:.0f} MB of memory are to be had, another release takes about {needed:.0f}"
    if available < needed:
        yield "warning", text, "end what else runs here, or give the machine or service more"
    else:
        yield "ok", text, None


def _mount(home: Path) -> Found:
    """How the disk is mounted, where the system tells."""
    try:
        mounts = Path("/proc/self/mounts").read_text()
    except OSError:
        return
    yield from mount_verdict(home.resolve(), mounts)


def mount_verdict(place: Path, mounts: str) -> Found:
    """Judge how the disk of a folder is mounted, by the lines of /proc/self/mounts."""
    rows = [line.split(" ") for line in mounts.splitlines()]
    fitting = [
        row for row in rows if place.is_relative_to(row[1].encode().decode("unicode_escape"))
    ]
    if not fitting:
        return
    # of several on one folder the last is what is seen
    _, point, kind, options = max(reversed(fitting), key=lambda row: len(row[1]))[:4]
    found = set(options.split(","))
    if "ro" in found:
        yield "failure", f"{point} is mounted read-only", f"mount -o remount,rw {point}"
    elif {"nobarrier", "barrier=0"} & found:
        yield (
            "failure",
            f"{point} is mounted without barriers: a power cut may lose what was acknowledged",
            f"mount {point} without nobarrier",
        )
    elif kind in _NETWORK:
        yield (
            "failure",
            (
                f"{point} is {kind}, a disk of another machine: SQLite's log and locks are not "
                "sure there, and without the network nothing is answered"
            ),
            "put the home on a disk of this machine",
        )
    elif kind in ("tmpfs", "ramfs"):
        yield (
            "warning",
            f"{point} is {kind}: everything is gone after a power cut",
            "put the home on a disk",
        )
    elif kind == "overlay":
        yield (
            "warning",
            f"{point} is {kind}, as in a container: everything is gone with it",
            "mount a volume for the home",
        )
    else:
        yield "ok", f"{point} is {kind}", None


def _writes(home: Path) -> Found:
    """How long a flush takes, on a file without a name."""
    if not home.is_dir() or not hasattr(os, "O_TMPFILE"):
        return
    fix = "look at the disk's health: dmesg, smartctl; replace a card that is worn"
    try:
        handle = os.open(home, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError:  # "home" and "disk" tell of a folder that can't be written, or a filesystem
        return  # that has no such files
    try:
        times = []
        for _ in range(_WRITES):
            started = time.perf_counter()
            os.write(handle, b"\0" * _BLOCK)
            os.fsync(handle)
            times.append((time.perf_counter() - started) * 1000)
    except OSError as error:
        yield "failure", f"a file in {home} can't be written: {error.strerror}", fix
        return
    finally:
        os.close(handle)
    yield from writes_verdict(times, fix)


def writes_verdict(times: list[float], fix: str) -> Found:
    """Judge how long flushes took, milliseconds each."""
    typical, worst = statistics.median(times), max(times)
    text = f"a flush to disk takes {typical:.1f} ms, the longest of {len(times)} {worst:.1f}"
    if typical > _SLOW_MS or worst > _STUCK_MS:
        yield "warning", f"{text}: shoppers wait for it", fix
    else:
        yield "ok", text, None


def _service(_: Path) -> Found:
    """The services of ``install --systemd``, where there are any."""
    if not Path("/run/systemd/system").is_dir():
        return
    for unit in _UNITS:
        told = _shown(unit)
        if told is not None and told.get("LoadState") == "loaded":
            yield from service_verdict(unit, told)


def _shown(unit: str) -> dict[str, str] | None:
    names = "LoadState,ActiveState,UnitFileState,Result,NRestarts,StatusText,NeedDaemonReload"
    command = ["systemctl", "show", unit, f"--property={names}"]
    try:
        done = subprocess.run(  # noqa: S603 - as systemd is found on PATH
            command, capture_output=True, text=True, errors="replace", timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {name: value for name, _, value in (x.partition("=") for x in done.stdout.splitlines())}


def service_verdict(unit: str, told: dict[str, str]) -> Found:
    """Judge a unit by its properties, as ``systemctl show`` has them."""
    state, status = told.get("ActiveState", ""), told.get("StatusText", "")
    said = f": {status}" if status else ""
    restarts = int(told.get("NRestarts") or 0)
    if state in ("failed", "inactive"):
        yield (
            "failure",
            f"{unit} is {state}: {told.get('Result') or 'it was stopped'}",
            f"systemctl restart {unit}; why it ended: journalctl -u {unit} -n 50",
        )
    elif told.get("UnitFileState") not in ("enabled", "enabled-runtime"):
        yield (
            "warning",
            f"{unit} is {state}, but is not enabled: after the next start it is not there",
            f"systemctl enable {unit}",
        )
    elif told.get("NeedDaemonReload") == "yes":
        yield "warning", f"{unit} was written anew, and is not in force", "systemctl daemon-reload"
    elif restarts > _MANY_RESTARTS:
        yield (
            "warning",
            f"{unit} was started anew {restarts} times{said}",
            f"why it ended: journalctl -u {unit} -n 200",
        )
    elif state == "activating":
        yield "warning", f"{unit} is still starting{said}", f"journalctl -u {unit} -n 50"
    else:
        yield "ok", f"{unit} is {state}{said}", None


MACHINE_CHECKS: dict[str, Check] = {
    "cpu": _cpu,
    "libc": _libc,
    "engine": _engine,
    "memory": _memory,
    "disk": _mount,
    "writes": _writes,
    "service": _service,
}
