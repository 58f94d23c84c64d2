"""Subscriptions to match among, for all benchmarks that match."""

from __future__ import annotations

SHAPES = ("plant/{}/line/temperature", "plant/{}/+/temperature", "plant/{}/#")
EVENT = "message.published"


def endpoints(n: int) -> list[tuple[int, tuple[str, ...], tuple[str, ...]]]:
    """Return `n` endpoints with one filter each, a third of them exact, with a `+` and with a `#`."""
    return [(i, ("message.*",), (SHAPES[i % 3].format(i),)) for i in range(n)]


def topics(n: int, count: int) -> list[str]:
    """Return `count` topic names spread over all of the `n` endpoints, each of which matches one."""
    return [f"plant/{i * n // count}/line/temperature" for i in range(count)]
