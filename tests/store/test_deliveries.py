"""What the scheduler may rely on, rule by rule; the state machine in test_model.py mixes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fluxhook.store import DeliveryStore, State
from fluxhook.transport.messages import Attempt, EventHead
from support.store_rows import dead_letters, deliveries

NOW = 1_700_000_000_000_000_000

Add = Callable[..., int]


def leased_ids(store: DeliveryStore, endpoint: int = 0, limit: int = 100) -> list[int]:
    return [due.delivery.id for due in store.lease(endpoint, NOW, limit)]


def counts(store: DeliveryStore, endpoint: int = 0) -> tuple[int, int]:
    """Return how many deliveries of an endpoint are pending, and how many dead."""
    row = store.endpoints()[endpoint]
    return row.pending, row.dead


def end(store: DeliveryStore, *ids: int, dead: bool = False) -> None:
    with store.transaction() as transaction:
        for id in ids:
            delivery = transaction.find(id)
            assert delivery is not None
            if dead:
                transaction.dead_letter(delivery, NOW, "5xx", "503 Service Unavailable")
            else:
                transaction.delivered(delivery, NOW)


def replay(store: DeliveryStore, ids: list[int]) -> int:
    """Has the dead letters among these wait again, and counts them."""
    found = [row for row in map(store.delivery, ids) if row and row.state == State.DEAD]
    with store.transaction() as transaction:
        for row in found:
            transaction.replay(transaction.copy(row), NOW)
    return len(found)


# ---- leases ----------------------------------------------------------------------------------


def test_what_is_due_comes_longest_due_first(store: DeliveryStore, add: Add) -> None:
    """Due deliveries are handed out by due time, then by id; later ones and others' are not."""
    late = add(due_ns=NOW)
    early = [add(due_ns=NOW - 5), add(due_ns=NOW - 5)]
    add(due_ns=NOW + 1)
    add(endpoint=1)
    assert leased_ids(store) == [*early, late]


def test_a_due_delivery_is_what_was_added(store: DeliveryStore, add: Add) -> None:
    """Event and body come back as they were given."""
    id = add(key="k")
    [(delivery, body)] = store.lease(0, NOW, 10)
    assert delivery.event == EventHead(f"evt_{id}", "route.error", "a/b", "k")
    assert (delivery.accepted_ns, delivery.attempts, body) == (NOW, 0, b"body %d" % id)


def test_nothing_is_handed_out_twice(store: DeliveryStore, add: Add) -> None:
    """A leased delivery is not handed out again, however the limit cuts a crowd due at once."""
    add(n=10)
    assert [leased_ids(store, limit=4) for _ in range(4)] == [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
        [9, 10],
        [],
    ]
    assert store.leased(0) == 10


def test_a_released_delivery_is_handed_out_again(store: DeliveryStore, add: Add) -> None:
    """Release makes room among those out; an unknown id is no mistake."""
    add(n=3)
    assert leased_ids(store) == [1, 2, 3]
    store.release([2, 99])
    assert store.leased(0) == 2
    assert leased_ids(store) == [2]


def front(store: DeliveryStore, endpoint: int) -> int:
    """Return when the next delivery of the endpoint may be leased."""
    return store.leases.fronts[endpoint][0]


def test_a_rescheduled_delivery_waits_for_its_time(store: DeliveryStore, add: Add) -> None:
    """Rescheduling ends a lease; the delivery is found at its new time, and not before."""
    id = add()
    assert leased_ids(store) == [id]
    with store.transaction() as transaction:
        delivery = transaction.find(id)
        assert delivery is not None
        transaction.reschedule(delivery, NOW + 10, "parked")
    assert leased_ids(store) == []
    assert front(store, 0) == NOW + 10
    assert [d.id for d, _ in store.lease(0, NOW + 10, 1)] == [id]


def test_leases_end_with_the_process(store: DeliveryStore, add: Add, path: Path) -> None:
    """After a restart everything that has not ended is handed out again."""
    add(n=3)
    assert leased_ids(store) == [1, 2, 3]
    end(store, 2)
    store.close()
    with DeliveryStore.open(path) as again:
        assert leased_ids(again) == [1, 3]


