"""What becomes of a host's data: exactly one JSON document that says all of it, or an EventError."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import http
import json
import math
import tracemalloc
import types
import typing
import uuid
from collections.abc import Callable
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.samples import DATA
from fluxhook._native.event import MAX_DEPTH
from fluxhook.errors import EventError
from fluxhook.events.envelope import Envelopes
from fluxhook.events.event import order_key_of
from fluxhook.events.factory import EventFactory
from fluxhook.events.where import compile_where


class Level(enum.StrEnum):
    ERROR = "error"


class Plain(enum.Enum):
    TEXT = "x"
    NUMBER = 5
    NAN = math.nan


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Real(float):
    """As numpy's numbers are."""


class Attributes(dict[str, Any]):
    """As many libraries have them."""


class Pair(typing.NamedTuple):
    a: object
    b: object


class Typed(typing.TypedDict):
    a: int


@dataclasses.dataclass
class Reading:
    value: object


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    value: object


@attrs.define
class Attrs:
    value: object


class Renamed(msgspec.Struct, rename="camel", tag=True, omit_defaults=True):
    my_value: object = None
    unset: int | msgspec.UnsetType = msgspec.UNSET


class Row(msgspec.Struct, array_like=True):
    value: object


class Rude(set[int]):
    def __iter__(self) -> typing.NoReturn:
        raise LookupError("no such row")


def sent(data: Any, event_type: str = "order.created") -> Any:
    event = EventFactory().make(event_type, data)
    body = Envelopes(gateway_node="gw", broker_id="b").encode("native", event)
    data_sent = json.loads(body)["data"]
    assert event.fields == data_sent
    return data_sent


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (http.HTTPStatus(503), 503),
        (Level.ERROR, "error"),
        (Plain.TEXT, "x"),
        (Plain.NUMBER, 5),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime.datetime(2026, 2, 5), "2026-02-05T00:00:00"),
        (datetime.date(2026, 2, 5), "2026-02-05"),
        (datetime.timedelta(seconds=1.5), "PT1.5S"),
        (b"ab", "YWI="),
        (bytearray(b"ab"), "YWI="),
        (memoryview(b"ab"), "YWI="),
        (Text("q"), "q"),
        (Whole(5), 5),
        (Real(1.5), 1.5),
        (2**64, 2**64),
        (-(2**63) - 1, -(2**63) - 1),
        (Attributes(x=1), {"x": 1}),
        (collections.OrderedDict(x=1), {"x": 1}),
        (collections.defaultdict(int, x=1), {"x": 1}),
        (collections.Counter("a"), {"a": 1}),
        (Typed(a=1), {"a": 1}),
        (Pair(1, Level.ERROR), [1, "error"]),
        ((1, (2,)), [1, [2]]),
        ({7}, [7]),
        (frozenset((7,)), [7]),
        (Reading(Reading(1)), {"value": {"value": 1}}),
        (Slotted(1), {"value": 1}),
        (Attrs(Level.ERROR), {"value": "error"}),
        (Renamed(my_value=Text("q")), {"type": "Renamed", "myValue": "q"}),
        (Renamed(), {"type": "Renamed"}),
        (Row(1), [1]),
        (msgspec.Raw(b' {"a" : 1} '), {"a": 1}),
        ({Level.ERROR: 1, Text("t"): 2}, {"error": 1, "t": 2}),
    ],
)
def test_each_kind_of_object_is_sent_as_its_json(value: Any, expected: Any) -> None:
    """Alone, inside others, and where it is an object, as the whole data."""
    assert sent({"a": value}) == {"a": expected}
    assert sent({"a": [{"b": (value,)}]}) == {"a": [{"b": [expected]}]}
    assert sent(Reading([value])) == {"value": [expected]}
    if isinstance(expected, dict):
        assert sent(value) == expected


