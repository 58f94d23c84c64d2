"""One transaction's worth of changes, gathered in memory and written at once."""

from __future__ import annotations

import itertools
import sqlite3
from collections import defaultdict
from types import TracebackType
from typing import Any, Final, Self

from msgspec.structs import astuple, replace

from fluxhook.policy import delivery as life
from fluxhook.policy.outcome import GIVEN_UP
from fluxhook.policy.table import IllegalMove
from fluxhook.store.database import Insert, transaction, translated
from fluxhook.store.deaths import DEAD, DIED
from fluxhook.store.rows import COLUMNS, DeliveryRow, State, state_after
from fluxhook.store.writer import Writer
from fluxhook.transport.messages import Attempt, EventHead

__all__ = ["COUNT", "DeliveryTransaction"]

# plain ints: sqlite3 binds them faster than an IntEnum's members
_WAITING, _BLOCKED = int(State.WAITING), int(State.BLOCKED)
#: an ordered delivery that comes to the store, until it is found to be the first
_QUEUED: Final = int(state_after("waiting", "queued"))
_NAMES: Final[tuple[life.State, ...]] = ("waiting", "blocked", "delivered", "dead", "dropped")
#: what happens to a delivery that is with a worker, whatever its row says of it
_OF_SENDING: Final = frozenset(move.event for move in life.MOVES if move.state == "sending")

_WIDTH = len(COLUMNS)
_ADD = Insert("deliveries", _WIDTH)
_BODY = Insert("bodies", 2)
_TRACE = Insert("traces", 3)
_ATTEMPT = Insert("attempts", 4 + len(Attempt.__struct_fields__))
_CHANGING = ("due_ns", "attempts", "first_failed_ns", "last_attempt", "cause", "error")


def _change(*columns: str) -> Insert:
    """Set these columns of deliveries that are there, for all of which a row is given."""
    assignments = ", ".join(f"{column} = excluded.{column}" for column in columns)
    return Insert("deliveries", _WIDTH, f"ON CONFLICT (id) DO UPDATE SET {assignments}")


# Apart, since a statement that sets `state` writes to all indexes, changed or not.
_UPDATE = _change(*_CHANGING)
_MOVE = _change(*_CHANGING, "state", "ended_ns")
PROMOTE = f"""
UPDATE deliveries SET state = {state_after("blocked", "turn"):d} WHERE id = (
    SELECT id FROM deliveries INDEXED BY line WHERE endpoint = ? AND order_key = ?
        AND state = {_BLOCKED} AND ordered AND ended_ns IS NULL ORDER BY id LIMIT 1)
AND NOT EXISTS (
    SELECT 1 FROM deliveries INDEXED BY line WHERE endpoint = ? AND order_key = ?
        AND state = {_WAITING} AND ordered AND ended_ns IS NULL)
RETURNING endpoint, due_ns, id
"""
_BALANCE = "UPDATE endpoints SET pending = pending + ?, dead = dead + ? WHERE id = ?"
COUNT = """
INSERT INTO counters VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET value = value + excluded.value
"""
_FAILED = "UPDATE endpoints SET failed_ns = ?, failed_cause = ?, failed_error = ? WHERE id = ?"
_WINDOW = "INSERT OR REPLACE INTO windows VALUES (?, ?, ?)"
_CLOSE_WINDOW = "DELETE FROM windows WHERE endpoint = ?"
_POSITION = "INSERT OR REPLACE INTO ring_positions VALUES (?, ?)"


def _rows(deliveries: dict[int, DeliveryRow]) -> list[tuple[Any, ...]]:
    return [astuple(delivery)[:_WIDTH] for delivery in deliveries.values()]


