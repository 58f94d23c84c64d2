"""Engines over one receiver and one data directory, closed whatever happens."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fluxhook import Breaker, Config, Duration, Endpoint, Engine, Retry, Size
from support.receiver import ReceiverProcess


def seconds(value: float) -> Duration:
    return Duration(int(value * 1e9))


def until(condition: Callable[[], Any], what: str = "it", deadline_s: float = 60.0) -> Any:
    """Return the condition's value once it is true; raise AssertionError at the deadline."""
    end = time.monotonic() + deadline_s
    asked = time.monotonic()
    while not (value := condition()):
        answered = time.monotonic()
        assert answered < end, f"{what}: not within {deadline_s} s"
        # To ask takes a fifth of a core at most: what is waited for needs it.
        time.sleep(min(max(0.002, 4 * (answered - asked)), 0.05))
        asked = time.monotonic()
    return value


def supervisor_pid(data_dir: Path) -> int:
    """Return the process id of the supervisor of the engine that runs there."""
    return int(json.loads((data_dir / "engine.json").read_bytes())["pid"])


#: a schedule short enough for a test; the figures mean nothing
QUICK = Retry(max_attempts=5, initial_interval=seconds(0.05), max_interval=seconds(0.2))
#: a breaker that stays out of the way
NEVER = Breaker(failure_threshold=1_000_000)


class Rig:
    """Starts engines over one receiver and one data directory."""

    def __init__(self, receiver: ReceiverProcess, data_dir: Path) -> None:
        self.receiver = receiver
        self.data_dir = data_dir
        #: what `close` closes
        self.engines: list[Engine] = []

    def endpoint(self, name: str, **options: Any) -> Endpoint:
        """Return an endpoint whose path at the receiver is its name."""
        defaults: dict[str, Any] = {
            "url": f"{self.receiver.url}/{name}",
            "signature": "none",
            "retry": QUICK,
            "circuit_breaker": NEVER,
            "timeout": seconds(5),
        }
        return Endpoint(name=name, **(defaults | options))

    def config(self, *endpoints: Endpoint, **options: Any) -> Config:
        defaults: dict[str, Any] = {
            "workers": 1,
            "allow_networks": ("127.0.0.0/8",),
            "ring_bytes": Size(2**24),
        }
        return Config(endpoints=endpoints, **(defaults | options))

    def engine(self, *endpoints: Endpoint, **options: Any) -> Engine:
        engine = Engine(self.config(*endpoints, **options), self.data_dir)
        self.engines.append(engine)
        return engine

    def close(self) -> None:
        for engine in self.engines:
            engine.close()
