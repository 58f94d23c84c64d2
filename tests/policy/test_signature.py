"""Signature profiles, against published vectors and other people's verifiers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import stripe
import svix.webhooks
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.config.schema import SignatureProfile
from fluxhook.errors import ConfigError, EventError
from fluxhook.policy.signature import (
    HEADERS,
    SIGNATURE_HEADERS,
    make_profile,
    public_key,
    symmetric_key,
)

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors.json").read_text()
)["signatures"]
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WHSEC2 = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
WHSK = next(v["secret"] for v in VECTORS if v["scheme"] == "standard-ed25519")
BODY = '{"type":"route.error","data":{"path":"/ä"}}'.encode()


def as_dict(lines: list[bytes]) -> dict[str, str]:
    return dict(line.decode("ascii").split(": ", 1) for line in lines)


@pytest.mark.parametrize("vector", VECTORS, ids=[v["scheme"] for v in VECTORS])
def test_published_vectors(vector: dict[str, Any]) -> None:
    """Standard Webhooks' own vectors, GitHub's documented one, Stripe's form: byte for byte."""
    name = vector["scheme"].removesuffix("-ed25519")
    lines = make_profile(name, [vector["secret"]]).headers(
        vector.get("id", "evt_1"), vector.get("timestamp", 0), vector["payload"].encode()
    )
    headers = as_dict(lines)
    assert headers[HEADERS[name]] == vector["signature"]
    if name == "standard":
        assert headers["webhook-id"] == vector["id"]
        assert headers["webhook-timestamp"] == str(vector["timestamp"])


def test_fluxgate() -> None:
    """DESIGN section 6: `t=<unix>,v1=<hex HMAC-SHA256 of "<t>.<body>">`, with the seed's secret."""
    mac = hmac.new(b"sk_live_9x8m2p", b"1715679131." + BODY, hashlib.sha256).hexdigest()
    lines = make_profile("fluxgate", ["sk_live_9x8m2p"]).headers("evt_1", 1715679131, BODY)
    assert lines == [f"X-FluxGate-Signature: t=1715679131,v1={mac}".encode()]


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=40)), min_size=1, max_size=8))
def test_the_second_changes_the_signature_and_nothing_is_stale(
    attempts: list[tuple[int, bytes]],
) -> None:
    """Values that a profile keeps from one attempt to the next never show: a fresh one signs alike."""
    kept = make_profile("fluxgate", ["s", "t"])
    for timestamp, body in attempts:
        fresh = make_profile("fluxgate", ["s", "t"])
        assert kept.headers("e", timestamp, body) == fresh.headers("e", timestamp, body)


@pytest.mark.parametrize(
    ("name", "secrets", "separator"),
    [
        ("fluxgate", ["old", "new"], ",v1="),
        ("stripe", ["old", "new"], ",v1="),
        ("standard", [WHSEC, WHSEC2, WHSK], " "),
    ],
)
def test_each_active_secret_signs(
    name: SignatureProfile, secrets: list[str], separator: str
) -> None:
    """During a rotation the header holds what each secret alone would have written, in order."""

    def signature(*active: str) -> str:
        return as_dict(make_profile(name, active).headers("e", 7, BODY))[HEADERS[name]]

    alone = [signature(secret) for secret in secrets]
    if name == "standard":
        assert signature(*secrets) == separator.join(alone)
    else:
        assert signature(*secrets) == "t=7,v1=" + separator.join(
            one.removeprefix("t=7,v1=") for one in alone
        )


def test_none_signs_nothing() -> None:
    """The profile none writes no header, secrets or not."""
    assert make_profile("none", []).headers("e", 7, BODY) == []
    assert make_profile("none", ["s"]).headers("e", 7, BODY) == []


