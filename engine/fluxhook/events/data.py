"""The data of an event: typed where a catalog knows the type, any JSON object where it does not."""

from __future__ import annotations

import math
import re
from typing import Any, Final

import msgspec

from fluxhook._native.ring import is_flat
from fluxhook.errors import EventError
from fluxhook.events.names import hint

__all__ = ["plain_data", "typed_data", "unencodable"]

#: Types that JSON writes as they are.
_PLAIN: Final = frozenset((str, int, bool, type(None)))
#: The end of msgspec's messages: where the fault is.
_AT: Final = re.compile(r"(.*) - at `\$\.(\w+)[^`]*`", re.DOTALL)


def typed_data(event_type: str, kind: type[msgspec.Struct], data: object) -> msgspec.Struct:
    """The data as the catalog's struct, so that fields, their order and their types never vary.

    A dict is converted; a `bytes` field takes bytes, or base64 text. Raises EventError with the
    field, its value, and what would be right. (The maker takes instances of the struct unread.)
    """
    if not isinstance(data, dict):
        raise EventError(
            f"{event_type}: data is of type {type(data).__name__}; give a dict or a {kind.__name__}",
            field="data",
        )
    try:
        return msgspec.convert(data, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        message, field = _diagnosis(kind, data, str(error))
        raise EventError(f"{event_type}: {message}", field=field) from None


def _diagnosis(kind: type[msgspec.Struct], data: dict[Any, Any], said: str) -> tuple[str, str]:
    """What is wrong, and where."""
    known = kind.__struct_fields__
    for name in data:
        if name not in known:
            near = hint(name, known) if isinstance(name, str) else ""
            message = f"data has no field {name!r:.80}{near}; its fields are {', '.join(known)}"
            return message, f"data.{name}"
    for field in msgspec.structs.fields(kind):
        if field.required and field.name not in data:
            message = f"data lacks the field {field.name!r}; its fields are {', '.join(known)}"
            return message, f"data.{field.name}"
    if match := _AT.fullmatch(said):
        message = f"data has {match[2]} = {data[match[2]]!r:.80}; {match[1].lower()}"
        return message, f"data.{match[2]}"
    return said, "data"


def plain_data(event_type: str, data: object) -> object:
    """Data of a type whose fields nobody declared: a dict, a Struct, or None for an empty object.

    Raises EventError, with the place in the data, for what has no faithful JSON: NaN and infinities
    (msgspec would write null), keys that are no text (it would make them text), other objects.
    """
    if data is None:
        return {}
    if isinstance(data, dict):
        if is_flat(data):
            return data
    elif not isinstance(data, msgspec.Struct):
        raise EventError(
            f"{event_type}: data is of type {type(data).__name__}; "
            "give a dict, a msgspec Struct or None",
            field="data",
        )
    elif data.__struct_config__.array_like:
        raise EventError(
            f"{event_type}: a {type(data).__name__} is array_like and makes a JSON array; "
            "give one that makes an object",
            field="data",
        )
    try:
        fault = _fault(data, "data")
    except RecursionError:
        fault = "data is nested too deeply, or holds itself"
    if fault:
        raise EventError(f"{event_type}: {fault}", field="data")
    return data


def _fault(value: object, path: str) -> str | None:
    """The first value that JSON cannot carry faithfully."""
    if type(value) in _PLAIN:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return f"{path} = {value} has no JSON form; leave it out, or send None or a text"
    items: list[tuple[str, object]]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                return f"{path} has the key {key!r:.80}; JSON keys are texts"
        items = [(f"{path}.{key}", item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(f"{path}[{i}]", item) for i, item in enumerate(value)]
    elif isinstance(value, (set, frozenset)):
        items = [(path, item) for item in value]
    elif isinstance(value, msgspec.Struct):
        items = [(f"{path}.{name}", getattr(value, name)) for name in value.__struct_fields__]
    else:
        return _leaf_fault(value, path)
    return next(filter(None, (_fault(item, below) for below, item in items)), None)


def _leaf_fault(value: object, path: str) -> str | None:
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError):
        kind = type(value).__name__
        return f"{path} is of type {kind}, which has no JSON form; convert it to one that has"
    return None


def unencodable(event_type: str, error: Exception) -> EventError:
    """The EventError for what the encoder raised on an event's data."""
    if isinstance(error, RecursionError):
        return EventError(f"{event_type}: data is nested too deeply, or holds itself")
    if isinstance(error, UnicodeError):
        return EventError(f"{event_type}: data holds a text that is not valid Unicode: {error}")
    return EventError(f"{event_type}: data has no JSON form: {error}")
