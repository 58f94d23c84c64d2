"""What the store can be asked, by the scheduler and, read-only, by any other process."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from fluxhook.events.trace_context import TraceContext
from fluxhook.logs.log import Log
from fluxhook.policy.clock import Clock
from fluxhook.store.database import open_reader, translated
from fluxhook.store.deaths import Deaths, deaths
from fluxhook.store.delivery_id import first_at, made_ns
from fluxhook.store.rows import COLUMNS as DELIVERY_COLUMNS
from fluxhook.store.rows import (
    ENDED,
    DeliveryRow,
    EndpointRow,
    PastAttempt,
    State,
    SubscriptionRow,
)
from fluxhook.transport.messages import Attempt

__all__ = ["COLUMNS", "FRONTS", "ReadStore", "clock_checksum"]

#: the columns of a `Delivery`, for a query that calls the table d
COLUMNS = ", ".join(
    (
        *(f"d.{name} AS {name}" for name in DELIVERY_COLUMNS),
        *(
            f"ifnull((SELECT CAST({name} AS TEXT) FROM traces WHERE id = d.id), '') AS {name}"
            for name in TraceContext._fields
        ),
    )
)
_ATTEMPT = ", ".join(f"a.{name}" for name in Attempt.__struct_fields__)

_Parameters = Sequence[Any] | Mapping[str, Any]

#: in the year 2116
_LAST_NS = 2**62

log = Log("store")

EXPIRED = f"""
SELECT {COLUMNS} FROM endpoints AS e CROSS JOIN deliveries AS d INDEXED BY ended
ON d.endpoint = e.id AND d.ended_ns < ?
   AND d.state IN ({", ".join(f"{state:d}" for state in ENDED)})
LIMIT ?
"""

_PENDING_SINCE = f"""
SELECT {COLUMNS} FROM deliveries AS d NOT INDEXED WHERE d.id < ? AND d.ended_ns IS NULL
ORDER BY d.id LIMIT ?
"""

# a search per endpoint: min() with GROUP BY would read the whole index
FRONTS = f"""
SELECT id, (SELECT min(due_ns) FROM deliveries INDEXED BY due
            WHERE state = {State.WAITING:d} AND endpoint = endpoints.id) AS due_ns
FROM endpoints WHERE pending > 0 AND due_ns IS NOT NULL
"""

# Reads what waits for its time, and what waits in a line, in the indexes alone: 65 ms per million. An
# index for it would spare that, and cost each failing delivery a tenth of the scheduler's time.
_OLDEST = f"""
SELECT e.id, d.accepted_ns FROM endpoints AS e CROSS JOIN deliveries AS d ON d.id = (
    SELECT min(id) FROM (
        SELECT min(id) AS id FROM deliveries INDEXED BY due
        WHERE endpoint = e.id AND state = {State.WAITING:d}
        UNION ALL
        SELECT min(id) FROM deliveries INDEXED BY line
        WHERE endpoint = e.id AND ordered AND ended_ns IS NULL))
WHERE e.pending > 0
"""
_OLDEST_OF = f"{_OLDEST} AND e.id = ?"

_DEAD = f"""
SELECT cause, count(*) FROM deliveries INDEXED BY ended
WHERE endpoint = ? AND state = {State.DEAD:d} AND ended_ns IS NOT NULL GROUP BY cause
"""

# in the order of ids, so that a walk in steps meets each once
_SELECTED = f"""
SELECT id FROM deliveries NOT INDEXED
WHERE id > :after AND state = {State.DEAD:d} AND (:endpoint IS NULL OR endpoint = :endpoint)
  AND (:type IS NULL OR type = :type) AND (:cause IS NULL OR cause = :cause)
  AND (:since_ns IS NULL OR ended_ns >= :since_ns) AND (:until_ns IS NULL OR ended_ns < :until_ns)
ORDER BY id LIMIT :limit
"""

_SELECTED_WAITING = f"""
SELECT id FROM deliveries NOT INDEXED
WHERE id > :after AND state = {State.WAITING:d} AND endpoint = :endpoint
  AND (:cause IS NULL OR cause = :cause)