def test_no_configured_header_may_bear_these_names() -> None:
    """SIGNATURE_HEADERS has, in lower case, every name that any profile writes."""
    written = {
        line.split(b":")[0].decode().lower()
        for name, secret in [
            ("fluxgate", "s"),
            ("standard", WHSEC),
            ("stripe", "s"),
            ("github", "s"),
        ]
        for line in make_profile(name, [secret]).headers("e", 7, BODY)  # type: ignore[arg-type]
    }
    assert written == SIGNATURE_HEADERS


def verify_standardwebhooks(body: bytes, headers: dict[str, str]) -> None:
    standardwebhooks.Webhook(WHSEC).verify(body, headers)


def verify_svix(body: bytes, headers: dict[str, str]) -> None:
    svix.webhooks.Webhook(WHSEC).verify(body, headers)


def verify_stripe(body: bytes, headers: dict[str, str]) -> None:
    header = headers["Stripe-Signature"]
    stripe.WebhookSignature.verify_header(body, header, "s", 300)


@pytest.mark.parametrize(
    ("name", "secrets", "foreign"),
    [
        ("standard", [WHSEC], verify_standardwebhooks),
        ("standard", [WHSEC2, WHSK, WHSEC], verify_standardwebhooks),
        ("standard", [WHSEC], verify_svix),
        ("standard", [WHSEC2, WHSK, WHSEC], verify_svix),
        ("stripe", ["s"], verify_stripe),
        ("stripe", ["t", "s"], verify_stripe),
    ],
)
def test_foreign_verifiers_agree(
    name: SignatureProfile, secrets: list[str], foreign: Callable[[bytes, dict[str, str]], None]
) -> None:
    """Other people's receivers accept what we sign, and refuse it with one byte altered."""
    headers = as_dict(make_profile(name, secrets).headers("evt_1", int(time.time()), BODY))
    foreign(BODY, headers)
    refusals = (standardwebhooks.WebhookVerificationError, stripe.SignatureVerificationError)
    with pytest.raises(refusals):
        foreign(BODY.replace(b"error", b"errrr"), headers)
    stale = as_dict(make_profile(name, secrets).headers("evt_1", int(time.time()) - 302, BODY))
    with pytest.raises(refusals):
        foreign(BODY, stale)


def b64(n: int) -> str:
    return base64.b64encode(bytes(range(n))).decode()


@pytest.mark.parametrize(
    ("name", "secrets", "path", "message"),
    [
        ("fluxgate", [], "secrets", "nothing to sign with"),
        ("standard", [], "secrets", "nothing to sign with"),
        ("fluxgate", [""], "secrets[0]", "empty"),
        ("stripe", ["topsecret", " \t"], "secrets[1]", "empty"),
        ("fluxgate", ["topsecret\n"], "secrets[0]", "white space"),
        ("github", ["topsecret", "topsecret2"], "secrets", "one signature"),
        ("standard", [""], "secrets[0]", "empty"),
        ("standard", [b64(32)], "secrets[0]", "does not begin with whsec_"),
        ("standard", ["whpk_" + b64(32)], "secrets[0]", "does not begin with whsec_"),
        ("standard", ["whsec_"], "secrets[0]", "0 bytes"),
        ("standard", ["whsec_topsecret!"], "secrets[0]", "not base64"),
        ("standard", ["whsec_" + b64(33)[:-3]], "secrets[0]", "not base64"),
        ("standard", ["whsec_" + b64(23)], "secrets[0]", "23 bytes"),
        ("standard", [WHSEC, "whsec_" + b64(65)], "secrets[1]", "65 bytes"),
        ("standard", ["whsk_" + b64(33)], "secrets[0]", "32 or 64 bytes, not 33"),
        ("standard", ["whsk_" + b64(64)], "secrets[0]", "do not fit"),
        ("standard", ["whsk_topsecret!"], "secrets[0]", "not base64"),
    ],
)
def test_unusable_secrets(
    name: SignatureProfile, secrets: list[str], path: str, message: str
) -> None:
    """A secret is judged when the profile is made; the error names its place, never its text."""
    with pytest.raises(ConfigError, match=message) as caught:
        make_profile(name, secrets)
    assert caught.value.problems[0].path == path
    for secret in secrets:
        text = secret.strip().removeprefix("whsec_").removeprefix("whsk_")
        assert not text or text not in str(caught.value)


