"""The drop policy: what a full queue does with one more record.

The ring does it (ring.h), and for `block` the publisher. This table says what becomes of a record;
tests/publisher/test_overflow.py drives both by it.

The queue holds what waits. A record that a consumer took is not in it any more and is never dropped:
it stays in the ring's file until it is settled, whatever the drop policy. (So a ring can be full of
taken records; then `oldest` refuses too. Workers under that pressure hand them over to the store.)
At any time

    offered  = accepted + refused
    accepted = settled + dropped + waiting + taken
"""

from __future__ import annotations

from typing import Final, Literal

from fluxhook.policy.table import Move, Table

__all__ = ["MOVES", "State"]

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
