"""What stands between the API's texts and the store's keys: ids, times, filters, cursors."""

from __future__ import annotations

import base64
import binascii
import re
import time
from datetime import datetime
from typing import Final

import msgspec

from fluxhook.admin.problem_details import FieldError, RequestError
from fluxhook.config.units import MAX_INT64, Duration
from fluxhook.store.queries import DeliveryFilter
from fluxhook.store.rows import State

__all__ = [
    "delivery_filter",
    "given",
    "invalid",
    "parse_cursor",
    "parse_delivery_id",
    "parse_moment",
    "write_cursor",
]

_DELIVERY: Final = re.compile(r"dlv_([0-7][0-9a-f]{15})", re.ASCII)
#: Arbitrary; ours have some 40.
_MAX_CURSOR: Final = 400


def parse_delivery_id(text: str) -> int:
    """Return the number of a delivery's id. Raise RequestError (404): what is none names no
    delivery."""
    match = _DELIVERY.fullmatch(text)
    if match is None:
        raise RequestError("unknown-delivery", f"{text!r:.80} is not the id of a delivery.")
    return int(match[1], 16)


def parse_moment(text: str | None, field: str) -> int | None:
    """Return nanoseconds since the epoch of an RFC 3339 time, or of a duration ago ("15m")."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            ns = int(moment.timestamp() * 1000) * 1_000_000
            return min(max(0, ns), MAX_INT64)
    except (ValueError, OverflowError):
        try:
            return max(0, time.time_ns() - Duration.parse(text).ns)
        except ValueError:
            pass
    raise invalid(
        field,
        f"{text!r:.80} is not a time",
        'write one with its zone, such as "2026-02-05T12:00:00Z" (a + in a URL is %2B), or a duration '
        'such as "15m" for that long ago',
    )


def given(**texts: str) -> dict[str, str]:
    """Return the parameters of a query that are given: one that is not is "" (routes/deliveries.py)."""
    return {name: text for name, text in texts.items() if text}


def delivery_filter(
    *,
    endpoint: str | None = None,
    type: str | None = None,
    state: str | None = None,
    cause: str | None = None,
    event_id: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> DeliveryFilter:
    """Return a filter from the texts of a request; None stands for what is not given.

    `endpoint` stays what the caller wrote, for the service to resolve. Raises RequestError (422).
    """
    since_ns, until_ns = parse_moment(since, "since"), parse_moment(until, "until")
    if since_ns is not None and until_ns is not None and since_ns > until_ns:
        raise invalid("since", f"{since} comes after until ({until})", "swap them")
    return DeliveryFilter(
        endpoint=endpoint,
        type=type,
        state=None if state is None else _state(state),
        cause=cause,
        event_id=event_id,
        since_ns=since_ns,
        until_ns=until_ns,
    )


def _state(name: str) -> State:
    try:
        return State[name.upper()]
    except KeyError:
        names = ", ".join(state.name.lower() for state in State)
        raise invalid("state", f"{name!r:.80} is no state", f"write one of {names}") from None


def write_cursor(kind: str, *key: int | str) -> str:
    """Return an opaque text that only `parse_cursor` of the same kind reads."""
    packed = msgspec.msgpack.encode((kind, *key))
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def parse_cursor(
    text: str | None, kind: str, types: tuple[type, ...]
) -> tuple[int | str, ...] | None:
    """Return the key of a cursor; None for None. Raise RequestError for another kind's, or garbage."""
    if text is None:
        return None
    try:
        if len(text) > _MAX_CURSOR:
            raise ValueError
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        said, *key = msgspec.msgpack.decode(packed, type=tuple)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        said, key = "", []
    sound = said == kind and [type(part) for part in key] == list(types)
    if not sound or any(isinstance(part, int) and abs(part) > MAX_INT64 for part in key):
        raise invalid(
            "cursor",
            f"{text!r:.80} is not a cursor of this list",
            "give the next_cursor of the page before, unchanged",
        )
    return tuple(key)


def invalid(field: str, message: str, remedy: str) -> RequestError:
    """Return the error that says that a value of the request is wrong (422)."""
    return RequestError(
        "invalid-request", f"{field}: {message}", [FieldError(field, message, remedy)]
    )
