"""The certificate by which the page is served to more than its own machine."""

import ssl
from pathlib import Path

from c2rec.runtime.errors import ServeError


def server_context(certificate: Path, private_key: Path | None) -> ssl.SSLContext:
    """Make what a server speaks TLS by: 1.2 or later.

    Args:
        certificate: PEM, the server's own first, then those between it and its authority.
        private_key: PEM without a password; None: it is in the same file.

    Raises:
        ServeError: they can't be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # an empty password, or openssl would ask the terminal for one
        context.load_cert_chain(certificate, private_key, password=lambda: b"")
    except OSError as error:  # SSLError is one
        key = "" if private_key is None else f" with --private-key {private_key}"
        why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise ServeError(
            f"--certificate {certificate}{key} can't be used: {why or error}; "
            "allowed: PEM files, a certificate and the key that belongs to it, without a password"
        ) from error
    return context
