"""Events as the factory makes them."""

from __future__ import annotations

import enum
import json
import math
import re
import socket
import time
from typing import Any, cast

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.samples import DATA, ENVELOPES, sample
from fluxhook._native.event import is_plain
from fluxhook.errors import EventError, PayloadTooLarge
from fluxhook.events.broker import MessagePublished
from fluxhook.events.factory import EventFactory
from fluxhook.events.gateway import RouteError

PUBLISHED: dict[Any, Any] = DATA["message.published"] or {}


class Order(msgspec.Struct):
    order: int
    weight: float = 1.0


class Kind(enum.StrEnum):
    X = "x"


class Weight(float):
    """As numpy's numbers are."""


class Topic(enum.Enum):
    A = "a/b"


class Located(msgspec.Struct, rename={"place": "topic"}):
    place: object


class Row(msgspec.Struct, array_like=True):
    order: int


def test_id_and_time_are_made_where_none_is_given() -> None:
    """Each event has an id of its own kind, and the time of its making."""
    factory = EventFactory()
    before = int(time.time())
    gateway, broker = (
        factory.make("route.matched"),
        factory.make("auth.success", DATA["auth.success"]),
    )
    assert gateway.id.startswith("evt_")
    assert len(broker.id) == 36
    stamps = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before + s)) for s in range(5)]
    assert gateway.timestamp in stamps


def test_id_of_the_host() -> None:
    """A host may bring its own id, which is kept."""
    assert EventFactory().make("route.matched", event_id="mine-1").id == "mine-1"
    with pytest.raises(EventError, match=r"route\.matched: 'a\.b' is not an event id"):
        EventFactory().make("route.matched", event_id="a.b")


@pytest.mark.parametrize("event_type", ["", "Route.Error", "route error", "x" * 129, None, 5, []])
def test_bad_types(event_type: Any) -> None:
    """A text that is no event type is an EventError."""
    with pytest.raises(EventError, match="event type"):
        EventFactory().make(event_type)


def test_declared_types_may_have_capitals() -> None:
    """Exactly as they were declared."""
    factory = EventFactory(event_types=("User.Created",))
    assert factory.make("User.Created").type == "User.Created"
    for other in ("user.Created", "User.created", "User.Deleted"):
        with pytest.raises(EventError, match="one with capitals is listed under event_types"):
            factory.make(other)


def test_types_without_end() -> None:
    """A host may invent types without end: the factory remembers only so many."""
    factory = EventFactory()
    for i in range(5000):
        factory.make(f"host.t{i}")

    def remembered(i: int) -> bool:
        return factory.kind(f"host.t{i}") is factory.kind(f"host.t{i}")

    assert [remembered(i) for i in (0, 4095, 4096, 4999)] == [True, True, False, False]


def test_order_of_fields_is_the_catalogs() -> None:
    """However a host orders a dict, the fields come in the catalog's order."""
    shuffled = dict(sorted(PUBLISHED.items(), reverse=True))
    event = EventFactory().make("message.published", shuffled)
    body = json.loads(ENVELOPES.encode("native", event))
    assert list(body["data"]) == list(PUBLISHED)


def test_structs_of_the_catalogs() -> None:
    """An instance of the catalog's struct is sent as the dict of its fields would be."""
    data = RouteError(request_id="r", path="/", status_code=500, upstream_service="s", latency_ms=1)
    event = EventFactory().make("route.error", data)
    assert bytes(event.data) == msgspec.json.encode(data)
    assert event.data == EventFactory().make("route.error", msgspec.to_builtins(data)).data


@pytest.mark.parametrize(
    ("field", "value", "piece"),
    [
        ("latency_ms", math.nan, "data.latency_ms = nan"),
        ("path", object(), "data.path is of type object"),
        ("path", "\ud800", "data.path holds a lone surrogate"),
    ],
)
def test_structs_with_what_their_fields_do_not_take(field: str, value: Any, piece: str) -> None:
    """A struct that the host filled wrongly is refused as the dict would be, never sent."""
    data = RouteError(**{**DATA["route.error"], field: value})
    with pytest.raises(EventError, match=re.escape(piece)):
        EventFactory().make("route.error", data)