ORDER BY id LIMIT :limit
"""

_ATTEMPTS = f"""
WITH RECURSIVE chain (id) AS (
    SELECT last_attempt FROM deliveries WHERE id = ?
    UNION ALL SELECT a.previous FROM chain JOIN attempts AS a ON a.id = chain.id
)
SELECT a.id, a.n, {_ATTEMPT} FROM chain JOIN attempts AS a ON a.id = chain.id ORDER BY a.id
"""


class ReadStore:
    """A store to ask, not to change. One thread's; any number of processes may have one.

    Every method raises `StoreError` where the disk fails and `LayoutError` where the file is
    damaged. Each answers from one instant; none keeps a transaction open.
    """

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self.db = db

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the store for reading. Raise `EngineNotRunning` where there is none, `LayoutError`
        for another version's."""
        return cls(path, open_reader(path))

    def close(self) -> None:
        self.db.close()

    @contextmanager
    def instant(self) -> Iterator[None]:
        """Make all answers within it be of the same moment."""
        self._all("BEGIN")
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                self.db.execute("COMMIT")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def clock(self) -> Clock:
        """Return the engine's clock as it was saved last; a new one where none was, or it is
        damaged."""
        for (saved,) in self._all("SELECT value FROM meta WHERE key = 'clock'"):
            checksum, _, clock = str(saved).partition(" ")
            if checksum == clock_checksum(clock):
                with suppress(msgspec.MsgspecError):
                    return msgspec.json.decode(clock, type=Clock)
            log.warning("%s: the engine's clock in it is damaged; it is found out anew", self.path)
        return Clock()

    def endpoints(self) -> list[EndpointRow]:
        """Return every endpoint that ever was, by id, with how much it has pending and dead."""
        columns = ", ".join(EndpointRow._fields)
        rows = self._all(f"SELECT {columns} FROM endpoints ORDER BY id")
        return [EndpointRow(*row) for row in rows]

    def subscriptions(self) -> list[SubscriptionRow]:
        """Return the endpoints that were created at run time, by name."""
        rows = self._all(
            "SELECT name, layer, created_ns, updated_ns, expiring FROM subscriptions ORDER BY name"
        )
        return [
            SubscriptionRow(name, _json(layer), created_ns, updated_ns, _json(expiring))
            for name, layer, created_ns, updated_ns, expiring in rows
        ]

    def windows(self) -> list[tuple[int, int, bytes]]:
        """Endpoint, closing time and state of each open window of aggregation."""
        return self._all("SELECT endpoint, closes_ns, state FROM windows")

    def oldest_times_ns(self) -> dict[int, int]:
        """Return when the oldest pending delivery of each endpoint that has one was accepted.

        Takes 65 ms per million that are pending.
        """
        return dict(self._all(_OLDEST))

    def oldest_ns(self, endpoint: int) -> int | None:
        """Return when the oldest pending delivery of an endpoint was accepted; None where none is."""
        return next((at_ns for _, at_ns in self._all(_OLDEST_OF, (endpoint,))), None)

    def due_times_ns(self) -> dict[int, int]:
        """Return when the next waiting delivery of each endpoint that has one is due."""
        return dict(self._all(FRONTS))

    def counters(self) -> dict[int, dict[str, int]]:
        """Return what `DeliveryTransaction.count` has counted: endpoint, name, value."""
        counters: dict[int, dict[str, int]] = {}
        for endpoint, name, value in self._all("SELECT endpoint, name, value FROM counters"):
            counters.setdefault(endpoint, {})[name] = value
        return counters

    def deaths(
        self, rows: Iterable[EndpointRow], counters: Mapping[int, Mapping[str, int]]
    ) -> dict[int, Deaths]:
        """Return of what the deliveries of each endpoint died; `counters` are those of the store."""
        return {
            row.id: deaths(row.dead, counters.get(row.id, {}), partial(self._dead, row.id))
            for row in rows
        }

    def _dead(self, endpoint: int) -> dict[str, int]:
        return dict(self._all(_DEAD, (endpoint,)))

    def positions(self) -> dict[bytes, int]:
        """Return up to where each ring has been applied."""
        return dict(self._all("SELECT ring_uid, seq FROM ring_positions"))

    def delivery(self, delivery_id: int) -> DeliveryRow | None:
        """Return one delivery in whatever state, or None if there is none (or no longer)."""
        rows = self._deliveries(
            f"SELECT {COLUMNS} FROM deliveries AS d WHERE id = ?", (delivery_id,)
        )
        return rows[0] if rows else None

    def body(self, delivery_id: int) -> bytes | None:
        rows = self._all("SELECT body FROM bodies WHERE id = ?", (delivery_id,))
        return rows[0][0] if rows else None

    def attempts(self, delivery_id: int) -> list[PastAttempt]:
        """Return what was attempted for a delivery, oldest first."""
        rows = self._all(_ATTEMPTS, (delivery_id,))
        return [PastAttempt(id, n, Attempt(*fields)) for id, n, *fields in rows]

    def select_dead(
        self,
        *,
        endpoint: int | None = None,
        type: str | None = None,
        cause: str | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
        after: int = 0,
        limit: int = 500,
    ) -> list[int]:
        """Return the ids of the dead letters that died from `since_ns` on and before `until_ns`,
        ascending, above `after`."""
        where = {
            "endpoint": endpoint,
            "type": type,
            "cause": cause,
            "since_ns": since_ns,
            "until_ns": until_ns,
            "after": after,
            "limit": limit,
        }
        return [id for (id,) in self._all(_SELECTED, where)]

    def select_waiting(
        self, endpoint: int, *, cause: str | None = None, after: int = 0, limit: int = 500
    ) -> list[int]:
        """Return the ids of the deliveries that wait for their time, ascending, above `after`."""
        where = {"endpoint": endpoint, "cause": cause, "after": after, "limit": limit}
        return [id for (id,) in self._all(_SELECTED_WAITING, where)]

    def expired(self, ended_before_ns: int, limit: int) -> list[DeliveryRow]:
        """Return deliveries that ended before then, in no order: what `DeliveryStore.purge` may
        take."""
        return self._deliveries(EXPIRED, (ended_before_ns, limit))

    def pending_since(self, added_before_ns: int, limit: int) -> list[DeliveryRow]:
        """Return pending deliveries that came to the store before then (engine time), the oldest first.

        Ids begin with the time (delivery_id.py), so this reads none that are younger.
        """
        return self._deliveries(_PENDING_SINCE, (first_at(added_before_ns), limit))

    def newest_ns(self) -> int:
        """Return when the latest delivery came to the store (engine time), by its id; 0 if there is
        none."""
        # A damaged id must not put an engine where no time is left in 64 bits.
        sql = "SELECT coalesce(max(id), 0) FROM deliveries WHERE id < ?"
        ((newest,),) = self._all(sql, (first_at(_LAST_NS),))
        return made_ns(int(newest))

    def last_attempt_ns(self) -> int:
        """Return when the latest attempt that is known began (wall time); 0 if there is none."""
        sql = "SELECT coalesce(max(started_ns), 0) FROM attempts WHERE started_ns < ?"
        ((last,),) = self._all(sql, (_LAST_NS,))
        return int(last)

    def _deliveries(self, sql: str, parameters: _Parameters) -> list[DeliveryRow]:
        return [DeliveryRow(*row) for row in self._all(sql, parameters)]

    def _all(self, sql: str, parameters: _Parameters = ()) -> list[Any]:
        with self._translated():
            return self.db.execute(sql, parameters).fetchall()

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self.path)


def clock_checksum(clock: str) -> str:
    """Return what stands before the clock: a changed digit would be a clock as well."""
    return f"{zlib.crc32(clock.encode()):08x}"


def _json(text: str) -> dict[str, Any]:
    """Return what was written; of a damaged row nothing, which no endpoint can be built of."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}
