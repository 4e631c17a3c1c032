"""From templates to a file."""

import platform
import re
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from c2rec.train.files import write_bytes

_LIBRARIES = (
    "c2rec",
    "torch",
    "numpy",
    "scipy",
    "polars",
    "implicit",
    "vl-convert-python",
    "Jinja2",
)


_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that turn the direction of text: in a name they make it look like another."""


def write_page(path: Path, template: str, **content: Any) -> None:
    """Fill a template in and write the page, whole or not at all.

    Args:
        path: of the file, which is replaced.
        template: name of one in ``train/templates``.
        content: what the template shows; every string in it is escaped, and what turns
            the direction of text is written out as its number.
    """
    environment = Environment(
        loader=PackageLoader("c2rec.train"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(
        versions=versions(), command=command(), **content
    )
    page = _TURNING.sub(lambda found: f"\\u{ord(found[0]):04x}", page)
    write_bytes(path, page.encode("utf-8", errors="backslashreplace"))


def versions() -> dict[str, str]:
    """Tell the versions of Python and of what makes the figures and the page."""
    return {"Python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def command() -> str:
    """Tell the command that is running, as it would be typed."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
