"""A pack for kiosks without a network: what is in it, and that it installs and answers there."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from c2rec.export.cli import cli
from c2rec.export.kiosk_pack import Pack, Target, make_pack
from c2rec.export.own_wheel import make_wheel
from c2rec.runtime.errors import PublishError
from tests.release import make_release

TARGET = Target()
PYTHON = f"python{TARGET.python}"
NOWHERE = "http://127.0.0.1:9"
"""An address that nobody listens at, for whoever tries the network all the same."""


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return make_pack(tmp_path_factory.mktemp("pack"), TARGET)


@pytest.fixture
def unpacked(pack: Pack, tmp_path: Path) -> Path:
    with tarfile.open(pack.path) as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path / pack.path.stem


def offline(*command: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command with no network: no interfaces where root may do so, no proxy anywhere."""
    alone = ["unshare", "--net"] if os.geteuid() == 0 else []
    base = {"PATH": f"{sys.base_prefix}/bin{os.pathsep}{os.defpath}", "HOME": "/nonexistent"}
    proxies = {f"{scheme}_proxy": NOWHERE for scheme in ("http", "https", "all")}
    return subprocess.run(
        [*alone, *map(str, command)],
        env=base | proxies | environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=300,
    )


def listing(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return {entry.name.partition("/")[2]: entry for entry in tar.getmembers()}


def test_a_pack_has_the_wheels_and_what_checks_them(pack: Pack) -> None:
    assert pack.path.name == f"c2rec-kiosk-0.1.0-{TARGET.tag}.tar"
    assert pack.bytes == pack.path.stat().st_size
    assert pack.sha256 == hashlib.sha256(pack.path.read_bytes()).hexdigest()
    names = {each.split("-")[0] for each in pack.wheels}
    assert {"c2rec", "numpy", "onnxruntime", "starlette", "uvicorn", "tuf"} <= names
    assert not names & {"torch", "onnx", "polars"}
    files = listing(pack.path)
    expected = {f"wheels/{each}" for each in pack.wheels}
    assert files.keys() == expected | {"constraints.txt", "install.sh", "SHA256SUMS"}
    assert list(files) == sorted(files)
    assert {(entry.uid, entry.gid, entry.mtime) for entry in files.values()} == {(0, 0, 315532800)}


def test_the_versions_are_those_that_were_tested(pack: Pack) -> None:
    tested = (Path(__file__).parent.parent / "constraints.txt").read_text().splitlines()
    pins = {line.lower().replace("_", "-") for line in tested if "==" in line}
    with tarfile.open(pack.path) as tar:
        member = tar.extractfile(f"{pack.path.stem}/constraints.txt")
        assert member is not None
        packed = member.read().decode().splitlines()
    assert "c2rec==0.1.0" in packed
    others = {line.lower() for line in packed} - {"c2rec==0.1.0"}
    assert {line for line in others if not line.startswith("pip==")} <= pins


def test_the_same_wheels_make_the_same_pack(pack: Pack, tmp_path: Path) -> None:
    again = make_pack(tmp_path / "again.tar", TARGET)
    assert again.sha256 == pack.sha256


def test_it_installs_and_answers_with_no_network(unpacked: Path, tmp_path: Path) -> None:
    """And an installation that was cut off before is done anew."""
    place = tmp_path / "a place"
    digest = hashlib.sha256((unpacked / "SHA256SUMS").read_bytes()).hexdigest()
    half = place / f"0.1.0-{digest[:12]}"
    (half / "lib").mkdir(parents=True)
    (half / "lib" / "half").write_text("")
    done = offline("sh", unpacked / "install.sh", place, PYTHON=PYTHON)
    assert done.returncode == 0, done.stderr
    program = place / "current" / "bin" / "c2rec-kiosk"
    assert done.stdout.splitlines() == ["c2rec-kiosk, version 0.1.0", f"Installed: {program}"]
    make_release(tmp_path / "bundle")
    home = str(tmp_path / "home")
    installed = offline(program, "install", tmp_path / "bundle", C2REC_HOME=home)
    assert installed.returncode == 0, installed.stderr
    answer = offline(program, "recommend", "c000003", "-k", "3", C2REC_HOME=home)
    assert answer.returncode == 0, answer.stderr
    assert "from what the customer buys" in answer.stdout
    assert offline(program, "serve", "--help").returncode == 0
    missing = offline(place / "current" / "bin" / "python", "-c", "import torch")
    assert "No module named 'torch'" in missing.stderr
    assert not (half / "lib" / "half").exists()
    before = (place / "current").resolve()
    assert before == half
    again = offline("sh", unpacked / "install.sh", place, PYTHON=PYTHON)
    assert again.returncode == 0, again.stderr
    assert (place / "current").resolve() == before


@pytest.mark.parametrize("spoil", ["bit", "cut", "added"])
def test_a_damaged_pack_installs_nothing(unpacked: Path, tmp_path: Path, spoil: str) -> None:
    wheel = next((unpacked / "wheels").glob("numpy-*"))
    content = bytearray(wheel.read_bytes())
    if spoil == "bit":
        content[1000] ^= 1
        wheel.write_bytes(content)
    elif spoil == "cut":
        wheel.write_bytes(content[:-1])
    else:
        shutil.copy(wheel, wheel.with_name("c2rec-9.0-py3-none-any.whl"))
    done = offline("sh", unpacked / "install.sh", tmp_path / "place", PYTHON=PYTHON)
    assert done.returncode == 1
    told = "does not belong to this pack" if spoil == "added" else "the pack is damaged"
    assert told in done.stderr
    assert not (tmp_path / "place").exists()


def test_another_python_machine_or_c_library_is_refused(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    other = tmp_path / "bin" / "python-of-another-version"
    other.write_text("#!/bin/sh\necho 3.10\n")
    uname = tmp_path / "bin" / "uname"
    uname.write_text("#!/bin/sh\necho riscv64\n")
    for path in (other, uname):
        path.chmod(0o755)
    install = unpacked / "install.sh"
    done = offline("sh", install, tmp_path / "place", PYTHON=str(other))
    assert f"is Python 3.10, the pack is for {TARGET.python}" in done.stderr
    done = offline("sh", install, tmp_path / "place", PYTHON="python-that-is-not-there")
    assert "there is no python-that-is-not-there" in done.stderr
    first = f"{tmp_path / 'bin'}{os.pathsep}{sys.base_prefix}/bin{os.pathsep}{os.defpath}"
    done = offline("sh", install, tmp_path / "place", PYTHON=PYTHON, PATH=first)
    assert f"this machine is riscv64, the pack is for {TARGET.machine}" in done.stderr
    script = install.read_text().replace("glibc=2.28", "glibc=2.99")
    sums = unpacked / "SHA256SUMS"
    digest = hashlib.sha256(install.read_bytes()).hexdigest()
    install.write_text(script)
    sums.write_text(sums.read_text().replace(digest, hashlib.sha256(script.encode()).hexdigest()))
    done = offline("sh", install, tmp_path / "place", PYTHON=PYTHON)
    assert "C library is older than glibc 2.99" in done.stderr
    assert not (tmp_path / "place").exists()


def test_the_command_makes_a_pack_for_another_machine(tmp_path: Path) -> None:
    other = "aarch64" if TARGET.machine == "x86_64" else "x86_64"
    done = CliRunner().invoke(cli, ["kiosk-pack", str(tmp_path), "--machine", other])
    assert done.exit_code == 0, done.output
    *wheels, made, digest = done.stdout.splitlines()
    path = tmp_path / f"c2rec-kiosk-0.1.0-cp{TARGET.python.replace('.', '')}-{other}.tar"
    assert made.startswith(f"{path}: {len(wheels)} wheels, ")
    assert digest == f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert {f"wheels/{each}" for each in wheels} < listing(path).keys()
    tagged = [each for each in wheels if not each.endswith("-any.whl")]
    assert {each.split("-")[0] for each in tagged} >= {"numpy", "onnxruntime", "cryptography"}
    assert all(each.endswith(f"_{other}.whl") for each in tagged)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"python": "3.10"}, "python is '3.10'; allowed: 3.11 or later"),
        ({"machine": "riscv64"}, "machine is 'riscv64'; allowed: x86_64, aarch64"),
        ({"glibc": "two"}, "glibc is 'two'; allowed: a version such as 2.28"),
    ],
)
def test_a_target_that_can_t_be_is_refused(fields: dict[str, str], message: str) -> None:
    with pytest.raises(PublishError, match=message.replace("[", r"\[")):
        Target(**fields)


