"""Plain data as typed values, by the types of the structs, with every fault of a file at once.

msgspec's own conversion stops at the first fault, and cannot read unquoted YAML (`source.Plain`).
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Any, Final, Literal, Union, get_args, get_origin

import msgspec

from fluxhook.config.codec import UNITS
from fluxhook.config.findings import Findings
from fluxhook.config.limits import too_many, too_many_keys
from fluxhook.config.option import fields_of, is_struct, options
from fluxhook.config.schema import Config, Endpoint, Token
from fluxhook.config.source import NULLS, Plain, is_null
from fluxhook.config.units import MAX_INT64, Duration, Rate, Size, Threshold, whole_number
from fluxhook.events.names import hint

__all__ = [
    "BAD",
    "HIDDEN",
    "fields_of",
    "is_struct",
    "read_number",
    "read_struct",
    "read_value",
    "wanted",
    "whole_nanoseconds",
]

#: What `read_value` returns after it reported a problem.
BAD: Final = msgspec.UNSET

#: Fields whose values are never shown.
HIDDEN: Final = frozenset(
    ("secret", *(o.name for kind in (Config, Token, Endpoint) for o in options(kind) if o.hidden))
)

#: What Go's yaml.v3 takes for a bool where one is wanted, YAML 1.1's forms included.
_BOOLS: Final = {
    **dict.fromkeys(("true", "yes", "on", "y"), True),
    **dict.fromkeys(("false", "no", "off", "n"), False),
}
#: Arbitrary; Python refuses to read numbers of thousands of digits.
_MAX_DIGITS: Final = 64
_INT: Final = re.compile(r"[-+]?(?:0|[1-9](?:_?[0-9])*|0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+)", re.ASCII)
#: A millisecond: the least that an option of ours takes, but for 0.
_LEAST_NS: Final = 1_000_000
_FLOAT: Final = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII)

#: what each type is called, and what to write
_WANTED: Final[dict[Any, tuple[str, str]]] = {
    str: ("a text", 'write a text, such as "abc"'),
    bool: ("true or false", "write true or false, without quotes"),
    int: ("a whole number", "write one such as 8, without quotes"),
    float: ("a number", "write one such as 2 or 0.5, without quotes"),
    Duration: ("a duration", 'write one such as "250ms", "3s" or "1h30m"'),
    Size: ("a size", 'write one such as 4096, "64KiB" or "1MiB"'),
    Rate: ("a rate", 'write one such as "100/s", or {rate: "6000/m", burst: 20}'),
    Threshold: ("a threshold", 'write one such as "100/s", or {rate: "100/s", window: "10s"}'),
    tuple: ("a list", "write one such as [a, b]"),
    dict: ("a mapping of texts", "write one `name: text` for each"),
}


def read_struct(
    kind: type[msgspec.Struct],
    raw: object,
    path: str,
    findings: Findings,
    *,
    extra: Mapping[str, Any] | None = None,
    hidden: bool = False,
) -> dict[str, Any]:
    """Return the fields that `raw` sets soundly, nested structs as dicts; the rest became problems.

    A field set to null counts as not set, unless null is one of its values. `extra` are keys beyond
    the struct's own, with their types. With `hidden` no message shows what stands in its place.
    """
    if not isinstance(raw, dict):
        findings.problem(path, f"{_shown(raw, hidden)} is not a mapping", "write key: value lines")
        return {}
    if too_many_keys(raw, path, findings):
        return {}
    fields = {**fields_of(kind), **(extra or {})}
    values: dict[str, Any] = {}
    for key, item in raw.items():
        if key not in fields:
            findings.problem(
                f"{path}.{key!s:.80}" if path else f"{key!s:.80}",
                f"{key!r:.80} is not known here",
                f"correct or remove it{findings.hint(hint, str(key), fields)}",
            )
            continue
        field = fields[key]
        below = f"{path}.{key}" if path else key
        if is_null(item) and type(None) not in get_args(field):
            continue
        if too_many(kind, key, item, below, findings):
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
    """Return `raw` as a value of the type `kind`, or BAD after a problem was reported.

    For the type `object` it is handed back as it is. With `hidden` no message shows the value.
    """
    if kind is object or kind is Any:
        return raw
    if is_struct(kind):
        return raw if isinstance(raw, kind) else _read_flat(kind, raw, path, findings, hidden)
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (kind,) = (arg for arg in args if arg is not type(None))
        return None if is_null(raw) else read_value(kind, raw, path, findings, hidden=hidden)
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
            value = str(raw) if isinstance(raw, str) and raw in args else BAD
        else:
            value = _scalar(kind, raw) if origin is None else BAD
    except ValueError as error:
        value, said = BAD, str(error)
    if value is BAD:
        name, remedy = wanted(kind)
        if hidden or not said:
            said = f"{_shown(raw, hidden)} is not {name}"
        findings.problem(path, said, remedy)
    return value


def _read_flat(
    kind: type[msgspec.Struct], raw: object, path: str, findings: Findings, hidden: bool
) -> Any:
    """Read a struct that is a member of a list. It has no nested ones."""
    values = read_struct(kind, raw, path, findings, hidden=hidden)
    for field in msgspec.structs.fields(kind):
        missing = field.required and field.name not in values
        if missing and isinstance(raw, dict) and findings.sound(f"{path}.{field.name}"):
            findings.problem(f"{path}.{field.name}", "is missing", f"add {field.name}: ...")
    return kind(**values) if findings.sound(path) else BAD


def _scalar(kind: Any, raw: object) -> Any:
    """Return the value, or BAD. ValueError says what is wrong with a duration, size, rate or
    threshold."""
    if kind in UNITS:
        # Units read their own text, quoted or not.
        if isinstance(raw, kind):
            return raw
        text = str(raw) if isinstance(raw, Plain) else raw
        if kind is Duration and (ns := whole_nanoseconds(raw)) is not None:
            return Duration(ns)
        return kind.parse(text)
    if kind is str:
        if isinstance(raw, Plain):
            return BAD if raw in NULLS else str(raw)
        return raw if isinstance(raw, str) else BAD
    if kind is bool:
        if isinstance(raw, Plain):
            return _BOOLS.get(raw.lower(), BAD)
        return raw if isinstance(raw, bool) else BAD
    return _number(kind, raw)


def whole_nanoseconds(raw: object) -> int | None:
    """Return the duration that an unquoted whole number stands for, as Go writes one down; None for
    anything else. Fewer than a millisecond's are none: who writes 30 means seconds."""
    number = _whole(raw) if isinstance(raw, Plain) else None
    return number if number is not None and abs(number) >= _LEAST_NS else None


