"""An event as the publisher handles it: named, dated, its data checked and encoded."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Collection
from typing import Any, Final, Literal

import msgspec

from fluxhook._native.event import are_scalars
from fluxhook.errors import EventError
from fluxhook.events.broker import MessagePublished
from fluxhook.events.catalog import BROKER, GATEWAY, TYPES, WITH_FILTER, WITH_TOPIC
from fluxhook.events.data import encode_data, plain_data, typed_data
from fluxhook.events.gateway import FailuresAggregated
from fluxhook.events.identity import Ids, Timestamps, id_fault
from fluxhook.events.names import type_fault

__all__ = ["Event", "EventMaker", "Kind", "Native", "order_key_of"]

#: Whose envelope an event has on endpoints that ask for none in particular.
Native = Literal["gateway", "broker"]

#: Arbitrary: a host that invents types without end must not fill memory.
_MAX_KINDS: Final = 4096


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

    @functools.cached_property
    def fields(self) -> dict[str, Any]:
        """The data as a receiver reads it: what filters and order keys judge."""
        return msgspec.json.decode(self.data, type=dict[str, Any])


class Kind:
    """What the maker knows of an event type."""

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


class EventMaker:
    """Makes events. One per process suffices: safe to share among threads and to keep over a fork.

    `native_envelope` is for types in neither catalog; `event_types` are those that the host declared.
    Without `include_payload` the payload of
    `message.published` is left out, wherever it comes from.
    """

    def __init__(
        self,
        *,
        native_envelope: Native = "gateway",
        include_payload: bool = False,
        event_types: Collection[str] = (),
    ) -> None:
        self._native: Native = native_envelope
        self._declared = frozenset(event_types)
        self._include_payload = include_payload
        self._ids = Ids()
        self.timestamps = Timestamps()
        self._kinds: dict[str, Kind] = {}

    def make(
        self,
        event_type: str,
        data: Any = None,
        *,
        topic: str | None = None,
        event_id: str | None = None,
        now_s: int | None = None,
    ) -> Event:
        """Return the event, or raise EventError with what to correct.

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
        return Event(event_id, kind.name, timestamp, encoded, topic, kind.native, topic_filter)

    def kind(self, event_type: str) -> Kind:
        """Return what all events of a type have in common. EventError for what is no event type."""
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
