"""Plain data as typed values, by the types of the structs, with every fault of a file at once.

msgspec's own conversion stops at the first fault, and cannot read unquoted YAML (`source.Plain`).
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Mapping
from typing import Any, Final, Literal, Union, get_args, get_origin

import msgspec

from fluxhook.config.codec import UNITS
from fluxhook.config.problems import Findings, hint
from fluxhook.config.source import NULLS, Plain
from fluxhook.config.units import MAX_INT64, Duration, Rate, Size

__all__ = ["BAD", "HIDDEN", "fields_of", "is_struct", "read_struct", "read_value"]

#: What `read_value` returns after it reported a problem.
BAD: Final = msgspec.UNSET

#: Fields whose values are never shown.
HIDDEN: Final = frozenset(("headers", "proxy", "secret", "secrets"))

#: What Go's yaml.v3 takes for a bool where one is wanted, YAML 1.1's forms included.
_TRUE: Final = frozenset("true True TRUE yes Yes YES on On ON y Y".split())
_FALSE: Final = frozenset("false False FALSE no No NO off Off OFF n N".split())
_INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+|0o[0-7]+", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?", re.ASCII)

_WANTED: Final[dict[Any, str]] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Duration: 'a duration such as "250ms", "3s" or "1h30m"',
    Size: 'a size such as 4096, "64KiB" or "1MiB"',
    Rate: 'a rate such as "100/s", or {rate: "6000/m", burst: 20}',
}


def fields_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The types of a struct's fields."""
    return {field.name: field.type for field in msgspec.structs.fields(kind)}


def is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def read_struct(
    kind: type[msgspec.Struct],
    raw: object,
    path: str,
    findings: Findings,
    *,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The fields that `raw` sets soundly, nested structs as dicts; the rest became problems.

    A field set to null counts as not set, unless null is one of its values. `extra` are keys beyond
    the struct's own, with their types.
    """
    if not isinstance(raw, dict):
        findings.problem(path, f"{_shown(raw, False)} is not a mapping", "write key: value lines")
        return {}
    wanted = {**fields_of(kind), **(extra or {})}
    values: dict[str, Any] = {}
    for key, item in raw.items():
        if key not in wanted:
            findings.problem(
                f"{path}.{key}" if path else str(key),
                f"{key!r:.80} is not known here",
                f"remove it{hint(str(key), wanted)}",
            )
            continue
        field = wanted[key]
        below = f"{path}.{key}" if path else key
        if _is_null(item) and type(None) not in get_args(field):
            continue
        if is_struct(field):
            values[key] = read_struct(field, item, below, findings)
        else:
            value = read_value(field, item, below, findings, hidden=key in HIDDEN)
            if value is not BAD:
                values[key] = value
    return values


def read_value(
    kind: Any, raw: object, path: str, findings: Findings, *, hidden: bool = False
) -> Any:
    """`raw` as a value of the type `kind` (`object`: as it is), or BAD after a problem was reported.

    With `hidden` no message shows the value.
    """
    if kind is object:
        return raw
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (kind,) = (arg for arg in args if arg is not type(None))
        return None if _is_null(raw) else read_value(kind, raw, path, findings, hidden=hidden)
    if origin is tuple and isinstance(raw, (list, tuple)):
        items = [
            read_value(args[0], item, f"{path}[{i}]", findings, hidden=hidden)
            for i, item in enumerate(raw)
        ]
        return BAD if any(item is BAD for item in items) else tuple(items)
    if origin is dict and isinstance(raw, dict) and all(isinstance(key, str) for key in raw):
        pairs = {
            key: read_value(args[1], value, f"{path}.{key}", findings, hidden=hidden)
            for key, value in raw.items()
        }
        return BAD if any(value is BAD for value in pairs.values()) else pairs
    said = ""
    try:
        if origin is Literal:
            value = _literal(args, raw)
        else:
            value = _scalar(kind, raw) if origin is None else BAD
    except ValueError as error:
        value, said = BAD, str(error)
    if value is BAD:
        wanted = _wanted(kind)
        near = hint(raw, args) if origin is Literal and isinstance(raw, str) else ""
        if hidden or not said:
            said = f"{_shown(raw, hidden)} is not {wanted}"
        findings.problem(path, said, f"write {wanted}{near}")
    return value


def _literal(options: tuple[Any, ...], raw: object) -> Any:
    return str(raw) if isinstance(raw, str) and raw in options else BAD


def _scalar(kind: Any, raw: object) -> Any:
    """The value, or BAD. ValueError says what is wrong with a duration, size or rate."""
    if kind in UNITS:
        return raw if isinstance(raw, kind) else kind.parse(_unquoted(raw))
    if kind is str:
        return (str(raw) if isinstance(raw, Plain) else raw) if isinstance(raw, str) else BAD
    if kind is bool:
        if isinstance(raw, Plain):
            return True if raw in _TRUE else False if raw in _FALSE else BAD
        return raw if isinstance(raw, bool) else BAD
    number: int | float
    if isinstance(raw, Plain):
        text = raw.replace("_", "")
        if len(raw) <= 64 and _INT.fullmatch(raw):
            number = int(text, 0)
        elif len(raw) <= 64 and kind is float and _FLOAT.fullmatch(raw):
            number = float(raw)
        else:
            return BAD
    elif isinstance(raw, (int, float)) and not isinstance(raw, bool):
        number = raw
    else:
        return BAD
    if isinstance(number, int) and abs(number) > MAX_INT64:
        raise ValueError(f"{str(number):.20}... is beyond 64 bits")
    if kind is float:
        return float(number) if math.isfinite(number) else BAD
    return number if isinstance(number, int) else BAD


def _unquoted(raw: object) -> object:
    """A tree without `Plain`: units read their own text, quoted or not."""
    if isinstance(raw, dict):
        return {key: _unquoted(value) for key, value in raw.items()}
    return str(raw) if isinstance(raw, Plain) else raw


def _is_null(raw: object) -> bool:
    return raw is None or (isinstance(raw, Plain) and raw in NULLS)


def _wanted(kind: Any) -> str:
    """What would be right, as a noun phrase."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal and len(args) == 1:
        return f"{args[0]}, the only one that is implemented"
    if origin is Literal:
        return f"one of {', '.join(args)}"
    if origin is tuple:
        return "a list, such as [a, b]"
    return "a mapping of names to texts" if origin is dict else _WANTED[kind]


def _shown(raw: object, hidden: bool) -> str:
    kinds = {str: "a text", Plain: "a text", list: "a list", tuple: "a list", dict: "a mapping"}
    if isinstance(raw, (dict, list, tuple)) or hidden:
        return kinds.get(type(raw), f"a value of type {type(raw).__name__}")
    return f"{raw!r:.80}"
