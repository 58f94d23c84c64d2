"""Bodies of requests: the content type, the size, the JSON, the struct, and a clear error for each."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, Final, TypeVar

import msgspec

from fluxhook.admin.problem_details import FieldError, RequestError
from fluxhook.config import codec
from fluxhook.config.units import MAX_INT64
from fluxhook.events.json_text import json_fault
from fluxhook.events.nesting import MAX_DEPTH, decode_json

__all__ = ["JSON", "MERGE_PATCH", "NDJSON", "decode_object", "malformed", "media_type", "struct_of"]

S = TypeVar("S", bound=msgspec.Struct)

JSON: Final = "application/json"
#: RFC 7396 section 4
MERGE_PATCH: Final = "application/merge-patch+json"
NDJSON: Final = "application/x-ndjson"
#: the end of msgspec's messages: where the fault is
_AT: Final = re.compile(r"(.*?)(?: - at `\$\.?([^`]*)`)?", re.DOTALL)


def media_type(content_type: str | None, allowed: Collection[str]) -> str:
    """Return the type without its parameters. Raise RequestError (415); none at all counts as JSON."""
    said = (content_type or JSON).partition(";")[0].strip().lower()
    if said not in allowed:
        names = " or ".join(allowed)
        raise RequestError(
            "unsupported-media-type",
            f"The body is {said!r:.80}; send {names}.",
            [FieldError("Content-Type", f"{said!r:.80} is not taken here", f"send {names}")],
            headers={"Accept-Post": ", ".join(allowed)},
        )
    return said


def decode_object(body: bytes, *, optional: bool = False) -> dict[str, Any]:
    """Return the JSON object in a body. Raise RequestError: 400 for what is no JSON, 422 for no
    object."""
    if optional and not body.strip():
        return {}
    try:
        value = decode_json(body)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise malformed(body, error) from None
    if not isinstance(value, dict):
        raise RequestError(
            "invalid-request",
            "The body is not a JSON object.",
            [FieldError("", "is not an object", "send one JSON object")],
        )
    if (fault := _unfit(value)) is not None:
        raise RequestError("invalid-request", f"{fault.field}: {fault.message}", [fault])
    return value


def _unfit(value: dict[str, Any]) -> FieldError | None:
    """Return the first value that is good JSON, and that no process could hand to another."""
    # The items that are left at each level, and the steps to it: a path for each would take memory with
    # the length of its keys.
    left: list[Iterator[tuple[str, Any]]] = [iter([("", value)])]
    steps: list[str] = []
    while left:
        if (found := next(left[-1], None)) is None:
            left.pop()
            del steps[-1:]
            continue
        step, item = found
        if isinstance(item, (dict, list)):
            if len(steps) == MAX_DEPTH:
                return FieldError(
                    _path(steps, step), "is nested too deeply", f"nest at most {MAX_DEPTH} levels"
                )
            steps.append(step)
            left.append(_items(item))
        elif isinstance(item, int) and not -MAX_INT64 <= item <= MAX_INT64:
            fault = "is beyond 64 bits"
            return FieldError(_path(steps, step), fault, "write a smaller number, or a text")
    return None


def _items(value: dict[str, Any] | list[Any]) -> Iterator[tuple[str, Any]]:
    """Yield what a value holds, each with the step to it."""
    if isinstance(value, dict):
        return ((f".{key:.80}", item) for key, item in value.items())
    return ((f"[{i}]", item) for i, item in enumerate(value))


def _path(steps: list[str], last: str) -> str:
    return "".join([*steps, last]).removeprefix(".")


def struct_of(
    kind: type[S], value: object, *, within: str = "", problem: str = "invalid-request"
) -> S:
    """Return a struct of decoded JSON. Raise RequestError (422) that names the field, below
    `within`."""
    try:
        return msgspec.convert(value, kind, dec_hook=codec.decode_hook)
    except msgspec.ValidationError as error:
        match = _AT.fullmatch(str(error))
        message, at = (match[1], match[2] or "") if match else (str(error), "")
        message = f"{message:.200}"  # with a name that the caller wrote, of any length
        field = ".".join(filter(None, (within, at)))
        known = ", ".join(kind.__struct_fields__)
        fault = FieldError(field, message, f"its fields are {known}" if "field" in message else "")
        raise RequestError(problem, f"{field or 'the body'}: {message}", [fault]) from None


def malformed(text: bytes, error: Exception, where: str = "") -> RequestError:
    """Return the error for what the decoder said of the text (400)."""
    message = f"is not JSON: {json_fault(text, error)}"
    return RequestError(
        "malformed-body", f"{where or 'The body'} {message}", [FieldError(where, message)]
    )
