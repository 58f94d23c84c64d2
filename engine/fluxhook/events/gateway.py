"""The gateway's events, as FluxGate's documentation names them.

Only the data of `route.error` is documented. `webhook.delivery.failed` is the engine's own; the
other types carry any JSON object.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["GATEWAY", "DeliveryFailed", "RouteError"]


class RouteError(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A route answered with an error."""

    request_id: str
    path: str
    status_code: int
    upstream_service: str
    latency_ms: int


class DeliveryFailed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event was given up for an endpoint: it is a dead letter now."""

    endpoint: str
    event_id: str
    event_type: str
    attempts: int
    #: a word of `policy.outcome.CAUSES` or `NOT_ATTEMPTED`
    cause: str
    error: str


GATEWAY: Final[dict[str, type[msgspec.Struct] | None]] = {
    "route.matched": None,
    "route.error": RouteError,
    "upstream.timeout": None,
    "rate.limit.exceeded": None,
    "service.5xx": None,
    "tls.handshake.fail": None,
    "circuit.broken": None,
    "route.created": None,
    "policy.updated": None,
    "secret.rotated": None,
    "webhook.delivery.failed": DeliveryFailed,
}
