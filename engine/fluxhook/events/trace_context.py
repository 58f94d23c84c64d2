"""W3C Trace Context: which trace an event belongs to (https://www.w3.org/TR/trace-context-2/).

An event's context is sent to its receivers as it was given, with every attempt: Fluxhook passes it on
and adds no span of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from fluxhook.errors import EventError

__all__ = [
    "MAX_TRACESTATE",
    "TraceContext",
    "common",
    "from_headers",
    "given",
    "opentelemetry_context",
]

#: section 3.3.1.5: at least so many characters are passed on; arbitrary above that
MAX_TRACESTATE: Final = 512
#: section 3.3.1.1
_MAX_MEMBERS: Final = 32
#: section 3.3.1.5: what is longer is left out first
_LONG_MEMBER: Final = 128

#: section 3.2; `ff` is no version, and zeros are no ids
_TRACEPARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
#: section 3.3.1.3
_MEMBER: Final = re.compile(
    r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)


class TraceContext(NamedTuple):
    """The values of the two headers; `tracestate` may be empty."""

    traceparent: str
    tracestate: str = ""


def given(traceparent: str | None, tracestate: str | None) -> TraceContext | None:
    """Return the context that a host gives to an event, None where it gives none. Raise EventError."""
    if traceparent is None:
        if tracestate is None:
            return None
        raise EventError("a tracestate needs a traceparent; give both", field="tracestate")
    parent = _read_parent(traceparent) if isinstance(traceparent, str) else None
    if parent is None:
        raise EventError(
            f"{traceparent!r:.80} is not a traceparent; it is written as "
            "00-<32 hexadecimal digits>-<16>-<2>, in small letters",
            field="traceparent",
        )
    if tracestate is None:
        return TraceContext(parent)
    state = _read_state(tracestate) if isinstance(tracestate, str) else None
    if state is None:
        raise EventError(
            f"{tracestate!r:.80} is not a tracestate; it is written as key=value,key=value with at "
            f"most {_MAX_MEMBERS} members",
            field="tracestate",
        )
    return TraceContext(parent, state)


def from_headers(
    traceparents: Sequence[str], tracestates: Sequence[str]
) -> tuple[TraceContext | None, int]:
    """Return the context that a request's headers name, and how many of its two headers are ignored
    because they cannot be read.

    Section 4.3: a bad `tracestate` leaves the `traceparent` as it is; without a `traceparent` there is
    no use for a `tracestate`.
    """
    if not traceparents:
        return None, 0
    parent = _read_parent(traceparents[0].strip()) if len(traceparents) == 1 else None
    if parent is None:
        return None, 1
    state = _read_state(",".join(tracestates))
    return TraceContext(parent, state or ""), int(state is None)


def common(contexts: Sequence[TraceContext | None]) -> TraceContext | None:
    """Return the context that all of them have; None where they differ, or one has none."""
    first = contexts[0]
    return first if all(context == first for context in contexts) else None


def opentelemetry_context() -> Callable[[], TraceContext | None]:
    """Return what reads OpenTelemetry's current context. Raise ImportError where it is not
    installed."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    inject = TraceContextTextMapPropagator().inject

    def current() -> TraceContext | None:
        carrier: dict[str, str] = {}
        inject(carrier)
        named = [[carrier[name]] if name in carrier else [] for name in TraceContext._fields]
        return from_headers(*named)[0]

    return current


def _read_parent(text: str) -> str | None:
    """Return a traceparent of version 00; None for what is none.

    Section 3.2.4: what a later version adds is left out.
    """
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "00":
        return None if more else found[0]
    return f"00-{trace_id}-{parent_id}-{int(flags, 16) & 1:02x}"


def _read_state(text: str) -> str | None:
    """Return the members that fit into MAX_TRACESTATE; None for what is no tracestate."""
    members = [member for part in text.split(",") if (member := part.strip(" \t"))]
    if len(members) > _MAX_MEMBERS or not all(map(_MEMBER.fullmatch, members)):
        return None
    for longest in (_LONG_MEMBER, 0):
        for i in reversed(range(len(members))):
            if len(",".join(members)) > MAX_TRACESTATE and len(members[i]) > longest:
                del members[i]
    return ",".join(members)