def test_an_adopted_delivery_is_out_from_the_start(store: DeliveryStore) -> None:
    """A delivery that a worker is still attempting is kept, but handed out only when it comes back."""
    with store.transaction() as transaction:
        event = EventHead("evt_1", "route.error")
        transaction.add(1, 0, event, b"", accepted_ns=NOW, due_ns=NOW, leased=True)
    assert (leased_ids(store), store.leased(0), store.pending[0]) == ([], 1, 1)
    with store.transaction() as transaction:
        delivery = transaction.find(1)
        assert delivery is not None
        transaction.reschedule(delivery, NOW)
    assert leased_ids(store) == [1]


def test_the_next_due_time_looks_past_what_is_out(store: DeliveryStore, add: Add) -> None:
    """The fronts tell the scheduler when and for whom to look, and when not at all."""
    assert store.leases.fronts == {}
    add(n=2)
    add(due_ns=NOW + 7)
    add(endpoint=1, due_ns=NOW + 9)
    assert (front(store, 0), front(store, 1)) == (NOW, NOW + 9)
    assert leased_ids(store) == [1, 2]
    assert (front(store, 0), front(store, 1)) == (NOW + 7, NOW + 9)


# ---- order -----------------------------------------------------------------------------------


def test_only_the_head_of_a_line_is_handed_out(store: DeliveryStore, add: Add) -> None:
    """Of ordered deliveries with one key the first is handed out; the next when it has ended."""
    add(key="a", n=3)
    add(key="b", n=2)
    assert leased_ids(store) == [1, 4]
    end(store, 1)
    assert leased_ids(store) == [2]


def test_a_failing_head_holds_back_its_own_line_alone(store: DeliveryStore, add: Add) -> None:
    """While a head waits for its retry, nothing behind it goes; other keys and endpoints do."""
    add(key="a", n=2)
    add(key="b")
    add(endpoint=1, key="a")
    assert leased_ids(store) == [1, 3]
    with store.transaction() as transaction:
        head = transaction.find(1)
        assert head is not None
        transaction.reschedule(head, NOW + 10, "5xx")
    assert leased_ids(store) == []
    assert leased_ids(store, endpoint=1) == [4]
    end(store, 1, dead=True)
    assert leased_ids(store) == [2]


# ---- ends ------------------------------------------------------------------------------------


def test_a_report_on_an_ended_delivery_is_stale(store: DeliveryStore, add: Add) -> None:
    """`find` answers None for what has ended, in this transaction or before, and for what never was."""
    add(n=2)
    end(store, 1)
    with store.transaction() as transaction:
        second = transaction.find(2)
        assert second is not None
        transaction.drop(second, NOW, "expired")
        assert [transaction.find(id) for id in (1, 2, 3)] == [None, None, None]
        with pytest.raises(ValueError, match="has ended already"):
            transaction.delivered(second, NOW)


def test_attempts_stay_on_record(store: DeliveryStore, add: Add, attempt: Attempt) -> None:
    """Attempts can be read in order and in full, also after the delivery has ended."""
    id = add()
    for n in (1, 2):
        with store.transaction() as transaction:
            delivery = transaction.find(id)
            assert delivery is not None
            transaction.attempt(delivery, attempt)
            assert delivery.attempts == n
            if n == 2:
                transaction.delivered(delivery, NOW)
    assert [(a.n, a.attempt) for a in store.attempts(id)] == [(1, attempt), (2, attempt)]
    kept = store.delivery(id)
    assert kept is not None
    assert (kept.state, kept.attempts, kept.ended_ns) == (State.DELIVERED, 2, NOW)
    assert kept.first_failed_ns == attempt.started_ns + 1000 * attempt.total_us


def test_a_replayed_dead_letter_starts_anew(
    store: DeliveryStore, add: Add, attempt: Attempt
) -> None:
    """Replay makes dead letters due now with no attempt counted; what was attempted stays."""
    add(n=2)
    with store.transaction() as transaction:
        delivery = transaction.find(1)
        assert delivery is not None
        transaction.attempt(delivery, attempt)
        transaction.dead_letter(delivery, NOW, "5xx")
    assert replay(store, [1, 2, 3]) == 1
    replayed = store.delivery(1)
    assert replayed is not None
    assert (replayed.state, replayed.attempts, replayed.ended_ns) == (State.WAITING, 0, None)
    assert len(store.attempts(1)) == 1
    assert counts(store) == (2, 0)
    assert store.body(1) == b"body 1"


