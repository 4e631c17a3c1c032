"""The rooms import in one direction, and a kiosk needs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "onnx", "polars"}
SHARED = {"c2rec.runtime.records", "c2rec.runtime.errors", "c2rec.runtime.ranking"}
ALLOWED = {
    "runtime": {"c2rec.runtime"},
    "store_kiosk": {"c2rec.store_kiosk", "c2rec.runtime"},
    "train": {"c2rec.train", *SHARED},
    "export": {"c2rec.export", "c2rec.train", "c2rec.runtime"},
}
HEAVY_ALLOWED = {
    "runtime": set[str](),
    "store_kiosk": set[str](),
    "train": {"torch", "polars"},
    "export": HEAVY,
}


def imports_of(source: str) -> set[str]:
    """Every module that a source file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they go"
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def violations(room: str, source: str) -> set[str]:
    bad = set()
    for name in imports_of(source):
        if name.split(".")[0] in HEAVY - HEAVY_ALLOWED[room]:
            bad.add(name)
        if name.split(".")[0] == "c2rec" and not any(
            name == allowed or name.startswith(allowed + ".") for allowed in ALLOWED[room]
        ):
            bad.add(name)
    return bad


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_what_it_may(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert len(files) > 2
    for path in files:
        assert not violations(room, path.read_text()), path


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("runtime", "import torch"),
        ("runtime", "def f():\n    import torch.nn"),
        ("runtime", "from c2rec.train import model"),
        ("runtime", "from c2rec.store_kiosk.cli import main"),
        ("store_kiosk", "from onnx import helper"),
        ("store_kiosk", "import c2rec.export.graph"),
        ("train", "from c2rec.runtime.release.cache import open_generation"),
        ("train", "from c2rec.export import graph"),
        ("train", "import onnx"),
    ],
)
def test_a_forbidden_import_is_seen(room: str, line: str) -> None:
    assert violations(room, line)


def test_everything_a_kiosk_runs_imports_without_the_heavy_packages() -> None:
    """In a fresh interpreter where importing torch, onnx or polars fails."""
    modules = [
        "c2rec." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in ("runtime", "store_kiosk")
        for path in sorted((ROOT / room).rglob("*.py"))
        if path.name != "__init__.py"
    ]
    assert "c2rec.store_kiosk.cli" in modules
    script = (
        "import importlib, sys\n"
        f"for name in {sorted(HEAVY)!r}: sys.modules[name] = None\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_status_loads_neither_numpy_nor_onnxruntime() -> None:
    """What only reports has to start at once."""
    script = (
        "import sys\n"
        "import c2rec.store_kiosk.cli\n"
        "heavy = {'numpy', 'onnxruntime', 'sqlite_utils', 'platformdirs'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
