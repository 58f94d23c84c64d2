"""Suspects, with a store alone: one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxhook import Endpoint
from fluxhook.transport.messages import SUSPECT_NS
from support.scheduler_parts import NOW, Parts


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    with Parts(tmp_path, Endpoint(name="a", url="https://a.example/")) as parts:
        yield parts


def out(parts: Parts, now_ns: int = NOW) -> list[int]:
    """Hand out what can be handed out now; return the ids."""
    return [due.delivery.id for due in parts.store.lease(0, now_ns, 100)]


def test_each_waits_for_the_one_before(parts: Parts) -> None:
    """In the order in which they became suspects; nothing else waits for them."""
    ids = parts.add(3, leased=True)
    parts.suspects.suspect(ids, NOW)
    assert {parts.row(id).due_ns for id in ids} == {NOW + SUSPECT_NS}
    assert out(parts) == []
    for id in ids:
        parts.suspects.try_next(NOW)
        assert out(parts) == [id]
        parts.suspects.try_next(NOW)
        assert out(parts) == []
        parts.end(id, "delivered")
    parts.suspects.try_next(NOW)
    assert out(parts) == []


def test_what_ended_or_is_no_suspect_any_more_is_passed_by(parts: Parts) -> None:
    """It was given up, or came back for another reason; one that is out already is waited for."""
    dead, deferred, gone_out, last = ids = parts.add(4, leased=True)
    parts.suspects.suspect(ids, NOW)
    parts.end(dead)
    with parts.store.transaction() as transaction:
        row = transaction.find(deferred)
        assert row is not None
        transaction.reschedule(row, NOW + SUSPECT_NS, "paused")
        row = transaction.find(gone_out)
        assert row is not None
        transaction.reschedule(row, NOW, "suspect")
    assert out(parts) == [gone_out]
    parts.suspects.try_next(NOW)
    assert out(parts) == []
    parts.end(gone_out, "delivered")
    parts.suspects.try_next(NOW)
    assert out(parts) == [last]


def test_one_that_a_worker_reported_is_due_in_its_turn(parts: Parts) -> None:
    """It waits in the store already."""
    (id,) = parts.add(due_ns=NOW + SUSPECT_NS, cause="suspect")
    parts.suspects.add(id)
    parts.suspects.try_next(NOW)
    assert out(parts) == [id]
