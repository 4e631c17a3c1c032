"""What a kiosk gets by hand: who it is, its keys, and the root that it trusts."""

import hashlib
import json
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
    # so that a kiosk can tell when the two files are not of one kit
    document = json.loads(identity.to_json()) | {"root_sha256": hashlib.sha256(root).hexdigest()}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    write_secret(out / "identity.json", text.encode())
