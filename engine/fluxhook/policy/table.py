"""A table of legal moves: what a state machine may do, and nothing else.

The machines look their moves up in it, and `tools/diagrams.py` draws the documentation from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

from fluxhook.errors import FluxhookError

__all__ = ["IllegalMove", "Move", "Table"]

StateT = TypeVar("StateT", bound=str)
EventT = TypeVar("EventT", bound=str)
ActionT = TypeVar("ActionT", bound=str)


class IllegalMove(FluxhookError):
    """A machine met an event that its state has no move for: a defect, or a damaged state."""


class Move(NamedTuple, Generic[StateT, EventT, ActionT]):
    """In `state`, on `event`, where `condition` holds ("": always): go to `to` and do `action`."""

    state: StateT
    event: EventT
    condition: str
    to: StateT
    action: ActionT


class Table(Generic[StateT, EventT, ActionT]):
    """Moves by (state, event, condition); immutable. Two moves for one key are refused."""

    def __init__(self, *moves: Move[StateT, EventT, ActionT]) -> None:
        self._moves = {(m.state, m.event, m.condition): m for m in moves}
        if len(self._moves) != len(moves):
            raise ValueError("two moves for one (state, event, condition)")

    def __iter__(self) -> Iterator[Move[StateT, EventT, ActionT]]:
        return iter(self._moves.values())

    def move(self, state: StateT, event: EventT, condition: str) -> Move[StateT, EventT, ActionT]:
        """Return the one legal move; `IllegalMove` if there is none."""
        try:
            return self._moves[state, event, condition]
        except KeyError:
            where = f" ({condition})" if condition else ""
            raise IllegalMove(f"no move from {state!r} on {event!r}{where}") from None
