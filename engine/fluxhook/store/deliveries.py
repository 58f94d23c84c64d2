"""The store as its one writer, the scheduler, has it."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Self

import msgspec

from fluxhook.errors import FluxhookError
from fluxhook.policy.clock import Clock
from fluxhook.store.database import open_reader, open_writer, transaction, translated
from fluxhook.store.deaths import DEAD, DIED, PURGED
from fluxhook.store.interface import StoreError
from fluxhook.store.leases import Place
from fluxhook.store.reader import COLUMNS, clock_checksum
from fluxhook.store.rows import DeliveryRow, Due, State, SubscriptionRow
from fluxhook.store.transaction import COUNT, DeliveryTransaction
from fluxhook.store.writer import Writer

__all__ = ["DeliveryStore"]

# Two legs, since SQLite seeks to (due_ns, id) only where due_ns is given as equal; a replay or a
# deferred queue leaves any number of deliveries due at the same time.
_LEG = f"""
SELECT {COLUMNS}, b.body FROM deliveries AS d INDEXED BY due CROSS JOIN bodies AS b ON b.id = d.id
WHERE d.state = {State.WAITING:d} AND d.endpoint = :endpoint AND
"""
_DUE = f"""
{_LEG} d.due_ns = :due_ns AND d.id >= :id
UNION ALL
{_LEG} d.due_ns > :due_ns AND d.due_ns <= :now_ns
ORDER BY due_ns, id
"""
_NEXT = f"""
SELECT min(due_ns) FROM deliveries INDEXED BY due
WHERE state = {State.WAITING:d} AND endpoint = ? AND due_ns > ?
"""
_WAITING = f"""
SELECT {COLUMNS} FROM deliveries AS d INDEXED BY due
WHERE d.endpoint = ? AND d.state = {State.WAITING:d} LIMIT ?
"""
_BLOCKED = f"""
SELECT {COLUMNS} FROM deliveries AS d INDEXED BY line
WHERE d.endpoint = ? AND d.state = {State.BLOCKED:d} AND d.ordered AND d.ended_ns IS NULL LIMIT ?
"""
_ENSURE = """
INSERT INTO endpoints (id, name) VALUES ((SELECT coalesce(max(id) + 1, 0) FROM endpoints), ?)
ON CONFLICT (name) DO NOTHING
"""
_RESTORE = "INSERT INTO endpoints (id, name) VALUES (?, ?) ON CONFLICT DO NOTHING"
_ENDED = """
SELECT id, endpoint, state, last_attempt, cause FROM deliveries
WHERE id IN (SELECT value FROM json_each(?)) AND ended_ns IS NOT NULL ORDER BY id
"""
_PURGE_ATTEMPTS = """
WITH RECURSIVE chain (id) AS (
    VALUES (?) UNION ALL SELECT a.previous FROM chain JOIN attempts AS a ON a.id = chain.id
)
DELETE FROM attempts WHERE id IN (SELECT id FROM chain)
"""


class DeliveryStore(Writer):
    """Every delivery that was not delivered at once, until it is purged: the `Store` of interface.py in
    SQLite, and what the supervisor keeps beside it of endpoints and clock.

    For one thread of one process. Changes to deliveries go through `transaction`; the other methods
    that change something are transactions of their own. All raise `StoreError` where the disk is full
    or failing, having changed nothing; try again later. `LayoutError` means that the file is damaged.
    """

    @classmethod
    def open(cls, path: Path, *, full_sync: bool = False, create: bool = True) -> Self:
        """Open the store; one writer at a time is the caller's care. Where there is none it is created
        or, without `create`, StoreDamaged raised.

        What was committed survives a killed process; with `full_sync` a power loss too, for an
        fsync per commit. Raises StoreDamaged for a damaged file, LayoutError for another version's.
        """
        db = open_writer(path, full_sync=full_sync, create=create)
        try:
            store = cls(path, db)
            with suppress(StoreError):  # of a full disk: readers find them out the same way
                store._note_deaths()
        except BaseException:
            db.close()
            raise
        return store

    def close(self) -> None:
        """Close the store. SQLite removes its log and the index of it with the last connection,
        unless that one could not write: they stay, empty, for on a full disk the next start could
        not make them."""
        with ExitStack() as last:
            with suppress(sqlite3.Error, FluxhookError):
                last.enter_context(closing(open_reader(self.path)))
                self.db.execute("PRAGMA busy_timeout = 0")  # who reads it now keeps the log anyway
                self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            super().close()

    # ---- deliveries ------------------------------------------------------------------------

    def transaction(self) -> DeliveryTransaction:
        return DeliveryTransaction(self)

    def fronts(self) -> list[tuple[int, int]]:
        return [(endpoint, due_ns) for endpoint, (due_ns, _) in self.leases.fronts.items()]

    def front_ns(self, endpoint: int) -> int | None:
        front = self.leases.fronts.get(endpoint)
        return None if front is None else front[0]

    def leased(self, endpoint: int) -> int:
        return self.leases.counts[endpoint]

    def is_leased(self, delivery_id: int) -> bool:
        return delivery_id in self.leases.out

    def lease(self, endpoint: int, now_ns: int, limit: int) -> list[Due]:
        fronts, out = self.leases.fronts, self.leases.out
        front = fronts.get(endpoint)
        if front is None or front[0] > now_ns:
            return []
        found: list[Due] = []
        rest: Place | None
        where = {"endpoint": endpoint, "due_ns": front[0], "id": front[1], "now_ns": now_ns}
        with translated(self.path), closing(self.db.execute(_DUE, where)) as rows:
            for *fields, body in rows:
                delivery = DeliveryRow(*fields)
                if delivery.id in out:
                    continue
                if len(found) >= limit:
                    rest = delivery.due_ns, delivery.id
                    break
                found.append(Due(delivery, body))
            else:
                ((due_ns,),) = self.db.execute(_NEXT, (endpoint, now_ns))
                rest = None if due_ns is None else (due_ns, 0)
        if rest is None:
            del fronts[endpoint]
        else:
            fronts[endpoint] = rest
        for delivery, _ in found:
            self.leases.take(delivery)
        return found

    def release(self, delivery_ids: Iterable[int]) -> None:
        for delivery_id in delivery_ids:
            delivery = self.leases.end(delivery_id)
            if delivery is not None:
                self.leases.waits(delivery.endpoint, (delivery.due_ns, delivery.id))

    def dead_letter_all(
        self, endpoint: int, wall_ns: int, cause: str, error: str = "", *, limit: int
    ) -> int:
        enough = limit + self.leases.counts[endpoint]
        pending = self._deliveries(_WAITING, (endpoint, enough))
        pending += self._deliveries(_BLOCKED, (endpoint, enough))
        dead = [d for d in pending if d.id not in self.leases.out][:limit]
        with self.transaction() as transaction:
            for delivery in dead:
                transaction.dead_letter(
                    transaction.copy(delivery), wall_ns, cause, error, event="give_up"
                )
        if len(dead) < limit:
            self.leases.fronts.pop(endpoint, None)
        return len(dead)

    def purge(self, delivery_ids: Iterable[int]) -> int:
        """Do as the interface says; best thousands at a time: neighbours share pages, and each page
        is written once."""
        with translated(self.path), transaction(self.db) as db:
            gone = db.execute(_ENDED, (json.dumps(list(delivery_ids)),)).fetchall()
            ids = [(id,) for id, *_ in gone]
            db.executemany("DELETE FROM deliveries WHERE id = ?", ids)
            db.executemany("DELETE FROM bodies WHERE id = ?", ids)
            db.executemany("DELETE FROM traces WHERE id = ?", ids)
            db.executemany(_PURGE_ATTEMPTS, ((last,) for *_, last, _ in gone if last is not None))
            causes = Counter(
                (endpoint, cause) for _, endpoint, state, _, cause in gone if state == State.DEAD
            )
            dead = Counter(endpoint for endpoint, _ in causes.elements())
            db.executemany(
                "UPDATE endpoints SET dead = dead - ? WHERE id = ?",
                ((n, endpoint) for endpoint, n in dead.items()),
            )
            db.executemany(COUNT, ((endpoint, PURGED, n) for endpoint, n in dead.items()))
            db.executemany(
                COUNT, ((endpoint, f"{DEAD}{cause}", -n) for (endpoint, cause), n in causes.items())
            )
        return len(gone)

    def _note_deaths(self) -> None:
        """Write down of what died while an earlier version ran."""
        counters, changed = self.counters(), list[tuple[int, str, int]]()
        for endpoint, found in self.deaths(self.endpoints(), counters).items():
            counted = counters.get(endpoint, {})
            right = {name: 0 for name in counted if name.startswith(DEAD)}
            right |= {f"{DEAD}{cause}": n for cause, n in found.dead.items()}
            right |= {f"{DIED}{cause}": n for cause, n in found.died.items()}
            changed += [(endpoint, name, n) for name, n in right.items() if counted.get(name) != n]
        if changed:
            with translated(self.path), transaction(self.db) as db:
                db.executemany("INSERT OR REPLACE INTO counters VALUES (?, ?, ?)", changed)

    # ---- endpoints and rings ---------------------------------------------------------------

    def ensure_endpoints(self, names: Iterable[str]) -> dict[str, int]:
        """Return the names' ids. New names get the next ids, in their order; a removed one is back
        with the id that it had."""
        wanted = list(names)
        with translated(self.path), transaction(self.db) as db:
            db.executemany(_ENSURE, [(name,) for name in wanted])
        ids = {row.name: row.id for row in self.endpoints()}
        for id in ids.values():
            self.pending.setdefault(id, 0)
        return {name: ids[name] for name in wanted}

    def restore_endpoints(self, ids: dict[str, int]) -> list[str]:
        """Take over ids that endpoints had when the store was lost or older, and return the names of
        those. What it knows itself stays."""
        with translated(self.path), transaction(self.db) as db:
            restored = [
                name for name, id in ids.items() if db.execute(_RESTORE, (id, name)).rowcount
            ]
        self.pending |= dict.fromkeys((ids[name] for name in restored), 0)
        return restored

    def save_clock(self, clock: Clock) -> None:
        text = msgspec.json.encode(clock).decode()
        self._write(
            "INSERT OR REPLACE INTO meta VALUES ('clock', ?)", (f"{clock_checksum(text)} {text}",)
        )

    def disable_endpoint(self, endpoint: int, wall_ns: int, reason: str) -> None:
        self._write(
            "UPDATE endpoints SET disabled_ns = ?, disabled_reason = ? WHERE id = ?",
            (wall_ns, reason, endpoint),
        )

    def enable_endpoint(self, endpoint: int) -> None:
        self._write(
            "UPDATE endpoints SET disabled_ns = NULL, disabled_reason = '' WHERE id = ?",
            (endpoint,),
        )

    def pause_endpoint(self, endpoint: int, paused: bool) -> None:
        self._write("UPDATE endpoints SET paused = ? WHERE id = ?", (int(paused), endpoint))

    def save_subscription(self, row: SubscriptionRow) -> None:
        """Create or replace an endpoint of the run time."""
        texts = (json.dumps(row.layer), row.created_ns, row.updated_ns, json.dumps(row.expiring))
        self._write(
            "INSERT OR REPLACE INTO subscriptions VALUES (?, ?, ?, ?, ?)", (row.name, *texts)
        )

    def delete_subscription(self, name: str) -> None:
        self._write("DELETE FROM subscriptions WHERE name = ?", (name,))

    def _write(self, sql: str, parameters: tuple[object, ...]) -> None:
        with translated(self.path):
            self.db.execute(sql, parameters)