@pytest.mark.parametrize(
    ("event_type", "data", "pieces"),
    [
        ("message.published", {**PUBLISHED, "qos": 3}, ["qos = 3", "<= 2"]),
        ("message.published", {**PUBLISHED, "topic": 7}, ["topic = 7", "expected `str`"]),
        ("message.published", {**PUBLISHED, "retained": "no"}, ["retained = 'no'", "`bool`"]),
        ("message.published", {**PUBLISHED, "payload": "?"}, ["payload = '?'", "base64"]),
        ("message.published", {**PUBLISHED, "payload_size": -1}, ["payload_size = -1", ">= 0"]),
        ("message.published", {**PUBLISHED, "client": "x"}, ["'client'", "mean client_id"]),
        ("message.published", PUBLISHED | {7: "x"}, ["data has the key 7", "keys are texts"]),
        ("message.published", {"topic": "a"}, ["lacks the field 'client_id'"]),
        ("message.published", None, ["data is of type NoneType", "dict or a MessagePublished"]),
        ("message.published", Order(order=1), ["data is of type Order", "MessagePublished"]),
        ("message.published", [PUBLISHED], ["data is of type list"]),
        ("client.connected", {**(DATA["client.connected"] or {}), "keep_alive": 70000}, ["65535"]),
        ("route.error", {**(DATA["route.error"] or {}), "latency_ms": math.nan}, ["latency_ms"]),
        ("route.matched", [1], ["data is of type list", "give a dict, or a dataclass"]),
        ("route.matched", "text", ["data is of type str"]),
        ("route.matched", Row(order=1), ["data is of type Row", "that makes a JSON object"]),
        ("order.created", {"a": math.nan}, ["data.a = nan"]),
        ("order.created", {"a": {"b": [1.0, -math.inf]}}, ["data.a.b[1] = -inf"]),
        ("order.created", {"a": {1: 2}}, ["data.a has the key 1"]),
        ("order.created", {None: 2}, ["data has the key None"]),
        ("order.created", {"a": [{1, 2}, {"b": object()}]}, ["data.a[1].b is of type object"]),
        ("order.created", Order(order=1, weight=math.inf), ["data.weight = inf"]),
    ],
)
def test_bad_data(event_type: str, data: Any, pieces: list[str]) -> None:
    """Bad data is an EventError with the type, the field, its value, and what would be right."""
    with pytest.raises(EventError) as caught:
        EventFactory().make(event_type, data)
    for piece in (f"{event_type}: ", *pieces):
        assert piece in str(caught.value)


def test_data_that_holds_itself() -> None:
    """Data that holds itself is an EventError, not a crash."""
    data: dict[str, Any] = {}
    data["self"] = data
    with pytest.raises(EventError, match="nested over 128 levels deep, or holds itself"):
        EventFactory().make("order.created", data)
    with pytest.raises(EventError):
        EventFactory().make("message.published", {**PUBLISHED, "topic": data})


def test_no_data() -> None:
    """A type with undeclared fields may come without data; it is sent as an empty object."""
    assert EventFactory().make("secret.rotated").fields == {}


def test_hosts_structs() -> None:
    """A host's own struct is data for a type of its own."""
    event = EventFactory().make("order.created", Order(order=1))
    body = json.loads(ENVELOPES.encode("native", event))
    assert body["data"] == {"order": 1, "weight": 1.0}


def test_payload_needs_include_payload() -> None:
    """A payload leaves the broker only where the configuration says so; then as base64."""
    data = {**PUBLISHED, "payload": b"21.5"}
    without = EventFactory().make("message.published", data)
    assert b'payload"' not in ENVELOPES.encode("native", without)
    struct = msgspec.convert(data, MessagePublished)
    assert EventFactory().make("message.published", struct).data == without.data
    with_payload = EventFactory(include_payload=True).make("message.published", data)
    assert b'"payload":"MjEuNQ=="' in ENVELOPES.encode("native", with_payload)
    assert (
        with_payload.data
        == EventFactory(include_payload=True)
        .make("message.published", {**PUBLISHED, "payload": "MjEuNQ=="})
        .data
    )


