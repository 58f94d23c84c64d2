"""The life of a delivery (one event for one endpoint), from the first attempt to its settlement."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from fluxhook.config.schema import Retry
from fluxhook.policy.retry import next_delay_ns
from fluxhook.policy.table import Move, Table

__all__ = ["MOVES", "Delivery", "Event", "State", "step"]

#: sending: with a worker. waiting: in the store until it is due. The others are final.
State = Literal["sending", "waiting", "delivered", "dead", "dropped"]

#: a worker's verdict (as in `transport.records.Verdict`), or "due": the wait is over
Event = Literal["delivered", "retry", "dead", "parked", "dropped", "due"]

#: What a move does to the time at which the delivery is due.
Act = Literal["settle", "back_off", "hold", "send"]


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """`attempts` counts the attempts made; `due_ns` matters while waiting."""

    state: State = "sending"
    attempts: int = 0
    due_ns: int = 0


MOVES: Final[Table[State, Event, Act]] = Table(
    Move("sending", "delivered", "", "delivered", "settle"),
    Move("sending", "retry", "attempts left", "waiting", "back_off"),
    Move("sending", "retry", "attempts exhausted", "dead", "settle"),
    Move("sending", "dead", "", "dead", "settle"),
    Move("sending", "parked", "", "waiting", "hold"),
    Move("sending", "dropped", "", "dropped", "settle"),
    Move("waiting", "due", "", "sending", "send"),
)


def step(
    delivery: Delivery,
    event: Event,
    now_ns: int,
    *,
    retry: Retry,
    attempted: bool,
    u: float = 0.0,
    retry_after_s: int | None = None,
    first_failed_ns: int | None = None,
    not_before_ns: int = 0,
) -> Delivery:
    """Return the delivery after a worker's verdict, or after its wait.

    Times are engine time. `attempted` tells whether a request was made: a delivery can be given up,
    parked or dropped without one. `u` and `retry_after_s` are those of `next_delay_ns`;
    `first_failed_ns` is when the first attempt failed, None if this is it; `not_before_ns` belongs to
    `parked`. Raises `IllegalMove` for an event out of place, such as a second settlement.
    """
    attempts = delivery.attempts + attempted
    condition, delay_ns = "", None
    if event == "retry":
        since_first_ns = 0 if first_failed_ns is None else max(0, now_ns - first_failed_ns)
        delay_ns = next_delay_ns(retry, attempts, u, retry_after_s, since_first_ns=since_first_ns)
        condition = "attempts exhausted" if delay_ns is None else "attempts left"
    move = MOVES.move(delivery.state, event, condition)
    due_ns = 0
    if move.action == "hold":
        due_ns = not_before_ns
    elif delay_ns is not None:
        due_ns = now_ns + delay_ns
    return Delivery(move.to, attempts, due_ns)
