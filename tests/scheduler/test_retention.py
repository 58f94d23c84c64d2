"""Retention, with a store and a clock alone: what is too old, and what is spared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxhook import Duration, Endpoint
from fluxhook.scheduler.retention import CHECK_NS
from fluxhook.store import StoreError
from fluxhook.store.delivery_id import first_at
from fluxhook.transport.messages import EventHead
from support.scheduler_parts import AHEAD_NS, NOW, Parts, S

KEPT_NS = 3600 * S


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    endpoint = Endpoint(name="a", url="https://a.example/")
    with Parts(tmp_path, endpoint, retention=Duration(KEPT_NS)) as parts:
        yield parts


def stored(parts: Parts, at_ns: int, *, ordered: bool = False) -> int:
    """Add a delivery that came to the store then."""
    id = first_at(at_ns)
    with parts.store.transaction() as transaction:
        head = EventHead("evt", "route.error")
        transaction.add(id, 0, head, b"{}", accepted_ns=at_ns, due_ns=at_ns, ordered=ordered)
    return id


def test_what_is_pending_for_too_long_is_given_up(parts: Parts) -> None:
    """That holds if it waits and if it is blocked; what is out is left to the report on it."""
    old, blocked, out = (stored(parts, NOW + n * 1000) for n in range(3))
    first, second = (stored(parts, NOW + n * 1000, ordered=True) for n in (4, 5))
    young = stored(parts, NOW + 10 * S)
    parts.store.lease(0, NOW + 2000, 3)
    parts.store.release([old, blocked])
    parts.retention.step(NOW + KEPT_NS + S)
    assert [parts.state(id) for id in (old, out, first, second, young)] == [
        "dead", "sending", "dead", "dead", "waiting",
    ]  # fmt: skip
    assert parts.row(second).cause == "retention"
    assert parts.words.stored(0) == 2


def test_what_ended_long_ago_is_erased(parts: Parts) -> None:
    """Each state of those that have ended; by the wall clock, with which it is dated."""
    ids = [stored(parts, NOW + n * 1000) for n in range(4)]
    for id, state in zip(ids, ("dead", "delivered", "dropped"), strict=False):
        parts.end(id, state, wall_ns=NOW + AHEAD_NS)
    parts.end(ids[3], wall_ns=NOW + AHEAD_NS + 2 * S)
    parts.retention.step(NOW + KEPT_NS)
    assert {parts.state(id) for id in ids[:3]} == {"dead", "delivered", "dropped"}
    parts.retention.step(NOW + KEPT_NS + S)
    assert [parts.state(id) for id in ids] == ["erased"] * 3 + ["dead"]


def test_when_to_look_again(parts: Parts) -> None:
    """A second later, or at once where there may be more."""
    assert parts.retention.step(NOW) == NOW + CHECK_NS
    stored(parts, NOW - 2 * KEPT_NS)
    assert parts.retention.step(NOW + CHECK_NS) == NOW + CHECK_NS
    assert parts.retention.step(NOW + CHECK_NS) == NOW + 2 * CHECK_NS


def test_an_engine_that_was_away_spares_what_it_has(parts: Parts) -> None:
    """For an hour, or for the retention if that is shorter."""
    old = stored(parts, NOW)
    later_ns = NOW + 10 * KEPT_NS
    parts.retention.spare(later_ns)
    parts.retention.step(later_ns + KEPT_NS - 1)
    assert parts.state(old) == "waiting"
    parts.retention.step(later_ns + KEPT_NS + S)
    assert parts.state(old) == "dead"


def test_a_trail_that_cannot_be_written(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is erased, the log says so once, and what is overdue is given up all the same."""

    def full(*_: object) -> None:
        raise StoreError("no room")

    ended = stored(parts, NOW)
    parts.end(ended, wall_ns=NOW)
    old = stored(parts, NOW + S)
    monkeypatch.setattr(parts.trail, "append", full)
    for n in range(3):
        parts.retention.step(NOW + 2 * KEPT_NS + n * CHECK_NS)
    assert (parts.state(ended), parts.state(old)) == ("dead", "dead")
    assert sum("nothing is purged" in line for line in caplog.messages) == 1
