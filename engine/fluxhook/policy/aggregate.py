"""Aggregation: the events of some types that arrive within a window become one notification.

"FluxGate aggregates consecutive failures into a single batched notification to prevent webhook storms
during outages." The window begins with the first event and lasts for its whole time, however many
come; what comes after it was closed opens the next. So a receiver gets at most one notification for
each length of a window, and every event is counted in exactly one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fluxhook.config.schema import Aggregate
from fluxhook.events.names import matches, overlap

__all__ = ["Window", "add", "aggregates", "closes", "gathered"]


class Window(msgspec.Struct, frozen=True, array_like=True):
    """What one endpoint's window has gathered. It closes by the engine's clock (policy/clock.py);
    `first_ns` and `last_ns` are when the earliest and the latest of its events were accepted, by the
    wall clock."""

    closes_ns: int
    counts: dict[str, int]
    first_ns: int
    last_ns: int
    #: the envelopes of the first events, as many and as large as there is room for
    originals: tuple[bytes, ...] = ()

    @property
    def count(self) -> int:
        return sum(self.counts.values())


def aggregates(aggregate: Aggregate, event_type: str) -> bool:
    """Return whether events of the type are gathered."""
    return bool(aggregate.window) and any(
        matches(pattern, event_type) for pattern in aggregate.types
    )


def gathered(aggregate: Aggregate, events: Sequence[str]) -> tuple[str, ...]:
    """Return those of the types that an endpoint with these event patterns may get at all: none if
    nothing is ever gathered for it. No pattern stands for every type."""
    if not aggregate.window:
        return ()
    return tuple(
        pattern
        for pattern in aggregate.types
        if not events or any(overlap(pattern, wanted) for wanted in events)
    )


def add(
    window: Window | None,
    event_type: str,
    body: bytes,
    accepted_ns: int,
    now_ns: int,
    *,
    aggregate: Aggregate,
    room_bytes: int,
) -> Window:
    """Return the window with one more event, which opens it if there is none.

    An open window takes every event until it is closed, whatever the clock says. `room_bytes` bounds
    the sum of its originals.
    """
    if window is None:
        assert aggregate.window is not None
        window = Window(now_ns + aggregate.window.ns, {}, accepted_ns, accepted_ns)
    originals = window.originals
    if (
        len(originals) < aggregate.originals
        and len(originals) == window.count  # the first ones, without a gap
        and sum(map(len, originals)) + len(body) <= room_bytes
    ):
        originals += (body,)
    return Window(
        window.closes_ns,
        {**window.counts, event_type: window.counts.get(event_type, 0) + 1},
        min(window.first_ns, accepted_ns),
        max(window.last_ns, accepted_ns),
        originals,
    )


def closes(window: Window, now_ns: int) -> bool:
    """Return whether its time is over."""
    return now_ns >= window.closes_ns
