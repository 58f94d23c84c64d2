"""The gateway's events, as FluxGate's documentation names them.

Only the data of `route.error` is documented; the other types carry any JSON object.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["GATEWAY", "RouteError"]


class RouteError(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A route answered with an error."""

    request_id: str
    path: str
    status_code: int
    upstream_service: str
    latency_ms: int


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
    "webhook.delivery.failed": None,
}
