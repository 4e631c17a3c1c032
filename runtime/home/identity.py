"""Who a kiosk is, and the keys that came to it apart from the repository.

``c2rec-export keys kiosk`` makes ``identity.json``, ``c2rec-kiosk enrol`` puts it into the home.
Reading it imports no cryptography, so that a command that only reports stays quick.
"""

import hashlib
import hmac
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from c2rec.runtime.errors import IdentityError, RequestError

EVERY_STORE = "all"
"""The store of all customers where the data knows no stores: every kiosk takes and opens it."""
KEY_BYTES = 32
PSEUDONYM_BYTES = 16
NAME_LENGTH = 100
"""Longest id of a store, or name of a device, in characters."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A kiosk; making one checks every field.

    Raises:
        IdentityError: a field can't be so.
    """

    store: str
    """The store's id, as in the transactions."""
    device: str
    """The kiosk's own name, unique in its store."""
    customer_key: bytes
    """Makes pseudonyms of customer ids; the same in the whole chain. 32 bytes."""
    store_key: bytes
    """Opens what is sealed for this store. 32 bytes."""
    device_key: bytes
    """Signs the events of this kiosk. 32 bytes."""

    def __post_init__(self) -> None:
        check_name("store", self.store)
        check_name("device", self.device)
        for name in ("customer_key", "store_key", "device_key"):
            if len(getattr(self, name)) != KEY_BYTES:
                raise IdentityError(
                    f"{name} has {len(getattr(self, name))} bytes; allowed: {KEY_BYTES}"
                )

    def key_of(self, store: str) -> bytes:
        """The key that opens what is sealed for a store: the own one, or that of everybody."""
        return every_store_key(self.customer_key) if store == EVERY_STORE else self.store_key

    def to_json(self) -> str:
        """Write the text of identity.json."""
        keys = {
            name: getattr(self, name).hex() for name in ("customer_key", "store_key", "device_key")
        }
        document = {"format": 1, "store": self.store, "device": self.device, **keys}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def check_name(field: str, value: object) -> None:
    """Check the id of a store or the name of a device.

    Raises:
        IdentityError: it is empty, longer than ``NAME_LENGTH``, or not printable.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= NAME_LENGTH or not value.isprintable():
        allowed = f"1 to {NAME_LENGTH} printable characters"
        raise IdentityError(f"{field} is {value!r:.90}; allowed: {allowed}")


def check_customer_id(customer_id: str) -> None:
    """Check an id that something is to be written of; who is merely asked about is nobody then.

    Raises:
        RequestError: it is empty, longer than 1000 characters, or no text.
    """
    try:
        customer_id.encode()
        is_text = True
    except UnicodeEncodeError:
        is_text = False
    if not is_text or not 1 <= len(customer_id) <= 1000:
        raise RequestError(
            f"customer is {customer_id!r:.80}; allowed: an id as in the transactions, 1 to 1000 "
            "characters"
        )


def path_part(name: str) -> str:
    """Write a store or device as one part of a path or URL: it leads nowhere else."""
    part = quote(name, safe="")
    return part.replace(".", "%2E") if part.startswith(".") else part


def identity_path(home: Path) -> Path:
    """Where a kiosk's identity lies."""
    return home / "identity.json"


def find_identity(home: Path) -> Identity | None:
    """Read a kiosk's identity; None where it was never enrolled.

    Raises:
        IdentityError: the file can't be read, or is damaged.
    """
    path = identity_path(home)
    try:
        return parse_identity(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IdentityError(f"{path}: can't be read: {error.strerror}") from error
    except IdentityError as error:
        raise IdentityError(f"{path}: {error}; enrol the kiosk again") from error


def parse_identity(text: str | bytes) -> Identity:
    """Read identity.json.

    Raises:
        IdentityError: it is not JSON, of a newer format, or a field is missing or wrong.
    """
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IdentityError(f"not valid JSON: {error}") from error
    if not isinstance(document, dict) or document.get("format") != 1:
        raise IdentityError('allowed: a JSON object with "format": 1')
    keys = []
    for name in ("customer_key", "store_key", "device_key"):
        try:
            keys.append(bytes.fromhex(document[name]))
        except (KeyError, TypeError, ValueError) as error:
            # the value is a key: no message tells it
            raise IdentityError(f"{name} is missing or not hex; allowed: 64 hex digits") from error
    return Identity(document.get("store", ""), document.get("device", ""), *keys)


def pseudonym(customer_key: bytes, customer_id: str) -> bytes:
    """What stands for a customer outside head office: 16 bytes.

    HMAC-SHA256, RFC 2104, cut to 128 bits: without the key an id can be neither read nor guessed.
    """
    text = b"customer\0" + customer_id.encode(errors="surrogatepass")
    return hmac.digest(customer_key, text, hashlib.sha256)[:PSEUDONYM_BYTES]


def every_store_key(customer_key: bytes) -> bytes:
    """The key that seals what is for the store ``all``: every kiosk of the chain has it."""
    return derived_key(customer_key, f"store:{EVERY_STORE}")


def derived_key(master: bytes, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose, from which the master can't be had.

    HMAC-SHA256 as the expand step of HKDF, RFC 5869 section 2.3, for one block.
    """
    return hmac.digest(master, purpose.encode(errors="surrogatepass") + b"\x01", hashlib.sha256)
