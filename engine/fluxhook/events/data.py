"""The data of an event: typed where a catalog knows the type, any JSON object where it does not.

What a host gives is reduced to what JSON has, by the encoder's own rules, before anybody looks at it.
So filters, order keys and topics judge what the receiver gets.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final, cast

import msgspec

from fluxhook._native.event import MAX_DEPTH, is_plain
from fluxhook.errors import EventError
from fluxhook.events.names import hint

__all__ = ["encode_data", "plain_data", "typed_data"]

_TOO_DEEP: Final = f"nested over {MAX_DEPTH} levels deep, or holds itself"
#: The end of msgspec's messages: where the fault is.
_AT: Final = re.compile(r"(.*) - at `\$\.(\w+)[^`]*`", re.DOTALL)

_encode: Final = msgspec.json.Encoder().encode


def typed_data(event_type: str, kind: type[msgspec.Struct], data: object) -> Any:
    """Return the data as the catalog's struct, so that fields, their order and their types never
    vary.

    Takes a dict, or an instance of the struct; a `bytes` field takes bytes, or base64 text. Raises
    EventError with the field, its value, and what would be right.
    """
    if not issubclass(type(data), (dict, kind)):  # isinstance would ask a proxy, which may raise
        raise EventError(
            f"{event_type}: data is of type {type(data).__name__}; give a dict or a {kind.__name__}",
            field="data",
        )
    fields = _reduced(event_type, data)
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        message, field = _diagnosis(kind, fields, str(error))
        raise EventError(f"{event_type}: {message}", field=field) from None


def _diagnosis(kind: type[msgspec.Struct], data: dict[str, Any], said: str) -> tuple[str, str]:
    """Return what is wrong, and where."""
    known = kind.__struct_fields__
    for name in data:
        if name not in known:
            message = f"data has no field {name!r:.80}{hint(name, known)}"
            return f"{message}; its fields are {', '.join(known)}", f"data.{name:.80}"
    for field in msgspec.structs.fields(kind):
        if field.required and field.name not in data:
            message = f"data lacks the field {field.name!r}; its fields are {', '.join(known)}"
            return message, f"data.{field.name}"
    if match := _AT.fullmatch(said):
        message = f"data has {match[2]} = {data[match[2]]!r:.80}; {match[1].lower()}"
        return message, f"data.{match[2]}"
    return said, "data"


def plain_data(event_type: str, data: object) -> dict[str, Any]:
    """Return data of a type whose fields nobody declared, as the JSON object that it makes.

    Takes a dict, a dataclass, a msgspec Struct or the like, or None for an empty object. Raises
    EventError, with the place in the data, for what has no faithful JSON: NaN and infinities (msgspec
    would write null), keys that are no text (it would make them text), other objects.
    """
    if is_plain(data):
        return data
    return {} if data is None else _reduced(event_type, data)


def encode_data(event_type: str, data: object) -> bytes:
    """Return the JSON of data that `typed_data` or `plain_data` returned. Raise EventError."""
    try:
        return _encode(data)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _unencodable(event_type, data, error) from None


# ------------------------------------------------------------------ to what JSON has


def _reduced(event_type: str, data: object) -> dict[str, Any]:
    """Return dicts, lists, texts, numbers, bools and None, as the encoder would write the data."""
    try:
        value = msgspec.to_builtins(data, enc_hook=_base_of)
        if not isinstance(value, dict):
            raise EventError(
                f"{event_type}: data is of type {type(data).__name__}; give a dict, or a dataclass or "
                "msgspec Struct that makes a JSON object, or None",
                field="data",
            )
        if not is_plain(value) and (fault := _fault(value)):
            raise EventError(f"{event_type}: {fault[1]}", field=fault[0])
        # Two keys that make one text, such as an enum's member and its value, are one key by now.
        json.loads(msgspec.json.encode(data, enc_hook=_base_of), object_pairs_hook=_distinct)
    except EventError:
        raise
    except _Repeated as error:
        message = f"data has two keys that JSON writes as {error.args[0]!r:.80}"
        raise EventError(f"{event_type}: {message}", field="data") from None
    except Exception as error:  # a host's objects may raise what they like
        raise _unencodable(event_type, data, error) from error
    return value


def _base_of(value: object) -> object:
    """Return the value as its base class has it, for msgspec, which takes no subclass of these."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, msgspec.Raw):
        return msgspec.json.decode(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


class _Repeated(Exception):
    """A key stands twice in one object."""


def _distinct(pairs: list[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _Repeated(key)
        seen.add(key)


# ------------------------------------------------------------------ what is wrong, and where


def _fault(data: dict[str, Any]) -> tuple[str, str] | None:
    """Return the place and the description of the first value that JSON cannot carry faithfully."""
    # What is left at each level, and the steps to it: a place for each value would take much memory.
    left: list[Iterator[tuple[str, object]]] = [iter([("data", data)])]
    steps: list[str] = []
    while left:
        if (found := next(left[-1], None)) is None:
            left.pop()
            del steps[-1:]
            continue
        step, value = found
        if isinstance(value, float) and not math.isfinite(value):
            path = "".join([*steps, step])
            return path, f"{path} = {value} has no JSON form; leave it out, or send None or a text"
        if not isinstance(value, (dict, list, tuple)):
            continue
        if len(steps) == MAX_DEPTH:
            return "data", f"data is {_TOO_DEEP}"
        steps.append(step)
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    path = "".join(steps)
                    return path, f"{path} has the key {key!r:.80}; JSON keys are texts"
        left.append(iter(_children(value)))
    return None


def _unencodable(event_type: str, data: object, error: Exception) -> EventError:
    """Return the EventError for what the encoder raised: it goes down to the value that has no JSON."""
    if isinstance(error, RecursionError):
        return EventError(f"{event_type}: data is {_TOO_DEEP}", field="data")
    path, value = "data", cast("Any", data)
    for _ in range(MAX_DEPTH):
        below = next((child for child in _children(value) if not _encodes(child[1])), None)
        if below is None:
            break
        path, value = path + below[0], below[1]
    # A proxy may pass for what it is not, or raise where isinstance asks it.
    kind: type[Any] = type(value)
    if isinstance(error, UnicodeError):
        what = "holds a lone surrogate, half of a pair, which UTF-8 cannot carry"
    elif issubclass(kind, dict) and (keys := [key for key in value if not isinstance(key, str)]):
        what = f"has the key {keys[0]!r:.80}; JSON keys are texts"
    elif issubclass(kind, (int, msgspec.Raw)):
        what = f"has no JSON form: {error}"
    else:
        what = f"is of type {kind.__name__}, which has no JSON form; convert it to one that has"
    return EventError(f"{event_type}: {path} {what}", field=path)


def _encodes(value: object) -> bool:
    try:
        _encode(msgspec.to_builtins(value, enc_hook=_base_of))
    except Exception:
        return False
    return True


def _children(value: object) -> list[tuple[str, object]]:
    """Return what a value holds, each with the step to it; nothing where it does not let itself be
    read."""
    try:
        if isinstance(value, dict):
            return [(f".{key!s:.80}", item) for key, item in value.items()]
        if isinstance(value, (list, tuple, set, frozenset)):
            return [(f"[{i}]", item) for i, item in enumerate(value)]
        return [(f".{name}", getattr(value, name)) for name in _fields(type(value))]
    except Exception:
        return []


def _fields(kind: type) -> tuple[str, ...]:
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return tuple(field.name for field in getattr(kind, "__attrs_attrs__", ()))
