"""Fluxhook: an embeddable webhook delivery engine.

A host program emits events at memory speed; Fluxhook matches them to subscriptions, signs them,
delivers them over HTTP from worker processes, retries, isolates what is broken, and loses nothing
that it accepted.

    from fluxhook import Config, Endpoint, Engine

    ops = Endpoint(name="ops", url="https://hooks.example.com/fg", secrets=("sk_live_9x8m2p",))
    with Engine(Config(endpoints=(ops,))) as engine:
        engine.emit("route.error", {...})
"""

from fluxhook import _safe_path as _safe_path  # before all others

# isort: split
import importlib
import typing

from fluxhook._version import VERSION as __version__
from fluxhook.config.schema import (
    Admin,
    Aggregate,
    Batch,
    Breaker,
    Config,
    Endpoint,
    LogOptions,
    Retry,
    Tls,
    Token,
)
from fluxhook.config.units import Duration, Rate, Size, Threshold
from fluxhook.errors import (
    ConfigError,
    Conflict,
    EngineError,
    EngineNotRunning,
    EngineRunning,
    EventError,
    FluxhookError,
    LayoutError,
    PayloadTooLarge,
    QueueFull,
    SignatureError,
    TooManyPublishers,
    UnknownEndpoint,
)
from fluxhook.verify import ReplayGuard, Verified, verify

if typing.TYPE_CHECKING:
    from fluxhook.config.load import load
    from fluxhook.control import Control
    from fluxhook.engine import Engine, connect
    from fluxhook.publisher.publisher import Accepted, Publisher
    from fluxhook.stats import EndpointStats, Stats
    from fluxhook.transport.host_channel import DeadLetter, EndpointStateChange

__all__ = [
    "Accepted",
    "Admin",
    "Aggregate",
    "Batch",
    "Breaker",
    "Config",
    "ConfigError",
    "Conflict",
    "Control",
    "DeadLetter",
    "Duration",
    "Endpoint",
    "EndpointStateChange",
    "EndpointStats",
    "Engine",
    "EngineError",
    "EngineNotRunning",
    "EngineRunning",
    "EventError",
    "FluxhookError",
    "LayoutError",
    "LogOptions",
    "PayloadTooLarge",
    "Publisher",
    "QueueFull",
    "Rate",
    "ReplayGuard",
    "Retry",
    "SignatureError",
    "Size",
    "Stats",
    "Threshold",
    "Tls",
    "Token",
    "TooManyPublishers",
    "UnknownEndpoint",
    "Verified",
    "__version__",
    "connect",
    "load",
    "verify",
]

#: What a host needs, and workers and most commands do not: imported when it is first asked for.
_LATER = {
    "Accepted": "fluxhook.publisher.publisher",
    "Control": "fluxhook.control",
    "DeadLetter": "fluxhook.transport.host_channel",
    "Engine": "fluxhook.engine",
    "EndpointStateChange": "fluxhook.transport.host_channel",
    "EndpointStats": "fluxhook.stats",
    "Publisher": "fluxhook.publisher.publisher",
    "Stats": "fluxhook.stats",
    "connect": "fluxhook.engine",
    "load": "fluxhook.config.load",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
