"""Batches, compression and HTTP/2 in a file: their forms, and what does not go together."""

from __future__ import annotations

import pytest

from config.test_problems import EP, endpoint, problems
from fluxhook.config.load import loads
from fluxhook.config.schema import Batch, Endpoint
from fluxhook.config.units import Duration, Size


def load(option: str) -> Endpoint:
    (found,) = loads(endpoint("secret: s, " + option), environ={}).config.endpoints
    return found


def test_a_batch_is_off_without_max_events() -> None:
    """Its other options have defaults."""
    assert load("paused: false").batch == Batch()
    assert load("batch: {max_events: 50}").batch == Batch(
        max_events=50,
        max_delay=Duration.parse("50ms"),
        format="json",
        max_bytes=Size.parse("1MiB"),
    )


@pytest.mark.parametrize("text", ["2", '"2"', "1.1", '"1.1"'])
def test_http_versions_need_no_quotes(text: str) -> None:
    """YAML takes them for numbers."""
    assert load(f"http_version: {text}").http_version == text.strip('"')


@pytest.mark.parametrize(
    ("option", "field", "message", "remedy"),
    [
        ("batch: {max_events: 0}", "batch.max_events", "0 is out of range", "from 1 to 1000"),
        ("batch: {max_events: 5, max_delay: 2m}", "batch.max_delay", "2m is out", "1ms to 1m"),
        ("batch: {max_events: 5, max_bytes: 1B}", "batch.max_bytes", "1 is out", "1KiB to"),
        ("batch: {max_events: 5, format: xml}", "batch.format", "'xml'", "json, ndjson or"),
        ("batch: {size: 5}", "batch.size", "'size' is not known", "remove it"),
        (
            "batch: {max_events: 5, format: cloudevents}",
            "batch.format",
            "envelope is 'native'",
            "write envelope: cloudevents",
        ),
        (
            "batch: {max_events: 5}, ordered: true",
            "batch",
            "an ordered endpoint gets one event at a time",
            "remove batch, or ordered: true",
        ),
        ("compression: brotli", "compression", "'brotli'", "none, gzip or zstd"),
        ("http_version: 3", "http_version", "'3'", "1.1 or 2"),
    ],
)
def test_faults(option: str, field: str, message: str, remedy: str) -> None:
    """Each names its field, its value and what would be right."""
    (problem,) = problems(endpoint("secret: s, " + option))
    assert problem.path == f"{EP}.{field}"
    assert message in problem.message
    assert remedy in problem.remedy


def test_http2_in_the_clear_does_not_pass_a_proxy() -> None:
    """One that reads the requests, that is; it tunnels https:// URLs, and SOCKS tunnels all."""
    file = (
        "webhook: {{allow_networks: [10.0.0.0/8], endpoints: [{{name: a, secret: s, url: '{}', "
        "proxy: '{}', http_version: 2}}]}}"
    )
    (problem,) = problems(file.format("http://10.0.0.1/", "http://10.0.0.2:3128"))
    assert problem.path == f"{EP}.http_version"
    loads(file.format("https://10.0.0.1/", "http://10.0.0.2:3128"), environ={})
    loads(file.format("http://10.0.0.1/", "socks5://10.0.0.2:1080"), environ={})
