"""The life of a delivery (one event for one endpoint): every state that it can be in, every move."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from fluxhook.config.schema import Retry
from fluxhook.policy.retry import next_delay_ns
from fluxhook.policy.table import Move, Table

__all__ = ["MOVES", "DeliveryStatus", "Event", "State", "step"]

#: sending: with a worker. waiting: in the store, until it is due. blocked: in the store, until those
#: before it in its order have ended. aggregated: counted in its endpoint's window. erased: gone from
#: the store.
State = Literal[
    "sending", "waiting", "blocked", "delivered", "dead", "dropped", "aggregated", "erased"
]

#: delivered to aggregated: what a worker says of a delivery that it has (`transport.messages.Verdict`);
#: taken_over: it goes on there, but the store keeps it. lost: the worker that had it ended, or never
#: got it. due: the wait is over. queued: it has an order, and comes to the store, or back from the dead
#: letters. turn: those before it in its order have ended. hurry: it is wanted before its time. overdue:
#: it has been pending for longer than the retention. give_up: its endpoint was removed or disabled.
#: replay: the operator wants it delivered after all. purge: it was kept for the retention, or the
#: operator wants it gone.
Event = Literal[
    "delivered", "retry", "dead", "deferred", "taken_over", "dropped", "aggregated",
    "lost", "due", "queued", "turn", "hurry", "overdue", "give_up", "replay", "purge",
]  # fmt: skip

#: What a move does. settle: the delivery has ended. back_off, hold, now: by the retry policy, as told,
#: or at once, it is due. keep: the store keeps it while its worker goes on. line_up: it takes its place
#: in its order. restart: due at once, with all of its attempts before it. count: it goes into a window.
#: send: it goes to a worker. erase: nothing is left of it.
Act = Literal[
    "settle", "back_off", "hold", "now", "keep", "line_up", "restart", "count", "send", "erase"
]


class DeliveryStatus(msgspec.Struct, frozen=True, gc=False):
    """`attempts` counts the attempts made; `due_ns` matters while waiting."""

    state: State = "sending"
    attempts: int = 0
    due_ns: int = 0


MOVES: Final[Table[State, Event, Act]] = Table(
    Move("sending", "delivered", "", "delivered", "settle"),
    Move("sending", "retry", "attempts left", "waiting", "back_off"),
    Move("sending", "retry", "attempts exhausted", "dead", "settle"),
    Move("sending", "retry", "endpoint removed", "dead", "settle"),
    Move("sending", "dead", "", "dead", "settle"),
    Move("sending", "deferred", "", "waiting", "hold"),
    Move("sending", "taken_over", "", "sending", "keep"),
    Move("sending", "dropped", "", "dropped", "settle"),
    Move("sending", "aggregated", "", "aggregated", "count"),
    Move("sending", "lost", "", "waiting", "now"),
    Move("waiting", "queued", "", "blocked", "line_up"),
    Move("waiting", "due", "", "sending", "send"),
    Move("waiting", "hurry", "", "waiting", "now"),
    Move("waiting", "overdue", "", "dead", "settle"),
    Move("waiting", "give_up", "", "dead", "settle"),
    Move("blocked", "turn", "", "waiting", "now"),
    Move("blocked", "overdue", "", "dead", "settle"),
    Move("blocked", "give_up", "", "dead", "settle"),
    Move("dead", "replay", "", "waiting", "restart"),
    Move("dead", "purge", "", "erased", "erase"),
    Move("delivered", "purge", "", "erased", "erase"),
    Move("dropped", "purge", "", "erased", "erase"),
)


def step(
    delivery: DeliveryStatus,
    event: Event,
    now_ns: int,
    *,
    retry: Retry | None,
    attempted: bool,
    u: float = 0.0,
    retry_after_s: int | None = None,
    first_failed_ns: int | None = None,
    not_before_ns: int = 0,
) -> DeliveryStatus:
    """Return the delivery after a worker's verdict, or whatever else happens to it.

    Times are engine time. `retry` is None where the endpoint was removed. `attempted` tells whether a
    request was made: a delivery can be given up, deferred or dropped without one. `u` and
    `retry_after_s` are those of `next_delay_ns`; `first_failed_ns` is when the first attempt failed,
    None if this is it; `not_before_ns` belongs to `deferred`. Raises `IllegalMove` for an event out of
    place, such as a second settlement.
    """
    attempts = delivery.attempts + attempted
    condition, delay_ns = "", None
    if event == "retry":
        condition = "endpoint removed"
        if retry is not None:
            since_first_ns = 0 if first_failed_ns is None else max(0, now_ns - first_failed_ns)
            delay_ns = next_delay_ns(
                retry, attempts, u, retry_after_s, since_first_ns=since_first_ns
            )
            condition = "attempts exhausted" if delay_ns is None else "attempts left"
    move = MOVES.move(delivery.state, event, condition)
    match move.action:
        case "hold":
            return DeliveryStatus(move.to, attempts, not_before_ns)
        case "now":
            return DeliveryStatus(move.to, attempts, now_ns)
        case "restart":
            return DeliveryStatus(move.to, 0, now_ns)
        case "back_off":
            assert delay_ns is not None
            return DeliveryStatus(move.to, attempts, now_ns + delay_ns)
        case _:
            return DeliveryStatus(move.to, attempts)
