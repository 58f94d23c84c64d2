"""One transaction's worth of changes, gathered in memory and written at once."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from copy import copy
from types import TracebackType
from typing import TYPE_CHECKING, Self

from msgspec.structs import astuple

from fluxhook.store.database import transaction, translated
from fluxhook.store.records import Delivery, State
from fluxhook.transport.records import Attempt, EventHead

if TYPE_CHECKING:
    from fluxhook.store.deliveries import DeliveryStore

__all__ = ["Batch"]

# plain ints: sqlite3 binds an IntEnum four times slower
_WAITING, _BLOCKED, _DELIVERED, _DEAD, _DROPPED = map(int, State)


def _marks(n: int) -> str:
    return ", ".join("?" * n)


_ADD = f"INSERT INTO deliveries VALUES ({_marks(len(Delivery.__struct_fields__))})"
_BODY = "INSERT INTO bodies VALUES (?, ?)"
_ATTEMPT = f"INSERT INTO attempts VALUES ({_marks(4 + len(Attempt.__struct_fields__))})"
_UPDATE = """
UPDATE deliveries SET due_ns = ?, attempts = ?, first_attempt_ns = ?, last_attempt = ?, cause = ?,
    error = ? WHERE id = ?
"""
_MOVE = """
UPDATE deliveries SET due_ns = ?, attempts = ?, first_attempt_ns = ?, last_attempt = ?, cause = ?,
    error = ?, state = ?, ended_ns = ? WHERE id = ?
"""
_PROMOTE = f"""
UPDATE deliveries SET state = {_WAITING} WHERE id = (
    SELECT id FROM deliveries WHERE endpoint = ?1 AND order_key = ?2 AND state = {_BLOCKED}
        AND ordered AND ended_ns IS NULL ORDER BY id LIMIT 1)
AND NOT EXISTS (
    SELECT 1 FROM deliveries WHERE endpoint = ?1 AND order_key = ?2 AND state = {_WAITING}
        AND ordered AND ended_ns IS NULL)
