"""What each status and each transport cause comes to."""

from __future__ import annotations

import importlib
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.config.layers import PRESETS, assemble
from fluxhook.config.schema import Endpoint, Retry
from fluxhook.policy.outcome import (
    CAUSES,
    GIVEN_UP,
    NOT_ATTEMPTED,
    Outcome,
    TransportCause,
    classify,
    curl_cause,
    was_answered,
)

pycurl = importlib.import_module("pycurl")  # it has no type stubs

DEFAULT = Retry().retry_on
TRANSPORT: tuple[TransportCause, ...] = typing.get_args(TransportCause)


@pytest.mark.parametrize(
    ("status", "verdict", "cause", "breaker", "rejection"),
    [
        # 2xx: the receiver accepted (RFC 9110 section 15.3; Standard Webhooks 1.0)
        (200, "delivered", "delivered", "success", None),
        (204, "delivered", "delivered", "success", None),
        (299, "delivered", "delivered", "success", None),
        # DESIGN section 5: "A 3xx is a failure: redirects are never followed"
        (301, "retry", "redirect", "failure", None),
        (308, "retry", "redirect", "failure", None),
        # FluxGate: "When a target endpoint returns a 4xx or 5xx status [...] queues the event"
        (400, "retry", "client_error", "failure", None),
        (404, "retry", "client_error", "failure", None),
        (408, "retry", "client_error", "failure", None),
        (410, "retry", "gone", "failure", None),
        (425, "retry", "client_error", "failure", None),
        (429, "retry", "too_many_requests", "failure", None),
        (500, "retry", "server_error", "failure", None),
        (503, "retry", "server_error", "failure", None),
        # FluxGate: "signature verification failures, and payload size rejections"
        (401, "retry", "unauthorized", "failure", "signature"),
        (403, "retry", "unauthorized", "failure", "signature"),
        (413, "retry", "content_too_large", "ignore", "size"),
        # Not an answer that HTTP allows
        (0, "retry", "protocol", "failure", None),
        (100, "retry", "protocol", "failure", None),
        (199, "retry", "protocol", "failure", None),
        (600, "retry", "protocol", "failure", None),
        (999, "retry", "protocol", "failure", None),
    ],
)
def test_each_status_has_one_outcome(
    status: int, verdict: str, cause: str, breaker: str, rejection: str | None
) -> None:
    """The table of statuses, under the default retry_on."""
    outcome = classify(status, None, DEFAULT)
    assert (outcome.verdict, outcome.cause) == (verdict, cause)
    assert (outcome.breaker, outcome.rejection) == (breaker, rejection)


def test_every_4xx_and_5xx_is_tried_again() -> None:
    """FluxGate: "When a target endpoint returns a 4xx or 5xx status [...] FluxGate queues the event
    for retry." 410 is one of them, under the defaults of either preset."""
    for preset in PRESETS.values():
        endpoint = assemble(Endpoint, {**preset[0], "name": "a", "url": ""})
        retry_on, gone = endpoint.retry.retry_on, endpoint.disable_on_gone
        for status in range(400, 600):
            assert classify(status, None, retry_on, disable_on_gone=gone).verdict == "retry"


def test_gone_ends_the_delivery_where_it_disables_the_endpoint() -> None:
    """With `disable_on_gone` 410 is dead whatever retry_on says, and no other status is."""
    for retry_on in (DEFAULT, ("410", "4xx"), ()):
        outcome = classify(410, None, retry_on, disable_on_gone=True)
        assert outcome == Outcome("dead", "gone", "failure", None)
    for status in set(range(1000)) - {410}:
        assert classify(status, None, DEFAULT, disable_on_gone=True) == classify(
            status, None, DEFAULT
        )


@pytest.mark.parametrize("cause", TRANSPORT)
def test_the_status_line_decides_over_what_came_after_it(cause: TransportCause) -> None:
    """A 2xx with a body cut off, stalled or too large is delivered; a 500 stays a 500."""
    assert classify(200, cause, DEFAULT).verdict == "delivered"
    assert classify(500, cause, DEFAULT).cause == "server_error"
    assert classify(0, cause, DEFAULT).cause == cause
    assert classify(100, cause, DEFAULT).cause == cause  # interim (RFC 9110 section 15.2)


