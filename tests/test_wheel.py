"""The built wheel, alone in an environment of its own: what a kiosk gets."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.release import make_release

ROOT = Path(__file__).parent.parent
SUFFIXES = {".py", ".typed", ".j2", ".onnx", ".html", ".css", ".js", ".json", ".svg", ".sh"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def kiosk(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel and what it needs, no extra."""
    folder = tmp_path_factory.mktemp("kiosk") / "venv"
    venv.create(folder, with_pip=True)
    command = [
        *(str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"),
        *("-c", str(ROOT / "constraints.txt"), str(wheel)),
    ]
    subprocess.run(command, check=True, timeout=600)
    return folder / "bin"


def run(*command: str | Path, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.defpath}  # nothing of the checkout's environment
    if home is not None:
        environment["C2REC_HOME"] = str(home)
    return subprocess.run(
        [str(part) for part in command],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_wheel_holds_every_package_typed_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for room in ("train", "export", "runtime", "store_kiosk"):
        ours = {
            f"c2rec/{path.relative_to(ROOT)}"
            for path in (ROOT / room).rglob("*")
            if path.is_file() and path.suffix in SUFFIXES
        }
        assert ours == {name for name in names if name.startswith(f"c2rec/{room}/")}
    assert "c2rec/runtime/scorer.onnx" in names
    assert "c2rec/__init__.py" not in names
    others = [n for n in names if not n.startswith("c2rec/") and ".dist-info/" not in n]
    assert others == []


@pytest.mark.parametrize("module", ["torch", "onnx", "polars"])
def test_a_base_install_lacks_the_heavy_packages(kiosk: Path, module: str) -> None:
    assert run(kiosk / "python", "-c", "import c2rec.runtime.recommender").returncode == 0
    missing = run(kiosk / "python", "-c", f"import {module}")
    assert f"No module named '{module}'" in missing.stderr


def test_a_base_install_serves_a_recommendation(kiosk: Path, tmp_path: Path) -> None:
    make_release(tmp_path / "bundle")
    home = tmp_path / "home"
    installed = run(kiosk / "c2rec-kiosk", "install", tmp_path / "bundle", home=home)
    assert installed.returncode == 0, installed.stderr
    answer = run(kiosk / "c2rec-kiosk", "recommend", "-k", "3", "--json", home=home)
    assert answer.returncode == 0, answer.stderr
    assert len(json.loads(answer.stdout)["items"]) == 3
    for arguments, tier in ((["c000003"], "personal"), (["--basket", "i000001"], "basket")):
        answer = run(kiosk / "c2rec-kiosk", "recommend", *arguments, "--json", home=home)
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout)["tier"] == tier
    assert run(kiosk / "c2rec-kiosk", "status", home=home).returncode == 0
    told = run(kiosk / "c2rec-kiosk", "metrics", home=home)
    assert (told.returncode, told.stderr) == (0, "")
    assert "c2rec_release_items 40.0" in told.stdout


def test_a_base_install_measures_itself(kiosk: Path) -> None:
    options = ["--items", "3000", "--dim", "8", "--requests", "20", "--json"]
    done = run(kiosk / "c2rec-kiosk", "bench", *options)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert (document["items"], document["exact"], document["torch_ms"]) == (3000, True, None)


@pytest.mark.parametrize(
    ("command", "extra"), [("c2rec-train", "train"), ("c2rec-export", "export")]
)
def test_a_missing_extra_is_named(kiosk: Path, command: str, extra: str, tmp_path: Path) -> None:
    arguments = {
        "train": ["validate", str(tmp_path)],
        "export": ["check", str(tmp_path)],
    }[extra]
    done = run(kiosk / command, *arguments)
    assert done.returncode == 1
    assert f"pip install 'c2rec[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert run(kiosk / command, "--help").returncode == 0
