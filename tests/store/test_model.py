"""The store against plain dicts, through transactions, leases, failures and restarts in any order."""

from __future__ import annotations

import copy
import sqlite3
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fluxhook.store import DeliveryStore, DeliveryTransaction, State, StoreError
from fluxhook.transport.messages import Attempt, EventHead
from support.store_rows import dead_letters, deliveries

NOW = 1_700_000_000_000_000_000
ENDPOINTS = [0, 1, 2]

#: a transaction's operations: what is done, and to which of the deliveries there are
operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.sampled_from(ENDPOINTS),
            st.sampled_from([None, None, "", "a"]),
            st.integers(-3, 3),
            st.booleans(),
        ),
        st.tuples(
            st.sampled_from(["retry", "retry", "park", "delivered", "bury", "drop"]),
            st.integers(0, 30),
            st.integers(-3, 3),
        ),
        st.tuples(st.just("replay"), st.integers(0, 30)),
        st.tuples(st.just("count"), st.sampled_from(ENDPOINTS), st.sampled_from("xy")),
        st.tuples(st.just("position"), st.binary(min_size=1, max_size=1)),
    ),
    min_size=1,
    max_size=12,
)


class Model:
    """What was committed. A delivery is a dict; `line` is its key if it is ordered."""

    def __init__(self) -> None:
        self.deliveries: dict[int, dict[str, Any]] = {}
        self.leased: set[int] = set()
        self.counters: dict[int, dict[str, int]] = {}
        self.positions: dict[bytes, int] = {}
        #: deaths there ever were, by endpoint and cause
        self.died: Counter[tuple[int, str]] = Counter()

    def die(self, delivery: dict[str, Any], cause: str) -> None:
        delivery.update(state="dead", cause=cause)
        self.died[delivery["endpoint"], cause] += 1

    def pending(self, endpoint: int) -> list[tuple[int, dict[str, Any]]]:
        return [
            (id, d)
            for id, d in sorted(self.deliveries.items())
            if d["endpoint"] == endpoint and d["state"] in ("waiting", "blocked")
        ]

    def waiting(self, endpoint: int) -> list[tuple[int, int]]:
        """(due_ns, id) of what waits and is not out, in their order."""
        return sorted(
            (d["due_ns"], id)
            for id, d in self.pending(endpoint)
            if d["state"] == "waiting" and id not in self.leased
        )

    def promote(self) -> None:
        for endpoint in ENDPOINTS:
            lines: dict[str, list[dict[str, Any]]] = {}
            for _, d in self.pending(endpoint):
                if d["line"] is not None:
                    lines.setdefault(d["line"], []).append(d)
            for line in lines.values():
                if all(d["state"] == "blocked" for d in line):
                    line[0]["state"] = "waiting"


