"""The one place where events are made: named, dated, their data checked, and encoded."""

from __future__ import annotations

import functools
import operator
import socket
import sys
from collections.abc import Callable, Collection
from typing import Any, Final

import msgspec

from fluxhook._native.event import are_scalars
from fluxhook.errors import EventError, PayloadTooLarge
from fluxhook.events.broker import MessagePublished
from fluxhook.events.catalog import BROKER, GATEWAY, TYPES, WITH_FILTER, WITH_TOPIC
from fluxhook.events.data import encode_data, plain_data, typed_data
from fluxhook.events.envelope import Envelopes, EnvelopeStyle, Frame
from fluxhook.events.event import Event, Native
from fluxhook.events.gateway import FailuresAggregated
from fluxhook.events.identity import Ids, Timestamps, id_fault
from fluxhook.events.names import type_fault
from fluxhook.events.trace_context import TraceContext

__all__ = ["EventFactory", "Kind"]

#: Arbitrary: a host that invents types without end must not fill memory.
_MAX_KINDS: Final = 4096


class Kind:
    """What the factory knows of an event type."""

    __slots__ = ("check", "name", "native", "new_id", "topic", "topic_filter")

    def __init__(self, name: str, native: Native, ids: Ids, include_payload: bool) -> None:
        self.name = name
        #: the data, such that its JSON says all of it; raises EventError
        self.check = _checker(name, include_payload)
        #: finds the topic name in the data
        self.topic: Callable[[Any], str | None] | None = None
        if name in WITH_TOPIC:
            self.topic = operator.attrgetter("topic")
        elif name.startswith("message."):
            self.topic = _topic_of
        #: finds the topic filter in the data
        self.topic_filter: Callable[[Any], str] | None = (
            operator.attrgetter("topic_filter") if name in WITH_FILTER else None
        )
        self.native: Native = "gateway" if name in GATEWAY else native
        if name in BROKER:
            self.native = "broker"
        self.new_id = ids.broker if self.native == "broker" else ids.gateway


def _checker(name: str, include_payload: bool) -> Callable[[Any], Any]:
    struct, convert, values = TYPES.get(name), msgspec.convert, msgspec.structs.astuple
    if struct is None:
        return functools.partial(plain_data, name)
    # Made by the engine, of events that were checked; all other structs have fields of scalars only.
    unread = struct is FailuresAggregated

    def check(data: Any) -> Any:
        if type(data) is struct:
            if unread or are_scalars(values(data)):
                return data
        elif type(data) is dict:
            try:
                return convert(data, struct)
            except (TypeError, ValueError, RecursionError):
                pass  # typed_data reads more, and says what is wrong
        return typed_data(name, struct, data)

    def check_without_payload(data: Any) -> Any:
        data = check(data)
        if data.payload is msgspec.UNSET:
            return data
        return msgspec.structs.replace(data, payload=msgspec.UNSET)

    return check_without_payload if struct is MessagePublished and not include_payload else check


def _topic_of(data: dict[str, Any]) -> str | None:
    topic = data.get("topic")
    return topic if isinstance(topic, str) else None


class EventFactory:
    """Makes events and encodes them. One per configuration suffices: safe to share among threads and to
    keep over a fork.

    `gateway_node` and `broker_id` are who speaks in the envelopes, by default this host.
    `native_envelope` is for types in neither catalog; `event_types` are those that the host declared.
    Without `include_payload` the payload of `message.published` is left out, wherever it comes from.
    `max_bytes` is how long a body may be.
    """

    def __init__(
        self,
        *,
        gateway_node: str = "",
        broker_id: str = "",
        native_envelope: Native = "gateway",
        include_payload: bool = False,
        event_types: Collection[str] = (),
        max_bytes: int = sys.maxsize,
    ) -> None:
        host = socket.gethostname()
        self._envelopes = Envelopes(gateway_node=gateway_node or host, broker_id=broker_id or host)
        self._native: Native = native_envelope
        self._declared = frozenset(event_types)
        self._include_payload = include_payload
        self._ids = Ids()
        self.timestamps = Timestamps()
        self.max_bytes = max_bytes
        self._kinds: dict[str, Kind] = {}

    def make(
        self,
        event_type: str,
        data: Any = None,
        *,
        topic: str | None = None,
        event_id: str | None = None,
        trace: TraceContext | None = None,
        now_s: int | None = None,
    ) -> Event:
        """Return the event. Raises EventError with what to correct.

        `data` is what `typed_data` and `plain_data` take. `topic` wins over a `topic` in the data
        of `message.*` and `authz.publish_denied`; whether it is a valid topic name is left to the
        matcher. `event_id` is for hosts with ids of their own. `now_s` counts seconds since the
        epoch, None: now.
        """
        kind = self.kind(event_type)
        data = kind.check(data)
        if topic is None and kind.topic is not None:
            topic = kind.topic(data)
        topic_filter = None
        if topic is None and kind.topic_filter is not None:
            topic_filter = kind.topic_filter(data) or None
        if topic is not None:
            if not isinstance(topic, str):
                raise EventError(
                    f"{kind.name}: a topic name is a text, not {topic!r:.80}", field="topic"
                )
            topic = str.__str__(topic)  # of an enum too
        if event_id is None:
            event_id = kind.new_id()
        elif fault := id_fault(event_id):
            raise EventError(f"{kind.name}: {fault}", field="id")
        else:
            event_id = str.__str__(event_id)
        timestamp = self.timestamps.now()[1] if now_s is None else self.timestamps(now_s)
        encoded = msgspec.Raw(encode_data(kind.name, data))
        return Event(
            event_id, kind.name, timestamp, encoded, topic, kind.native, topic_filter, trace
        )

    def encode(self, style: EnvelopeStyle, event: Event) -> bytes:
        """Return the body to send. Raises PayloadTooLarge."""
        body = self._envelopes.encode(style, event)
        if len(body) > self.max_bytes:
            raise PayloadTooLarge(
                f"{event.type}: {len(body)} bytes are over max_event_bytes ({self.max_bytes}); "
                "send a reference instead of the content, or raise the limit",
                field="data",
            )
        return body

    def frame(self, style: EnvelopeStyle, event_type: str, native: Native) -> Frame:
        """Return what surrounds id, time and data of every event of a type without a topic."""
        return self._envelopes.frame(style, event_type, native)

    def kind(self, event_type: str) -> Kind:
        """Return what all events of a type have in common. Raises EventError for a bad type."""
        try:
            return self._kinds[event_type]
        except (KeyError, TypeError):
            return self._learn(event_type)

    def _learn(self, event_type: str) -> Kind:
        if not isinstance(event_type, str):
            raise EventError(f"an event type is a text, not {event_type!r:.80}", field="type")
        event_type = str.__str__(event_type)  # of an enum too
        if fault := type_fault(event_type, self._declared):
            raise EventError(f"{fault:.300}", field="type")
        kind = Kind(event_type, self._native, self._ids, self._include_payload)
        if len(self._kinds) < _MAX_KINDS:
            self._kinds[event_type] = kind
        return kind