def test_only_a_dead_letter_is_replayed(store: DeliveryStore, add: Add) -> None:
    """A delivery that waits, or was delivered, has no such move; nothing is changed then."""
    add(n=2)
    end(store, 2)
    for id in (1, 2):
        row = store.delivery(id)
        assert row is not None
        with (
            store.transaction() as transaction,
            pytest.raises(ValueError, match="is not a dead letter"),
        ):
            transaction.replay(transaction.copy(row), NOW)
        assert store.delivery(id) == row
    assert counts(store) == (1, 0)


def test_a_replayed_ordered_delivery_does_not_overtake_a_head(
    store: DeliveryStore, add: Add
) -> None:
    """Replayed, it waits for what is at the head now, and then comes before all others."""
    add(key="a", n=3)
    end(store, 1, dead=True)
    assert leased_ids(store) == [2]
    replay(store, [1])
    assert leased_ids(store) == []
    end(store, 2)
    assert leased_ids(store) == [1]


def test_burying_an_endpoint_leaves_what_is_out(store: DeliveryStore, add: Add) -> None:
    """`dead_letter_all` takes waiting and blocked ones, by parts; reports settle the rest."""
    add(n=3)
    add(key="a", n=3)
    add(endpoint=1)
    assert leased_ids(store, limit=2) == [1, 2]
    buried = []
    while n := store.dead_letter_all(0, NOW, "removed", limit=3):
        buried.append(n)
    assert buried == [3, 1]
    assert store.pending == {0: 2, 1: 1}
    assert store.leases.fronts.keys() == {1}
    end(store, 1, 2)
    assert counts(store) == (0, 4)


def test_dead_letters_are_listed_by_pages(store: DeliveryStore, add: Add) -> None:
    """The latest to die first, over all endpoints or of one, each exactly once."""
    add(n=5)
    add(endpoint=1, n=2)
    end(store, 7, 3, dead=True)
    end(store, 4)
    with store.transaction() as transaction:
        for now_ns, id in [(NOW + 2, 1), (NOW + 1, 6)]:
            delivery = transaction.find(id)
            assert delivery is not None
            transaction.dead_letter(delivery, now_ns, "5xx")
    pages, page = [], dead_letters(store, limit=2)
    while page:
        pages.append([d.id for d in page])
        page = dead_letters(store, limit=2, before=page[-1])
    assert pages == [[1, 6], [7, 3]]
    assert [d.id for d in dead_letters(store, endpoint=1)] == [6, 7]


def test_deliveries_are_listed_by_pages(store: DeliveryStore, add: Add) -> None:
    """Newest first, by any of the filters; a page ends where the one before began."""
    add(n=3)
    add(endpoint=1, n=3)
    end(store, 2, 5)
    assert [d.id for d in deliveries(store, limit=2)] == [6, 5]
    assert [d.id for d in deliveries(store, limit=2, before=5)] == [4, 3]
    assert [d.id for d in deliveries(store, endpoint=0, state=State.WAITING)] == [3, 1]
    assert [d.id for d in deliveries(store, event_id="evt_4", type="route.error")] == [4]
    assert deliveries(store, type="other") == []


def test_the_purge_takes_what_has_ended(store: DeliveryStore, add: Add, attempt: Attempt) -> None:
    """Only ended deliveries go, with bodies and attempts, and the count of the dead with them."""
    add(n=4)
    with store.transaction() as transaction:
        for id in (1, 2, 3):
            delivery = transaction.find(id)
            assert delivery is not None
            transaction.attempt(delivery, attempt)
            if id < 3:
                transaction.dead_letter(delivery, NOW + id, "5xx")
    assert [d.id for d in store.expired(NOW + 2, 10)] == [1]
    assert store.purge([1, 3, 4, 5]) == 1
    assert (store.delivery(1), store.body(1), store.attempts(1)) == (None, None, [])
    assert [len(store.attempts(id)) for id in (2, 3)] == [1, 1]
    assert counts(store) == (2, 1)