class StoreMachine(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "store.db")
        self.store = DeliveryStore.open(self.path)
        self.store.ensure_endpoints(f"e{i}" for i in ENDPOINTS)
        self.model = Model()
        self.now_ns = NOW
        self.last_id = 0
        self.seq = 0

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    # ---- transactions -----------------------------------------------------------------------------

    @rule(ops=operations)
    def commit(self, ops: list[Any]) -> None:
        with self.store.transaction() as transaction:
            model = self.apply(transaction, ops)
        self.model = model

    @rule(ops=operations)
    def abandon(self, ops: list[Any]) -> None:
        with suppress(KeyboardInterrupt), self.store.transaction() as transaction:
            self.apply(transaction, ops)
            raise KeyboardInterrupt

    @rule(ops=operations)
    def commit_again_after_a_failure(self, ops: list[Any]) -> None:
        transaction = self.store.transaction()
        model = self.apply(transaction, ops)
        self.store.db.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreError):
            transaction.commit()
        self.store.db.execute("PRAGMA query_only = OFF")
        transaction.commit()
        self.model = model

    def apply(self, transaction: DeliveryTransaction, ops: list[Any]) -> Model:
        """Apply operations to the transaction; return the model as it is after its commit."""
        model = copy.deepcopy(self.model)
        for op, *arguments in ops:
            if op == "add":
                self.apply_add(transaction, model, *arguments)
            elif op == "count":
                endpoint, name = arguments
                transaction.count(endpoint, name)
                values = model.counters.setdefault(endpoint, {})
                values[name] = values.get(name, 0) + 1
            elif op == "position":
                self.seq += 1
                transaction.position(arguments[0], self.seq)
                model.positions[arguments[0]] = self.seq
            elif op == "replay":
                self.apply_replay(transaction, model, *arguments)
            else:
                self.apply_report(transaction, model, op, *arguments)
        model.promote()
        return model

    def apply_add(
        self,
        transaction: DeliveryTransaction,
        model: Model,
        endpoint: int,
        line: str | None,
        due: int,
        leased: bool,
    ) -> None:
        self.last_id = id = self.last_id + 1
        body = b"x" * (id % 3 * 3000)  # none, within a page, over a page
        transaction.add(
            id,
            endpoint,
            EventHead(f"evt_{id}", "t", "", line or ""),
            body,
            accepted_ns=self.now_ns,
            due_ns=self.now_ns + due,
            ordered=line is not None,
            leased=leased,
        )
        model.deliveries[id] = {
            "endpoint": endpoint,
            "line": line,
            "state": "waiting" if line is None else "blocked",
            "due_ns": self.now_ns + due,
            "attempts": 0,
            "history": 0,
            "body": body,
        }
        if leased:
            model.leased.add(id)

    def apply_report(
        self, transaction: DeliveryTransaction, model: Model, op: str, which: int, due: int
    ) -> None:
        id = max(0, self.last_id - which)
        expected = model.deliveries.get(id)
        delivery = transaction.find(id)
        if expected is None or expected["state"] not in ("waiting", "blocked"):
            assert delivery is None
            return
        assert delivery is not None
        model.leased.discard(id)
        if op in ("retry", "delivered"):
            transaction.attempt(delivery, Attempt(self.now_ns, 500, "5xx"))
            expected["attempts"] += 1
            expected["history"] += 1
        if op in ("retry", "park"):
            transaction.reschedule(delivery, self.now_ns + due, op)
            expected["due_ns"] = self.now_ns + due
        elif op == "delivered":
            transaction.delivered(delivery, self.now_ns)
            expected["state"] = "delivered"
        elif op == "bury":
            cause = f"cause {id % 3}"
            transaction.dead_letter(delivery, self.now_ns, cause, "error")
            model.die(expected, cause)
        else:
            transaction.drop(delivery, self.now_ns, "expired")
            expected["state"] = "dropped"
        if expected["state"] in ("delivered", "dead", "dropped"):
            expected["ended_ns"] = self.now_ns
        assert delivery.attempts == expected["attempts"]

    def apply_replay(self, transaction: DeliveryTransaction, model: Model, which: int) -> None:
        """A dead letter of before this transaction."""
        id = self.last_id - which
        expected = model.deliveries.get(id)
        if expected is None or expected["state"] != "dead":
            return
        stored = self.store.delivery(id)
        if stored is not None and stored.state == State.DEAD:
            transaction.replay(transaction.copy(stored), self.now_ns)
            expected.update(
                state="waiting" if expected["line"] is None else "blocked",
                due_ns=self.now_ns,
                attempts=0,
            )
            del expected["ended_ns"]

    # ---- the store's own ---------------------------------------------------------------------

    @rule(endpoint=st.sampled_from(ENDPOINTS), limit=st.integers(1, 6))
    def lease(self, endpoint: int, limit: int) -> None:
        model, expected = self.model, list[int]()
        for due_ns, id in model.waiting(endpoint):
            if due_ns > self.now_ns or len(expected) >= limit:
                break
            expected.append(id)
        due = self.store.lease(endpoint, self.now_ns, limit)
        assert [d.id for d, _ in due] == expected
        assert all(body == model.deliveries[d.id]["body"] for d, body in due)
        model.leased.update(expected)

    @precondition(lambda self: self.model.leased)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.model.leased)), max_size=3))
        self.store.release(ids)
        self.model.leased.difference_update(ids)

    @rule(endpoint=st.sampled_from(ENDPOINTS))
    def dead_letter_all(self, endpoint: int) -> None:
        pending = [(id, d) for id, d in self.model.pending(endpoint) if id not in self.model.leased]
        buried = 0
        while n := self.store.dead_letter_all(endpoint, self.now_ns, "removed", limit=2):
            buried += n
        assert buried == len(pending)
        for _, d in pending:
            self.model.die(d, "removed")
            d["ended_ns"] = self.now_ns
        self.model.promote()

    @rule(age=st.integers(0, 5))
    def purge(self, age: int) -> None:
        before_ns = self.now_ns - age
        deliveries = self.model.deliveries
        old = {id for id, d in deliveries.items() if d.get("ended_ns", before_ns) < before_ns}
        assert {d.id for d in self.store.expired(before_ns, 1000)} == old
        assert self.store.purge(deliveries if age % 2 else old) == (
            len([d for d in deliveries.values() if "ended_ns" in d]) if age % 2 else len(old)
        )
        for id, d in list(deliveries.items()):
            if id in old or (age % 2 and "ended_ns" in d):
                if d["state"] == "dead":
                    values = self.model.counters.setdefault(d["endpoint"], {})
                    values["dropped.purged"] = values.get("dropped.purged", 0) + 1
                del deliveries[id]

    @rule(ns=st.integers(1, 4))
    def time_passes(self, ns: int) -> None:
        self.now_ns += ns

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = DeliveryStore.open(self.path)
        self.model.leased.clear()

    # ---- what always holds -------------------------------------------------------------------

    @invariant()
    def nothing_committed_is_missing_and_nothing_else_is_there(self) -> None:
        stored = {d.id: d for d in deliveries(self.store, limit=10_000)}
        assert stored.keys() == self.model.deliveries.keys()
        for id, d in self.model.deliveries.items():
            row = stored[id]
            assert State(row.state).name.lower() == d["state"]
            assert (row.endpoint, row.due_ns, row.attempts) == (
                d["endpoint"],
                d["due_ns"],
                d["attempts"],
            )
            assert row.ended_ns == d.get("ended_ns")
            assert self.store.body(id) == d["body"]
            assert len(self.store.attempts(id)) == d["history"]

    @invariant()
    def a_delivery_is_in_exactly_one_place(self) -> None:
        """Out with a worker, waiting (due or not), blocked, or ended."""
        db = sqlite3.connect(self.path)
        states = dict(db.execute("SELECT id, state FROM deliveries"))
        bodies = {id for (id,) in db.execute("SELECT id FROM bodies")}
        attempts = {id for (id,) in db.execute("SELECT DISTINCT delivery FROM attempts")}
        db.close()
        assert bodies == states.keys()
        assert attempts <= states.keys()
        assert self.store.leases.out.keys() == self.model.leased
        assert all(states[id] <= State.BLOCKED for id in self.model.leased)

    @invariant()
    def every_line_has_one_head(self) -> None:
        for endpoint in ENDPOINTS:
            lines: dict[str, list[str]] = {}
            for d in deliveries(self.store, endpoint=endpoint, limit=10_000):
                if d.ordered and d.ended_ns is None:
                    lines.setdefault(d.order_key, []).append(State(d.state).name)
            assert all(states.count("WAITING") == 1 for states in lines.values())

    @invariant()
    def counters_equal_the_model(self) -> None:
        counters = self.store.counters()
        others = {
            endpoint: {k: n for k, n in found.items() if not k.startswith(("dead.", "died."))}
            for endpoint, found in counters.items()
        }
        assert {k: found for k, found in others.items() if found} == self.model.counters
        assert self.store.positions() == self.model.positions
        for row in self.store.endpoints():
            dead = [d for d in self.model.deliveries.values() if d["state"] == "dead"]
            assert row.pending == self.store.pending[row.id] == len(self.model.pending(row.id))
            assert row.dead == sum(d["endpoint"] == row.id for d in dead)
            leased = [self.model.deliveries[id]["endpoint"] for id in self.model.leased]
            assert self.store.leased(row.id) == leased.count(row.id)
        assert {d.id for d in dead_letters(self.store, limit=10_000)} == {
            id for id, d in self.model.deliveries.items() if d["state"] == "dead"
        }

    @invariant()
    def of_what_deliveries_died_is_known(self) -> None:
        dead = Counter(
            (d["endpoint"], d["cause"])
            for d in self.model.deliveries.values()
            if d["state"] == "dead"
        )
        found = self.store.deaths(self.store.endpoints(), self.store.counters())
        assert {(e, c): n for e, of in found.items() for c, n in of.dead.items()} == dead
        assert {(e, c): n for e, of in found.items() for c, n in of.died.items()} == self.model.died

    @invariant()
    def what_is_due_is_announced(self) -> None:
        waiting = {endpoint: self.model.waiting(endpoint) for endpoint in ENDPOINTS}
        fronts = self.store.leases.fronts
        assert all(fronts[e] <= places[0] for e, places in waiting.items() if places)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
