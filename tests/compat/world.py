"""The configuration that the kept data directory was made with, and is opened with."""

from __future__ import annotations

from typing import Any

from fluxhook import Aggregate, Breaker, Config, Duration, Endpoint, Retry, Size, Threshold

__all__ = ["config"]

LATER = Retry(schedule=(Duration.parse("20s"),), jitter=0.0, max_attempts=100)


def config(url: str, **options: Any) -> Config:
    """Small, so that it is kept in few bytes, and with a retention that nobody outlives."""

    def endpoint(name: str, **fields: Any) -> Endpoint:
        events = fields.pop("events", (f"kept.{name}",))
        defaults: dict[str, Any] = {"signature": "none", "retry": LATER, "concurrency": 4}
        return Endpoint(name=name, url=f"{url}/{name}", events=events, **(defaults | fields))

    never = Breaker(failure_threshold=1_000_000)
    names = ["plain", "waiting", "order", "dead", "window", "broken", "metered", "paused"]
    names += ["created", "rotated"]  # at run time
    fields: dict[str, Any] = {
        "endpoints": (
            endpoint("plain"),
            endpoint("waiting", circuit_breaker=never),
            endpoint("order", ordered=True, order_key="key", circuit_breaker=never),
            endpoint("dead", retry=Retry(max_attempts=1), circuit_breaker=never),
            endpoint(
                "window", events=("service.5xx",), aggregate=Aggregate(window=Duration.parse("25s"))
            ),
            endpoint(
                "broken",
                circuit_breaker=Breaker(failure_threshold=3, reset_timeout=Duration.parse("20s")),
            ),
            endpoint("metered", threshold=Threshold.parse("10/s")),
            endpoint("paused", paused=True),
        ),
        "event_types": tuple(f"kept.{name}" for name in names),
        "workers": 2,
        "queue_size": 1000,
        "ring_bytes": Size.parse("1MiB"),
        "max_event_bytes": Size.parse("16KiB"),
        "max_endpoints": 16,
        "retention": Duration.parse("87600h"),
        "allow_networks": ("127.0.0.0/8",),
    }
    return Config(**(fields | options))
