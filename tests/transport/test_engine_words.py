"""The shared words by name: where each of them stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from fluxhook._native.shared import Words
from fluxhook.policy import breaker
from fluxhook.policy.table import IllegalMove
from fluxhook.transport import datadir as d
from fluxhook.transport.engine_words import EngineWords, rows_for

ENDPOINTS = 3


@pytest.fixture
def words(tmp_path: Path) -> EngineWords:
    return EngineWords(Words(str(tmp_path / "words"), rows_for(ENDPOINTS), d.WORD_FIELDS))


def changed(words: EngineWords) -> dict[tuple[int, int], int]:
    """Every word that is not 0, by row and field."""
    found = {}
    for row in range(words.matrix.rows):
        for field in range(d.WORD_FIELDS):
            if word := words.matrix.load(row, field):
                found[row, field] = word
    return found


def test_the_row_of_the_engine_is_the_last(words: EngineWords) -> None:
    """So an endpoint's id is the number of its row."""
    assert (words.max_endpoints, words.engine_row) == (ENDPOINTS, ENDPOINTS)
    words.publish_version(7)
    words.spoil_version()
    words.add_ring()
    assert (words.version, words.rings) == (8, 1)
    assert changed(words) == {(ENDPOINTS, d.VERSION): 8, (ENDPOINTS, d.RINGS): 1}


def test_each_word_of_an_endpoint(words: EngineWords) -> None:
    """It is read and cleared by itself; the other endpoints keep theirs."""
    values = {
        d.BREAKER: breaker.pack(breaker.State("open", 5)),
        d.RATE: 2, d.STORED: 3, d.UNMETERED: 4, d.FAILING: 5, d.UNBUILT: 1,
    }  # fmt: skip
    for id in (0, 1):
        for field, value in values.items():
            words.matrix.store(id, field, value)
    assert words.breaker(1) == breaker.State("open", 5)
    assert (words.tat_ns(1), words.stored(1), words.unmetered(1)) == (2, 3, 4)
    assert (words.failing_ns(1), words.unbuilt(1), words.unbuilt(2)) == (5, True, False)
    words.clear_rate(1)
    words.publish_stored(1, 9)
    words.clear_unbuilt(1)
    words.begin_anew(1)
    assert {field: n for (id, field), n in changed(words).items() if id == 1} == {
        d.STORED: 9, d.UNMETERED: 4,
    }  # fmt: skip
    assert {field: n for (id, field), n in changed(words).items() if id == 0} == values


def test_a_breaker_that_cannot_be(words: EngineWords) -> None:
    """It is reported, and cleared with the time since which it has failed, and with nothing else."""
    words.matrix.store(0, d.BREAKER, 1 << 60)
    words.matrix.store(0, d.FAILING, 5)
    words.matrix.store(0, d.RATE, 7)
    with pytest.raises(IllegalMove):
        words.breaker(0)
    words.clear_breaker(0)
    assert changed(words) == {(0, d.RATE): 7}
