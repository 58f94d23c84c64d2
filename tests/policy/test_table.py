"""Tables of legal moves."""

from __future__ import annotations

import pytest

from fluxhook.errors import FluxhookError
from fluxhook.policy.table import IllegalMove, Move, Table


def test_a_miss_raises() -> None:
    """A move that is not in the table is refused, with what was tried."""
    table = Table(Move("closed", "open", "", "open", ""))
    assert table.move("closed", "open", "").to == "open"
    with pytest.raises(IllegalMove, match=r"no move from 'closed' on 'open' \(locked\)"):
        table.move("closed", "open", "locked")
    with pytest.raises(IllegalMove, match=r"no move from 'open' on 'open'$"):
        table.move("open", "open", "")
    assert issubclass(IllegalMove, FluxhookError)


def test_a_move_stands_once() -> None:
    """Two moves for one key are refused when the table is made."""
    with pytest.raises(ValueError, match="two moves"):
        Table(Move("a", "go", "", "b", ""), Move("a", "go", "", "c", ""))


def test_all_moves_in_their_order() -> None:
    """As they were given: the documents are made of them."""
    moves = [Move("b", "go", "", "a", ""), Move("a", "go", "", "b", "")]
    assert list(Table(*moves)) == moves
