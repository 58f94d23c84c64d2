"""The receiver's half: what is accepted, and above all what is not."""

from __future__ import annotations

import json
import threading
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook._native.signing import Signer
from fluxhook.config.schema import SignatureProfile
from fluxhook.errors import ConfigError, SignatureError
from fluxhook.policy.signature import HEADERS, make_profile
from fluxhook.verify import ReplayGuard, Verified, verify

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "vectors.json").read_text())[
    "signatures"
]
NOW = 1_614_265_330
BODY = b'{"test": 2432232314}'
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WHSEC2 = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
ED = next(v for v in VECTORS if v["scheme"] == "standard-ed25519")
SECRETS: dict[SignatureProfile, str] = {
    "fluxgate": "sk_live_9x8m2p",
    "standard": WHSEC,
    "stripe": "whsec_test_secret",
    "github": "It's a Secret to Everybody",
}
every_profile = pytest.mark.parametrize("profile", SECRETS)
timed_profile = pytest.mark.parametrize("profile", [p for p in SECRETS if p != "github"])


def sign(
    profile: SignatureProfile, *secrets: str, at: int = NOW, body: bytes = BODY, id: str = "msg_1"
) -> dict[str, str]:
    lines = make_profile(profile, secrets or [SECRETS[profile]]).headers(id, at, body)
    return dict(line.decode().split(": ", 1) for line in lines)


@pytest.mark.parametrize("vector", VECTORS, ids=[v["scheme"] for v in VECTORS])
def test_published_vectors_are_accepted(vector: dict[str, Any]) -> None:
    """Requests that others signed are accepted, and not with one byte of the body altered."""
    profile = vector["scheme"].removesuffix("-ed25519")
    headers = {HEADERS[profile]: vector["signature"]}
    if profile == "standard":
        headers |= {"webhook-id": vector["id"], "webhook-timestamp": str(vector["timestamp"])}
    secret = vector.get("public", vector["secret"])
    body = vector["payload"].encode()
    now = vector.get("timestamp")
    verified = verify(body, headers, secret, profile=profile, now=now)
    assert verified == Verified(vector.get("id"), now)
    with pytest.raises(SignatureError):
        verify(body + b" ", headers, secret, profile=profile, now=now)


@every_profile
def test_what_we_sign_is_accepted(profile: SignatureProfile) -> None:
    """Both halves agree, with header names in any case."""
    headers = sign(profile)
    for case in (str.lower, str.upper, str):
        cased = {case(name): value for name, value in headers.items()}
        verified = verify(BODY, cased, SECRETS[profile], profile=profile, now=NOW)
        assert verified.timestamp_s == (None if profile == "github" else NOW)
        assert verified.event_id == ("msg_1" if profile == "standard" else None)


@every_profile
def test_another_secret_or_body_is_refused(profile: SignatureProfile) -> None:
    """The signature binds the secret and every byte of the body."""
    other = WHSEC2 if profile == "standard" else "other"
    with pytest.raises(SignatureError, match="no signature matches"):
        verify(BODY, sign(profile), other, profile=profile, now=NOW)
    with pytest.raises(SignatureError, match="no signature matches"):
        verify(BODY + b"\n", sign(profile), SECRETS[profile], profile=profile, now=NOW)


@timed_profile
@pytest.mark.parametrize("off", [-301, 301, -86_400, 300.5])
def test_a_timestamp_over_five_minutes_off_is_refused(
    profile: SignatureProfile, off: float
) -> None:
    """vectors.json: "timestamp 301 s off either way"."""
    with pytest.raises(SignatureError, match="over 300 s off"):
        verify(BODY, sign(profile), SECRETS[profile], profile=profile, now=NOW + off)


@timed_profile
@pytest.mark.parametrize("off", [-300, -299.5, 0, 300])
def test_a_timestamp_within_five_minutes_is_accepted(profile: SignatureProfile, off: float) -> None:
    """The tolerance is 300 s both ways, inclusive."""
    verify(BODY, sign(profile), SECRETS[profile], profile=profile, now=NOW + off)


