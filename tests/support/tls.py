"""Throw-away certificates, made by the `openssl` command (7 ms each)."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import Literal, NamedTuple

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
_CONFIG = """
[ca]
default_ca = throw_away
[throw_away]
database = index.txt
new_certs_dir = .
default_md = sha256
policy = any
rand_serial = yes
unique_subject = no
[any]
commonName = supplied
"""


class Identity(NamedTuple):
    """Paths to a certificate and its key, in PEM."""

    cert: str
    key: str


class Authority:
    """A certificate authority; `cert` is its own certificate. Works in a directory of its own."""

    def __init__(self, directory: Path, name: str = "Throw-Away CA") -> None:
        directory.mkdir()
        self._directory = directory
        self.cert, self._key = self_signed(
            directory, name, "-addext", "keyUsage=critical,keyCertSign", san="DNS:ca.invalid"
        )
        (directory / "ca.cnf").write_text(_CONFIG)
        (directory / "index.txt").touch()

    def issue(
        self,
        name: str,
        *,
        san: str = "IP:127.0.0.1,DNS:localhost",
        start: str = "20200101000000Z",
        end: str = "20991231235959Z",
    ) -> Identity:
        """Issue a certificate for `san` (subjectAltName), valid from `start` to `end`."""
        d = self._directory
        identity = Identity(str(d / f"{name}.pem"), str(d / f"{name}.key"))
        csr, extensions = str(d / f"{name}.csr"), d / f"{name}.ext"
        # With the key identifiers, and the authority's key usage, that RFC 5280 asks for: Python
        # verifies strictly from 3.13 on.
        extensions.write_text(
            f"subjectAltName={san}\nbasicConstraints=CA:FALSE\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        _openssl(
            d, "req", "-new", *_KEY, "-keyout", identity.key, "-out", csr, "-subj", f"/CN={name}"
        )
        _openssl(
            d,
            *("ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", self.cert),
            *("-keyfile", self._key, "-in", csr, "-out", identity.cert),
            *("-startdate", start, "-enddate", end, "-extfile", str(extensions)),
        )
        return identity


def self_signed(directory: Path, name: str, *options: str, san: str = "IP:127.0.0.1") -> Identity:
    """Make a certificate that vouches for itself, with what OpenSSL puts into one, and `options`."""
    stem = name.replace(" ", "-").lower()
    identity = Identity(str(directory / f"{stem}.pem"), str(directory / f"{stem}.key"))
    _openssl(
        directory,
        *("req", "-x509", *_KEY, "-days", "3650", "-subj", f"/CN={name}"),
        *("-addext", f"subjectAltName={san}", *options),
        *("-keyout", identity.key, "-out", identity.cert),
    )
    return identity


def encrypted(key: str, form: Literal["pkcs8", "ec"] = "pkcs8") -> str:
    """Return the path of a key's copy under a password, in the form of PKCS #8 or in OpenSSL's own."""
    path = f"{key}.{form}"
    options = ["-topk8"] if form == "pkcs8" else ["-aes256"]
    _openssl(Path("/"), form, *options, "-in", key, "-out", path, "-passout", "pass:word")
    return path


def server_context(identity: Identity, client_ca: str | None = None) -> ssl.SSLContext:
    """Return a context for a server; with `client_ca` it demands a certificate of that authority from
    its clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*identity)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


def _openssl(directory: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["openssl", *arguments], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"openssl {' '.join(arguments)}: {done.stderr}"
