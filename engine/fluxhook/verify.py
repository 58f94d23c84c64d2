"""The receiver's half of the signature profiles: is this request from the sender, and fresh?

    from fluxhook import ReplayGuard, SignatureError, verify

    guard = ReplayGuard()
    try:
        verify(body, headers, secret, replay_guard=guard)
    except SignatureError:
        ...  # answer 401

`body` must be the bytes as they arrived: JSON that was parsed and written again is not what was
signed. What is compared is text, in constant time: base64 that decodes to the right bytes but is
not how they are written (its last character altered) is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import heapq
import hmac
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from fluxhook._native.signing import Signer
from fluxhook.config.schema import SignatureProfile
from fluxhook.errors import ConfigError, Problem, SignatureError
from fluxhook.policy.signature import EVENT_ID, HEADERS, public_key, symmetric_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["ReplayGuard", "Verified", "verify"]

#: Standard Webhooks 1.0 and Stripe: five minutes; here in both directions.
TOLERANCE_S: Final = 300

_VERSIONS: Final = {"fluxgate": "v1", "standard": "v1", "stripe": "v1", "github": "sha256"}
_UNIX_TIME: Final = re.compile(r"[0-9]{1,12}")

#: a mapping, an `email.message.Message` as http.server has it, or pairs as ASGI has them
Headers = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]
#: in one spelling each
_Pairs = list[tuple[str, str]]


class Verified(NamedTuple):
    """What the signature vouches for beside the body; None where the profile does not sign it."""

    event_id: str | None
    timestamp_s: int | None


def verify(
    body: bytes,
    headers: Headers,
    secret: str | bytes | Sequence[str | bytes],
    *,
    profile: SignatureProfile = "fluxgate",
    tolerance_s: int = TOLERANCE_S,
    now: float | None = None,
    replay_guard: ReplayGuard | None = None,
) -> Verified:
    """Return what the signature vouches for, if `body` was signed with `secret` (or one of several)
    within `tolerance_s` of now.

    `profile` is that of the endpoint. Header names match in any case; `headers` may be a mapping or a
    list of pairs, of text or bytes. A secret is text or the bytes of it. Under `standard` a secret is
    `whsec_...` or, for ed25519, the public key `whpk_...`. `now` is Unix time, for tests. With
    `replay_guard`, a request that was verified before is refused.

    Raises SignatureError if the request must not be trusted; ConfigError if a secret is unusable;
    TypeError if `body` is not bytes, or a header or secret is neither text nor bytes; ValueError for a
    profile that has nothing to verify, or no timestamp to guard. Thread-safe.
    """
    if not isinstance(body, bytes):
        raise TypeError(
            f"verify needs the body as the bytes that arrived, not {type(body).__name__}: "
            "a decoded or parsed body is not what was signed"
        )
    if profile not in HEADERS:
        raise ValueError(f"the profile {profile!r} has no signature to verify")
    if profile == "github" and replay_guard is not None:
        raise ValueError("the profile 'github' signs no timestamp, so a replay looks like a retry")
    # Bytes that are no UTF-8 become the same bytes again where they are used.
    secrets = [
        _text(one, "a secret", "utf-8", "surrogateescape")
        for one in ([secret] if isinstance(secret, (str, bytes)) else secret)
    ]
    if not secrets:
        raise ConfigError(Problem("secret", "there is none", "give the endpoint's secret"))
    claim = _read(profile, _pairs(headers))
    oldest_s = (time.time() if now is None else now) - tolerance_s
    if claim.timestamp_s is not None and not 0 <= claim.timestamp_s - oldest_s <= 2 * tolerance_s:
        raise SignatureError(f"the timestamp is over {tolerance_s} s off")
    # Every secret is tried, so that one that is unusable never goes unnoticed.
    results = [_signed_by(s, profile, claim, body) for s in secrets]
    if not any(results):
        raise SignatureError("no signature matches")
    if replay_guard is not None and claim.timestamp_s is not None:
        request = hashlib.sha256(claim.prefix)
        request.update(body)
        replay_guard.check(request.digest(), claim.timestamp_s, oldest_s)
    return Verified(claim.event_id, claim.timestamp_s)


class ReplayGuard:
    """Remembers the requests of one endpoint, so that none is accepted twice. Thread-safe.

    It tells a replay from a retry, as an attempt made again bears a new timestamp. Whether an event
    was dealt with before is another question, which its id answers. The guard forgets what
    `tolerance_s` refuses anyway. Above `max_requests` (about 250 bytes each) it forgets the oldest
    early and refuses all that is as old: that costs a late request a retry, and lets no replay in.
    It guards one process; several that share an endpoint need a store that they share.
    """

    def __init__(self, max_requests: int = 100_000) -> None:
        """Remember up to `max_requests` requests."""
        self._max_requests = max_requests
        self._lock = threading.Lock()
        self._seen: set[bytes] = set()
        self._by_age: list[tuple[int, bytes]] = []  # a heap
        #: everything with this timestamp or an older one is refused
        self._floor_s = -1

    def __len__(self) -> int:
        return len(self._seen)

    def check(self, request: bytes, timestamp_s: int, oldest_s: float) -> None:
        """Remember a verified `request` (its digest), or raise SignatureError; `verify` calls it.

        `timestamp_s` is what was signed, in seconds since the epoch; what is older than `oldest_s` is
        forgotten.
        """
        with self._lock:
            while self._by_age and self._by_age[0][0] < oldest_s:
                self._forget_oldest()
            if request in self._seen:
                raise SignatureError("the request was received before")
            if timestamp_s <= self._floor_s:
                raise SignatureError("the request is older than the replay guard remembers")
            self._seen.add(request)
            heapq.heappush(self._by_age, (timestamp_s, request))
            if len(self._seen) > self._max_requests:
                self._forget_oldest()

    def _forget_oldest(self) -> None:
        timestamp_s, request = heapq.heappop(self._by_age)
        self._seen.discard(request)
        self._floor_s = max(self._floor_s, timestamp_s)


class _Claim(NamedTuple):
    """What a request says: the text signed before its body, and its (version, text) entries."""

    prefix: bytes
    signatures: list[tuple[str, str]]
    event_id: str | None = None
    timestamp_s: int | None = None


def _pairs(headers: Headers) -> _Pairs:
    items = headers.items() if hasattr(headers, "items") else headers
    try:
        pairs = [(name, value) for name, value in items]
    except (TypeError, ValueError):
        raise TypeError("headers are a mapping, or pairs of a name and a value") from None
    return [(_text(name, "a header's name"), _text(value, "a header")) for name, value in pairs]


def _text(value: object, what: str, encoding: str = "latin-1", errors: str = "strict") -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(encoding, errors)
    raise TypeError(f"{what} is text or bytes, not {type(value).__name__}")


def _read(profile: SignatureProfile, headers: _Pairs) -> _Claim:
    value = _header(headers, HEADERS[profile])
    if profile == "github":
        return _Claim(b"", _entries(value, None, "="))
    if profile == "standard":
        event_id = _header(headers, "webhook-id")
        if not EVENT_ID.fullmatch(event_id):
            raise SignatureError("webhook-id must be visible ASCII without a dot")
        timestamp = _unix_time(_header(headers, "webhook-timestamp"))
        prefix = f"{event_id}.{timestamp}.".encode()
        return _Claim(prefix, _entries(value, " ", ","), event_id, int(timestamp))
    entries = _entries(value, ",", "=")
    times = [text for key, text in entries if key == "t"]
    if len(times) != 1:
        raise SignatureError(f"{HEADERS[profile]} has {len(times)} timestamps, not one")
    return _Claim(f"{_unix_time(times[0])}.".encode(), entries, None, int(times[0]))


def _header(headers: _Pairs, name: str) -> str:
    values = {value for key, value in headers if key.lower() == name.lower()}
    if len(values) != 1:
        raise SignatureError(f"the header {name} is {'given twice' if values else 'missing'}")
    return values.pop()


def _entries(value: str, separator: str | None, equals: str) -> list[tuple[str, str]]:
    """Return `k=v,k=v` as pairs; None: the value is one pair."""
    pairs = [value] if separator is None else value.split(separator)
    return [(key, text) for key, _, text in (pair.partition(equals) for pair in pairs)]


def _unix_time(text: str) -> str:
    if not _UNIX_TIME.fullmatch(text):
        raise SignatureError("the timestamp is not a number of seconds")
    return text


def _signed_by(secret: str, profile: SignatureProfile, claim: _Claim, body: bytes) -> bool:
    if profile == "standard" and secret.startswith("whpk_"):
        key = public_key(secret, "secret")
        return any(
            version == "v1a" and _ed25519_made(key, text, claim.prefix + body)
            for version, text in claim.signatures
        )
    signer = Signer(symmetric_key(profile, secret, "secret"))
    mac = signer.base64 if profile == "standard" else signer.hex
    wanted, expected = _VERSIONS[profile], mac(claim.prefix, body)
    return any(
        version == wanted and hmac.compare_digest(text.encode("ascii", "replace"), expected)
        for version, text in claim.signatures
    )


def _ed25519_made(key: Ed25519PublicKey, text: str, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        signature = binascii.a2b_base64(text, strict_mode=True)
        key.verify(signature, message)
    except (ValueError, InvalidSignature):
        return False
    return base64.b64encode(signature).decode() == text