@pytest.mark.parametrize(
    ("event_type", "topic", "expected"),
    [
        ("message.published", None, "sensors/temperature"),
        ("message.published", "other/topic", "other/topic"),
        ("message.delivered", None, "sensors/temperature"),
        ("message.retained", None, "sensors/temperature"),
        ("authz.publish_denied", None, "$SYS/broker/uptime"),
        ("subscription.created", None, None),
        ("authz.subscribe_denied", None, None),
        ("route.error", None, None),
        ("route.error", "routes/inventory", "routes/inventory"),
    ],
)
def test_topic(event_type: str, topic: str | None, expected: str | None) -> None:
    """A given topic wins; else messages and denied publishes have their data's, others none."""
    assert sample(event_type, topic=topic).topic == expected


def test_bad_topics() -> None:
    """A topic that is no text is refused, wherever it comes from."""
    with pytest.raises(EventError, match="a topic name is a text, not 5"):
        EventFactory().make("route.error", DATA["route.error"], topic=cast(str, 5))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"topic": "a/b"}, "a/b"),
        ({"topic": Topic.A}, "a/b"),
        (Located(place=Topic.A), "a/b"),
        ({"topic": 5}, None),
        ({}, None),
    ],
)
def test_topic_of_the_hosts_message_types(data: dict[str, Any], expected: str | None) -> None:
    """A `message.*` type of the host's own has its data's topic too, if its JSON has a text there."""
    assert EventFactory().make("message.dropped", data).topic == expected


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc") | st.integers(), JSON | st.floats()))
@example({"a": "x", "b": 1, "c": 1.5, "d": True, "e": None})
@example({"a": 1, None: 2})
@example({"a": Weight(1.5)})
@example({"a": [({"b": 1.5},)]})
@example({"a": [({"b": math.nan},)]})
@example({"a": {"b": {1: 2}}})
@example({"a": [{1}]})
@example({"a": Kind.X})
def test_plain_data(data: dict[Any, Any]) -> None:
    """Plain is what has text keys, and values that JSON carries as they are."""
    assert is_plain(data) == plain(data)


def plain(value: Any) -> bool:
    if type(value) is dict:
        return all(type(key) is str and plain(item) for key, item in value.items())
    if type(value) in (list, tuple):
        return all(map(plain, value))
    return type(value) in (str, int, bool, type(None)) or (
        type(value) is float and math.isfinite(value)
    )


@given(st.dictionaries(st.text("abc"), JSON))
def test_any_json_object_survives(data: dict[str, Any]) -> None:
    """Whatever object JSON can carry arrives as it was given."""
    event = EventFactory().make("order.created", data)
    assert json.loads(ENVELOPES.encode("gateway", event))["data"] == data


@given(
    st.recursive(
        st.none() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.text() | st.integers() | st.none(), inner)
            | st.sets(st.integers())
        ),
        max_leaves=10,
    )
)
def test_anything_else_is_an_event_error(data: Any) -> None:
    """Whatever is given, it is encoded without a loss, or refused with an EventError."""
    factory = EventFactory()
    for event_type in ("order.created", "message.published"):
        try:
            ENVELOPES.encode("native", factory.make(event_type, data))
        except EventError:
            continue
        assert event_type == "order.created"


def test_a_body_has_a_limit() -> None:
    """Of its bytes as they are sent, in the envelope that is asked for."""
    event = EventFactory().make("order.created", {"text": "é" * 100})
    size = len(EventFactory().encode("native", event))
    assert len(EventFactory(max_bytes=size).encode("native", event)) == size
    with pytest.raises(
        PayloadTooLarge, match=f"order.created: {size} bytes .*{size - 1}.; send"
    ) as e:
        EventFactory(max_bytes=size - 1).encode("native", event)
    assert e.value.field == "data"
    assert len(EventFactory(max_bytes=size - 1).encode("standard", event)) < size


@pytest.mark.parametrize(("names", "expected"), [({}, None), ({"gateway_node": "gw-1"}, "gw-1")])
def test_who_speaks(names: dict[str, str], expected: str | None) -> None:
    """This host, unless it has a name as a gateway or broker."""
    factory = EventFactory(**names)  # type: ignore[arg-type]
    body = json.loads(factory.encode("gateway", factory.make("route.matched")))
    assert body["gateway_node"] == (expected or socket.gethostname())
    body = json.loads(factory.encode("broker", factory.make("route.matched")))
    assert body["broker_id"] == socket.gethostname()