def _whole(raw: Plain) -> int | None:
    if len(raw) > _MAX_DIGITS:
        return None
    if _INT.fullmatch(raw):
        return int(raw, 0)
    if _FLOAT.fullmatch(raw) and not raw.lstrip("+-").isdigit():  # 010 is 8 to some
        return whole_number(raw)
    return None


def read_number(kind: type[int] | type[float], raw: object) -> Any:
    """Return a number as the file has it, however large or small, or BAD."""
    try:
        return _number(kind, raw)
    except ValueError:
        return BAD


def _number(kind: type[int] | type[float], raw: object) -> Any:
    if isinstance(raw, Plain) and len(raw) <= _MAX_DIGITS:
        if (whole := _whole(raw)) is not None:
            raw = whole
        elif kind is float and _FLOAT.fullmatch(raw):
            raw = float(raw)
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or raw != raw:
        return BAD
    if abs(raw) > MAX_INT64:
        raise ValueError("the number is beyond 64 bits")
    if kind is float:
        return float(raw)
    return int(raw) if isinstance(raw, int) or raw.is_integer() else BAD


def wanted(kind: Any) -> tuple[str, str]:
    """Return what a type is called, and what to write."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is not Literal:
        return _WANTED[origin or kind]
    if len(args) == 1:
        return "implemented", f"write {args[0]}, the only one that is"
    return "known here", f"write {', '.join(args[:-1])} or {args[-1]}"


def _shown(raw: object, hidden: bool) -> str:
    if isinstance(raw, dict):
        return "a mapping"
    if isinstance(raw, (list, tuple)):
        return "a list"
    return "the value" if hidden else f"{raw!r:.80}"
