"""Sealing what lies open on a server: AES-256-GCM with a nonce made of the content.

One content under one key is one blob, so that what has not changed is not sent again; the price is
that equal contents can be seen to be equal, which their name tells anyway. Two different contents
share a nonce with a chance of 2⁻⁹⁶ a pair.
"""

import hashlib
import hmac

from c2rec.runtime.errors import ReleaseError

MAGIC = b"C2S1"
_NONCE_BYTES = 12
_OVERHEAD = len(MAGIC) + _NONCE_BYTES + 16


def seal(key: bytes, content: bytes) -> bytes:
    """Encrypt and authenticate.

    Args:
        key: 32 bytes.
        content: at most 2³¹ - 1 bytes.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # 30 ms, where it is needed

    nonce = hmac.digest(key, b"nonce\0" + hashlib.sha256(content).digest(), hashlib.sha256)
    nonce = nonce[:_NONCE_BYTES]
    return MAGIC + nonce + AESGCM(key).encrypt(nonce, content, MAGIC)


def unseal(key: bytes, sealed: bytes, *, name: str) -> bytes:
    """Open what ``seal`` made.

    Args:
        key: 32 bytes.
        sealed: the bytes.
        name: of what is opened, for the message.

    Raises:
        ReleaseError: it is damaged, or was sealed with another key.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(sealed) < _OVERHEAD or not sealed.startswith(MAGIC):
        raise ReleaseError(f"{name} is not a sealed file: it doesn't begin with {MAGIC.decode()}")
    nonce = sealed[len(MAGIC) : len(MAGIC) + _NONCE_BYTES]
    try:
        return AESGCM(key).decrypt(nonce, sealed[len(MAGIC) + _NONCE_BYTES :], MAGIC)
    except InvalidTag as error:
        raise ReleaseError(
            f"{name} can't be opened with this kiosk's key: it is damaged, or made for another "
            "store; check the kiosk's store, or enrol it again"
        ) from error
