"""Content filters: conditions on the fields of an event's data, such as `status_code >= 500`.

    condition  path operator value
    path       name { "." name }                  a name has letters, digits, _ and -
    operator   one of OPERATORS
    value      number | 'text' | "text" | true | false | null | "[" value { "," value } "]"

A text is taken literally; one that holds a quote stands in quotes of the other kind. Values are those
of JSON, and each has one kind: 1 equals 1.0, and neither equals true or '1'.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

__all__ = ["OPERATORS", "Condition", "Predicate", "compile_where", "parse_condition"]

Predicate = Callable[[dict[str, Any]], bool]
Scalar = str | int | float | bool | None

#: Each operator: when it holds, and the kinds of value that it takes.
OPERATORS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "==": ("the field is the value", ("text", "number", "boolean", "null")),
    "!=": ("the field is there and is another value", ("text", "number", "boolean", "null")),
    "<": ("it is less; texts compare by code point", ("text", "number")),
    "<=": ("it is less, or equal", ("text", "number")),
    ">": ("it is greater", ("text", "number")),
    ">=": ("it is greater, or equal", ("text", "number")),
    "startswith": ("it is a text that begins so", ("text",)),
    "in": ("it equals one of the list", ("list",)),
}
_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_KINDS: Final[dict[type, str]] = {
    str: "text",
    int: "number",
    float: "number",
    bool: "boolean",
    type(None): "null",
}
_WORDS: Final[dict[str, Scalar]] = {"true": True, "false": False, "null": None}

#: Arbitrary; Python refuses to read numbers of thousands of digits.
_MAX_TEXT: Final = 1024
#: Arbitrary, far above how deep anybody's data has what a condition asks for.
_MAX_NAMES: Final = 16
#: What is possessive keeps the time of reading proportional to the length of the text.
_CONDITION: Final = re.compile(
    r"([\w-]++(?:\.[\w-]++)*+)\s*+(==|!=|<=|>=|<|>|(?<![\w-])(?:startswith|in)\b)\s*+(.*)",
    re.DOTALL,
)
_SCALAR: Final = re.compile(
    r"""'([^']*)'|"([^"]*)"|(-?[0-9]+)|(-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)|([a-z]+)""",
    re.ASCII,
)
_ITEM: Final = re.compile(r"""\s*+('[^']*+'|"[^"]*+"|[^\s,'"]++)\s*+(,|$)""")
_MISSING: Final = object()


class Condition(NamedTuple):
    """One condition, read. `value` is a tuple for `in`."""

    path: tuple[str, ...]
    operator: str
    value: Scalar | tuple[Scalar, ...]


def parse_condition(text: str) -> Condition:
    """Read a condition, or raise ValueError with what is wrong with it.

    >>> parse_condition("status_code >= 500")
    Condition(path=('status_code',), operator='>=', value=500)
    >>> parse_condition("client.region in ['eu', 'us']").value
    ('eu', 'us')
    """
    if len(text) > _MAX_TEXT:
        raise ValueError(f"a condition has at most {_MAX_TEXT} characters, not {len(text)}")
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r:.80} is not a condition")
    path, sign, written = match.groups()
    if path.count(".") >= _MAX_NAMES:
        raise ValueError(f"{text!r:.80}: a path has at most {_MAX_NAMES} names")
    value = _value(written)
    kind = "list" if isinstance(value, tuple) else _KINDS[type(value)]
    _, kinds = OPERATORS[sign]
    if kind not in kinds:
        raise ValueError(f"{text!r:.80}: {sign} takes a {' or '.join(kinds)}, not a {kind}")
    return Condition(tuple(path.split(".")), sign, value)


def compile_where(conditions: Iterable[str]) -> Predicate:
    """Return a test of an event's data, as it was decoded from JSON: whether all conditions hold.

    A field that is missing, or holds an object or a list, meets no condition, not even `!=`: a
    misspelt name must not let everything through.
    """
    predicates = [_compile(parse_condition(text)) for text in conditions]
    if len(predicates) == 1:
        return predicates[0]

    def predicate(data: dict[str, Any]) -> bool:
        for holds in predicates:  # noqa: SIM110 (a generator costs more than a few conditions)
            if not holds(data):
                return False
        return True

    return predicate


def _compile(condition: Condition) -> Predicate:
    path, holds = condition.path, _test(condition)

    def predicate(data: dict[str, Any]) -> bool:
        value: object = data
        for name in path:
            value = value.get(name, _MISSING) if isinstance(value, dict) else _MISSING
        kind = _KINDS.get(type(value))
        return kind is not None and holds(kind, value)

    return predicate


def _test(condition: Condition) -> Callable[[str, Any], bool]:
    """Return a test of whether a value of a kind meets the condition."""
    _, sign, value = condition
    if isinstance(value, tuple):
        members = frozenset((_KINDS[type(member)], member) for member in value)
        return lambda kind, field: (kind, field) in members
    wanted = _KINDS[type(value)]
    if sign == "==":
        return lambda kind, field: kind == wanted and field == value
    if sign == "!=":
        return lambda kind, field: kind != wanted or field != value
    if sign == "startswith":
        return lambda kind, field: kind == "text" and field.startswith(value)
    compare = _ORDER[sign]
    return lambda kind, field: kind == wanted and compare(field, value)


def _value(text: str) -> Scalar | tuple[Scalar, ...]:
    if not (text.startswith("[") and text.endswith("]")):
        return _scalar(text)
    items: list[Scalar] = []
    inner, end = text[1:-1], 0
    while True:
        match = _ITEM.match(inner, end)
        if match is None:
            raise ValueError(f"{text!r:.80} is not a list of values")
        items.append(_scalar(match[1]))
        end = match.end()
        if not match[2]:
            return tuple(items)


def _scalar(text: str) -> Scalar:
    match = _SCALAR.fullmatch(text)
    if match is not None:
        single, double, whole, number, word = match.groups()
        if whole is not None:
            return int(whole)
        if number is not None and math.isfinite(value := float(number)):
            return value
        if word is None and number is None:
            return single if single is not None else double
        if word in _WORDS:
            return _WORDS[word]
    raise ValueError(f"{text!r:.80} is not a value")
