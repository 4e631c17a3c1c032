"""What the doctor says of the machine; conditions are made real where one can make them."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from c2rec.runtime.events.outbox import Outbox
from c2rec.store_kiosk.doctor import diagnose
from c2rec.store_kiosk.findings import Found
from c2rec.store_kiosk.machine_checks import (
    MACHINE_CHECKS,
    libc_verdict,
    mount_verdict,
    service_verdict,
    writes_verdict,
)
from tests.kiosks import make_identity, purchase

COMMAND = [sys.executable, "-m", "c2rec.store_kiosk.cli"]


def only(found: Found) -> tuple[str, str, str | None]:
    (one,) = found
    return one


def verdict_of(check: str, home: Path, **environment: str) -> tuple[str, str]:
    """What the command says of one check, in an environment of its own."""
    done = subprocess.run(
        [*COMMAND, "--home", str(home), "doctor"],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )
    line = next(x for x in done.stdout.splitlines() if x.split()[1:2] == [check])
    return line.split()[0], line


def test_this_machine_can_run_a_kiosk(tmp_path: Path) -> None:
    """All that the tests run on: each check says something, and none a failure."""
    for name, check in MACHINE_CHECKS.items():
        found = list(check(tmp_path))
        assert found or name == "service"
        assert all(verdict != "failure" for verdict, _, _ in found if name != "service"), found


# --- processor and C library


def cpu(folder: Path, flags: str) -> tuple[str, str, str | None]:
    (folder / "proc").mkdir(exist_ok=True)
    (folder / "proc" / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    return only(MACHINE_CHECKS["cpu"](folder, folder))  # type: ignore[call-arg]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="flags of x86-64")
@pytest.mark.parametrize(
    ("flags", "verdict", "text"),
    [
        ("fpu sse2 ssse3", "failure", "lacks cx16, lahf_lm, popcnt, sse4_1, sse4_2"),
        ("cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3", "warning", "lacks AVX2"),
        ("cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3 avx2", "ok", "with AVX2, without VNNI"),
        ("cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3 avx2 avx_vnni", "ok", "with AVX2 and VNNI"),
    ],
)
def test_the_processor_is_judged_by_what_it_can(
    tmp_path: Path, flags: str, verdict: str, text: str
) -> None:
    found = cpu(tmp_path, flags)
    assert found[0] == verdict
    assert text in found[1]


@pytest.mark.parametrize(
    ("name", "verdict"),
    [("glibc 2.28", "ok"), ("glibc 2.41", "ok"), ("glibc 2.27", "failure"), ("", "failure")],
)
def test_the_c_library_is_judged_by_the_wheels(name: str, verdict: str) -> None:
    assert only(libc_verdict(name))[0] == verdict


# --- onnxruntime


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("raise ImportError('libgomp.so.1: cannot open shared object file')", "libgomp.so.1"),
        ("import os; os.kill(os.getpid(), 4)", "ended by SIGILL"),
    ],
)
def test_an_onnxruntime_that_can_t_be_loaded_is_told(tmp_path: Path, code: str, text: str) -> None:
    """A module of that name stands before it, which fails as it would."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "onnxruntime.py").write_text(code)
    verdict, line = verdict_of("engine", tmp_path, PYTHONPATH=str(tmp_path / "first"))
    assert verdict == "failure"
    assert text in line


# --- memory


def test_too_little_memory_for_another_release_is_told(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "gen").mkdir()
    with (tmp_path / "gen" / "a.items.safetensors").open("wb") as file:
        file.truncate(300_000_000)
    for kilobytes, verdict in ((420_000, "ok"), (400_000, "warning")):  # 128 + 300 MB are needed
        (tmp_path / "proc" / "meminfo").write_text(f"MemAvailable: {kilobytes} kB\n")
        found = only(MACHINE_CHECKS["memory"](tmp_path, tmp_path))  # type: ignore[call-arg]
        assert found[0] == verdict, found


# --- disk