class DeliveryTransaction:
    """The `Transaction` of interface.py, which says what each method does."""

    def __init__(self, store: Writer) -> None:
        self._store = store
        self._known: dict[int, DeliveryRow] = {}
        self._added: dict[int, DeliveryRow] = {}
        self._updated: dict[int, DeliveryRow] = {}
        self._moved: dict[int, DeliveryRow] = {}
        self._leased: dict[int, DeliveryRow] = {}
        self._bodies: list[tuple[DeliveryRow, bytes]] = []
        self._attempts: list[tuple[int, DeliveryRow, int | None, int, Attempt]] = []
        self._pending: defaultdict[int, int] = defaultdict(int)
        self._dead: defaultdict[int, int] = defaultdict(int)
        self._counts: defaultdict[tuple[int, str], int] = defaultdict(int)
        self._positions: dict[bytes, int] = {}
        self._failures: dict[int, tuple[int, str, str]] = {}
        self._windows: dict[int, tuple[int, bytes] | None] = {}
        self._given_up: list[DeliveryRow] = []
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

    # ---- deliveries ------------------------------------------------------------------------

    def find(self, delivery_id: int) -> DeliveryRow | None:
        found = self._known.get(delivery_id)
        if found is None:
            stored = self._store.leases.out.get(delivery_id) or self._store.delivery(delivery_id)
            if stored is None:
                return None
            found = self.copy(stored)
        return found if found.state <= _BLOCKED else None

    def copy(self, delivery: DeliveryRow) -> DeliveryRow:
        return self._known.setdefault(delivery.id, replace(delivery))

    def add(
        self,
        delivery_id: int,
        endpoint: int,
        event: EventHead,
        body: bytes,
        *,
        accepted_ns: int,
        due_ns: int,
        ordered: bool = False,
        leased: bool = False,
        cause: str = "",
        error: str = "",
    ) -> DeliveryRow:
        if endpoint not in self._store.pending:
            raise ValueError(f"endpoint {endpoint} is not in {self._store.path}")
        if delivery_id in self._known:  # see _renumber
            delivery_id = max(self._known) + 1
        delivery = DeliveryRow(
            delivery_id,
            endpoint,
            _QUEUED if ordered else _WAITING,
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
        self._known[delivery_id] = self._added[delivery_id] = delivery
        self._bodies.append((delivery, body))
        self._pending[endpoint] += 1
        if leased:
            self._leased[delivery_id] = delivery
        return delivery

    def attempt(self, delivery: DeliveryRow, attempt: Attempt, offset_ns: int = 0) -> None:
        n = delivery.attempts = delivery.attempts + 1
        ended_ns = attempt.started_ns + 1000 * attempt.total_us
        if delivery.first_failed_ns is None and attempt.cause != "delivered":
            delivery.first_failed_ns = ended_ns - offset_ns
        id, previous = next(self._store.attempt_ids), delivery.last_attempt
        delivery.last_attempt = id
        self._attempts.append((id, delivery, previous, n, attempt))
        if attempt.cause != "delivered":
            self._failures[delivery.endpoint] = ended_ns, attempt.cause, attempt.error
        self._touch(delivery)

    def reschedule(
        self, delivery: DeliveryRow, due_ns: int, cause: str = "", error: str = ""
    ) -> None:
        delivery.due_ns, delivery.cause, delivery.error = due_ns, cause, error
        self._touch(delivery)

    def delivered(self, delivery: DeliveryRow, wall_ns: int) -> None:
        self._end(delivery, "delivered", wall_ns, "", "")

    def drop(self, delivery: DeliveryRow, wall_ns: int, cause: str) -> None:
        self._end(delivery, "dropped", wall_ns, cause, "")

    def dead_letter(
        self,
        delivery: DeliveryRow,
        wall_ns: int,
        cause: str,
        error: str = "",
        *,
        event: life.Event = "dead",
    ) -> None:
        self._end(delivery, event, wall_ns, cause, error)
        self._dead[delivery.endpoint] += 1
        self.count(delivery.endpoint, f"{DEAD}{cause}")
        self.count(delivery.endpoint, f"{DIED}{cause}")
        attempted = self._attempts and self._attempts[-1][1] is delivery
        if not attempted and cause not in GIVEN_UP:
            self._failures[delivery.endpoint] = wall_ns, cause, error
        self._given_up.append(delivery)
        self._store.on_dead_letter(delivery)

    def replay(self, delivery: DeliveryRow, now_ns: int) -> None:
        try:
            state = state_after(_NAMES[delivery.state], "replay")
        except IllegalMove:
            raise ValueError(f"delivery {delivery.id} is not a dead letter") from None
        delivery.state = _QUEUED if delivery.ordered else int(state)
        delivery.due_ns, delivery.attempts = now_ns, 0
        delivery.first_failed_ns = delivery.ended_ns = None
        self._pending[delivery.endpoint] += 1
        self._dead[delivery.endpoint] -= 1
        self.count(delivery.endpoint, f"{DEAD}{delivery.cause}", -1)
        self._move(delivery)

    def _end(
        self, delivery: DeliveryRow, event: life.Event, wall_ns: int, cause: str, error: str
    ) -> None:
        before = _NAMES[delivery.state]
        if event in _OF_SENDING and delivery.state <= _BLOCKED:
            before = "sending"
        try:
            delivery.state = int(state_after(before, event))
        except IllegalMove:
            raise ValueError(f"delivery {delivery.id} has ended already") from None
        delivery.ended_ns = wall_ns
        delivery.cause, delivery.error = cause, error
        self._pending[delivery.endpoint] -= 1
        self._move(delivery)

    def _touch(self, delivery: DeliveryRow) -> None:
        """Note a change that leaves the state as it is."""
        id = delivery.id
        if id in self._added:
            self._leased.pop(id, None)
        elif id not in self._moved:
            self._updated[id] = delivery

    def _move(self, delivery: DeliveryRow) -> None:
        """Note a change of the state."""
        id = delivery.id
        if id in self._added:
            self._leased.pop(id, None)
        else:
            self._updated.pop(id, None)
            self._moved[id] = delivery

    # ---- what else is committed with them --------------------------------------------------

    def count(self, endpoint: int, name: str, n: int = 1) -> None:
        self._counts[endpoint, name] += n

    def window(self, endpoint: int, closes_ns: int, state: bytes) -> None:
        self._windows[endpoint] = closes_ns, state

    def close_window(self, endpoint: int) -> None:
        self._windows[endpoint] = None

    def position(self, ring_uid: bytes, seq: int) -> None:
        self._positions[ring_uid] = seq

    # ---- writing ---------------------------------------------------------------------------

    def commit(self) -> None:
        if self._committed:
            return
        with translated(self._store.path):
            try:
                promoted = self.write()
            except sqlite3.IntegrityError:
                self._renumber()
                promoted = self.write()
        self._committed = True
        for endpoint, n in self._pending.items():
            self._store.pending[endpoint] += n
        self._update_leases(promoted)
        if self._given_up:
            self._store.on_dead_letters(self._given_up)

    def write(self) -> list[tuple[int, int, int]]:
        """Write all, and return the endpoint, due_ns and id of each delivery whose turn has come."""
        promoted: list[tuple[int, int, int]] = []
        lines: set[tuple[int, str]] = set()
        with transaction(self._store.db) as db:
            _ADD.write(db, _rows(self._added))
            _BODY.write(db, [(delivery.id, body) for delivery, body in self._bodies])
            _TRACE.write(
                db,
                [
                    (d.id, d.traceparent, d.tracestate)
                    for d in self._added.values()
                    if d.traceparent
                ],
            )
            _ATTEMPT.write(
                db,
                [(id, d.id, previous, n, *astuple(a)) for id, d, previous, n, a in self._attempts],
            )
            _UPDATE.write(db, _rows(self._updated))
            _MOVE.write(db, _rows(self._moved))
            for changed in (self._added, self._updated, self._moved):
                lines.update((d.endpoint, d.order_key) for d in changed.values() if d.ordered)
            for line in lines:
                promoted += db.execute(PROMOTE, line * 2).fetchall()
            db.executemany(
                _BALANCE,
                ((n, self._dead[endpoint], endpoint) for endpoint, n in self._pending.items()),
            )
            db.executemany(COUNT, ((*key, n) for key, n in self._counts.items()))
            db.executemany(_FAILED, ((*last, id) for id, last in self._failures.items()))
            for endpoint, window in self._windows.items():
                if window is None:
                    db.execute(_CLOSE_WINDOW, (endpoint,))
                else:
                    db.execute(_WINDOW, (endpoint, *window))
            db.executemany(_POSITION, self._positions.items())
        return promoted

    def _renumber(self) -> None:
        """Give new ids to what was added under an id that is taken.

        A worker takes its ids from the engine's clock, which never goes back; but an older copy of the
        store knows nothing of what a newer one had seen.
        """
        ((newest,),) = self._store.db.execute("SELECT coalesce(max(id), 0) FROM deliveries")
        free = itertools.count(max(newest, *self._added) + 1)
        for delivery in self._added.values():
            if self._store.delivery(delivery.id) is not None:
                delivery.id = next(free)

    def _update_leases(self, promoted: list[tuple[int, int, int]]) -> None:
        leases = self._store.leases
        for delivery_id in (*self._updated, *self._moved):
            leases.end(delivery_id)
        for delivery in self._leased.values():
            leases.take(delivery)
        for changed in (self._added, self._updated, self._moved):
            for delivery in changed.values():
                if delivery.state == _WAITING:
                    leases.waits(delivery.endpoint, (delivery.due_ns, delivery.id))
        for endpoint, due_ns, delivery_id in promoted:
            leases.waits(endpoint, (due_ns, delivery_id))
            if delivery_id in leases.out:
                leases.out[delivery_id].state = _WAITING
