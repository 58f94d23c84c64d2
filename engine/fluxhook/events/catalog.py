"""Both catalogs together: every event type that the engine knows without being told."""

from __future__ import annotations

from typing import Final

import msgspec

from fluxhook.events.broker import BROKER
from fluxhook.events.gateway import GATEWAY

__all__ = ["BOUND", "BROKER", "GATEWAY", "TYPES", "WITH_FILTER", "WITH_TOPIC"]

#: each type's data; None: any JSON object
TYPES: Final[dict[str, type[msgspec.Struct] | None]] = {**GATEWAY, **BROKER}


def _with(field: str) -> frozenset[str]:
    return frozenset(
        name for name, data in TYPES.items() if data and field in data.__struct_fields__
    )


#: The types that have a topic name: the field `topic` of their data.
WITH_TOPIC: Final = _with("topic")
#: Those that are about a topic filter, which topic filters bind as FluxMQ has it. It is no topic
#: name: it may hold wildcards (MQTT 5.0 section 4.7).
WITH_FILTER: Final = _with("topic_filter")
#: Those that topic filters bind.
BOUND: Final = WITH_TOPIC | WITH_FILTER
