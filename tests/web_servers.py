"""Real servers on loopback for tests, and the certificates they need."""

import datetime
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).parent.parent
CONFIGURATION = ROOT / "docs" / "deploy" / "nginx.conf"


@dataclass
class Nginx:
    """The documented server, running with its folders somewhere else."""

    folder: Path
    port: int
    tls: "Authority"
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @property
    def log(self) -> Path:
        return self.folder / "access.log"

    def start(self) -> None:
        command = ["nginx", "-p", str(self.folder), "-e", str(self.folder / "error.log")]
        command += ["-c", str(self.folder / "nginx.conf")]
        self._process = subprocess.Popen(command, process_group=0)
        _wait_for(self.port, self._process)

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()

    @contextmanager
    def gone(self) -> Iterator[None]:
        """For the length of a block nobody listens."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """For the length of a block connections are taken, and never answered."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)


class Authority:
    """A certificate authority in a folder: ca.pem, and pairs of NAME.pem and NAME.key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self._write("ca", self._name, self._key, is_authority=True)

    @property
    def ca(self) -> Path:
        """Its own certificate."""
        return self.folder / "ca.pem"

    def issue(self, name: str, *, common_name: str, unit: str | None = None) -> tuple[Path, Path]:
        """Issue a certificate for 127.0.0.1; paths of certificate and key."""
        parts = [] if unit is None else [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit)]
        parts.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
        self._write(name, x509.Name(parts), ec.generate_private_key(ec.SECP256R1()))
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def _write(
        self,
        name: str,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        is_authority: bool = False,
    ) -> None:
        now = datetime.datetime.now(datetime.UTC)
        own = x509.SubjectKeyIdentifier.from_public_key
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=is_authority,
            crl_sign=is_authority,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(own(key.public_key()), critical=False)
            .add_extension(signer, critical=False)
            .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        (self.folder / f"{name}.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def nginx(folder: Path) -> Iterator[Nginx]:
    """Run the documented configuration with its folders below ``folder``, on loopback alone."""
    tls = Authority(folder / "tls")
    tls.issue("server", common_name="127.0.0.1")
    shutil.copy(tls.ca, tls.folder / "kiosks.pem")
    port = free_port()
    text = CONFIGURATION.read_text()
    for what, instead in {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "/srv/c2rec": str(folder),
        "/etc/c2rec/tls": str(tls.folder),
        "/run/nginx.pid": str(folder / "nginx.pid"),
        "/var/log/nginx": str(folder),
        "worker_processes auto;": f"daemon off;\nworker_processes 1;\n{_user()}",
    }.items():
        assert what in text, f"{CONFIGURATION} lacks {what!r}"
        text = text.replace(what, instead)
    (folder / "nginx.conf").write_text(text)
    running = Nginx(folder, port, tls)
    for each in (running.repository, running.inbox / ".incoming"):
        each.mkdir(parents=True, exist_ok=True)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def _user() -> str:
    """As root, nginx's workers would run as another user, who can't read a test's folder."""
    return "user root;" if os.geteuid() == 0 else ""


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(500):
        if process.poll() is not None:
            raise AssertionError(f"nginx ended with {process.returncode}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    raise AssertionError("nginx doesn't listen")
