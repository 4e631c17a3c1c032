"""A real systemd, as the first process of namespaces of its own, for tests of units.

It sees this machine's files and network, has a /run and /srv of its own, and nothing that it does
reaches another process. It needs root, and a kernel that lets one make namespaces and groups.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

USER = "c2rec"
_SYSTEMD = Path("/lib/systemd/systemd")
_START = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/lock
if [ -n "$COVERED" ]; then  # Python lies where other users don't get to
  mkdir /run/python
  mount --bind "$PYTHON" /run/python
  mount -t tmpfs -o mode=755 tmpfs "$COVERED"
  mkdir -p "$PYTHON"
  mount --bind /run/python "$PYTHON"
fi
mount -t tmpfs -o mode=755 tmpfs /srv
mkdir /srv/kiosk
mount --bind "$FOLDER" /srv/kiosk
for name in passwd group; do
  grep -v '^c2rec:' /etc/$name > /run/$name
done
echo 'c2rec:x:64321:64321::/srv/kiosk:/usr/sbin/nologin' >> /run/passwd
echo 'c2rec:x:64321:' >> /run/group
mount --bind /run/passwd /etc/passwd
mount --bind /run/group /etc/group
mkdir -p "$GROUP"
echo $$ > "$GROUP/cgroup.procs"
exec unshare --cgroup --pid --uts --ipc --fork --kill-child --mount-proc sh -ec '
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  exec env -i container=other PATH="$PATH" SYSTEMD_UNIT_PATH=/srv/kiosk/units \
    /lib/systemd/systemd --system --unit=test.target --log-target=null --show-status=no
'
"""


def why_not() -> str:
    """Why there can be no systemd here; nothing where there can.

    With C2REC_REQUIRE_SYSTEMD, not for want of an install.
    """
    if os.geteuid() != 0:
        return "not root"
    if not _SYSTEMD.exists() or shutil.which("systemd-analyze") is None:
        return "" if os.environ.get("C2REC_REQUIRE_SYSTEMD") else "systemd is not installed"
    if _groups() is None:
        return "no control groups"
    probe = ["unshare", "--mount", "--cgroup", "--pid", "--uts", "--ipc", "--fork", "true"]
    done = subprocess.run(probe, capture_output=True)
    return "" if done.returncode == 0 else "namespaces are not allowed"


def _groups() -> Path | None:
    """Where control groups, version 2, are mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split(" ")
        if kind == "cgroup2" and os.access(point, os.W_OK):
            return Path(point)
    return None


def _covered(path: Path) -> str:
    """The topmost folder above a path that other users don't get into; empty where they do."""
    above = [each for each in reversed(path.parents) if not each.stat().st_mode & 0o001]
    return str(above[0]) if above else ""


@dataclass(frozen=True)
class ServiceManager:
    """A running systemd."""

    folder: Path
    """What it knows as /srv/kiosk."""
    units: Path
    """Where its units lie."""
    process: int
    log: Path

    def enter(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command where it runs."""
        entry = ["nsenter", "--target", str(self.process), "--mount", "--pid", "--"]
        return subprocess.run([*entry, *command], capture_output=True, text=True, timeout=60)

    def systemctl(self, *arguments: str) -> str:
        """Run ``systemctl``, which must do what it is asked."""
        done = self.enter("systemctl", "--no-pager", *arguments)
        assert done.returncode == 0, f"{arguments} {done.stderr}\n{self.journal()}"
        return done.stdout

    def show(self, unit: str, *names: str) -> list[str]:
        """Properties of a unit."""
        told = self.systemctl("show", unit, *(f"--property={name}" for name in names))
        found = dict(line.split("=", 1) for line in told.splitlines())
        return [found[name] for name in names]

    def wait(self, unit: str, what: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        """Wait until a unit is so; its properties then."""
        until = time.monotonic() + 120
        while True:
            told = self.systemctl("show", unit)
            lines = (line.partition("=") for line in told.splitlines())
            found = {"StatusText": ""} | {name: value for name, _, value in lines}
            if what(found):
                return found
            if time.monotonic() > until:
                raise AssertionError((found["ActiveState"], found["StatusText"], self.journal()))
            time.sleep(0.1)

    def journal(self) -> str:
        """What the services said."""
        said = self.folder / "services.log"
        return self.log.read_text() + (said.read_text() if said.exists() else "")


@contextmanager
def service_manager(folder: Path) -> Iterator[ServiceManager]:
    """Run a systemd until the block ends.

    Args:
        folder: it is /srv/kiosk there, and its units lie in ``units/``.
    """
    points = _groups()
    assert points is not None
    group = points / f"c2rec-test-{os.getpid()}"
    units, log = folder / "units", folder / "systemd.log"
    units.mkdir(exist_ok=True)
    for name in ("test", "basic", "sysinit", "shutdown", "multi-user", "timers", "sockets"):
        (units / f"{name}.target").write_text(f"[Unit]\nDescription={name}\n")
    python = Path(sys.base_prefix)
    (units / "service.d").mkdir(exist_ok=True)  # there is no journal
    (units / "service.d" / "output.conf").write_text(
        "[Service]\nStandardOutput=append:/srv/kiosk/services.log\n"
    )
    environment = os.environ | {"FOLDER": str(folder), "GROUP": str(group)}
    environment |= {"PYTHON": str(python), "COVERED": _covered(python)}
    with log.open("w") as output:
        outer = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _START],
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        manager = ServiceManager(folder, units, _child(outer, log), log)
        until = time.monotonic() + 30
        while manager.enter("systemctl", "show", "test.target").returncode != 0:
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield manager
    finally:
        outer.kill()  # --kill-child: the first process of the namespace ends too, and all in it
        outer.wait()
        _remove(group)


def _child(outer: "subprocess.Popen[bytes]", log: Path) -> int:
    """Systemd's number here, once it has become systemd."""
    until = time.monotonic() + 30
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    while outer.poll() is None and time.monotonic() < until:
        for child in children.read_text().split():
            with suppress(FileNotFoundError):  # a mount or a mkdir, that has ended
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
        time.sleep(0.02)
    raise AssertionError(f"systemd did not start: {log.read_text()}")


def _remove(group: Path) -> None:
    """Remove an empty control group, and those in it."""
    until = time.monotonic() + 10
    while group.exists() and time.monotonic() < until:
        for path in sorted(group.rglob("*"), key=lambda each: -len(each.parts)):
            if path.is_dir():
                with suppress(OSError):  # a process of it has not quite ended
                    path.rmdir()
        with suppress(OSError):
            group.rmdir()
        time.sleep(0.02)