@pytest.mark.parametrize(
    ("value", "piece", "field"),
    [
        (math.nan, "data.a = nan has no JSON form", "data.a"),
        (Real("inf"), "data.a = inf", "data.a"),
        (Plain.NAN, "data.a = nan", "data.a"),
        (Reading(math.nan), "data.a.value = nan", "data.a.value"),
        ([Reading(1), Reading([math.inf])], "data.a[1].value[0] = inf", "data.a[1].value[0]"),
        (Renamed(my_value=-math.inf), "data.a.myValue = -inf", "data.a.myValue"),
        (Row(math.nan), "data.a[0] = nan", "data.a[0]"),
        ((Attrs(math.nan),), "data.a[0].value = nan", "data.a[0].value"),
        ({math.nan: 1}, "data.a has the key nan", "data.a"),
        ({1: 2, "1": 3}, "data.a has the key 1", "data.a"),
        (Reading({None: 2}), "data.a.value has the key None", "data.a.value"),
        ({Plain.TEXT: 1, "x": 2}, "two keys that JSON writes as 'x'", "data"),
        ([{uuid.UUID(int=0): 1, str(uuid.UUID(int=0)): 2}], "two keys that JSON writes", "data"),
        (msgspec.Raw(b'{"a":1,"a":2}'), "two keys that JSON writes as 'a'", "data"),
        (msgspec.Raw(b"}{"), "data.a has no JSON form", "data.a"),
        ([Reading("\ud800")], "data.a[0].value holds a lone surrogate", "data.a[0].value"),
        ({"\ud800": 1}, "data.a holds a lone surrogate", "data.a"),
        pytest.param(10**5000, "data.a has no JSON form", "data.a", id="digits"),
        ([1, 1j], "data.a[1] is of type complex", "data.a[1]"),
        (Reading(object()), "data.a.value is of type object", "data.a.value"),
        ((i for i in [1]), "data.a is of type generator", "data.a"),
        (types.MappingProxyType({"a": 1}), "data.a is of type mappingproxy", "data.a"),
        (msgspec.UNSET, "data.a is of type UnsetType", "data.a"),
    ],
)
def test_what_has_no_faithful_json_is_named(value: Any, piece: str, field: str) -> None:
    """Nothing goes out as null, twice, or as another value than it has: the error names its place."""
    with pytest.raises(EventError) as caught:
        EventFactory().make("order.created", {"a": value})
    assert piece in str(caught.value)
    assert caught.value.field == field


def test_a_hosts_object_that_raises_is_an_event_error() -> None:
    """Whatever the host's object raises while it is read."""

    with pytest.raises(EventError, match=r"order\.created: data\.a is of type Rude"):
        EventFactory().make("order.created", {"a": Rude()})


@pytest.mark.parametrize("type", ["order.created", "route.error"])
def test_a_proxy_of_nothing_is_an_event_error(type: str) -> None:
    """Such as a web framework's outside of a request, which raises when it is asked what it is."""

    class Unbound:
        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            raise RuntimeError("working outside of request context")

    for data in (Unbound(), {"request_id": Unbound()}):
        with pytest.raises(EventError, match="is of type Unbound"):
            EventFactory().make(type, data)


def test_a_catalogs_type_takes_every_form() -> None:
    """Of a dict with enums, ids and subclasses a catalog's type gets their JSON."""
    data = {
        **(DATA["route.error"] or {}),
        "request_id": uuid.UUID(int=1),
        "path": Text("/"),
        "status_code": http.HTTPStatus(503),
        "latency_ms": Whole(3),
    }
    for given_data in (data, collections.OrderedDict(data), {Text(k): v for k, v in data.items()}):
        fields = sent(given_data, "route.error")
        assert fields["request_id"] == str(uuid.UUID(int=1))
        assert (fields["path"], fields["status_code"], fields["latency_ms"]) == ("/", 503, 3)


def nested(levels: int, leaf: object, within: Callable[[object], object]) -> object:
    for _ in range(levels):
        leaf = within(leaf)
    return leaf


@pytest.mark.parametrize("leaf", [1, Level.ERROR])
@pytest.mark.parametrize("within", [lambda x: [x], lambda x: {"a": x}, lambda x: (x,), Reading])
def test_depth_is_our_limit(leaf: object, within: Callable[[object], object]) -> None:
    """Whatever nests, and whichever Python runs."""
    sent({"a": nested(MAX_DEPTH - 1, leaf, within)})
    for levels in (MAX_DEPTH, 10 * MAX_DEPTH, 100_000):
        with pytest.raises(EventError, match="nested over 128 levels deep"):
            EventFactory().make("order.created", {"a": nested(levels, leaf, within)})