@pytest.mark.parametrize("cause", TRANSPORT)
def test_transport_causes_follow_their_token(cause: TransportCause) -> None:
    """Time-outs follow "timeout", all else "transport", certificates and egress included."""
    token = "timeout" if cause in ("timeout", "connect_timeout") else "transport"
    other = {"timeout": "transport", "transport": "timeout"}[token]
    assert classify(0, cause, (token,)).verdict == "retry"
    assert classify(0, cause, (other, "4xx", "5xx")).verdict == "dead"


def test_a_cause_tells_whether_there_was_an_answer() -> None:
    """A status of whatever kind is one; what was held back or never sent has no cause of this
    kind."""
    answered = {"delivered", "redirect", "unauthorized", "gone", "content_too_large"}
    answered |= {"too_many_requests", "client_error", "server_error"}
    assert {cause for cause in CAUSES if was_answered(cause)} == answered
    assert was_answered("breaker_open")
    assert was_answered("")


def test_the_breaker_does_not_count_what_is_not_the_endpoints_doing() -> None:
    """Our own refusals and faults, and one event's size, neither open nor close a breaker."""
    ignored = {word for word, cause in CAUSES.items() if cause.breaker == "ignore"}
    assert ignored == {"egress_denied", "internal", "content_too_large"}


@pytest.mark.parametrize(
    ("status", "retry_on", "verdict"),
    [
        (503, ("5xx",), "retry"),
        (503, ("503",), "retry"),
        (503, ("500",), "dead"),
        (429, ("429",), "retry"),
        (429, ("4xx",), "retry"),
        (404, ("429", "5xx"), "dead"),
        (302, ("4xx", "5xx", "transport", "timeout"), "dead"),
        (503, (), "dead"),
        (410, ("5xx",), "dead"),
        (410, ("410",), "retry"),
        (200, (), "delivered"),
    ],
)
def test_retry_on_takes_classes_and_statuses(
    status: int, retry_on: tuple[str, ...], verdict: str
) -> None:
    """A failure that retry_on does not name is dead at once."""
    assert classify(status, None, retry_on).verdict == verdict


@given(st.integers(0, 999), st.sampled_from([None, *TRANSPORT]), st.sets(st.sampled_from(DEFAULT)))
def test_only_2xx_is_delivered_and_every_cause_is_documented(
    status: int, cause: TransportCause | None, retry_on: set[str]
) -> None:
    """Nothing is settled as a success without a 2xx, and every outcome has its sentence."""
    outcome = classify(status, cause, retry_on)
    assert (outcome.verdict == "delivered") == (200 <= status < 300)
    assert (outcome.breaker == "success") == (outcome.verdict == "delivered")
    assert CAUSES[outcome.cause].user.endswith(".")


def test_all_transport_causes_are_documented() -> None:
    """The type and the table name the same causes."""
    assert set(TRANSPORT) <= CAUSES.keys()


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("COULDNT_RESOLVE_HOST", "dns"),
        ("COULDNT_RESOLVE_PROXY", "proxy"),
        ("COULDNT_CONNECT", "refused"),
        ("OPERATION_TIMEDOUT", "timeout"),
        ("GOT_NOTHING", "reset"),
        ("PARTIAL_FILE", "reset"),
        ("SEND_ERROR", "reset"),
        ("RECV_ERROR", "reset"),
        ("SEND_FAIL_REWIND", "reset"),
        ("SSL_CONNECT_ERROR", "tls"),
        ("PEER_FAILED_VERIFICATION", "tls"),
        ("SSL_CERTPROBLEM", "tls"),
        ("SSL_CIPHER", "tls"),
        ("SSL_CACERT_BADFILE", "tls"),
        ("SSL_CRL_BADFILE", "tls"),
        ("SSL_ENGINE_INITFAILED", "tls"),
        ("SSL_ENGINE_NOTFOUND", "tls"),
        ("SSL_ENGINE_SETFAILED", "tls"),
        ("SSL_INVALIDCERTSTATUS", "tls"),
        ("SSL_ISSUER_ERROR", "tls"),
        ("SSL_PINNEDPUBKEYNOTMATCH", "tls"),
        ("SSL_SHUTDOWN_FAILED", "tls"),
        ("FTP_WEIRD_SERVER_REPLY", "protocol"),  # since libcurl 7.51 CURLE_WEIRD_SERVER_REPLY
        ("HTTP2", "protocol"),
        ("BAD_CONTENT_ENCODING", "protocol"),
        ("FILESIZE_EXCEEDED", "response_too_large"),
        ("UNSUPPORTED_PROTOCOL", "protocol"),
        ("URL_MALFORMAT", "internal"),
        ("OUT_OF_MEMORY", "internal"),
        ("WRITE_ERROR", "internal"),
        ("ABORTED_BY_CALLBACK", "internal"),
        ("BAD_FUNCTION_ARGUMENT", "tls"),  # what libcurl says of a bad client key
    ],
)
def test_libcurl_codes_by_pycurls_names(name: str, cause: str) -> None:
    """The numbers are those that pycurl has for the names."""
    assert curl_cause(getattr(pycurl, f"E_{name}"), connected=True) == cause