RETURNING due_ns, id
"""
_PENDING = "UPDATE endpoints SET pending = pending + ?, dead = dead + ? WHERE id = ?"
_COUNT = """
INSERT INTO counters VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET value = value + excluded.value
"""
_POSITION = "INSERT OR REPLACE INTO ring_positions VALUES (?, ?)"


class Batch:
    """Changes that become true together.

    Nothing is written before `commit`; a `with` block commits at its end, and forgets everything
    if it ends in an exception. A `commit` that raised `StoreError` kept nothing and may be called
    again; only one that succeeded changes what the store hands out. The deliveries that it changed
    are then no longer leased.

    A `Delivery` given to a method is one that this batch's `add`, `find` or `adopt` returned.
    """

    def __init__(self, store: DeliveryStore) -> None:
        self._store = store
        self._known: dict[int, Delivery] = {}
        self._added: dict[int, Delivery] = {}
        self._updated: dict[int, Delivery] = {}
        self._moved: dict[int, Delivery] = {}
        self._bodies: list[tuple[int, bytes]] = []
        self._attempts: list[tuple[object, ...]] = []
        self._pending: defaultdict[int, int] = defaultdict(int)
        self._dead: defaultdict[int, int] = defaultdict(int)
        self._counts: defaultdict[tuple[int, str], int] = defaultdict(int)
        self._positions: dict[bytes, int] = {}
        self._committed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.commit()

    def find(self, delivery_id: int) -> Delivery | None:
        """The delivery as this batch leaves it, or None if it ended: then a report on it is stale."""
        found = self._known.get(delivery_id)
        if found is None:
            stored = self._store.leased(delivery_id) or self._store.delivery(delivery_id)
            if stored is None:
                return None
            found = self.adopt(stored)
        return found if found.state <= _BLOCKED else None

    def adopt(self, delivery: Delivery) -> Delivery:
        """This batch's copy of a delivery just read from the store, in whatever state."""
        return self._known.setdefault(delivery.id, copy(delivery))

    def add(
        self,
        endpoint: int,
        event: EventHead,
        body: bytes,
        *,
        accepted_ns: int,
        due_ns: int,
        ordered: bool = False,
        cause: str = "",
        error: str = "",
    ) -> Delivery:
        """A delivery that the store does not know yet, waiting.

        An `ordered` one waits until those of the same endpoint and `order_key` that were added
        before it have ended. Raises `ValueError` for an endpoint that the store does not know.
        """
        delivery = Delivery(
            self._store.next_delivery_id(endpoint),
            endpoint,
            _BLOCKED if ordered else _WAITING,
            int(ordered),
            due_ns,
            0,
            accepted_ns,
            None,
            None,
            None,
            cause,
            error,
            *event,
        )
        self._known[delivery.id] = self._added[delivery.id] = delivery
        self._bodies.append((delivery.id, body))
        self._pending[endpoint] += 1
        return delivery

    def attempt(self, delivery: Delivery, attempt: Attempt) -> None:
        """Records an attempt and counts it; what follows from it is another call."""
        delivery.attempts += 1
        if delivery.first_attempt_ns is None:
            delivery.first_attempt_ns = attempt.started_ns
        row_id = self._store.next_attempt_id()
        previous, delivery.last_attempt = delivery.last_attempt, row_id
        row = (row_id, delivery.id, previous, delivery.attempts, *astuple(attempt))
        self._attempts.append(row)
        self._touch(delivery, self._updated)

    def reschedule(
        self, delivery: Delivery, due_ns: int, cause: str = "", error: str = ""
    ) -> None:
        """Hands a pending delivery back to wait until `due_ns`: failed, parked, or returned."""
        delivery.due_ns, delivery.cause, delivery.error = due_ns, cause, error
        self._touch(delivery, self._updated)

    def delivered(self, delivery: Delivery, now_ns: int) -> None:
        self._end(delivery, _DELIVERED, now_ns, "", "")

    def drop(self, delivery: Delivery, now_ns: int, cause: str) -> None:
        self._end(delivery, _DROPPED, now_ns, cause, "")

    def bury(self, delivery: Delivery, now_ns: int, cause: str, error: str = "") -> None:
        """Makes a dead letter of a pending delivery."""
        self._end(delivery, _DEAD, now_ns, cause, error)
        self._dead[delivery.endpoint] += 1

    def replay(self, delivery: Delivery, now_ns: int) -> None:
        """Makes a dead letter wait again, due now and with all of its attempts before it.

        An ordered one takes its old place among those that wait, but stops none already under way.
        """
        if delivery.state != _DEAD:
            raise ValueError(f"delivery {delivery.id} is no dead letter")
        delivery.state = _BLOCKED if delivery.ordered else _WAITING
        delivery.due_ns, delivery.attempts = now_ns, 0
        delivery.first_attempt_ns = delivery.ended_ns = None
        self._pending[delivery.endpoint] += 1
        self._dead[delivery.endpoint] -= 1
        self._touch(delivery, self._moved)

    def count(self, endpoint: int, name: str, n: int = 1) -> None:
        """Raises a counter of the endpoint's that outlives every process."""
        self._counts[endpoint, name] += n

    def position(self, ring_uid: bytes, seq: int) -> None:
        """Notes up to where a ring has been applied, by this batch and those before it."""
        self._positions[ring_uid] = seq

    def commit(self) -> None:
        """Writes all of it or, raising `StoreError`, nothing. A second success does nothing."""
        if self._committed:
            return
        with translated(self._store.path), transaction(self._store.connection) as db:
            promoted = self._write(db)
        self._committed = True
        leases = self._store.leases
        for changed in (self._updated, self._moved):
            for delivery in changed.values():
                leases.end(delivery.id)
        for rows in (self._added, self._updated, self._moved):
            for delivery in rows.values():
                if delivery.state == _WAITING:
                    leases.waits(delivery.endpoint, (delivery.due_ns, delivery.id))
        for endpoint, place in promoted:
            leases.waits(endpoint, place)

    def _end(self, delivery: Delivery, state: int, now_ns: int, cause: str, error: str) -> None:
        if delivery.state > _BLOCKED:
            raise ValueError(f"delivery {delivery.id} has ended")
        delivery.state, delivery.ended_ns = state, now_ns
        delivery.cause, delivery.error = cause, error
        self._pending[delivery.endpoint] -= 1
        self._touch(delivery, self._moved)

    def _touch(self, delivery: Delivery, how: dict[int, Delivery]) -> None:
        if delivery.id not in self._added:
            how[delivery.id] = delivery

    def _write(self, db: sqlite3.Connection) -> list[tuple[int, tuple[int, int]]]:
        """Returns the endpoint and place of each delivery whose turn in its order has come."""
        raise NotImplementedError