@pytest.mark.parametrize(
    ("mounts", "verdict", "text"),
    [
        ("/dev/sda / ext4 rw 0 0", "ok", "/ is ext4"),
        ("/dev/sda / ext4 ro 0 0", "failure", "read-only"),
        ("/dev/sda / ext4 rw,nobarrier 0 0", "failure", "without barriers"),
        (
            "/dev/sda / ext4 ro 0 0\nserver:/a /srv nfs4 rw 0 0",
            "failure",
            "nfs4, a disk of another",
        ),
        ("//server/a /srv cifs rw 0 0", "failure", "cifs, a disk of another"),
        ("x /srv tmpfs rw 0 0\n/dev/sda /srv ext4 rw 0 0", "ok", "/srv is ext4"),
        ("/dev/sda /srv ext4 rw 0 0\nx /srv tmpfs rw 0 0", "warning", "/srv is tmpfs"),
        ("overlay / overlay rw 0 0", "warning", "as in a container"),
        ("/dev/sda /srv/my\\040kiosk ext4 ro 0 0\n/dev/sdb / xfs rw 0 0", "ok", "/ is xfs"),
        ("/dev/sda /srv/the\\040home ext4 ro 0 0\n/dev/sdb / xfs rw 0 0", "failure", "read-only"),
    ],
)
def test_the_disk_is_judged_by_how_it_is_mounted(mounts: str, verdict: str, text: str) -> None:
    found = only(mount_verdict(Path("/srv/the home"), mounts))
    assert found[0] == verdict
    assert text in found[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize(
    ("mount", "verdict", "text"),
    [
        ('mount -t tmpfs tmpfs "$0"', "warning", "is tmpfs"),
        ('mount --bind "$0" "$0" && mount -o remount,ro,bind "$0"', "failure", "read-only"),
    ],
)
def test_real_mounts_are_told(tmp_path: Path, mount: str, verdict: str, text: str) -> None:
    """In a mount namespace of its own."""
    program = " ".join(COMMAND)
    script = f'{mount} && {program} --home "$0" doctor'
    command = ["unshare", "--mount", "sh", "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    line = next(x for x in done.stdout.splitlines() if x.split()[1:2] == ["disk"])
    assert line.split()[0] == verdict
    assert text in line


@pytest.mark.parametrize(
    ("times", "verdict"),
    [([1.0] * 19 + [900.0], "ok"), ([1.0] * 19 + [1100.0], "warning"), ([101.0] * 20, "warning")],
)
def test_flushes_are_judged_by_how_long_they_take(times: list[float], verdict: str) -> None:
    assert only(writes_verdict(times, "fix"))[0] == verdict


def test_a_disk_that_takes_no_more_is_a_failure(tmp_path: Path) -> None:
    """A limit on the size of files, which writes nothing, stands for it."""
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from c2rec.store_kiosk.machine_checks import MACHINE_CHECKS\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "print(*MACHINE_CHECKS['writes'](Path(sys.argv[1])))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "'failure'" in done.stdout, done.stderr
    assert "can't be written: File too large" in done.stdout
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 0


def test_trying_the_disk_leaves_nothing_there(tmp_path: Path) -> None:
    assert only(MACHINE_CHECKS["writes"](tmp_path))[0] in ("ok", "warning")
    assert list(tmp_path.iterdir()) == []


# --- services


@pytest.mark.parametrize(
    ("changed", "verdict", "text"),
    [
        ({}, "ok", "c2rec-kiosk.service is active: Release 7 answers"),
        ({"ActiveState": "failed", "Result": "watchdog"}, "failure", "failed: watchdog"),
        ({"ActiveState": "inactive"}, "failure", "is inactive"),
        ({"UnitFileState": "disabled"}, "warning", "is not enabled"),
        ({"NeedDaemonReload": "yes"}, "warning", "is not in force"),
        ({"NRestarts": "6"}, "warning", "started anew 6 times"),
        ({"ActiveState": "activating", "StatusText": "Can't recommend"}, "warning", "Can't rec"),
    ],
)
def test_a_service_is_judged_by_what_systemd_says(
    changed: dict[str, str], verdict: str, text: str
) -> None:
    good = {
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "Result": "success",
        "NRestarts": "5",
        "NeedDaemonReload": "no",
        "StatusText": "Release 7 answers",
    }
    found = only(service_verdict("c2rec-kiosk.service", good | changed))
    assert found[0] == verdict
    assert text in found[1]
    assert (found[2] is None) == (verdict == "ok")


# --- events


def events(home: Path) -> list[tuple[str, str]]:
    return [(f.verdict, f.text) for f in diagnose(home) if f.check == "events"]


def test_what_waits_in_the_outbox_is_told(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, make_identity())
    outbox.record(purchase())
    assert events(tmp_path) == [("ok", "1 events wait to be sent, 0 of 64 MiB")]
    batch = outbox.freeze()
    assert batch is not None
    outbox.work(lambda db: db.execute("UPDATE delivery SET failures = 3, error = 'no route'"))
    verdict, text = events(tmp_path)[1]
    assert (verdict, text) == (
        "warning",
        "3 attempts to send failed since the last success: no route",
    )
    outbox.work(lambda db: db.execute("UPDATE delivery SET failures = 0"))
    outbox.work(lambda db: db.execute("UPDATE batches SET state = 'dead'"))
    assert events(tmp_path)[1][1] == "head office refuses 1 events in 1 batches"
    outbox.work(lambda db: db.execute("INSERT INTO conflicts VALUES ('k', 'a', 'b', 'now')"))
    assert "under the name of 1 batches" in events(tmp_path)[2][1]
    outbox.work(lambda db: db.execute("UPDATE outbox SET bytes = 54000000"))  # of 67,108,864
    assert events(tmp_path)[0][0] == "warning"
    outbox.work(lambda db: db.execute("UPDATE outbox SET bytes = 67108864"))
    assert events(tmp_path)[0][0] == "failure"
    outbox.close()