def test_an_id_that_is_taken_is_replaced(store: DeliveryStore, add: Add, attempt: Attempt) -> None:
    """A worker whose clock was set back may repeat an id; neither delivery is lost or mixed up."""
    add(n=2)
    with store.transaction() as transaction:
        for id in (1, 3):
            event = EventHead(f"evt_new_{id}", "route.error")
            new = transaction.add(id, 0, event, b"new %d" % id, accepted_ns=NOW, due_ns=NOW)
            transaction.attempt(new, attempt)
    assert [d.event_id for d in deliveries(store)] == ["evt_new_1", "evt_new_3", "evt_2", "evt_1"]
    assert [body for _, body in store.lease(0, NOW, 9)] == [
        b"body 1",
        b"body 2",
        b"new 3",
        b"new 1",
    ]
    assert [len(store.attempts(id)) for id in (1, 2, 3, 4)] == [0, 0, 1, 1]


def test_an_id_given_twice_in_one_batch_is_replaced(store: DeliveryStore) -> None:
    """The same within a transaction: both are kept, and the first keeps its id."""
    with store.transaction() as transaction:
        for n in range(2):
            event = EventHead(f"evt_{n}", "t")
            transaction.add(7, 0, event, b"%d" % n, accepted_ns=NOW, due_ns=NOW)
    assert [(d.id, d.event_id, body) for d, body in store.lease(0, NOW, 9)] == [
        (7, "evt_0", b"0"),
        (8, "evt_1", b"1"),
    ]


# ---- endpoints, counters, rings ----------------------------------------------------------------


def test_endpoint_ids_are_stable(store: DeliveryStore, path: Path) -> None:
    """A name keeps its id over restarts; no id is given out twice."""
    assert store.ensure_endpoints(["b", "one", "a"]) == {"b": 2, "one": 1, "a": 3}
    store.close()
    with DeliveryStore.open(path) as again:
        assert again.ensure_endpoints(["c", "b"]) == {"c": 4, "b": 2}
        assert again.pending == dict.fromkeys(range(5), 0)


def test_an_endpoint_is_disabled_and_enabled(store: DeliveryStore) -> None:
    """Time and reason stand in its row until it is enabled."""
    store.disable_endpoint(1, NOW, "410 Gone")
    assert store.endpoints()[1][2:4] == (NOW, "410 Gone")
    store.enable_endpoint(1)
    assert store.endpoints()[1][2:4] == (None, "")


def test_an_unknown_endpoint_is_refused(store: DeliveryStore) -> None:
    """A delivery for an endpoint that has no row would never be found again."""
    with (
        store.transaction() as transaction,
        pytest.raises(ValueError, match="endpoint 2 is not in"),
    ):
        transaction.add(1, 2, EventHead("evt_1", "t"), b"", accepted_ns=NOW, due_ns=NOW)


def test_counters_add_up_and_positions_move(store: DeliveryStore) -> None:
    """Counters sum over transactions; of a ring's positions the last one counts."""
    for seq in (5, 9):
        with store.transaction() as transaction:
            transaction.count(0, "delivered", 2)
            transaction.count(1, "dropped.oldest")
            transaction.position(b"ring", seq)
    assert store.counters() == {0: {"delivered": 4}, 1: {"dropped.oldest": 2}}
    assert store.positions() == {b"ring": 9}


def test_a_batch_that_ends_in_an_exception_never_was(store: DeliveryStore, add: Add) -> None:
    """Neither the file nor the leases know of it."""
    id = add()
    assert leased_ids(store) == [id]

    def failing() -> None:
        with store.transaction() as transaction:
            delivery = transaction.find(id)
            assert delivery is not None
            transaction.dead_letter(delivery, NOW, "5xx")
            transaction.count(0, "dead")
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert (store.leased(0), store.pending[0], store.counters()) == (1, 1, {})
    with store.transaction() as transaction:
        assert transaction.find(id) is not None


# ---- choosing dead letters ---------------------------------------------------------------------


def buried(store: DeliveryStore, add: Add) -> dict[int, tuple[int, str, int]]:
    """Forty deliveries of two endpoints; of each, its endpoint, cause and time of death. Every fifth
    is not dead."""
    facts = {}
    for n in range(40):
        endpoint, cause, ended_ns = n % 2, ("5xx", "timeout", "removed")[n % 3], NOW + n // 4
        id = add(endpoint=endpoint)
        if n % 5:
            with store.transaction() as transaction:
                delivery = transaction.find(id)
                assert delivery is not None
                transaction.dead_letter(delivery, ended_ns, cause)
            facts[id] = endpoint, cause, ended_ns
    return facts


