"""Configured headers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook import ConfigError
from fluxhook.config.headers import judge_header
from fluxhook.config.load import Loaded, loads
from fluxhook.transport.build import build


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", "Bearer token"),
        ("X-API-Key", "a\tb c"),
        ("User-Agent", "mine/1.0"),
        ("Accept", "*/*"),
        ("X", "!"),
    ],
)
def test_sound_headers(name: str, value: str) -> None:
    """A header of the operator's own with a visible value is sent."""
    assert judge_header(name, value) is None


@pytest.mark.parametrize(
    ("name", "piece"),
    [
        *(
            (name, "one connection")
            for name in (
                "Connection",
                "Keep-Alive",
                "Proxy-Connection",
                "TE",
                "Trailer",
                "Transfer-Encoding",
                "UPGRADE",
                "Proxy-Authorization",
                "Proxy-Authenticate",
            )
        ),
        *(
            (name, "signature")
            for name in (
                "X-FluxGate-Signature",
                "webhook-id",
                "Webhook-Timestamp",
                "webhook-signature",
                "webhook-anything",
                "Stripe-Signature",
                "X-Hub-Signature-256",
                "X-Hub-Signature",
            )
        ),
        ("Content-Length", "frames the body"),
        ("Expect", "frames the body"),
        ("Host", "from the URL"),
        ("Content-Encoding", "from the compression"),
        ("", "not a header name"),
        ("X A", "not a header name"),
        ("X:A", "not a header name"),
        ("X\r\nA", "not a header name"),
        ("Ü", "not a header name"),
        ("X" * 257, "not a header name"),
    ],
)
def test_refused_names(name: str, piece: str) -> None:
    """Headers of the connection, the engine and the signature are refused in any spelling; so is
    what is no name (RFC 9110 section 5.1)."""
    fault = judge_header(name, "x")
    assert fault is not None
    assert piece in fault.message


@pytest.mark.parametrize(
    ("value", "piece"),
    [
        ("s3cret\r\nX-Other: 1", "line break"),
        ("s3cret\n", "line break"),
        ("s3cret\0", "NUL"),
        ("s3cret\x7f", "control"),
        ("s3crét", "non-ASCII"),
        ("", "is empty"),
        ("  ", "is empty"),
        ("s3cret" * 2000, "12000 characters"),
    ],
)
def test_refused_values(value: str, piece: str) -> None:
    """A value that could smuggle in another header, or mean different things, is refused unseen."""
    fault = judge_header("X-A", value)
    assert fault is not None
    assert piece in fault.message
    assert "s3cr" not in " ".join(fault)


@given(st.text(), st.text())
def test_sound_headers_make_one_line(name: str, value: str) -> None:
    """Whatever passes is one line of ASCII."""
    if judge_header(name, value) is None:
        assert f"{name}: {value}".isascii()
        assert len(f"{name}: {value}".splitlines()) == 1


def loaded(content_type: str, **options: object) -> Loaded:
    endpoint = {"name": "a", "url": "https://x.example/", "headers": {"content-type": content_type}}
    section = {"enabled": True, "endpoints": [endpoint | options]}
    return loads(json.dumps({"webhook": section}), environ={})


@pytest.mark.parametrize(
    ("content_type", "options"),
    [
        ("application/json", {}),
        ("Application/JSON; charset=utf-8", {}),
        ("application/cloudevents+json", {"envelope": "cloudevents"}),
        ("application/x-ndjson", {"batch": {"max_events": 5, "format": "ndjson"}}),
    ],
)
def test_a_content_type_that_is_sent_anyway(content_type: str, options: dict[str, object]) -> None:
    """FluxMQ's users write it: a notice, and the header is sent once."""
    config, notices = loaded(content_type, **options)
    assert "is not needed: requests are sent as" in str(notices[0])
    lines = [line.lower() for line in build(config.endpoints[0]).headers]
    assert sum(line.startswith(b"content-type:") for line in lines) == 1


@pytest.mark.parametrize(
    ("content_type", "options"),
    [
        ("application/json", {"envelope": "cloudevents"}),
        ("application/json", {"batch": {"max_events": 5, "format": "ndjson"}}),
    ],
)
def test_another_content_type_is_refused(content_type: str, options: dict[str, object]) -> None:
    """A format that has a content type of its own takes no other: a body would be called what it is
    not."""
    with pytest.raises(ConfigError, match="is not what is sent: application/"):
        loaded(content_type, **options)


@pytest.mark.parametrize("written", ["text/plain", "application/json; charset=utf-8"])
def test_a_content_type_is_sent_as_it_is_written(written: str) -> None:
    """That holds if the body is JSON, as in FluxMQ; a type that does not say JSON is noticed."""
    config, notices = loaded(written)
    (line,) = [x for x in build(config.endpoints[0]).headers if b"ontent-" in x]
    assert line == f"Content-Type: {written}".encode()
    said = "sent as text/plain" if written == "text/plain" else "is not needed"
    assert [said in str(notice) for notice in notices] == [True]


def test_headers_of_signatures_are_free_where_nothing_is_signed() -> None:
    """An endpoint without a signature may have them, as one of FluxMQ's may."""
    for name in ("Webhook-Token", "X-Hub-Signature-256", "webhook-id"):
        assert judge_header(name, "x") is not None
        assert judge_header(name, "x", signed=False) is None