def test_the_tolerance_can_be_set() -> None:
    """tolerance_s replaces the five minutes."""
    headers = sign("fluxgate")
    verify(BODY, headers, "sk_live_9x8m2p", tolerance_s=3600, now=NOW + 3600)
    with pytest.raises(SignatureError, match="over 10 s off"):
        verify(BODY, headers, "sk_live_9x8m2p", tolerance_s=10, now=NOW + 11)


def test_now_defaults_to_the_clock() -> None:
    """A signature of 2021 is refused without a word about the time."""
    with pytest.raises(SignatureError, match="over 300 s off"):
        verify(BODY, sign("fluxgate"), "sk_live_9x8m2p")


@timed_profile
def test_the_timestamp_is_signed(profile: SignatureProfile) -> None:
    """An old request is not made fresh by another timestamp."""
    headers = {name: value.replace(str(NOW), str(NOW + 9)) for name, value in sign(profile).items()}
    with pytest.raises(SignatureError, match="no signature matches"):
        verify(BODY, headers, SECRETS[profile], profile=profile, now=NOW)


def test_the_id_is_signed() -> None:
    """Standard Webhooks signs the id too."""
    headers = sign("standard") | {"webhook-id": "msg_2"}
    with pytest.raises(SignatureError, match="no signature matches"):
        verify(BODY, headers, WHSEC, profile="standard", now=NOW)


VALID = sign("standard")["webhook-signature"]
VALID_ED = ED["signature"]


@pytest.mark.parametrize(
    "signature",
    [
        "v1,",
        "",
        "v1",
        VALID[:8],
        VALID[:-1],
        VALID.rstrip("="),
        VALID.replace("v1,", "v2,"),
        VALID.replace("v1,", "v1a,"),
        VALID.replace("v1,", ""),
        VALID.replace("v1,", "V1,"),
        VALID + "=",
        # the same 32 bytes to a lenient decoder: two bits beyond them differ
        VALID[:-2] + chr(ord(VALID[-2]) + 1) + "=",
        VALID[:-1] + "A",
        VALID.replace("v1,", "v1,,"),
        VALID + "ä",
        "ä,ö",
    ],
)
def test_altered_standard_signatures_are_refused(signature: str) -> None:
    """vectors.json: `v1,` alone, its first 8 characters, labelled v2, its last one changed."""
    headers = sign("standard") | {"webhook-signature": signature}
    with pytest.raises(SignatureError):
        verify(BODY, headers, WHSEC, profile="standard", now=NOW)


@pytest.mark.parametrize(
    "signature",
    [
        "v1a,",
        VALID_ED[:-1],
        VALID_ED[:-3] + chr(ord(VALID_ED[-3]) + 1) + "==",
        VALID_ED.replace("v1a,", "v1,"),
        VALID_ED.replace("v1a,", "v1a,A"),
        "v1a,ä",
        VALID,
    ],
)
def test_altered_ed25519_signatures_are_refused(signature: str) -> None:
    """As for v1; and an HMAC never passes for an ed25519 signature."""
    headers = {
        "webhook-id": ED["id"],
        "webhook-timestamp": str(ED["timestamp"]),
        "webhook-signature": signature,
    }
    with pytest.raises(SignatureError):
        verify(
            ED["payload"].encode(), headers, ED["public"], profile="standard", now=ED["timestamp"]
        )


def test_a_valid_signature_may_stand_third_of_four() -> None:
    """vectors.json; senders sign with every active secret and with schemes that we do not know."""
    others = [*sign("standard", WHSEC2)["webhook-signature"].split(), "v1a,AAAA", "v9,x"]
    headers = sign("standard") | {"webhook-signature": " ".join([*others[:2], VALID, others[2]])}
    verify(BODY, headers, WHSEC, profile="standard", now=NOW)