@pytest.mark.parametrize("endpoint", [None, 0, 1, 7])
@pytest.mark.parametrize("cause", [None, "5xx", "timeout"])
@pytest.mark.parametrize(("since", "until"), [(None, None), (3, None), (None, 7), (3, 7), (5, 5)])
def test_dead_letters_are_chosen_by_all_that_is_said(
    store: DeliveryStore,
    add: Add,
    endpoint: int | None,
    cause: str | None,
    since: int | None,
    until: int | None,
) -> None:
    """Endpoint, cause, and when they died: from `since_ns` on, before `until_ns`."""
    since_ns = None if since is None else NOW + since
    until_ns = None if until is None else NOW + until
    wanted = [
        id
        for id, (its_endpoint, its_cause, ended_ns) in buried(store, add).items()
        if endpoint in (None, its_endpoint)
        and cause in (None, its_cause)
        and (since_ns is None or ended_ns >= since_ns)
        and (until_ns is None or ended_ns < until_ns)
    ]
    found = store.select_dead(endpoint=endpoint, cause=cause, since_ns=since_ns, until_ns=until_ns)
    assert found == wanted
    assert store.select_dead(endpoint=endpoint, cause=cause, type="route.created") == []


@pytest.mark.parametrize("limit", [1, 3, 32, 500])
def test_a_walk_over_the_dead_meets_each_once(store: DeliveryStore, add: Add, limit: int) -> None:
    """Though those that were met are replayed, die again or are purged on the way, and others die."""
    ids = list(buried(store, add))
    met: list[int] = []
    after = 0
    while page := store.select_dead(after=after, limit=limit):
        assert len(page) <= limit
        met += page
        after = page[-1]
        replay(store, page[:1])
        end(store, page[0], dead=True)
        store.purge(page[1:])
    assert met == ids


@pytest.mark.parametrize("n", [1, 31, 32, 33, 64, 100])
def test_a_batch_has_any_number_of_rows(
    store: DeliveryStore, add: Add, attempt: Attempt, n: int
) -> None:
    """Rows are written many at a time: each is written once, changed once, and no other is."""
    add(n=n)
    other = add(endpoint=1)
    for times in (1, 2):
        with store.transaction() as transaction:
            for id in range(1, n + 1):
                delivery = transaction.find(id)
                assert delivery is not None
                transaction.attempt(delivery, attempt)
                transaction.reschedule(delivery, NOW + id, f"cause {id}")
        found = deliveries(store, endpoint=0, limit=1000)
        assert [(d.id, d.due_ns, d.cause, d.attempts) for d in reversed(found)] == [
            (id, NOW + id, f"cause {id}", times) for id in range(1, n + 1)
        ]
    end(store, *range(1, n + 1))
    assert {d.state for d in deliveries(store, endpoint=0, limit=1000)} == {State.DELIVERED}
    assert [store.body(id) for id in (1, n)] == [b"body 1", b"body %d" % n]
    assert [a.n for a in store.attempts(n)] == [1, 2]
    untouched = store.delivery(other)
    assert untouched is not None
    assert (untouched.state, untouched.attempts) == (State.WAITING, 0)


def test_the_oldest_pending_is_known(store: DeliveryStore) -> None:
    """It may wait for its time, wait in a line or be out; what ended does not count."""
    with store.transaction() as transaction:
        for id, key in ((1, None), (2, "k"), (3, "k"), (4, None)):
            event = EventHead(f"evt_{id}", "route.error", "", key or "")
            due_ns, ordered = NOW - id, key is not None
            transaction.add(id, 0, event, b"", accepted_ns=id, due_ns=due_ns, ordered=ordered)
    for oldest in (1, 2, 3, 4):
        assert store.oldest_times_ns() == {0: oldest}
        leased_ids(store)
        assert store.oldest_times_ns() == {0: oldest}
        end(store, oldest)
    assert store.oldest_times_ns() == {}