def test_data_that_holds_itself_in_any_way() -> None:
    """By a list, a dict, or an object."""
    loop: list[Any] = []
    loop.append(loop)
    reading = Reading(None)
    reading.value = {"again": reading}
    table: dict[str, Any] = {"level": Level.ERROR}
    table["self"] = table
    for data in ({"a": loop}, reading, table):
        with pytest.raises(EventError, match="or holds itself"):
            EventFactory().make("order.created", data)


def test_subclasses_of_text_name_the_event() -> None:
    """Type, id and topic too are the texts that go out."""
    event = EventFactory().make(Level.ERROR, {}, topic=Text("a/b"), event_id=Text("mine"))
    for value in (event.type, event.topic, event.id):
        assert type(value) is str
    assert (event.type, event.topic, event.id) == ("error", "a/b", "mine")


# ------------------------------------------------------------------ whatever a host gives

texts = st.text(max_size=4)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.binary(max_size=4)
    | st.sampled_from([*http.HTTPStatus, Level.ERROR, *Plain])
    | st.decimals()
    | st.uuids()
    | st.datetimes()
    | st.dates()
    | st.timedeltas()
    | texts.map(Text)
    | st.integers().map(Whole)
    | st.floats().map(Real)
    | st.complex_numbers()
)
keys = texts | texts.map(Text) | st.integers(0, 3) | st.sampled_from([*Level, *Plain]) | st.uuids()
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
        | st.dictionaries(texts, inner, max_size=3).map(Attributes)
        | st.frozensets(st.integers(), max_size=3)
        | inner.map(Reading)
        | inner.map(Attrs)
        | inner.map(Renamed)
        | inner.map(Row)
        | st.tuples(inner, inner).map(lambda pair: Pair(*pair))
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from("ab"), values)
    | values.map(Reading)
    | values.map(Renamed)
    | values.filter(lambda value: value is not None)
)
def test_judged_is_what_is_sent(data: Any) -> None:
    """For any data whatever: refused with an EventError, or filters and order keys see exactly what
    stands in the body, and no number there has become null."""
    try:
        event = EventFactory().make("order.created", data)
    except EventError:
        return
    body = Envelopes(gateway_node="gw", broker_id="b").encode("gateway", event)
    received = json.loads(body)["data"]
    assert event.fields == received
    for name, value in received.items():
        if isinstance(value, str) and "'" not in value:
            assert compile_where([f"a == '{value}'"])({"a": event.fields[name]})
        text = order_key_of(event, name)
        assert isinstance(value, (dict, list)) or text == (
            "" if value is None else str(value).replace("\0", "\ufffd")
        )
    assert body.count(b"null") == nones(data) + str(texts_in(received)).count("null")


def nones(value: Any) -> int:
    """Return how many fields the host left None: JSON may have as many null, and no more."""
    if value is None:
        return 1
    if isinstance(value, dict):
        return sum(map(nones, value.values()))
    if isinstance(value, (list, tuple, frozenset)):
        return sum(map(nones, value))
    if isinstance(value, Renamed):
        return nones(value.my_value) if value.my_value is not None else 0
    return nones(value.value) if isinstance(value, (Reading, Attrs, Row)) else 0


def texts_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [*value, *(text for item in value.values() for text in texts_in(item))]
    return [text for item in value for text in texts_in(item)] if isinstance(value, list) else []


def test_a_deep_place_is_not_kept_with_each_value_at_it() -> None:
    """To look for a fault takes memory with the size of the data, and not with its depth too."""
    data: dict[str, Any] = {"list": [*range(5000), float("nan")]}
    for _ in range(120):
        data = {"k" * 80: data}
    tracemalloc.start()
    try:
        with pytest.raises(EventError, match=r"\.list\[5000\] = nan has no JSON form"):
            EventFactory().make("order.created", data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20  # such places would take 50 MB
