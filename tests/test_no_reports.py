"""onnxruntime reports nothing to its makers, and leaves no id of the device anywhere."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kiosk_page import CARD, make_home

ROOT = Path(__file__).parent.parent


def files_left_by(home: Path, code: str, *arguments: str) -> tuple[str, list[Path]]:
    """Run code as a user whose folder is empty; what it printed, and what it left there."""
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_"))}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment | {"HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout, [path for path in home.rglob("*") if path.is_file()]


def test_an_answer_by_the_model_leaves_nothing_in_the_user_s_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from c2rec.runtime.recommender import Recommender\n"
        "print(Recommender.open(Path(sys.argv[1])).recommend(sys.argv[2]).tier)\n"
    )
    kiosk = make_home(tmp_path)
    assert files_left_by(tmp_path / "user", code, str(kiosk), CARD) == ("personal\n", [])


def test_a_measurement_leaves_nothing_either(tmp_path: Path) -> None:
    code = "from c2rec.store_kiosk.cli import main; main()"
    options = ["bench", "--items", "500", "--dim", "8", "--requests", "5", "--json"]
    printed, left = files_left_by(tmp_path / "user", code, *options)
    assert json.loads(printed)["exact"]
    assert left == []


@pytest.mark.parametrize("room", ["runtime", "store_kiosk", "train", "export"])
def test_one_place_alone_imports_onnxruntime(room: str) -> None:
    """Who imports it first decides: later is too late."""
    for path in (ROOT / room).rglob("*.py"):
        names = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert ("onnxruntime" in names) == (path == ROOT / "runtime" / "engine" / "ort.py"), path