@pytest.mark.parametrize("profile", ["fluxgate", "stripe"])
@pytest.mark.parametrize(
    "value",
    [
        "",
        "t=,v1=",
        f"t={NOW}",
        "v1={mac}",
        "t={now},v1={mac_cut}",
        "t={now},v1={mac_upper}",
        "t={now},v0={mac}",
        "t={now},v1={mac}0",
        "t={now},t={now},v1={mac}",
        "t= {now},v1={mac}",
        "t=+{now},v1={mac}",
        "t=0x6037,v1={mac}",
        "t={now}.0,v1={mac}",
        "t=-{now},v1={mac}",
        "t={now}{now},v1={mac}",
        "T={now},V1={mac}",
        "t={now};v1={mac}",
    ],
)
def test_altered_stamped_signatures_are_refused(profile: SignatureProfile, value: str) -> None:
    """One timestamp in plain digits, the whole MAC in lower-case hex, under v1."""
    name = HEADERS[profile]
    mac = sign(profile)[name].partition("v1=")[2]
    header = value.format(now=NOW, mac=mac, mac_cut=mac[:-1], mac_upper=mac.upper())
    with pytest.raises(SignatureError):
        verify(BODY, {name: header}, SECRETS[profile], profile=profile, now=NOW)


@pytest.mark.parametrize("profile", ["fluxgate", "stripe"])
def test_unknown_entries_are_skipped(profile: SignatureProfile) -> None:
    """Stripe sends `v0=` beside `v1=`; a later version may stand beside ours."""
    name = HEADERS[profile]
    time, mac = sign(profile)[name].split(",")
    header = f"{time},v0=abc,v1=def,{mac},v2=x"
    verify(BODY, {name: header}, SECRETS[profile], profile=profile, now=NOW)


@pytest.mark.parametrize("prefix", ["", "sha1=", "SHA256=", "sha256= "])
def test_github_takes_sha256_only(prefix: str) -> None:
    """`sha256=` and 64 lower-case digits."""
    value = sign("github")["X-Hub-Signature-256"].replace("sha256=", prefix)
    with pytest.raises(SignatureError):
        verify(BODY, {"X-Hub-Signature-256": value}, SECRETS["github"], profile="github")


@every_profile
def test_each_header_is_needed_once(profile: SignatureProfile) -> None:
    """A header missing, or given twice with different values, is refused by name."""
    headers = sign(profile)
    for name in headers:
        less = {n: v for n, v in headers.items() if n != name}
        with pytest.raises(SignatureError, match=f"(?i)header {name} is missing"):
            verify(BODY, less, SECRETS[profile], profile=profile, now=NOW)
        more = headers | {name.swapcase(): "x"}
        with pytest.raises(SignatureError, match=f"(?i)header {name} is given twice"):
            verify(BODY, more, SECRETS[profile], profile=profile, now=NOW)


@pytest.mark.parametrize("event_id", ["", "msg.1", "msg 1", "ä"])
def test_ids_that_could_be_read_in_two_ways_are_refused(event_id: str) -> None:
    """vectors.json: "id and timestamp must not contain a dot". `a` at 1.2 would be `a.1` at 2."""
    headers = sign("standard") | {"webhook-id": event_id}
    with pytest.raises(SignatureError, match="webhook-id"):
        verify(BODY, headers, WHSEC, profile="standard", now=NOW)


@pytest.mark.parametrize("timestamp", ["", "1.5", f"{NOW}.0", f" {NOW}", "١٢", "nan", "1_0"])
def test_timestamps_are_plain_digits(timestamp: str) -> None:
    """No sign, space, dot, separator or foreign digit."""
    headers = sign("standard") | {"webhook-timestamp": timestamp}
    with pytest.raises(SignatureError, match="not a number of seconds"):
        verify(BODY, headers, WHSEC, profile="standard", now=NOW)


