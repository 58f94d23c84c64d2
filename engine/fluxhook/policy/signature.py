"""Signature profiles: the headers by which a receiver knows who sent an event, and when.

    fluxgate  X-FluxGate-Signature: t=<unix>,v1=<hex HMAC-SHA256 of "<t>.<body>">
    standard  webhook-id, webhook-timestamp, webhook-signature (Standard Webhooks 1.0)
    stripe    Stripe-Signature: t=<unix>,v1=<hex HMAC-SHA256 of "<t>.<body>">
    github    X-Hub-Signature-256: sha256=<hex HMAC-SHA256 of the body>
    none      no header

While a secret is rotated, each active secret signs: one `v1=` entry each, or for `standard` one
entry each, separated by spaces. GitHub's header has room for one only.

A secret of `standard` says by its prefix what it is: `whsec_` a symmetric key, `whsk_` an ed25519
private key (which needs `fluxhook[ed25519]`). Elsewhere the key is the secret's text, as it is.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

from fluxhook._native.signing import Signer
from fluxhook.config.schema import SignatureProfile
from fluxhook.errors import ConfigError, EventError, Problem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

__all__ = [
    "EVENT_ID",
    "HEADERS",
    "SIGNATURE_HEADERS",
    "Profile",
    "make_profile",
    "public_key",
    "symmetric_key",
]

#: The header that holds the signature, as it is written.
HEADERS: Final[dict[SignatureProfile, str]] = {
    "fluxgate": "X-FluxGate-Signature",
    "standard": "webhook-signature",
    "stripe": "Stripe-Signature",
    "github": "X-Hub-Signature-256",
}

#: Names of all headers that profiles write, in lower case; no configured header may bear one.
SIGNATURE_HEADERS: Final = frozenset(
    {"webhook-id", "webhook-timestamp", *(name.lower() for name in HEADERS.values())}
)

#: Standard Webhooks 1.0: no dot in an id, for then `<id>.<t>.<body>` could be read in two ways.
EVENT_ID: Final = re.compile(r"[!-\-/-~]+")


class Profile(Protocol):
    """Signs the attempts of one endpoint. Instances may be shared by threads."""

    def headers(self, event_id: str, timestamp_s: int, body: bytes) -> list[bytes]:
        """Return the complete header lines, without line ends, of an attempt made at `timestamp_s`.

        `standard` raises EventError for an id that is not visible ASCII, or has a dot.
        """


def make_profile(name: SignatureProfile, secrets: Sequence[str]) -> Profile:
    """Return the profile of an endpoint; `secrets` are the active ones, newest first.

    Raises ConfigError where a secret is missing or unusable, with a path such as `secrets[1]` that
    the caller prefixes, and never with a secret's text.
    """
    if name == "none":
        return _Unsigned()
    if not secrets:
        raise _problem(
            "secrets",
            f"the profile {name!r} has nothing to sign with",
            "add a secret, or set `signature: none`",
        )
    if name == "standard":
        return _Standard([_standard_signer(s, f"secrets[{i}]") for i, s in enumerate(secrets)])
    signers = [Signer(symmetric_key(name, s, f"secrets[{i}]")) for i, s in enumerate(secrets)]
    if name != "github":
        return _Stamped(HEADERS[name], signers)
    if len(signers) > 1:
        raise _problem(
            "secrets",
            "the header of the profile 'github' has room for one signature",
            "keep one secret, and change it when the receiver does",
        )
    return _GitHub(signers[0])


class _Unsigned:
    def headers(self, event_id: str, timestamp_s: int, body: bytes) -> list[bytes]:
        return []


class _GitHub:
    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def headers(self, event_id: str, timestamp_s: int, body: bytes) -> list[bytes]:
        return [b"X-Hub-Signature-256: sha256=" + self._signer.hex(b"", body)]


class _Stamped:
    """FluxGate's and Stripe's form: `t=<unix>,v1=<hex>`, one v1 for each secret."""

    __slots__ = ("_header", "_only", "_second", "_signers")

    def __init__(self, header: str, signers: Sequence[Signer]) -> None:
        self._header = header.encode()
        self._signers = signers
        self._only = signers[0] if len(signers) == 1 else None
        # One tuple, so that threads see all of it or nothing.
        self._second = (-1, b"", b"")

    def headers(self, event_id: str, timestamp_s: int, body: bytes) -> list[bytes]:
        second, prefix, line = self._second
        if second != timestamp_s:
            self._second = _, prefix, line = _stamped(self._header, timestamp_s)
        if self._only is not None:
            return [line + self._only.hex(prefix, body)]
        return [line + b",v1=".join([s.hex(prefix, body) for s in self._signers])]


@lru_cache(16)
def _stamped(header: bytes, timestamp_s: int) -> tuple[int, bytes, bytes]:
    """Return what only changes with the second: the second, what is signed before the body, and the
    header line up to the first signature. A thousand profiles share it."""
    return timestamp_s, b"%d." % timestamp_s, b"%b: t=%d,v1=" % (header, timestamp_s)


class _Standard:
    def __init__(self, signers: Sequence[tuple[bytes, Signer | _Ed25519]]) -> None:
        self._signers = signers

    def headers(self, event_id: str, timestamp_s: int, body: bytes) -> list[bytes]:
        if not EVENT_ID.fullmatch(event_id):
            raise EventError(f"an event id must be visible ASCII without a dot, not {event_id!r}")
        id_ = event_id.encode()
        prefix = b"%b.%d." % (id_, timestamp_s)
        return [
            b"webhook-id: " + id_,
            b"webhook-timestamp: %d" % timestamp_s,
            b"webhook-signature: "
            + b" ".join([version + s.base64(prefix, body) for version, s in self._signers]),
        ]


class _Ed25519:
    """Signs as `Signer` does, with an ed25519 private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def base64(self, prefix: bytes, body: bytes) -> bytes:
        return base64.b64encode(self._key.sign(prefix + body))


