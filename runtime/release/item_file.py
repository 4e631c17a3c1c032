"""The item side of a release on a kiosk: a safetensors file, mapped into memory.

It is the bundle's items.safetensors, byte for byte, so that the manifest's digest says whether it
is whole. Mapped, it costs no time to open, several processes share it, and of the neighbours' rows,
most of its bytes, only those that a history names are ever read.
docs/decisions/item-side-in-a-file.md tells what else was weighed.
"""

import json
import mmap
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

DTYPES = {"F16": "float16", "F32": "float32", "I64": "int64", "I32": "int32", "U8": "uint8"}
"""The format's names of the dtypes that a release has."""


def map_tensors(file: BinaryIO) -> dict[str, npt.NDArray[Any]]:
    """Map the tensors of a safetensors file, read only.

    The format is told in https://github.com/huggingface/safetensors#format.

    Args:
        file: the file, open; it may be closed, and deleted, while its tensors are used.

    Raises:
        OSError: the file can't be read.
        ValueError: it is damaged.
    """
    data = np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), np.uint8)
    tensors, _ = tensors_in(data, file.name)
    return tensors


def tensors_in(
    data: npt.NDArray[np.uint8], name: str
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Find the tensors in the bytes of a safetensors file; nothing is copied.

    Args:
        data: uint8 (bytes,), the whole file.
        name: of the file, for the message.

    Returns:
        The tensors by name, as views of ``data``, and the file's metadata.

    Raises:
        ValueError: it is damaged.
    """
    try:
        length = int.from_bytes(data[:8].tobytes(), "little")
        header: dict[str, Any] = json.loads(data[8 : 8 + length].tobytes())
        metadata: dict[str, str] = header.pop("__metadata__", {})
        tensors = {}
        for tensor, entry in header.items():
            first, last = (8 + length + offset for offset in entry["data_offsets"])
            values = data[first:last].view(DTYPES[entry["dtype"]])
            tensors[tensor] = values.reshape(entry["shape"])
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{name}: its header can't be understood: {error}") from error
    return tensors, metadata
