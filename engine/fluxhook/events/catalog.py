"""Both catalogs together: every event type that the engine knows without being told."""

from __future__ import annotations

from typing import Final

import msgspec

from fluxhook.events.broker import BROKER
from fluxhook.events.gateway import GATEWAY

__all__ = ["BROKER", "GATEWAY", "TYPES", "WITH_TOPIC"]

#: each type's data; None: any JSON object
TYPES: Final[dict[str, type[msgspec.Struct] | None]] = {**GATEWAY, **BROKER}

#: The types that have a topic name: the field `topic` of their data. A `topic_filter` is none, it
#: may hold wildcards (MQTT 5.0 section 4.7).
WITH_TOPIC: Final = frozenset(
    name for name, data in TYPES.items() if data and "topic" in data.__struct_fields__
)
