"""What a kiosk gets by hand: who it is, its keys, and the root that it trusts."""

from pathlib import Path

from c2rec.export.keys import Keys, write_secret
from c2rec.runtime.errors import PublishError


def write_kit(keys: Keys, store: str, device: str, out: Path) -> None:
    """Write ``identity.json``, for its owner alone, and ``root.json``.

    Raises:
        PublishError: the names can't be so, ``out`` holds something, or can't be written.
    """
    identity, root = keys.identity(store, device), keys.roots()[-1]
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PublishError(f"{out}: is there already; choose another --out or delete it first")
    try:
        out.mkdir(parents=True, mode=0o700, exist_ok=True)
        (out / "root.json").write_bytes(root)
    except OSError as error:
        raise PublishError(f"{out}: can't be written: {error.strerror}") from error
    write_secret(out / "identity.json", identity.to_json().encode())
