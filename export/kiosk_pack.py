"""A pack: one tar from which a kiosk is installed with no network.

::

    c2rec-kiosk-0.1.0-cp311-x86_64/
      install.sh         checks the rest, makes an environment, and installs
      SHA256SUMS         of all other files
      constraints.txt    the version of every wheel
      wheels/            c2rec, and all that it needs on a kiosk

The same wheels make the same tar, byte for byte.
"""

import hashlib
import io
import platform
import re
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from c2rec.export.own_wheel import make_wheel, run_pip
from c2rec.runtime.errors import PublishError
from c2rec.runtime.home.disk import sha256_of, write_whole

MACHINES = ("x86_64", "aarch64")
_EXTRA = "page"
_OLDEST_GLIBC = 5  # manylinux_2_5 was the first
_TIME = 315_532_800
"""1980, the first year of zip files: what all files of a pack are of."""
_INSTALL = Path(__file__).parent / "install_pack.sh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The kiosks that a pack is for; making one checks every field.

    Raises:
        PublishError: a field can't be so.
    """

    python: str = f"{sys.version_info[0]}.{sys.version_info[1]}"
    """Their Python, as in 3.11."""
    machine: str = platform.machine()
    glibc: str = "2.28"
    """The oldest C library among them."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"3\.(1[1-9]|[2-9]\d)", self.python):
            raise PublishError(f"python is {self.python!r}; allowed: 3.11 or later")
        if self.machine not in MACHINES:
            raise PublishError(f"machine is {self.machine!r}; allowed: {', '.join(MACHINES)}")
        if not re.fullmatch(r"2\.\d{1,2}", self.glibc):
            raise PublishError(f"glibc is {self.glibc!r}; allowed: a version such as 2.28")

    @property
    def tag(self) -> str:
        """As in cp311-x86_64."""
        return f"cp{self.python.replace('.', '')}-{self.machine}"

    def platforms(self) -> list[str]:
        """Platform tags of the wheels that run there, the newest first."""
        minors = range(int(self.glibc.partition(".")[2]), _OLDEST_GLIBC - 1, -1)
        tags = [f"manylinux_2_{minor}_{self.machine}" for minor in minors]
        return [*tags, f"manylinux2014_{self.machine}"]


@dataclass(frozen=True, slots=True)
class Pack:
    """What was made."""

    path: Path
    wheels: tuple[str, ...]
    bytes: int
    sha256: str
    """Of the tar, 64 hex digits."""


def make_pack(
    out: Path,
    target: Target,
    *,
    wheel: Path | None = None,
    constraints: Path | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Pack:
    """Fetch wheels and put them into a tar.

    Args:
        out: the tar to write, or a folder to put it into under a name of its own.
        target: what the kiosks are.
        wheel: of c2rec; None for the one of this installation, or of this checkout.
        constraints: which versions to fetch, as pip takes them; None for the tested ones in a
            checkout, else the newest that fit.
        report: is told what is being done.

    Raises:
        PublishError: a wheel can't be had, or the tar not be written.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "wheels"
        folder.mkdir()
        report("making the wheel of c2rec")
        ours = make_wheel(wheel, folder)
        report(f"fetching wheels for Python {target.python} on {target.machine}")
        _fetch(ours, folder, target, constraints)
        wheels = sorted(folder.glob("*.whl"))
        version = ours.name.split("-")[1]
        name = f"c2rec-kiosk-{version}-{target.tag}"
        path = out / f"{name}.tar" if out.is_dir() else out
        report(f"writing {path}")
        try:
            write_whole(path, _tar(name, _files(version, target, wheels)))
        except OSError as error:
            raise PublishError(f"{path}: can't be written: {error.strerror}") from error
    return Pack(path, tuple(each.name for each in wheels), path.stat().st_size, sha256_of(path))


def _fetch(ours: Path, folder: Path, target: Target, constraints: Path | None) -> None:
    tested = Path(__file__).resolve().parent.parent / "constraints.txt"
    if constraints is None and tested.is_file():
        constraints = tested
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-input", "--only-binary=:all:", "--implementation=cp"),
        f"--python-version={target.python}",
        *(f"--platform={tag}" for tag in target.platforms()),
        *(() if constraints is None else ("--constraint", str(constraints))),
        *("--dest", str(folder), f"{ours}[{_EXTRA}]"),
    ]
    run_pip(command, f"the wheels for Python {target.python} on {target.machine}")


def _files(version: str, target: Target, wheels: list[Path]) -> dict[str, bytes]:
    """All files of a pack by their name in it."""
    pins = [each.name.split("-")[:2] for each in wheels]
    files = {f"wheels/{each.name}": each.read_bytes() for each in wheels}
    files["constraints.txt"] = "".join(f"{n.replace('_', '-')}=={v}\n" for n, v in pins).encode()
    script = _INSTALL.read_text()
    for name, value in (
        ("VERSION", version),
        ("PYTHON_VERSION", target.python),
        ("MACHINE", target.machine),
        ("GLIBC", target.glibc),
    ):
        script = script.replace(f"@{name}@", value)
    files["install.sh"] = script.encode()
    sums = sorted((name, hashlib.sha256(content).hexdigest()) for name, content in files.items())
    files["SHA256SUMS"] = "".join(f"{digest}  {name}\n" for name, digest in sums).encode()
    return files


def _tar(folder: str, files: dict[str, bytes]) -> bytes:
    """A tar that depends on nothing but names and contents."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime = len(content), _TIME
            entry.mode = 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()