#: curl/curl.h, up to libcurl 8.18; pycurl has no names for the latest
CODES = {
    "dns": {6},
    "proxy": {5, 97},
    "refused": {7, 96},
    "timeout": {28},
    "reset": {18, 52, 55, 56, 65},
    "tls": {35, 43, 53, 54, 58, 59, 60, 66, 77, 80, 82, 83, 90, 91, 98, 101},
    "protocol": {1, 8, 16, 61, 92, 95},
    "response_too_large": {63, 100},
}


def test_each_libcurl_code_has_one_cause() -> None:
    """All that is not listed is a fault of ours."""
    found: dict[str, set[int]] = {}
    listed: set[int] = set()
    for codes in CODES.values():
        listed |= codes
    for code in range(1, 150):
        found.setdefault(curl_cause(code, connected=True), set()).add(code)
    assert found.pop("internal").isdisjoint(listed)
    assert found == CODES


def test_what_is_given_up_by_order() -> None:
    """These deaths say nothing of the endpoint or its receiver."""
    assert GIVEN_UP == {"removed", "disabled"} < NOT_ATTEMPTED.keys()


def test_the_words_of_what_was_not_attempted_are_stable() -> None:
    """Store, metrics and API show them; each has its sentence."""
    held_back = {"breaker_open", "paused", "misconfigured", "suspect", "disabled", "rate_limit"}
    given_up = {"payload_too_large", "poison", "removed", "retention"}
    dropped = {"expired", "unreadable", "purged", "queue_full"}
    assert NOT_ATTEMPTED.keys() == held_back | {"over_share", "other_worker"} | given_up | dropped
    assert all(sentence.endswith(".") for sentence in NOT_ATTEMPTED.values())


@pytest.mark.parametrize("code", [pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR, pycurl.E_GOT_NOTHING])
def test_an_alert_is_a_tls_failure(code: int) -> None:
    """A receiver that wants another client certificate says so when libcurl has connected (TLS 1.3)."""
    alert = (
        "OpenSSL SSL_read: error:0A00045C:SSL routines::tlsv13 alert certificate required, errno 0"
    )
    lost = "OpenSSL SSL_read: error:0A000126:SSL routines::unexpected eof while reading, errno 0"
    assert curl_cause(code, connected=True, message=alert) == "tls"
    assert curl_cause(code, connected=True, message=lost) == "reset"
    # only of a connection that was lost is it the cause
    assert curl_cause(pycurl.E_COULDNT_CONNECT, connected=True, message=alert) == "refused"


def test_a_timeout_before_the_connection_stood_is_told_apart() -> None:
    """libcurl has one code for both; only the time-out knows of `connected`."""
    assert curl_cause(pycurl.E_OPERATION_TIMEDOUT, connected=False) == "connect_timeout"
    assert curl_cause(pycurl.E_COULDNT_CONNECT, connected=False) == "refused"


@given(st.integers(1, 200))
def test_every_libcurl_code_has_a_cause(code: int) -> None:
    """A code of a newer libcurl is `internal`, not a crash."""
    assert curl_cause(code, connected=True) in TRANSPORT