def test_wheels_that_are_not_to_be_had_are_named(tmp_path: Path) -> None:
    """None of onnxruntime runs with so old a C library."""
    with pytest.raises(PublishError, match=r"the wheels for Python .*: ERROR"):
        make_pack(tmp_path, Target(glibc="2.5"))
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_no_wheel_of_ours(tmp_path: Path) -> None:
    (tmp_path / "c2rec-1.0-py3-none-any.whl").write_text("no zip")
    with pytest.raises(PublishError, match="is no wheel of c2rec"):
        make_wheel(tmp_path / "c2rec-1.0-py3-none-any.whl", tmp_path)


def test_an_installation_makes_the_wheel_that_it_came_from(unpacked: Path, tmp_path: Path) -> None:
    """As one from a wheel does, with no checkout beside it."""
    (wheel,) = (unpacked / "wheels").glob("c2rec-*.whl")
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True, timeout=120)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from c2rec.export.own_wheel import make_wheel\n"
        "print(make_wheel(None, Path(sys.argv[2])))\n"
    )
    # -S: without the checkout that this environment has; what else it has is named
    environment = {"PYTHONPATH": os.pathsep.join([str(site), *sys.path[1:]])}
    command = [sys.executable, "-S", "-P", "-c", script, str(site), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=os.environ | environment, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    made = tmp_path / wheel.name
    assert done.stdout.strip() == str(made)
    assert contents(made) == contents(wheel)
    again = tmp_path / "again"
    subprocess.run([*pip, "--target", str(again), str(made)], check=True, timeout=120)
    assert (again / "c2rec" / "runtime" / "scorer.onnx").is_file()


def contents(wheel: Path) -> dict[str, bytes]:
    """Files of a wheel; of RECORD, the lines in order."""
    with zipfile.ZipFile(wheel) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    record = next(name for name in found if name.endswith("/RECORD"))
    found[record] = b"\n".join(sorted(found[record].split()))
    return found