@pytest.mark.parametrize("body", ["{}", {"a": 1}, None, bytearray(BODY)])
def test_the_body_must_be_the_raw_bytes(body: Any) -> None:
    """Decoded or parsed is not what was signed; the error says so."""
    with pytest.raises(TypeError, match="the bytes that arrived"):
        verify(body, sign("fluxgate"), "sk_live_9x8m2p", now=NOW)


@every_profile
def test_secrets_and_headers_may_be_bytes(profile: SignatureProfile) -> None:
    """As a file and an ASGI server have them; headers as a mapping, a message, pairs or an iterator."""
    headers, secret = sign(profile), SECRETS[profile]
    message = Message()
    for name, value in headers.items():
        message[name] = value
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    given: list[Any] = [headers, message, list(headers.items()), encoded, iter(encoded)]
    for one in given:
        verify(BODY, one, secret.encode(), profile=profile, now=NOW)
    verify(BODY, encoded, ["whsec_" + "A" * 32, secret.encode()], profile=profile, now=NOW)
    with pytest.raises(SignatureError, match="given twice"):
        verify(BODY, [*encoded, (encoded[0][0], b"x")], secret, profile=profile, now=NOW)


def test_a_secret_of_any_bytes() -> None:
    """Bytes that are no UTF-8 are a key as they are."""
    key = b"\xff\xfe\x00key"
    mac = Signer(key).hex(b"", BODY).decode()
    verify(BODY, {"X-Hub-Signature-256": f"sha256={mac}"}, key, profile="github")
    with pytest.raises(SignatureError):
        verify(BODY, {"X-Hub-Signature-256": f"sha256={mac}"}, key[:-1], profile="github")


@pytest.mark.parametrize(
    ("headers", "secret"),
    [({}, 5), ({}, [5]), ({}, None), (None, "s"), ([("a", 5)], "s"), (["abc"], "s"), ([5], "s")],
)
def test_what_is_neither_text_nor_bytes(headers: Any, secret: Any) -> None:
    """A TypeError that says of what, never a request that passes."""
    with pytest.raises(TypeError):
        verify(BODY, headers, secret, now=NOW)


@every_profile
def test_one_of_several_secrets_is_enough(profile: SignatureProfile) -> None:
    """A receiver that rotates holds both, whichever the sender signs with."""
    other = WHSEC2 if profile == "standard" else "other"
    for secrets in ([SECRETS[profile], other], (other, SECRETS[profile])):
        verify(BODY, sign(profile), secrets, profile=profile, now=NOW)


@pytest.mark.parametrize(
    ("profile", "secret"),
    [
        ("fluxgate", ""),
        ("fluxgate", []),
        ("fluxgate", ["sk_live_9x8m2p", ""]),
        ("standard", ""),
        ("standard", "whsec_"),
        ("standard", "whsec_c2hvcnQ="),
        ("standard", "not base64"),
        ("standard", "whpk_c2hvcnQ="),
        ("standard", ED["secret"]),
    ],
)
def test_an_unusable_secret_is_an_error_of_its_own(profile: SignatureProfile, secret: Any) -> None:
    """vectors.json: an empty secret must be refused. It is the receiver's fault, not the sender's,
    and is found even if another secret fits; a private key does not belong on a receiver."""
    with pytest.raises(ConfigError, match="secret"):
        verify(BODY, sign(profile), secret, profile=profile, now=NOW)


def test_a_profile_without_a_signature_cannot_be_verified() -> None:
    """`none` would accept anything."""
    with pytest.raises(ValueError, match="no signature to verify"):
        verify(BODY, {}, "s", profile="none")


@given(
    st.dictionaries(
        st.sampled_from([*HEADERS.values(), "webhook-id", "webhook-timestamp", "Host"]), st.text()
    ),
    st.sampled_from(list(SECRETS)),
)
def test_no_header_passes_or_breaks_it(headers: dict[str, str], profile: SignatureProfile) -> None:
    """Whatever a stranger sends ends in SignatureError."""
    with pytest.raises(SignatureError):
        verify(BODY, headers, SECRETS[profile], profile=profile, now=NOW)


