"""What the parts of the scheduler are given, without a scheduler: a store, shared words, a clock."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from fluxhook import Config, Endpoint
from fluxhook._native import ring, shared
from fluxhook.policy.clock import Clock, Offset
from fluxhook.scheduler.aggregation import Windows
from fluxhook.scheduler.dead_letters import DeadLetters
from fluxhook.scheduler.disabling import Disabling
from fluxhook.scheduler.endpoint_watch import EndpointWatch
from fluxhook.scheduler.endpoints import Endpoints
from fluxhook.scheduler.operational_events import OperationalEvents
from fluxhook.scheduler.own_deliveries import OwnDeliveries
from fluxhook.scheduler.reports import Reports
from fluxhook.scheduler.retention import Retention
from fluxhook.scheduler.retries import Retries
from fluxhook.scheduler.suspects import Suspects
from fluxhook.scheduler.worker_leases import WorkerLeases
from fluxhook.store import DeliveryRow, DeliveryStore, State
from fluxhook.store.audit import AuditTrail
from fluxhook.transport import datadir as d
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.engine_words import EngineWords, rows_for
from fluxhook.transport.messages import EventHead
from fluxhook.transport.snapshot import Snapshot

__all__ = ["AHEAD_NS", "NOW", "Parts", "S"]

S = 1_000_000_000
#: engine time
NOW = 1_700_000_000 * S
#: how far the wall clock is ahead of it
AHEAD_NS = 3600 * S


class Told:
    """In place of the engine's own events: what would have been emitted."""

    def __init__(self) -> None:
        self.disabled: list[tuple[str, str, int]] = []

    def endpoint_disabled(self, endpoint: str, reason: str, failing_ns: int) -> None:
        self.disabled.append((endpoint, reason, failing_ns))


class Parts:
    """A data directory with one worker. The endpoints have the ids 0, 1 and so on."""

    def __init__(self, path: Path, *endpoints: Endpoint, **options: Any) -> None:
        self.datadir = d.DataDir(path)
        self.datadir.make()
        self._make_worker()
        self.store = DeliveryStore.open(self.datadir.store)
        config = Config(endpoints=endpoints, workers=1, **options)
        ids = self.store.ensure_endpoints([endpoint.name for endpoint in endpoints])
        self.snapshot = Snapshot(version=1, workers=1, config=config, ids=ids)
        matrix = shared.Words(str(self.datadir.words), rows_for(len(ids)), d.WORD_FIELDS)
        self.words = EngineWords(matrix)
        self.clock = EngineClock(Clock(offsets=(Offset(0, 0, AHEAD_NS),)))
        self.told = Told()
        self.trail = AuditTrail(self.datadir.audit, max_bytes=1 << 20, files=2)
        self.endpoints = Endpoints(self.store, self.words, self.snapshot)
        self.leases, self.suspects = WorkerLeases(), Suspects(self.store)
        self.own = OwnDeliveries(self.clock, self.snapshot)
        self.retention = Retention(self.store, self.trail, self.clock, self.endpoints)
        self.dead_letters = DeadLetters(self.store, self.clock, self.endpoints, self.retention)
        events = cast(OperationalEvents, self.told)
        self.disabling = Disabling(self.store, self.words, self.clock, self.endpoints, events)
        self.windows = Windows(
            self.store, self.clock, self.endpoints, self.own, self.datadir.damaged
        )
        self._last_id = 0

    def _make_worker(self) -> None:
        own = self.datadir.worker(0)
        own.mkdir(parents=True)
        d.make_doorbell(self.datadir.doorbell(0))
        for name in ("inbox.ring", "outbox.ring"):
            ring.create_ring(str(own / name), 1024, 1 << 20, os.urandom(16))

    def __enter__(self) -> Parts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.store.close()

    def reports(self) -> Reports:
        """The part that reads the outbox, as a scheduler that starts has it."""
        return Reports(
            self.datadir, self.store, self.clock, self.endpoints, self.leases, self.windows,
            self.disabling, self.suspects,
            self.watch(),
        )  # fmt: skip

    def watch(self) -> EndpointWatch:
        """The part that tells of endpoints, to nobody."""
        return EndpointWatch(
            self.datadir, self.words, self.clock, self.snapshot, self.store, lambda _: None
        )

    def retries(self) -> Retries:
        """The part that writes the inbox; there is a worker for it."""
        if not self.leases.sent:
            self.leases.add_worker()
        return Retries(
            self.datadir, self.store, self.words, self.endpoints, self.leases,
            self.dead_letters, self.suspects,
        )  # fmt: skip

    def configure(self, **changes: Any) -> None:
        """Another snapshot is in force."""
        fields = {name: getattr(self.snapshot, name) for name in Snapshot.__struct_fields__}
        self.snapshot = Snapshot(**fields | changes)
        self.endpoints.configure(self.snapshot)

    # ---- the store -------------------------------------------------------------------------

    def add(self, n: int = 1, *, endpoint: int = 0, due_ns: int = NOW, **how: Any) -> list[int]:
        """Put deliveries into the store; return their ids."""
        ids = list(range(self._last_id + 1, self._last_id + n + 1))
        self._last_id += n
        with self.store.transaction() as transaction:
            for id in ids:
                head = EventHead(f"evt_{id}", "route.error")
                transaction.add(id, endpoint, head, b"{}", accepted_ns=NOW, due_ns=due_ns, **how)
        return ids

    def end(self, id: int, state: str = "dead", *, wall_ns: int = NOW, cause: str = "test") -> None:
        with self.store.transaction() as transaction:
            row = self.row(id, transaction.find(id))
            match state:
                case "dead":
                    transaction.dead_letter(row, wall_ns, cause)
                case "delivered":
                    transaction.delivered(row, wall_ns)
                case "dropped":
                    transaction.drop(row, wall_ns, cause)

    def row(self, id: int, found: DeliveryRow | None = None) -> DeliveryRow:
        found = found or self.store.delivery(id)
        assert found is not None
        return found

    def state(self, id: int) -> str:
        """The word of policy/delivery.py for it; what is leased is `sending`, what is gone `erased`."""
        found = self.store.delivery(id)
        if found is None:
            return "erased"
        return "sending" if self.store.is_leased(id) else State(found.state).name.lower()
