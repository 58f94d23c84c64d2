"""The least and the most that each number of the configuration may be, and the most entries of each
list and mapping. A file, the API and Python have the same limits; docs/limits.md lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from fluxhook.config.problems import Findings
from fluxhook.config.schema import (
    Admin,
    Aggregate,
    Batch,
    Breaker,
    Config,
    Endpoint,
    Retry,
    Token,
)
from fluxhook.config.units import Duration, Size

__all__ = ["ENTRIES", "LIMITS", "MAX_KEYS", "Limit", "check_limits", "too_many", "too_many_keys"]

Number = int | float | Duration | Size


class Limit(NamedTuple):
    """Both bounds belong to the range.

    Upper bounds without a source are arbitrary: they refuse slips of the unit. With `or_off` the
    number may be zero too, which turns off what it bounds.
    """

    low: Number
    high: Number
    or_off: bool = False


def _span(low: str, high: str, *, or_off: bool = False) -> Limit:
    return Limit(Duration.parse(low), Duration.parse(high), or_off)


def _size(low: str, high: str) -> Limit:
    return Limit(Size.parse(low), Size.parse(high))


LIMITS: Final[dict[type[msgspec.Struct], dict[str, Limit]]] = {
    Config: {
        "queue_size": Limit(1, 100_000_000),
        "block_timeout": _span("1ms", "1h"),
        "ring_bytes": _size("64KiB", "1TiB"),
        "max_event_bytes": _size("1KiB", "256MiB"),
        # FluxMQ's are goroutines; there are fewer processes (config/workers.py).
        "workers": Limit(1, 1_000_000_000),
        "max_publishers": Limit(1, 4096),
        "max_endpoints": Limit(1, 65_536),
        "shutdown_timeout": _span("0s", "24h"),
        "retention": _span("1s", "87600h"),
        "audit_bytes": _size("4KiB", "1TiB"),
        "audit_files": Limit(1, 10_000),
    },
    Endpoint: {
        # One event in a million; whoever wants none pauses the endpoint.
        "sample": Limit(0.000001, 1.0),
        # libcurl takes 0 for "never".
        "timeout": _span("1ms", "1h"),
        "connect_timeout": _span("1ms", "1h"),
        "concurrency": Limit(1, 65_536),
        "max_payload": _size("1B", "256MiB"),
        "ttl": _span("1ms", "87600h"),
        "disable_after": _span("1s", "87600h"),
    },
    # Each window is one notification: its originals go into one body.
    Aggregate: {
        "window": _span("100ms", "24h", or_off=True),
        "originals": Limit(0, 100),
    },
    Batch: {
        "max_events": Limit(1, 1000),
        "max_delay": _span("1ms", "1m"),
        "max_bytes": _size("1KiB", "64MiB"),
    },
    Admin: {
        "max_body": _size("1KiB", "256MiB"),
    },
    Retry: {
        "max_attempts": Limit(1, 10_000),
        # Without a pause a failing receiver would be hammered.
        "initial_interval": _span("1ms", "720h"),
        "max_interval": _span("1ms", "720h"),
        "multiplier": Limit(1.0, 1000.0),
        "jitter": Limit(0.0, 1.0),
        "max_retry_after": _span("0s", "720h"),
    },
    Breaker: {
        "failure_threshold": Limit(1, 1_000_000),
        "reset_timeout": _span("1ms", "720h"),
    },
}


#: Arbitrary, and far above any use: they bound what a definition costs those who read it, and each
#: event that is judged by it.
ENTRIES: Final[dict[type[msgspec.Struct], dict[str, int]]] = {
    Config: {
        "endpoints": 65_536,
        "allow_networks": 1000,
        "event_types": 1000,
        "defaults": 100,
    },
    Endpoint: {
        "events": 200,
        "topic_filters": 200,
        # Asked in `emit`, a third of a microsecond for each.
        "where": 32,
        "headers": 64,
        # Each of them signs each request.
        "secrets": 16,
    },
    Retry: {"schedule": 100, "retry_on": 100},
    Aggregate: {"types": 100},
    Admin: {"tokens": 200},
    Token: {"scopes": 3},
}
#: of a mapping of options, in which there are not half as many
MAX_KEYS: Final = 100


def too_many(
    kind: type[msgspec.Struct], name: str, value: object, path: str, findings: Findings
) -> bool:
    """Report a list or mapping in a field that has more entries than it may; True if it has."""
    most = ENTRIES.get(kind, {}).get(name)
    if most is None or not isinstance(value, (list, tuple, dict)) or len(value) <= most:
        return False
    findings.problem(path, f"has {len(value):,d} entries", f"write at most {most:,d}")
    return True


def too_many_keys(value: Mapping[Any, Any], path: str, findings: Findings) -> bool:
    """Report a mapping of options that has more than MAX_KEYS; True if it has."""
    if len(value) > MAX_KEYS:
        findings.problem(path, f"has {len(value):,d} keys", f"write at most {MAX_KEYS}")
        return True
    return False


def check_limits(struct: msgspec.Struct, path: str, findings: Findings) -> None:
    """Reports each number of this struct that is out of its range.

    `path` ends in a dot or is empty.
    """
    for name, (low, high, or_off) in LIMITS.get(type(struct), {}).items():
        value = getattr(struct, name)
        if value is None or low <= value <= high or (or_off and not value):
            continue
        remedy = f"write a value from {low} to {high}" + ", or 0s to turn it off" * or_off
        findings.problem(path + name, f"{value} is out of range", remedy)
