"""An event: what every envelope is made from."""

from __future__ import annotations

import functools
from typing import Any, Final, Literal

import msgspec

from fluxhook.events.trace_context import TraceContext

__all__ = ["Event", "Native", "order_key_of"]

#: Whose envelope an event has on endpoints that ask for none in particular.
Native = Literal["gateway", "broker"]

_sorted: Final = msgspec.json.Encoder(order="sorted").encode


class Event(msgspec.Struct, frozen=True, dict=True):
    """What every envelope is made from: `timestamp` is RFC 3339 in UTC, `topic` a topic name, `data`
    the JSON object as every envelope carries it. `topic_filter` is what the event is about, where it
    is a topic filter and there is no topic name: topic filters bind the event by it."""

    id: str
    type: str
    timestamp: str
    data: msgspec.Raw
    topic: str | None
    native: Native
    topic_filter: str | None = None
    trace: TraceContext | None = None

    @functools.cached_property
    def fields(self) -> dict[str, Any]:
        """The data as a receiver reads it: what filters and order keys judge."""
        return msgspec.json.decode(self.data, type=dict[str, Any])


def order_key_of(event: Event, field: str) -> str:
    """Return the value of a field of the event's data as text, for endpoints with an `order_key`.

    Of an object or a list it is the JSON. Empty where there is no such field, or it is null: such
    events share one order. The text holds no NUL, which separates the fields of an event's head in the
    rings.
    """
    value = event.fields.get(field)
    if value is None:
        return ""
    if isinstance(value, (dict, list)):
        return _sorted(value).decode()
    return str(value).replace("\0", "\ufffd")
