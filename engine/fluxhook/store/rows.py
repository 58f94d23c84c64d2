"""The rows of the store as its callers see them."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgspec

from fluxhook.policy import delivery as life
from fluxhook.transport.messages import Attempt, EventHead

__all__ = [
    "COLUMNS",
    "ENDED",
    "DeliveryRow",
    "Due",
    "EndpointRow",
    "PastAttempt",
    "State",
    "SubscriptionRow",
    "state_after",
]


class State(IntEnum):
    """The states of policy/delivery.py that have rows. The first two are *pending*, the others have
    ended. What is with a worker is waiting or blocked here, and leased."""

    WAITING = 0
    BLOCKED = 1
    DELIVERED = 2
    DEAD = 3
    DROPPED = 4


#: from which a row is erased
ENDED: Final = tuple(State[m.state.upper()] for m in life.MOVES if m.event == "purge")


def state_after(state: life.State, event: life.Event) -> State:
    """Return the state of a row after a move of which nothing else has to be known. Raises IllegalMove
    where there is none."""
    return State[life.MOVES.move(state, event, "").to.upper()]


class DeliveryRow(msgspec.Struct, gc=False):
    """One event for one endpoint: the columns of `deliveries`, in their order, and its trace context.

    Treat it as read-only; a `DeliveryTransaction` changes the copies that it made itself.
    """

    id: int
    endpoint: int
    state: int
    ordered: int
    #: engine time
    due_ns: int
    #: since it was accepted or replayed
    attempts: int
    accepted_ns: int
    #: when the first attempt since then ended, in engine time; None before
    first_failed_ns: int | None
    ended_ns: int | None
    last_attempt: int | None
    cause: str
    error: str
    event_id: str
    type: str
    topic: str
    order_key: str
    # Of the table `traces`, which has a row where there is a trace context.
    traceparent: str = ""
    tracestate: str = ""

    @property
    def event(self) -> EventHead:
        names = self.event_id, self.type, self.topic, self.order_key
        return EventHead(*names, self.traceparent, self.tracestate)


#: the columns of `deliveries`
COLUMNS: Final = DeliveryRow.__struct_fields__[:-2]


class Due(NamedTuple):
    """A delivery to be attempted now, and what to send."""

    delivery: DeliveryRow
    body: bytes


class PastAttempt(NamedTuple):
    """`n` counts from 1 since the delivery was accepted or replayed."""

    id: int
    n: int
    attempt: Attempt


class EndpointRow(NamedTuple):
    """An endpoint as the store knows it; `disabled_ns` is None if it is not."""

    id: int
    name: str
    disabled_ns: int | None
    disabled_reason: str
    #: 1: paused at run time
    paused: int
    #: deliveries waiting or blocked
    pending: int
    #: dead letters
    dead: int
    #: the latest failed attempt; None and empty before the first
    failed_ns: int | None
    failed_cause: str
    failed_error: str


class SubscriptionRow(NamedTuple):
    """An endpoint that was created at run time. `layer` is what was written, **secrets in the clear**;
    `expiring` has the secrets that sign until an engine time only."""

    name: str
    layer: dict[str, Any]
    created_ns: int
    updated_ns: int
    expiring: dict[str, int]
