"""What the demo emits: events of both catalogs, each to the receivers that subscribed to it."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from typing import Any, Final, NamedTuple

from fluxhook.cli.demo_receiver import Phase, event_id
from fluxhook.config.schema import Breaker, Config, Endpoint, LogOptions, Retry
from fluxhook.config.units import Duration
from fluxhook.engine import Engine

__all__ = ["HANGING", "HEALTHY", "NAMES", "RECOVERING", "DemoLoad", "configuration"]

HEALTHY, RECOVERING, HANGING = NAMES = ("healthy", "recovering", "hanging")


class _Kind(NamedTuple):
    """An event, and who must get it. Counted here, apart from what the engine counts."""

    type: str
    data: dict[str, Any]
    receivers: tuple[str, ...]


def _published(topic: str, *receivers: str) -> _Kind:
    data = {"client_id": "pump-7", "topic": topic, "qos": 1, "retained": False, "payload_size": 256}
    return _Kind("message.published", data, (HEALTHY, *receivers))


_KINDS: Final = (
    _Kind(
        "route.error",
        {
            "request_id": "req_7h3k9m2p",
            "path": "/api/v2/inventory",
            "status_code": 503,
            "upstream_service": "stock-manager",
            "latency_ms": 2450,
        },
        (HEALTHY, RECOVERING),
    ),
    _published("sensors/kitchen/temperature", HANGING),
    _Kind("upstream.timeout", {"upstream": "stock-manager"}, (HEALTHY, RECOVERING)),
    _published("billing/invoices"),
    _Kind("route.matched", {"route": "inventory", "latency_ms": 7}, (HEALTHY, RECOVERING)),
    _Kind("auth.success", {"client_id": "pump-7", "remote_addr": "198.51.100.7"}, (HEALTHY,)),
    _Kind("policy.updated", {"policy": "rate-limit", "by": "operator"}, (HEALTHY,)),
    _published("sensors/cellar/humidity", HANGING),
)


def configuration(urls: dict[str, str], secret: str) -> Config:
    """Return the demo's configuration: short times, so that everything is seen in half a minute."""

    def s(text: str) -> Duration:
        return Duration.parse(text)

    return Config(
        log=LogOptions(level="error"),  # the view and the account say the rest
        endpoints=(
            Endpoint(name=HEALTHY, url=urls[HEALTHY], secrets=(secret,)),
            Endpoint(
                name=RECOVERING,
                url=urls[RECOVERING],
                secrets=(secret,),
                events=("route.*", "upstream.*"),
                retry=Retry(max_attempts=20, initial_interval=s("300ms"), max_interval=s("2s")),
                circuit_breaker=Breaker(failure_threshold=5, reset_timeout=s("1s")),
            ),
            Endpoint(
                name=HANGING,
                url=urls[HANGING],
                secrets=(secret,),
                events=("message.published",),
                topic_filters=("sensors/#",),
                timeout=s("500ms"),
                retry=Retry(max_attempts=2, initial_interval=s("300ms")),
                circuit_breaker=Breaker(failure_threshold=5, reset_timeout=s("1s")),
                concurrency=8,
            ),
        ),
        queue_size=50_000,
        drop_policy="newest",
        shutdown_timeout=s("5s"),
        allow_networks=("127.0.0.0/8",),
    )


class DemoLoad:
    """Emits, and counts for whom; `calls_ns` has the duration of each call of `emit`."""

    def __init__(self, engine: Engine) -> None:
        self.expected: Counter[str] = Counter()
        self.calls_ns: list[int] = []
        self._emit = engine.emit
        self._kinds = itertools.cycle(_KINDS)

    def emit(self, phase: Phase, n: int) -> None:
        clock = time.perf_counter_ns
        for kind in itertools.islice(self._kinds, n):
            identity = event_id(phase, len(self.calls_ns))
            before_ns = clock()
            self._emit(kind.type, kind.data, event_id=identity)
            self.calls_ns.append(clock() - before_ns)
            self.expected.update(kind.receivers)
