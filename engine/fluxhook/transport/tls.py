"""TLS files: what an endpoint's `tls` option names, read and judged before libcurl sees it.

libcurl opens the files that it was given when it connects, asks a terminal for the password of an
encrypted key, and waits for as long as a FIFO or a device makes it wait. So the files are read here:
regular ones only, without blocking, of a bounded size. libcurl gets their contents.
"""

from __future__ import annotations

import contextlib
import errno
import os
import ssl
import stat
from functools import lru_cache
from typing import Final

import msgspec

from fluxhook.config.pem import is_pem
from fluxhook.config.schema import Tls
from fluxhook.errors import ConfigError, Problem

__all__ = ["MemoryFile", "TlsMaterial", "read_tls"]

#: Arbitrary: ten times the authorities of a whole system, and far more than a chain or a key.
_MAX_BYTES: Final = {"ca": 4 << 20, "cert": 256 << 10, "key": 256 << 10}
_REMEDY: Final = {
    "ca": "give a PEM file with the certificates of authorities",
    "cert": "give a PEM file with the client's certificate, and with its chain if it has one",
    "key": "give a PEM file with the certificate's private key, not encrypted",
}
_CERTIFICATE: Final = b"CERTIFICATE-----"
#: OpenSSL's reasons where key and certificate are no pair; the last is for a key of another kind
_NO_PAIR: Final = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


class TlsMaterial(msgspec.Struct, frozen=True):
    """The contents of the files, PEM. Without `ca` the authorities are the system's."""

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None

    def __repr__(self) -> str:
        return "TlsMaterial(...)"


class MemoryFile(contextlib.AbstractContextManager[str]):
    """A file in memory, as a path, for what takes no bytes. It is gone once it is closed."""

    def __init__(self, data: bytes) -> None:
        self._fd = os.memfd_create("fluxhook", os.MFD_CLOEXEC)
        self.path = f"/proc/self/fd/{self._fd}"
        with open(self._fd, "wb", closefd=False) as file:
            file.write(data)

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> str:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()


def read_tls(tls: Tls, path: str = "tls") -> TlsMaterial:
    """Read what the option names.

    `path` is where the option stands in the configuration. Raises ConfigError with every problem: a
    file that cannot be read, or contents with which no connection can be made.
    """
    read: dict[str, bytes] = {}
    faults: list[_Fault] = []
    for name, written in (("ca", tls.ca), ("cert", tls.cert), ("key", tls.key)):
        if written is not None:
            try:
                read[name] = _contents(written, _MAX_BYTES[name])
            except ValueError as e:
                faults.append((name, str(e), _REMEDY[name]))
    material = TlsMaterial(**read)
    if faults := faults or list(_judge(material)):
        raise ConfigError(
            [
                Problem(f"{path}.{name}", f"{_shown(getattr(tls, name))} {fault}", remedy)
                for name, fault, remedy in faults
            ]
        )
    return material


def _shown(written: str) -> str:
    return "the text" if is_pem(written) else repr(written)[:200]


# ---- reading -------------------------------------------------------------------------------


def _contents(written: str, limit: int) -> bytes:
    """Return a file's contents, or the text itself where that is PEM. ValueError says why there are
    none."""
    inline = is_pem(written)
    data = written.encode("utf-8", "replace") if inline else _read(written, limit + 1)
    if len(data) > limit:
        raise ValueError(f"has more than {limit} bytes")
    return data


def _read(path: str, most: int) -> bytes:
    """Return at most this many bytes of a regular file."""
    try:
        # A look before: some devices are used by being opened.
        _check_regular(os.stat(path))
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as file:
            _check_regular(os.fstat(fd))
            data = b""
            while len(data) < most and (chunk := file.read(most - len(data))):
                data += chunk
            return data
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError("does not exist") from None
    except OSError as e:
        raise ValueError(f"cannot be read: {e.strerror}") from None
    except ValueError as e:  # a NUL, or half of a surrogate pair
        raise ValueError(f"is no path of a file: {e}") from None


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if not status.st_size:  # the kernel's files too, some of which are read by waiting
        raise OSError(errno.EINVAL, "empty")


# ---- judging -------------------------------------------------------------------------------

_Fault = tuple[str, str, str]  # the option's field, what is wrong with it, what would be right


class _PasswordWanted(Exception):
    """OpenSSL asks for the password of a key."""


def _ask_nobody() -> str:
    raise _PasswordWanted


@lru_cache(1024)  # many endpoints name the same files, and a change of one has all of them judged
def _judge(material: TlsMaterial) -> tuple[_Fault, ...]:
    """Return why no connection can be made with the contents."""
    faults = [
        (name, fault, _REMEDY[name])
        for name, pem in (("ca", material.ca), ("cert", material.cert))
        if pem is not None and (fault := _fault_of_certificates(pem))
    ]
    if not faults and material.cert is not None and material.key is not None:
        faults += _faults_of_pair(material.cert, material.key)
    return tuple(faults)


def _fault_of_certificates(pem: bytes) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        with MemoryFile(pem) as path:
            context.load_verify_locations(path)
    except ssl.SSLError as e:
        if _CERTIFICATE in pem:
            return f"holds a certificate that cannot be read{_reason(e)}"
    return "" if context.cert_store_stats()["x509"] else "holds no certificate in PEM"


def _faults_of_pair(cert: bytes, key: bytes) -> list[_Fault]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        with MemoryFile(cert) as cert_path, MemoryFile(key) as key_path:
            context.load_cert_chain(cert_path, key_path, _ask_nobody)
    except _PasswordWanted:
        remedy = (
            "decrypt it (openssl pkey -in KEY -out NEW_KEY); only the engine's user may read it"
        )
        return [("key", "is encrypted, and nobody can be asked for its password", remedy)]
    except ssl.SSLError as e:
        if e.reason in _NO_PAIR:
            return [("key", "does not belong to the certificate", _REMEDY["key"])]
        if e.library == "SSL" and e.reason:
            return [("cert", f"cannot be used{_reason(e)}", _REMEDY["cert"])]
        return [("key", f"holds no private key that can be read{_reason(e)}", _REMEDY["key"])]
    return []


def _reason(error: ssl.SSLError) -> str:
    return f" ({error.reason.lower().replace('_', ' ')})" if error.reason else ""
