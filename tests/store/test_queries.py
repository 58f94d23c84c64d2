"""The searches of the admin side: one filter, all of which must hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fluxhook.store import DeliveryStore, ReadStore, State, queries
from fluxhook.store.queries import ALL, DeliveryFilter

NOW = 1_700_000_000_000_000_000

Add = Callable[..., int]


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (ALL, [3, 2, 1]),
        (DeliveryFilter(endpoint="one"), [3]),
        (DeliveryFilter(endpoint="nobody"), []),
        (DeliveryFilter(event_id="evt_2"), [2]),
        (DeliveryFilter(endpoint="zero", event_id="evt_3"), []),
        (DeliveryFilter(type="route.error", endpoint="zero"), [2, 1]),
        (DeliveryFilter(type="route.*"), []),
        (DeliveryFilter(state=State.WAITING), [3, 2, 1]),
        (DeliveryFilter(state=State.DEAD), []),
        (DeliveryFilter(until_ns=NOW), []),
        (DeliveryFilter(until_ns=NOW + 1), [3, 2, 1]),
    ],
)
def test_all_that_is_given_must_hold(
    store: DeliveryStore, path: Path, add: Add, which: DeliveryFilter, expected: list[int]
) -> None:
    """Newest first. Nothing is of an endpoint that there is not."""
    add(n=2)
    add(endpoint=1)
    with ReadStore.open(path) as reader:
        found = queries.deliveries(reader, which, before=None, limit=10)
        assert [row.id for row in found] == expected
        page = queries.deliveries(reader, which, before=2, limit=10)
        assert [row.id for row in page] == [id for id in expected if id < 2]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [2, 3, 1]),
        ({"endpoint": "zero"}, [2, 1]),
        ({"cause": "timeout"}, [3]),
        ({"endpoint": "zero", "cause": "timeout"}, []),
        ({"since_ns": NOW + 2}, [2, 3]),
        ({"until_ns": NOW + 2}, [1]),
        ({"since_ns": NOW + 2, "until_ns": NOW + 3}, [3]),
    ],
)
def test_dead_letters_come_by_their_end(
    store: DeliveryStore, path: Path, add: Add, given: dict[str, Any], expected: list[int]
) -> None:
    """The latest to die first; the span is of when they died."""
    add(n=2)
    add(endpoint=1)
    ends = {1: (NOW, "5xx"), 3: (NOW + 2, "timeout"), 2: (NOW + 3, "5xx")}
    for id, (ended_ns, cause) in ends.items():
        with store.transaction() as transaction:
            delivery = transaction.find(id)
            assert delivery is not None
            transaction.dead_letter(delivery, ended_ns, cause, "no")
    with ReadStore.open(path) as reader:
        found = queries.dead_letters(reader, DeliveryFilter(**given), before=None, limit=10)
        assert queries.count_dead_letters(reader, DeliveryFilter(**given)) == len(found)
        assert [row.id for row in found] == expected
        key = (ends[found[0].id][0], found[0].id) if found else None
        rest = queries.dead_letters(reader, DeliveryFilter(**given), before=key, limit=10)
        assert [row.id for row in rest] == expected[1:]


def test_what_is_due_is_counted_by_time(store: DeliveryStore, path: Path, add: Add) -> None:
    """After the one time, up to the other; and the next ones, none of those that are halted."""
    add(due_ns=NOW - 5)
    add(due_ns=NOW)
    add(due_ns=NOW + 5, endpoint=1)
    with ReadStore.open(path) as reader:
        assert queries.count_due(reader, NOW - 5, NOW) == [(0, "zero", 1), (1, "one", 0)]
        assert queries.count_due(reader, -1, NOW + 5) == [(0, "zero", 2), (1, "one", 1)]
        due = queries.next_due(reader, (), 2)
        assert [(row.id, name) for row, name in due] == [(1, "zero"), (2, "zero")]
        due = queries.next_due(reader, ["zero"], 2)
        assert [(row.id, name) for row, name in due] == [(3, "one")]


def test_events_that_are_known(store: DeliveryStore, path: Path, add: Add) -> None:
    """With their newest delivery, and how many there are."""
    add(n=2)
    with ReadStore.open(path) as reader:
        assert queries.known_events(reader, ["evt_2", "evt_9"]) == [("evt_2", 2, 1)]
