"""Configurations of every shape: `configs` have sound types, `sound_configs` pass all rules."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st

from fluxhook.config.layers import assemble
from fluxhook.config.schema import Breaker, Config, Endpoint, Retry, Tls
from fluxhook.config.units import MAX_INT64, Duration, Rate, Size, Threshold
from fluxhook.events.catalog import TYPES

texts = st.text(max_size=20)
durations = st.builds(Duration, st.integers(0, MAX_INT64))
sizes = st.builds(Size, st.integers(0, MAX_INT64))
rates = st.builds(
    Rate,
    st.integers(1, 10_000),
    st.sampled_from([10**9, 60 * 10**9, 3600 * 10**9]),
    st.none() | st.integers(1, 10**6),
)
thresholds = st.builds(
    Threshold,
    st.integers(1, 10_000),
    st.just(10**9),
    st.none() | st.integers(10**9, 100 * 10**9),
)
floats = st.floats(allow_nan=False, allow_infinity=False)
tuples = st.lists(texts, max_size=3).map(tuple)

retries = st.builds(
    Retry,
    schedule=st.none() | st.lists(durations, max_size=4).map(sorted).map(tuple),
    max_attempts=st.none() | st.integers(0, 9),
    initial_interval=durations,
    max_interval=durations,
    multiplier=floats,
    jitter=floats,
    retry_on=tuples,
    max_retry_after=durations,
)
breakers = st.builds(Breaker, failure_threshold=st.integers(0, 99), reset_timeout=durations)
tls = st.builds(Tls, ca=st.none() | texts, cert=st.none() | texts, key=st.none() | texts)
endpoints = st.builds(
    Endpoint,
    name=texts,
    url=texts,
    events=tuples,
    topic_filters=tuples,
    where=tuples,
    sample=floats,
    threshold=st.none() | thresholds,
    headers=st.dictionaries(texts, texts, max_size=3),
    secrets=tuples,
    signature=st.sampled_from(["fluxgate", "standard", "stripe", "github", "none"]),
    envelope=st.sampled_from(["native", "gateway", "broker", "cloudevents", "standard"]),
    timeout=durations,
    connect_timeout=durations,
    retry=retries,
    circuit_breaker=breakers,
    concurrency=st.integers(-1, 99),
    rate_limit=st.none() | rates,
    max_payload=st.none() | sizes,
    ttl=st.none() | durations,
    ordered=st.booleans(),
    order_key=st.none() | texts,
    on_head_failure=st.sampled_from(["block", "park"]),
    tls=tls,
    proxy=st.none() | texts,
    paused=st.booleans(),
)
configs = st.builds(
    Config,
    endpoints=st.lists(endpoints, max_size=3).map(tuple),
    enabled=st.booleans(),
    queue_size=st.integers(),
    drop_policy=st.sampled_from(["oldest", "newest", "block"]),
    block_timeout=durations,
    ring_bytes=sizes,
    max_event_bytes=sizes,
    workers=st.none() | st.integers(0, 99),
    durability=texts,
    include_payload=st.booleans(),
    shutdown_timeout=durations,
    allow_networks=tuples,
    event_types=tuples,
    native_envelope=st.sampled_from(["gateway", "broker"]),
    gateway_node=st.none() | texts,
    broker_id=st.none() | texts,
    data_dir=st.none() | texts,
)

words = st.text(string.ascii_lowercase, min_size=1, max_size=8)
spans = st.builds(Duration, st.integers(10**6, 3600 * 10**9))
#: Texts that YAML reads as something else unless they are quoted.
traps = st.sampled_from(["on", "off", "yes", "null", "~", "1.10", "0x10", "1:30", "2024-01-01"])
patterns = st.sampled_from(["*", "route.*", "order.created", *TYPES])
filters = st.sampled_from(["#", "sensors/#", "+/temp", "$SYS/#", "a/b"])
conditions = st.sampled_from(
    ["a.b >= 500", "path startswith '/api/'", 's in ["a", null]', "x != -1.5"]
)


@st.composite
def sound_configs(draw: st.DrawFn) -> Config:
    """Configurations with nothing to complain of."""
    names = draw(st.lists(words | traps, max_size=3, unique=True))
    return Config(
        endpoints=tuple(draw(_sound_endpoint(name)) for name in names),
        enabled=draw(st.booleans()),
        queue_size=draw(st.integers(1, 10**6)),
        drop_policy=draw(st.sampled_from(["oldest", "newest", "block"])),
        block_timeout=draw(spans),
        workers=draw(st.none() | st.integers(1, 16)),
        durability=draw(st.sampled_from(["process", "power", "interval:100ms"])),
        include_payload=draw(st.booleans()),
        allow_networks=tuple(draw(st.sets(st.sampled_from(["10.0.0.0/8", "fd00::/8"])))),
        event_types=("order.created",),
        native_envelope=draw(st.sampled_from(["gateway", "broker"])),
        gateway_node=draw(st.none() | words | traps),
        data_dir=draw(st.none() | words),
    )


@st.composite
def _sound_endpoint(draw: st.DrawFn, name: str) -> Endpoint:
    interval = draw(spans)
    layer: dict[str, Any] = {
        "name": name,
        "url": f"https://{draw(words)}.example.com/{draw(words)}?q=1",
        "events": draw(st.lists(patterns, max_size=3).map(tuple)),
        "topic_filters": draw(st.lists(filters, max_size=3).map(tuple)),
        "where": draw(st.lists(conditions, max_size=3).map(tuple)),
        "sample": draw(st.floats(1e-6, 1.0)),
        "threshold": draw(st.none() | thresholds),
        "headers": draw(st.dictionaries(words.map("X-{}".format), words | traps, max_size=2)),
        "secrets": tuple(draw(st.lists(words | traps, min_size=1, max_size=3))),
        "signature": draw(st.sampled_from(["fluxgate", "stripe"])),
        "envelope": draw(st.sampled_from(["native", "gateway", "broker", "cloudevents"])),
        "timeout": draw(spans),
        "rate_limit": draw(st.none() | rates),
        "max_payload": draw(st.none() | st.builds(Size, st.integers(1, 2**28))),
        "ttl": draw(st.none() | spans),
        "ordered": True,
        "order_key": draw(st.none() | words | traps),
        "on_head_failure": draw(st.sampled_from(["block", "park"])),
        "paused": draw(st.booleans()),
        "retry": {
            "schedule": draw(st.none() | st.lists(spans, max_size=4).map(sorted).map(tuple)),
            "max_attempts": draw(st.none() | st.integers(1, 9)),
            "initial_interval": interval,
            "max_interval": max(interval, draw(spans)),
            "multiplier": draw(st.floats(1, 10)),
            "jitter": draw(st.floats(0, 1)),
            "retry_on": tuple(draw(st.sets(st.sampled_from(["timeout", "5xx", "429"])))),
        },
    }
    return assemble(Endpoint, layer)
