"""The wheel of the c2rec that is running: built from its checkout, or put together again."""

import base64
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from c2rec.runtime.errors import PublishError

_ROOT = Path(__file__).resolve().parent.parent
_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "runtime", "store_kiosk", "train", "export")
_TIME = (1980, 1, 1, 0, 0, 0)


def make_wheel(given: Path | None, folder: Path) -> Path:
    """Put a wheel of c2rec into a folder, and tell its path there.

    Args:
        given: a wheel to take; None for one of what is running.
        folder: an existing one.

    Raises:
        PublishError: it is no wheel of c2rec, or none can be made.
    """
    if given is not None:
        if not (given.name.startswith("c2rec-") and zipfile.is_zipfile(given)):
            raise PublishError(f"{given} is no wheel of c2rec; allowed: a file c2rec-….whl")
        return Path(shutil.copy(given, folder))
    if (_ROOT / "pyproject.toml").is_file():
        return _build(folder)
    return _put_together(importlib.metadata.distribution("c2rec"), folder)


def _build(folder: Path) -> Path:
    with tempfile.TemporaryDirectory() as temporary:
        for name in _SOURCES:  # a copy: what else lies in a checkout must not get into it
            source, target = _ROOT / name, Path(temporary) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        command = [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
            *("--no-input", "--no-deps", "--wheel-dir", str(folder), temporary),
        ]
        run_pip(command, "c2rec")
    (built,) = folder.glob("c2rec-*.whl")
    return built


def run_pip(command: list[str], what: str) -> None:
    """Run pip, or say what it couldn't do.

    Raises:
        PublishError: it failed.
    """
    # what it builds is of 1980, whenever it is built
    environment = os.environ | {"SOURCE_DATE_EPOCH": "315532800"}
    done = subprocess.run(  # noqa: S603 - this Python's own pip
        command, env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = "; ".join(lines) or done.stderr.strip()[-500:] or f"exit code {done.returncode}"
        raise PublishError(f"pip could not get {what}: {reason}")


def _put_together(found: importlib.metadata.Distribution, folder: Path) -> Path:
    """The wheel that an installation came from, without what installing it added."""
    files = {
        str(path): path.read_binary()
        for path in found.files or ()
        if not str(path).startswith("..") and path.suffix != ".pyc"
    }
    about = f"c2rec-{found.version}.dist-info"
    for added in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
        files.pop(f"{about}/{added}", None)
    tag = _tag(files.get(f"{about}/WHEEL", b"").decode())
    record = "".join(f"{name},{_digest(content)}\n" for name, content in sorted(files.items()))
    files[f"{about}/RECORD"] = f"{record}{about}/RECORD,,\n".encode()
    path = folder / f"c2rec-{found.version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return path


def _tag(wheel: str) -> str:
    tags = [line.partition(": ")[2] for line in wheel.splitlines() if line.startswith("Tag: ")]
    if len(tags) != 1:
        raise PublishError(
            "this c2rec was not installed from a wheel; give one: --wheel, made by: pip wheel"
        )
    return tags[0]


def _digest(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"sha256={digest},{len(content)}"
