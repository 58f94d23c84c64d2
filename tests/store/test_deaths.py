"""Of what deliveries died: exact, lasting, and found out where an earlier version did not count."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from fluxhook.store import DeliveryStore, ReadStore
from fluxhook.store.deaths import Deaths, deaths
from fluxhook.transport.messages import Attempt
from support.store_rows import dead_letters

NOW = 1_700_000_000_000_000_000

Add = Callable[..., int]


def die(store: DeliveryStore, id: int, cause: str) -> None:
    with store.transaction() as transaction:
        found = transaction.find(id)
        assert found is not None
        transaction.dead_letter(found, NOW, cause)


def replay(store: DeliveryStore, id: int) -> None:
    row = store.delivery(id)
    assert row is not None
    with store.transaction() as transaction:
        transaction.replay(transaction.copy(row), NOW)


def of(store: ReadStore, endpoint: int = 0) -> Deaths:
    return store.deaths(store.endpoints(), store.counters())[endpoint]


def forget(path: Path) -> None:
    """Make the store what a version without these counters would have left."""
    db = sqlite3.connect(path)
    db.execute("DELETE FROM counters WHERE name GLOB 'dead.*' OR name GLOB 'died.*'")
    db.commit()
    db.close()


def test_each_death_has_its_cause(store: DeliveryStore, add: Add) -> None:
    """By endpoint, and in the transaction of the death."""
    for cause in ("timeout", "payload_too_large", "payload_too_large"):
        die(store, add(), cause)
    die(store, add(1), "timeout")
    expected = {"timeout": 1, "payload_too_large": 2}
    assert of(store) == Deaths(expected, expected)
    assert of(store, 1) == Deaths({"timeout": 1}, {"timeout": 1})


def test_a_transaction_that_is_not_committed_counts_nothing(store: DeliveryStore, add: Add) -> None:
    """A death and its count are one."""
    id = add()
    transaction = store.transaction()
    found = transaction.find(id)
    assert found is not None
    transaction.dead_letter(found, NOW, "timeout")
    assert of(store) == Deaths({}, {})
    transaction.commit()
    transaction.commit()
    assert of(store) == Deaths({"timeout": 1}, {"timeout": 1})


def test_replay(store: DeliveryStore, add: Add) -> None:
    """A dead letter that is replayed is dead no more; its death stays counted, and it may die again."""
    id = add()
    die(store, id, "timeout")
    replay(store, id)
    assert of(store) == Deaths({}, {"timeout": 1})
    die(store, id, "gone")
    assert of(store) == Deaths({"gone": 1}, {"timeout": 1, "gone": 1})
    replay(store, id)
    die(store, id, "gone")
    assert of(store) == Deaths({"gone": 1}, {"timeout": 1, "gone": 2})


def test_purge(store: DeliveryStore, add: Add) -> None:
    """One that is erased is no dead letter any more; its death stays counted."""
    ids = [add() for _ in range(3)]
    for id, cause in zip(ids, ("timeout", "timeout", "gone"), strict=True):
        die(store, id, cause)
    assert store.purge(ids[1:]) == 2
    assert of(store) == Deaths({"timeout": 1}, {"timeout": 2, "gone": 1})
    assert sum(of(store).dead.values()) == store.endpoints()[0].dead == 1


def test_giving_up_all_that_waits(store: DeliveryStore, add: Add) -> None:
    add(n=3)
    assert store.dead_letter_all(0, NOW, "removed", limit=10) == 3
    assert of(store).dead == {"removed": 3}


def test_they_last(store: DeliveryStore, add: Add, path: Path) -> None:
    """Another engine finds the same, and so does any reader."""
    die(store, add(), "timeout")
    expected = of(store)
    with DeliveryStore.open(path) as again, ReadStore.open(path) as reader:
        assert of(again) == of(reader) == expected


def test_of_an_earlier_version(store: DeliveryStore, add: Add, path: Path) -> None:
    """The causes of dead letters are taken from their rows, those of erased ones are unknown; a
    reader finds the same before this version wrote anything, and later deaths are added."""
    ids = [add() for _ in range(5)]
    for id, cause in zip(ids, ("timeout", "timeout", "gone", "gone", "tls"), strict=True):
        die(store, id, cause)
    store.purge(ids[3:])
    store.close()
    forget(path)
    dead = {"timeout": 2, "gone": 1}
    expected = Deaths(dead, dead | {"unknown": 2})
    with ReadStore.open(path) as reader:
        assert of(reader) == expected
    with DeliveryStore.open(path) as store:
        assert of(store) == expected
        assert store.counters()[0] == {
            "dropped.purged": 2, "dead.timeout": 2, "dead.gone": 1,
            "died.timeout": 2, "died.gone": 1, "died.unknown": 2,
        }  # fmt: skip
        replay(store, ids[0])
        die(store, ids[0], "dns")
        store.purge([ids[2]])
    with DeliveryStore.open(path) as store:
        assert of(store) == Deaths(
            {"timeout": 1, "dns": 1}, {"timeout": 2, "gone": 1, "dns": 1, "unknown": 2}
        )


def test_an_earlier_version_in_between(store: DeliveryStore, add: Add, path: Path) -> None:
    """Its replays and its deaths are found out; no count of deaths goes down."""
    ids = [add() for _ in range(3)]
    for id in ids[:2]:
        die(store, id, "timeout")
    before = {name: n for name, n in store.counters()[0].items() if name.startswith("d")}
    replay(store, ids[0])
    die(store, ids[0], "gone")
    die(store, ids[2], "gone")
    store.close()
    forget(path)
    db = sqlite3.connect(path)
    db.executemany("INSERT INTO counters VALUES (0, ?, ?)", before.items())
    db.commit()
    db.close()
    with DeliveryStore.open(path) as store:
        assert of(store) == Deaths({"timeout": 1, "gone": 2}, {"timeout": 2, "gone": 2})


def test_rows_that_were_lost(store: DeliveryStore, add: Add, path: Path) -> None:
    """Damaged dead letters are removed as the store opens, and none of their cause is left over."""
    ids = [add() for _ in range(2)]
    die(store, ids[0], "timeout")
    die(store, ids[1], "gone")
    store.db.execute("UPDATE deliveries SET due_ns = 'x' WHERE id = ?", (ids[1],))
    store.close()
    with DeliveryStore.open(path) as store:
        assert [row.id for row in dead_letters(store)] == [ids[0]]
        assert of(store) == Deaths({"timeout": 1}, {"timeout": 1, "gone": 1})


def test_the_rows_are_asked_only_where_the_counters_do_not_add_up() -> None:
    """Half a million dead letters need not be read to show how many there are."""

    def never() -> dict[str, int]:
        raise AssertionError("the rows are read")

    counted = {"dead.a": 1, "dead.b": 0, "dead.c": 2, "died.a": 1, "died.c": 5, "delivered": 7}
    assert deaths(3, counted, never) == Deaths({"a": 1, "c": 2}, {"a": 1, "c": 5})
    assert deaths(0, {}, never) == Deaths({}, {})
    assert deaths(0, {"dropped.purged": 4}, never) == Deaths({}, {"unknown": 4})
    for wrong in ({"dead.a": 4}, {"dead.a": 4, "dead.b": -1}):
        assert deaths(3, wrong, lambda: {"a": 3}) == Deaths({"a": 3}, {"a": 3})


@pytest.mark.parametrize(
    ("cause", "noted"), [("payload_too_large", True), ("removed", False), ("disabled", False)]
)
def test_a_death_without_an_attempt_is_an_error(
    store: DeliveryStore, add: Add, cause: str, noted: bool
) -> None:
    """But for what is given up because its endpoint is used no more, which hides no error before it."""
    die(store, add(), cause)
    row = store.endpoints()[0]
    expected = (NOW, cause, "") if noted else (None, "", "")
    assert (row.failed_ns, row.failed_cause, row.failed_error) == expected


def test_a_death_by_an_attempt_is_dated_by_the_attempt(
    store: DeliveryStore, add: Add, attempt: Attempt
) -> None:
    """Not by when its report came."""
    id = add()
    with store.transaction() as transaction:
        found = transaction.find(id)
        assert found is not None
        transaction.attempt(found, attempt)
        transaction.dead_letter(found, NOW + 10**9, "5xx", "no")
    row = store.endpoints()[0]
    assert (row.failed_ns, row.failed_cause) == (NOW + 1000 * attempt.total_us, "5xx")
