"""The envelopes: one event as the bytes that are sent, in each style.

The bytes are part of the contract with receivers; golden files in the tests pin them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple
from urllib.parse import quote

import msgspec

from fluxhook.events.event import Event, Native
from fluxhook.events.schemas import dataschema

__all__ = ["Encode", "EnvelopeStyle", "Envelopes", "Frame"]

#: native: the envelope of the catalog that the event's type belongs to
EnvelopeStyle = Literal["native", "gateway", "broker", "cloudevents", "standard"]
Encode = Callable[[Event], bytes]


# gc=False: an envelope lives for one call, and nothing refers back to it.


class _Gateway(msgspec.Struct, frozen=True, gc=False):
    id: str
    type: str
    timestamp: str
    gateway_node: str
    data: msgspec.Raw


class _Broker(msgspec.Struct, frozen=True, gc=False):
    event_type: str
    event_id: str
    timestamp: str
    broker_id: str
    data: msgspec.Raw


class _CloudEvent(msgspec.Struct, frozen=True, gc=False):
    """CloudEvents 1.0 section 3.1; the subject is the event's topic name, `dataschema` the version of
    its data. `traceparent` and `tracestate`: its Distributed Tracing extension; in a batch they are
    all that tells of each event's trace."""

    specversion: str
    id: str
    source: str
    type: str
    time: str
    datacontenttype: str
    dataschema: str | msgspec.UnsetType
    subject: str | msgspec.UnsetType
    traceparent: str | msgspec.UnsetType
    tracestate: str | msgspec.UnsetType
    data: msgspec.Raw


class _Standard(msgspec.Struct, frozen=True, gc=False):
    """Standard Webhooks 1.0, "Payload structure"; the id travels in the header `webhook-id`."""

    type: str
    timestamp: str
    data: msgspec.Raw


class Frame(NamedTuple):
    """An envelope without what differs from event to event:

    opening, id, middle, timestamp, ending, data, "}"
    """

    #: None: neither it nor the id are there
    opening: bytes | None
    middle: bytes
    ending: bytes


#: Stands in a frame's holes. What may come before them, event types and sources, never holds it.
_HOLE: Final = "\0"


class Envelopes:
    """Encodes events for one gateway node and one broker.

    The same event gives the same bytes every time. Safe to share among threads.
    """

    def __init__(self, *, gateway_node: str, broker_id: str) -> None:
        json = msgspec.json.Encoder().encode
        unset = msgspec.UNSET
        # CloudEvents 1.0: source is a URI-reference, and source and id together are unique.
        sources: Final = {
            "gateway": f"/gateway/{quote(gateway_node, safe='')}",
            "broker": f"/broker/{quote(broker_id, safe='')}",
        }

        def gateway(event: Event) -> bytes:
            return json(_Gateway(event.id, event.type, event.timestamp, gateway_node, event.data))

        def broker(event: Event) -> bytes:
            return json(_Broker(event.type, event.id, event.timestamp, broker_id, event.data))

        def cloudevents(event: Event) -> bytes:
            traceparent, tracestate = event.trace or ("", "")
            return json(
                _CloudEvent(
                    "1.0",
                    event.id,
                    sources[event.native],
                    event.type,
                    event.timestamp,
                    "application/json",
                    dataschema(event.type) or unset,
                    event.topic or unset,
                    traceparent or unset,
                    tracestate or unset,
                    event.data,
                )
            )

        def standard(event: Event) -> bytes:
            return json(_Standard(event.type, event.timestamp, event.data))

        self._encoders: dict[str, Encode] = {
            "gateway": gateway,
            "broker": broker,
            "cloudevents": cloudevents,
            "standard": standard,
        }

    def encode(self, style: EnvelopeStyle, event: Event) -> bytes:
        """Return the body to send: compact JSON in UTF-8."""
        return self._encoders[event.native if style == "native" else style](event)

    def frame(self, style: EnvelopeStyle, event_type: str, native: Native) -> Frame:
        """Return what surrounds the id, the time and the data of every event of a type without a
        topic."""
        event = Event(_HOLE, event_type, _HOLE, msgspec.Raw(b"0"), None, native)
        text = self.encode(style, event).removesuffix(b"0}")
        *opening, middle, ending = text.split(msgspec.json.encode(_HOLE)[1:-1], 2)
        return Frame(opening[0] if opening else None, middle, ending)
