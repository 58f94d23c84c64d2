"""The gateway's events, as FluxGate's documentation names them.

Only the data of `route.error` is documented. The types `webhook.*` are the engine's own; the other
types carry any JSON object.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["GATEWAY", "DeliveryFailed", "EndpointDisabled", "FailuresAggregated", "RouteError"]


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


class EndpointDisabled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint gets nothing more until it is enabled again; what waited for it are dead letters."""

    endpoint: str
    reason: str
    #: RFC 3339; since when every attempt has failed
    failing_since: str


class FailuresAggregated(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The events that one endpoint's window of aggregation has gathered."""

    endpoint: str
    count: int
    #: by type
    counts: dict[str, int]
    #: RFC 3339; when the first and the last of them were accepted
    first_at: str
    last_at: str
    #: the first of them, as they would have been sent
    originals: tuple[msgspec.Raw, ...]


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
    "webhook.endpoint.disabled": EndpointDisabled,
    "webhook.failures.aggregated": FailuresAggregated,
    "webhook.test": None,
}