class TestReplayGuard:
    def accept(self, guard: ReplayGuard, at: int, now: float | None = None, n: int = 0) -> None:
        body = b"%d" % n
        headers = sign("fluxgate", at=at, body=body)
        now = at if now is None else now
        verify(body, headers, "sk_live_9x8m2p", now=now, replay_guard=guard)

    @timed_profile
    def test_a_request_is_accepted_once(self, profile: SignatureProfile) -> None:
        """FluxGate: "Verify the signature on your endpoint to prevent replay attacks"."""
        guard = ReplayGuard()
        verify(BODY, sign(profile), SECRETS[profile], profile=profile, now=NOW, replay_guard=guard)
        with pytest.raises(SignatureError, match="received before"):
            verify(
                BODY,
                sign(profile),
                SECRETS[profile],
                profile=profile,
                now=NOW + 300,
                replay_guard=guard,
            )

    def test_a_replay_is_not_disguised_by_its_other_signatures(self) -> None:
        """Taking one of several signatures away does not make it another request."""
        guard = ReplayGuard()
        both, one = sign("fluxgate", "old", "new"), sign("fluxgate", "new")
        verify(BODY, both, ["old", "new"], now=NOW, replay_guard=guard)
        with pytest.raises(SignatureError, match="received before"):
            verify(BODY, one, ["old", "new"], now=NOW, replay_guard=guard)

    def test_a_retry_is_not_a_replay(self) -> None:
        """The same event signed a second later is another attempt."""
        guard = ReplayGuard()
        self.accept(guard, NOW)
        self.accept(guard, NOW + 1)

    def test_what_was_refused_is_not_remembered(self) -> None:
        """A forgery cannot keep the real request out."""
        guard = ReplayGuard()
        with pytest.raises(SignatureError, match="no signature"):
            verify(BODY, sign("fluxgate"), "other", now=NOW, replay_guard=guard)
        verify(BODY, sign("fluxgate"), "sk_live_9x8m2p", now=NOW, replay_guard=guard)

    def test_memory_is_bounded_and_no_replay_gets_in_for_it(self) -> None:
        """Above max_requests the oldest is forgotten, and everything as old is refused."""
        guard = ReplayGuard(max_requests=3)
        for n in range(5):
            self.accept(guard, NOW + n, n=n)
        assert len(guard) == 3
        for n in range(5):
            with pytest.raises(SignatureError, match=r"before|older"):
                self.accept(guard, NOW + n, n=n)
        with pytest.raises(SignatureError, match="older than the replay guard remembers"):
            self.accept(guard, NOW + 1, n=99)
        self.accept(guard, NOW + 2, n=99)

    def test_what_is_too_old_anyway_is_forgotten(self) -> None:
        """The guard keeps nothing that the tolerance refuses."""
        guard = ReplayGuard()
        self.accept(guard, NOW)
        self.accept(guard, NOW + 301, n=1)
        assert len(guard) == 1

    def test_a_clock_that_steps_back_lets_no_replay_in(self) -> None:
        """A request that was forgotten as too old stays refused when it would seem fresh again."""
        guard = ReplayGuard()
        self.accept(guard, NOW)
        self.accept(guard, NOW + 301, n=1)
        with pytest.raises(SignatureError, match="older"):
            self.accept(guard, NOW)

    def test_one_of_many_threads_wins(self) -> None:
        """Thirty-two threads with one request: one is let in."""
        guard, accepted, start = ReplayGuard(), [], threading.Barrier(32)

        def receive() -> None:
            start.wait()
            try:
                self.accept(guard, NOW)
                accepted.append(1)
            except SignatureError:
                pass

        threads = [threading.Thread(target=receive) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(accepted) == 1

    def test_githubs_form_cannot_be_guarded(self) -> None:
        """Without a timestamp a retry and a replay are the same bytes."""
        with pytest.raises(ValueError, match="no timestamp"):
            verify(BODY, sign("github"), "s", profile="github", replay_guard=ReplayGuard())
