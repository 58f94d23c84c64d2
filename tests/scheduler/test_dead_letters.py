"""Dead letters: with a store and a clock alone, and at the end with all of the scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxhook import Endpoint
from fluxhook.transport import datadir as d
from support.scheduler_harness import SchedulerHarness
from support.scheduler_parts import AHEAD_NS, NOW, Parts, S
from support.stored import endpoint, head, rows, states, taken


@pytest.fixture
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SchedulerHarness]:
    """One with an endpoint "a"; an indirect parameter has more options of it."""
    with SchedulerHarness(tmp_path / "data", endpoint(**getattr(request, "param", {}))) as harness:
        yield harness


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    with Parts(tmp_path, *(Endpoint(name=n, url="https://a.example/") for n in "ab")) as parts:
        yield parts


def test_a_replay_takes_the_dead_ones_alone(parts: Parts) -> None:
    """Each once, however often it is named; they are due now, and the workers see them in the store."""
    dead, waiting, delivered = parts.add(3, due_ns=NOW + S)
    parts.end(dead)
    parts.end(delivered, "delivered")
    assert parts.dead_letters.replay([dead, waiting, delivered, dead, 999], NOW + 5) == 1
    assert (parts.state(dead), parts.row(dead).due_ns) == ("waiting", NOW + 5)
    assert parts.row(waiting).due_ns == NOW + S
    assert parts.state(delivered) == "delivered"
    assert parts.words.stored(0) == 2


def test_a_purge_takes_the_dead_ones_alone(parts: Parts) -> None:
    """And leaves a line for each in the audit trail."""
    dead, waiting, delivered = parts.add(3)
    parts.end(dead, cause="client_error")
    parts.end(delivered, "delivered")
    assert parts.dead_letters.purge([dead, dead, waiting, delivered], NOW) == 1
    assert [parts.state(id) for id in (dead, waiting, delivered)] == [
        "erased", "waiting", "delivered",
    ]  # fmt: skip
    (line,) = (parts.datadir.audit / "audit.jsonl").read_text().splitlines()
    assert '"client_error"' in line


@pytest.mark.parametrize("disabled", [False, True])
def test_what_waits_for_an_endpoint_that_gets_nothing(parts: Parts, disabled: bool) -> None:
    """Up to the limit, with the cause; what is out is left to the report on it."""
    (out,) = parts.add(due_ns=NOW - 1)
    parts.store.lease(0, NOW, 1)
    ids, (other,) = parts.add(5), parts.add(endpoint=1)
    if disabled:
        parts.configure(disabled=frozenset({"a"}))
    counts = [parts.dead_letters.give_up(0, NOW, 3) for _ in range(3)]
    assert counts == [3, 2, 0]
    causes = {(parts.state(id), parts.row(id).cause) for id in ids}
    assert causes == {("dead", "disabled" if disabled else "removed")}
    assert {parts.row(id).ended_ns for id in ids} == {NOW + AHEAD_NS}
    assert (parts.state(out), parts.state(other)) == ("sending", "waiting")
    assert parts.words.stored(0) == 1


def test_what_is_too_large(parts: Parts) -> None:
    """It says what to do, and can be replayed."""
    (id,) = parts.add()
    ((row, _),) = parts.store.lease(0, NOW, 1)
    parts.endpoints.publish_stored([0])
    parts.dead_letters.give_up_too_large(row, NOW)
    assert (parts.state(id), parts.row(id).cause) == ("dead", "payload_too_large")
    assert "max_event_bytes" in parts.row(id).error
    assert parts.row(id).ended_ns == NOW + AHEAD_NS
    assert parts.words.stored(0) == 0


def test_what_is_replayed_is_handed_out(harness: SchedulerHarness) -> None:
    """Dead letters wait again, with all of their attempts before them; nothing else does, and what is
    named twice is one."""
    harness.fail(harness.fresh("evt_dead"), "dead", "client_error", 404)
    harness.first_failure("evt_waits")
    ids = {id: row.id for id, row in rows(harness).items()}
    named = [ids["evt_dead"], ids["evt_waits"], ids["evt_dead"], 12345]
    assert harness.scheduler.replay(named, harness.now_ns) == 1
    assert states(harness) == {"evt_dead": "waiting", "evt_waits": "waiting"}
    assert harness.word(0, d.STORED) == 2
    (delivery,) = taken(harness)
    assert (head(delivery).delivery_id, head(delivery).attempts) == (ids["evt_dead"], 0)
    assert harness.scheduler.replay(named, harness.now_ns) == 0
