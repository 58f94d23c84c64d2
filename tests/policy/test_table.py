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
    assert issubclass(IllegalMove, FluxhookError)


def test_a_move_stands_once() -> None:
    """Two moves for one key are refused when the table is made."""
    with pytest.raises(ValueError, match="two moves"):
        Table(Move("a", "go", "", "b", ""), Move("a", "go", "", "c", ""))
