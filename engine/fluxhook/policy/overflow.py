"""The drop policy: what a full queue does with one more record. A model to test the ring by.

A record's place in the queue is free again when it is settled and so is everything before it. A
taken record that `oldest` reclaims is not lost: its consumer holds a copy and settles it. Only its
protection against a crash of that consumer is gone, so it does not count as dropped. At any time

    offered  = accepted + refused
    accepted = settled + dropped + waiting + taken + released
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from fluxhook.policy.table import Move, Table

__all__ = ["MOVES", "Policy", "Queue", "State", "offer", "settle", "take"]

Policy = Literal["newest", "oldest", "block"]

#: offered: not in the queue yet (under `block`, its publisher waits). taken: its consumer holds a
#: copy. released: taken, and its place was given away.
State = Literal["offered", "refused", "waiting", "taken", "released", "settled", "dropped"]
Event = Literal["offer", "take", "settle", "reclaim"]

MOVES: Final[Table[State, Event, Literal[""]]] = Table(
    Move("offered", "offer", "there is room", "waiting", ""),
    Move("offered", "offer", "full, oldest", "waiting", ""),
    Move("offered", "offer", "full, newest", "refused", ""),
    Move("offered", "offer", "full, block", "offered", ""),
    Move("offered", "offer", "full, block, block_timeout is over", "refused", ""),
    Move("waiting", "take", "", "taken", ""),
    Move("waiting", "reclaim", "", "dropped", ""),
    Move("taken", "reclaim", "", "released", ""),
    Move("taken", "settle", "", "settled", ""),
    Move("released", "settle", "", "settled", ""),
)


class Queue(msgspec.Struct, frozen=True):
    """`places` holds (record, state) from the oldest to the newest; states are waiting, taken or
    settled. `released` are taken records without a place."""

    capacity: int
    places: tuple[tuple[int, State], ...] = ()
    released: frozenset[int] = frozenset()
    refused: int = 0
    dropped: int = 0
    settled: int = 0


def offer(
    queue: Queue, policy: Policy, record: int, *, timed_out: bool = False
) -> tuple[Queue, State]:
    """The queue after one more record, and what became of the record: waiting, refused, or (under
    `block`) still offered; offer it again, with `timed_out` once its time is over."""
    full = len(queue.places) >= queue.capacity
    to = MOVES.move("offered", "offer", _condition(full, policy, timed_out)).to
    if to == "refused":
        return msgspec.structs.replace(queue, refused=queue.refused + 1), to
    if to == "offered":
        return queue, to
    if full:
        queue = _reclaim(queue)
    return msgspec.structs.replace(queue, places=(*queue.places, (record, to))), to


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


def _reclaim(queue: Queue) -> Queue:
    (head, state), *rest = queue.places
    if MOVES.move(state, "reclaim", "").to == "dropped":
        return _trim(msgspec.structs.replace(queue, places=tuple(rest), dropped=queue.dropped + 1))
    return _trim(
        msgspec.structs.replace(queue, places=tuple(rest), released=queue.released | {head})
    )


def take(queue: Queue) -> tuple[Queue, int | None]:
    """The oldest waiting record, now taken; None if nothing waits."""
    for i, (record, state) in enumerate(queue.places):
        if state == "waiting":
            place = (record, MOVES.move(state, "take", "").to)
            places = (*queue.places[:i], place, *queue.places[i + 1 :])
            return msgspec.structs.replace(queue, places=places), record
    return queue, None


def settle(queue: Queue, record: int) -> Queue:
    """A taken record is done with; the settled prefix of the queue becomes free."""
    released = record in queue.released
    state = "released" if released else dict(queue.places).get(record, "settled")
    to = MOVES.move(state, "settle", "").to
    queue = msgspec.structs.replace(queue, settled=queue.settled + 1)
    if released:
        return msgspec.structs.replace(queue, released=queue.released - {record})
    places = tuple((r, to if r == record else s) for r, s in queue.places)
    return _trim(msgspec.structs.replace(queue, places=places))


def _trim(queue: Queue) -> Queue:
    n = next((i for i, (_, s) in enumerate(queue.places) if s != "settled"), len(queue.places))
    return msgspec.structs.replace(queue, places=queue.places[n:])
