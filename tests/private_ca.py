"""Make a certificate authority with the program openssl, for tests of TLS."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support import require

_LEAF = """
basicConstraints = CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = {names}
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True, slots=True)
class PrivateCA:
    """A certificate authority that no system trusts, and what it has signed.

    Attributes:
        certificate: the file of its own certificate, as for `SSL_CERT_FILE`.
        leaf: the file of a certificate for 127.0.0.1, localhost and vendor.test, with its key.
    """

    certificate: Path
    leaf: Path

    def server(self, *, client_certificates: bool = False) -> ssl.SSLContext:
        """Return a server's TLS context; with `client_certificates` it refuses clients that have none of this CA."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.leaf)
        if client_certificates:
            context.load_verify_locations(self.certificate)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client(self, *, certificate: bool = False) -> ssl.SSLContext:
        """Return the TLS context of a client that trusts this CA and, with `certificate`, shows the certificate."""
        context = ssl.create_default_context(cafile=self.certificate)
        if certificate:
            context.load_cert_chain(self.leaf)
        return context


def new_private_ca(folder: Path) -> PrivateCA:
    """Make an authority, and a certificate of it, in a folder."""
    require(shutil.which("openssl"), "the program openssl is not installed")
    key, certificate, leaf_key, request, leaf = (
        folder / name for name in ("ca.key", "ca.pem", "leaf.key", "leaf.csr", "leaf.pem")
    )
    new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    _openssl(
        f"req -x509 {new_key} -days 2 -subj /CN=tests -addext keyUsage=critical,keyCertSign,cRLSign",
        *("-keyout", key, "-out", certificate),
    )
    _openssl(f"req {new_key} -subj /CN=leaf", "-keyout", leaf_key, "-out", request)
    extensions = folder / "leaf.txt"
    extensions.write_text(_LEAF.format(names="IP:127.0.0.1, DNS:localhost, DNS:vendor.test"), "utf-8")
    _openssl(
        "x509 -req -days 2",
        *("-in", request, "-CA", certificate, "-CAkey", key, "-CAcreateserial", "-extfile", extensions, "-out", leaf),
    )
    leaf.write_text(leaf.read_text("utf-8") + leaf_key.read_text("utf-8"), "utf-8")
    return PrivateCA(certificate, leaf)


def _openssl(command: str, *files: str | Path) -> None:
    subprocess.run(["openssl", *command.split(), *files], check=True, capture_output=True)