@pytest.mark.parametrize("length", [24, 25, 26, 32, 63, 64])
def test_padding_is_optional(length: int) -> None:
    """Standard Webhooks keys of 24 to 64 bytes, with and without `=`."""
    padded, bare = "whsec_" + b64(length), "whsec_" + b64(length).rstrip("=")
    signed = [make_profile("standard", [s]).headers("e", 7, BODY) for s in (padded, bare)]
    assert signed[0] == signed[1]


def test_an_ed25519_seed_alone_is_enough() -> None:
    """`whsk_` with 32 bytes signs as the 64-byte form does."""
    seed = base64.b64encode(base64.b64decode(WHSK[5:])[:32]).decode()
    long, short = (make_profile("standard", [s]) for s in (WHSK, "whsk_" + seed))
    assert long.headers("e", 7, BODY) == short.headers("e", 7, BODY)


def test_ed25519_without_its_library_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cryptography` is an optional dependency; the error says how to install it."""
    module = "cryptography.hazmat.primitives.asymmetric.ed25519"
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"fluxhook\[ed25519\]"):
        make_profile("standard", [WHSK])


@pytest.mark.parametrize("event_id", ["", "a.b", "a b", "a\r\nX-Evil: 1", "ä", "a\x00"])
def test_ids_that_could_be_read_in_two_ways_are_not_signed(event_id: str) -> None:
    """Standard Webhooks 1.0: no `.` in the id; nor may an id break out of its header."""
    with pytest.raises(EventError, match="event id"):
        make_profile("standard", [WHSEC]).headers(event_id, 7, BODY)


def test_a_public_key_is_read() -> None:
    """`whpk_` and 32 bytes; padding may be left out."""
    raw = bytes(range(32))
    text = base64.b64encode(raw).decode()
    for secret in (f"whpk_{text}", f"whpk_{text.rstrip('=')}"):
        assert public_key(secret, "keys[0]").public_bytes_raw() == raw


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("whpk_" + base64.b64encode(bytes(31)).decode(), "an ed25519 key has 32 bytes, not 31"),
        ("whpk_" + base64.b64encode(bytes(33)).decode(), "an ed25519 key has 32 bytes, not 33"),
        ("whsk_" + base64.b64encode(bytes(32)).decode(), "does not begin with whpk_"),
        ("whpk_!", "is not base64"),
    ],
)
def test_what_is_no_public_key(secret: str, message: str) -> None:
    """An error at its path that says what is wrong."""
    with pytest.raises(ConfigError) as caught:
        public_key(secret, "keys[0]")
    (problem,) = caught.value.problems
    assert problem.path == "keys[0]"
    assert message in problem.message


def test_a_public_key_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names it."""
    module = "cryptography.hazmat.primitives.asymmetric.ed25519"
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match="cryptography"):
        public_key("whpk_" + base64.b64encode(bytes(32)).decode(), "keys[0]")


@pytest.mark.parametrize("odd", [WHSEC[:12] + "!" + WHSEC[12:], WHSEC + "?", WHSEC + "\n="])
def test_a_key_is_strict_base64(odd: str) -> None:
    """A character that base64 does not have is a mistake, and not left out."""
    with pytest.raises(ConfigError, match="is not base64"):
        make_profile("standard", [odd])


def test_a_secret_of_any_bytes_is_a_key() -> None:
    """A receiver may hold it as bytes: what is not UTF-8 comes back as it was."""
    secret = b"\xffsecret\x80".decode("utf-8", "surrogateescape")
    assert symmetric_key("fluxgate", secret, "") == b"\xffsecret\x80"
    assert symmetric_key("stripe", "schlüssel", "") == "schlüssel".encode()
