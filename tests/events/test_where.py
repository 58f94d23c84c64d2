"""Content filters: what they match, against Python's own comparisons, and what is refused."""

from __future__ import annotations

import doctest
import json
import operator
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.events import where
from fluxhook.events.factory import EventFactory
from fluxhook.events.gateway import RouteError
from fluxhook.events.where import OPERATORS, compile_where, parse_condition

ERROR = RouteError(
    request_id="req_7h3k9m2p",
    path="/api/v2/inventory",
    status_code=503,
    upstream_service="stock-manager",
    latency_ms=2450,
)


def holds(condition: str, data: Any) -> bool:
    """For data as a host gives it, judged as `emit` does."""
    return compile_where([condition])(EventFactory().make("order.created", data).fields)


@pytest.mark.parametrize("data", [ERROR, msgspec.to_builtins(ERROR)])
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("status_code >= 500", True),
        ("status_code>=504", False),
        ("status_code < 503.5", True),
        ("status_code == 503.0", True),
        ("path startswith '/api/'", True),
        ('path startswith "/web/"', False),
        ("upstream_service in ['a', \"stock-manager\"]", True),
        ("upstream_service in['a','b']", False),
        ("latency_ms != 0", True),
        ("latency_ms != 2450", False),
        ("upstream_service > 'stock'", True),
        ("status_code == '503'", False),
        ("status_code != '503'", True),
        ("nothing == null", False),
        ("nothing != 0", False),
        ("__class__ != 0", False),
    ],
)
def test_conditions(condition: str, expected: bool, data: object) -> None:
    """A catalog's object and a dict with the same fields are judged alike."""
    assert holds(condition, data) is expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("client.region == 'eu'", True),
        ("client.tags.env == 'prod'", True),
        ("client.tags.env.x == 'prod'", False),
        ("client != 0", False),
        ("list != 0", False),
        ("list in [1]", False),
        ("none == null", True),
        ("none != null", False),
        ("none != 0", True),
        ("none < 1", False),
        ("yes == true", True),
        ("yes == 1", False),
        ("yes in [1, 2]", False),
        ("one == true", False),
        ("one in [true, 1.0]", True),
        ("yes > 0", False),
        ("trace-id startswith ''", True),
        ("one startswith '1'", False),
    ],
)
def test_nested_data_and_kinds(condition: str, expected: bool) -> None:
    """Dots lead into objects. Values have JSON's kinds: true is not 1. What is missing, or an object
    or a list, meets no condition."""
    data = {
        "client": {"region": "eu", "tags": {"env": "prod"}},
        "list": [1],
        "none": None,
        "yes": True,
        "one": 1,
        "trace-id": "x",
    }
    assert holds(condition, data) is expected


class Inner(msgspec.Struct, rename="camel"):
    order_no: int


class Outer(msgspec.Struct):
    inner: Inner
    optional: int | msgspec.UnsetType = msgspec.UNSET


class Row(msgspec.Struct, array_like=True):
    order_no: int


def test_structs_are_read_by_their_names_in_json() -> None:
    """An operator knows what the receiver sees: renamed fields, none that is unset, no positions."""
    data = Outer(Inner(7))
    assert holds("inner.orderNo == 7", data)
    assert not holds("inner.order_no == 7", data)
    assert not holds("optional != 1", data)
    assert not holds("row.order_no == 7", {"row": Row(7)})


def test_all_conditions_must_hold() -> None:
    """The list is a conjunction."""
    both = compile_where(["status_code >= 500", "latency_ms < 1000"])
    error = msgspec.to_builtins(ERROR)
    assert not both(error)
    assert both(error | {"latency_ms": 1})


# ------------------------------------------------------------------ against Python's own operators

quoted = st.text(st.characters(exclude_characters="'", exclude_categories=["Cs"]), max_size=8)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
scalars = quoted | numbers | st.booleans() | st.none()
#: few enough to be equal now and then
near = st.sampled_from(["", "a", "ab", "1", 0, 1, 1.0, -1, True, False, None]) | scalars

COMPARE: dict[str, Any] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def kind(value: object) -> type:
    return float if type(value) is int else type(value)


def written(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else json.dumps(value)


@given(near, st.sampled_from(sorted(COMPARE)), near)
def test_comparisons_are_pythons(field: object, sign: str, value: object) -> None:
    """Within a kind a condition is what Python says; between kinds only != holds."""
    if sign not in ("==", "!=") and kind(value) not in (str, float):
        with pytest.raises(ValueError, match="takes a text or number"):
            holds(f"f {sign} {written(value)}", {"f": field})
        return
    same = kind(field) is kind(value)
    expected = COMPARE[sign](field, value) if same else sign == "!="
    assert holds(f"f {sign} {written(value)}", {"f": field}) is expected


@given(near, st.lists(near, min_size=1, max_size=4))
def test_membership_is_equality_with_one(field: object, values: list[object]) -> None:
    """`in` is an `==` for each."""
    expected = any(holds(f"f == {written(v)}", {"f": field}) for v in values)
    assert holds(f"f in [{', '.join(map(written, values))}]", {"f": field}) is expected


@given(near, quoted)
def test_prefixes_are_pythons(field: object, prefix: str) -> None:
    """Of texts only."""
    expected = isinstance(field, str) and field.startswith(prefix)
    assert holds(f"f startswith '{prefix}'", {"f": field}) is expected


@given(st.text(st.sampled_from("ab.-_=<>! '\"[],01e\n")) | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but ValueError, and what was read can be compiled and asked."""
    try:
        parse_condition(text)
    except ValueError:
        return
    assert isinstance(holds(text, {"a": 1, "b": {"a": "x"}}), bool)


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("", "is not a condition"),
        ("status_code", "is not a condition"),
        ("status_code = 500", "is not a condition"),
        (">= 500", "is not a condition"),
        ("a. == 1", "is not a condition"),
        ("a b == 1", "is not a condition"),
        ("a-in ['x']", "is not a condition"),
        ("a like 'x'", "is not a condition"),
        ("a == ", "'' is not a value"),
        ("a == stock", "'stock' is not a value"),
        ("a == 'x", "is not a value"),
        ("a == 1 and b == 2", "is not a value"),
        ("a == True", "'True' is not a value"),
        ("a == 1e999", "'1e999' is not a value"),
        ("a == nan", "'nan' is not a value"),
        ("a == __import__('os')", "is not a value"),
        ("a in []", "is not a list of values"),
        ("a in [1,]", "is not a list of values"),
        ("a in [1 2]", "is not a list of values"),
        ("a in ['x]", "is not a list of values"),
        ("a in [[1]]", "'[1]' is not a value"),
        ("a in 'abc'", "in takes a list, not a text"),
        ("a == [1]", "not a list"),
        ("a < null", "< takes a text or number, not a null"),
        ("a >= true", "not a boolean"),
        ("a startswith 5", "startswith takes a text, not a number"),
        ("a == '" + "x" * 1024 + "'", "at most 1024 characters"),
    ],
)
def test_bad_conditions(text: str, piece: str) -> None:
    """Refused with a sentence."""
    with pytest.raises(ValueError, match=re.escape(piece)):
        parse_condition(text)


def test_every_operator_is_there() -> None:
    """The table that the documentation shows is the one that conditions are read by."""
    for sign, (_, kinds) in OPERATORS.items():
        value = {"text": "'x'", "number": "1", "list": "['x']"}[kinds[0]]
        assert parse_condition(f"a {sign} {value}").operator == sign
    assert doctest.testmod(where).failed == 0
