"""The drop policy: what a full queue does with one more record. A model to test the ring by.

The queue holds what waits. A record that a consumer took is not in it any more and is never dropped:
it stays in the ring's file until it is settled, whatever the drop policy. (So a ring can be full of
taken records; then `oldest` refuses too. Workers under that pressure hand them over to the store.)
At any time

    offered  = accepted + refused
    accepted = settled + dropped + waiting + taken
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from fluxhook.policy.table import Move, Table

__all__ = ["MOVES", "Policy", "Queue", "State", "offer", "settle", "take"]

Policy = Literal["newest", "oldest", "block"]

#: offered: not in the queue yet (under `block`, its publisher waits). taken: in a consumer's hands.
State = Literal["offered", "refused", "waiting", "taken", "settled", "dropped"]
Event = Literal["offer", "take", "settle", "drop"]

MOVES: Final[Table[State, Event, Literal[""]]] = Table(
    Move("offered", "offer", "there is room", "waiting", ""),
    Move("offered", "offer", "full, oldest", "waiting", ""),
    Move("offered", "offer", "full, newest", "refused", ""),
    Move("offered", "offer", "full, block", "offered", ""),
    Move("offered", "offer", "full, block, block_timeout is over", "refused", ""),
    Move("waiting", "take", "", "taken", ""),
    Move("waiting", "drop", "", "dropped", ""),
    Move("taken", "settle", "", "settled", ""),
)


class Queue(msgspec.Struct, frozen=True):
    """`waiting` holds the records from the oldest to the newest."""

    capacity: int
    waiting: tuple[int, ...] = ()
    taken: frozenset[int] = frozenset()
    refused: int = 0
    dropped: int = 0
    settled: int = 0


def offer(
    queue: Queue, policy: Policy, record: int, *, timed_out: bool = False
) -> tuple[Queue, State]:
    """The queue after one more record, and what became of the record: waiting, refused, or (under
    `block`) still offered; offer it again, with `timed_out` once its time is over."""
    full = len(queue.waiting) >= queue.capacity
    to = MOVES.move("offered", "offer", _condition(full, policy, timed_out)).to
    if to == "refused":
        return msgspec.structs.replace(queue, refused=queue.refused + 1), to
    if to == "offered":
        return queue, to
    waiting = queue.waiting
    if full:
        waiting = waiting[1:]
        queue = msgspec.structs.replace(queue, dropped=queue.dropped + 1)
    return msgspec.structs.replace(queue, waiting=(*waiting, record)), to


def _condition(full: bool, policy: Policy, timed_out: bool) -> str:
    if not full:
        return "there is room"
    match policy:
        case "oldest":
            return "full, oldest"
        case "newest":
            return "full, newest"
        case "block":
            return "full, block, block_timeout is over" if timed_out else "full, block"


def take(queue: Queue) -> tuple[Queue, int | None]:
    """The oldest waiting record, now taken; None if nothing waits."""
    if not queue.waiting:
        return queue, None
    record, *rest = queue.waiting
    taken = queue.taken | {record}
    return msgspec.structs.replace(queue, waiting=tuple(rest), taken=taken), record


def settle(queue: Queue, record: int) -> Queue:
    """A taken record is done with. Raises IllegalMove for any other."""
    MOVES.move("taken" if record in queue.taken else "waiting", "settle", "")
    return msgspec.structs.replace(queue, taken=queue.taken - {record}, settled=queue.settled + 1)