def _standard_signer(secret: str, path: str) -> tuple[bytes, Signer | _Ed25519]:
    """Return the version label and the signer that a secret asks for by its prefix."""
    if not secret.startswith("whsk_"):
        return b"v1,", Signer(symmetric_key("standard", secret, path))
    raw = _decode(secret, "whsk_", path)
    if len(raw) not in (32, 64):
        raise _problem(path, f"an ed25519 key has 32 or 64 bytes, not {len(raw)}", "check the key")
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise _no_ed25519(path) from None
    key = Ed25519PrivateKey.from_private_bytes(raw[:32])
    if raw[32:] not in (b"", key.public_key().public_bytes_raw()):
        raise _problem(path, "the two halves of the ed25519 key do not fit", "check the key")
    return b"v1a,", _Ed25519(key)


def symmetric_key(name: SignatureProfile, secret: str, path: str) -> bytes:
    """Return the HMAC key behind a secret; ConfigError at `path` if it is unusable."""
    if not secret.strip():
        raise _problem(path, "the secret is empty", "set one, or take the entry out")
    if secret != secret.strip():
        raise _problem(path, "the secret has white space around it", "trim it")
    if name != "standard":
        return secret.encode("utf-8", "surrogateescape")  # bytes of a receiver's (verify.py)
    key = _decode(secret, "whsec_", path)
    # Standard Webhooks 1.0: "At least 24 bytes (192 bits, 512 maximum)"
    if not 24 <= len(key) <= 64:
        raise _problem(path, f"the key has {len(key)} bytes", "use 24 to 64 random bytes")
    return key


def public_key(secret: str, path: str) -> Ed25519PublicKey:
    """Return the ed25519 key behind `whpk_...`; ConfigError at `path` if it is unusable."""
    raw = _decode(secret, "whpk_", path)
    if len(raw) != 32:
        raise _problem(path, f"an ed25519 key has 32 bytes, not {len(raw)}", "check the key")
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise _no_ed25519(path) from None
    return Ed25519PublicKey.from_public_bytes(raw)


def _decode(secret: str, prefix: str, path: str) -> bytes:
    text = secret.removeprefix(prefix)
    if text == secret:
        raise _problem(path, f"the secret does not begin with {prefix}", "give it with its prefix")
    text = text.rstrip("=")
    try:
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except ValueError:
        raise _problem(path, f"what follows {prefix} is not base64", "copy it whole") from None


def _no_ed25519(path: str) -> ConfigError:
    return _problem(
        path, "ed25519 needs the package 'cryptography'", "pip install 'fluxhook[ed25519]'"
    )


def _problem(path: str, message: str, remedy: str) -> ConfigError:
    return ConfigError(Problem(path, message, remedy))
