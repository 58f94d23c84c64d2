"""The scheduler: the one writer of the store, and the way back of what has to be tried again.

It lives in the supervisor's process. A step takes what the workers have reported, disables whom that
disables, closes windows, gives up what is too old, and hands out what is due; each part has a module.

A scheduler that is killed repeats what it had not released: the store knows up to where it applied each
ring. What it had handed out is handed out again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from fluxhook.config.schema import Endpoint
from fluxhook.policy.outcome import GIVEN_UP
from fluxhook.policy.table import IllegalMove
from fluxhook.scheduler.aggregation import Windows
from fluxhook.scheduler.dead_letters import DeadLetters, RecordRows, unrecorded
from fluxhook.scheduler.disabling import Disabling
from fluxhook.scheduler.endpoint_watch import EndpointWatch
from fluxhook.scheduler.endpoints import Endpoints
from fluxhook.scheduler.given_up import GivenUp
from fluxhook.scheduler.operational_events import OperationalEvents
from fluxhook.scheduler.own_deliveries import OwnDeliveries
from fluxhook.scheduler.reports import Reports
from fluxhook.scheduler.retention import Retention
from fluxhook.scheduler.retries import Retries
from fluxhook.scheduler.suspects import Suspects
from fluxhook.scheduler.worker_leases import WorkerLeases
from fluxhook.store import Store, StoreError
from fluxhook.store.audit import AuditTrail
from fluxhook.store.rows import DeliveryRow
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.engine_words import EngineWords
from fluxhook.transport.host_channel import DeadLetter, EndpointStateChange
from fluxhook.transport.messages import EventHead
from fluxhook.transport.outage import Outage
from fluxhook.transport.snapshot import Snapshot

__all__ = ["Scheduler"]

#: after the disk failed
STORE_BACKOFF_NS: Final = 500_000_000


class Scheduler:
    """Call `step` whenever the doorbell rings or the time it returned has come."""

    def __init__(
        self,
        datadir: DataDir,
        store: Store,
        words: EngineWords,
        snapshot: Snapshot,
        clock: EngineClock,
        tell_host: Callable[[DeadLetter | EndpointStateChange], None] = lambda message: None,
    ) -> None:
        """Take `tell_host`, which gets what the host's callbacks are for."""
        self._store = store
        self._words = words
        self._clock = clock
        #: due deliveries are handed out; not while the engine drains
        self.feeding = True
        self._store_failed_ns = -STORE_BACKOFF_NS
        #: the store cannot be written
        self.outage = Outage("the store can be written again")
        #: more is to be done now
        self.busy = False
        config = snapshot.config
        trail = AuditTrail(
            datadir.audit, max_bytes=int(config.audit_bytes), files=config.audit_files
        )
        leases, self.suspects = WorkerLeases(), Suspects(store)
        self.leases = leases
        self.endpoints = Endpoints(store, words, snapshot)
        self.events = OperationalEvents(datadir)
        store.on_dead_letter = self._on_dead_letter
        self.watch = EndpointWatch(datadir, words, clock, snapshot, store, tell_host)
        self.given_up = GivenUp(self.endpoints, self.watch, tell_host)
        store.on_dead_letters = self.given_up.note
        self.retention = Retention(store, trail, clock, self.endpoints)
        self.dead_letters = DeadLetters(store, clock, self.endpoints, self.retention)
        self.disabling = Disabling(store, words, clock, self.endpoints, self.events)
        self._own = OwnDeliveries(clock, snapshot)
        self.windows = Windows(store, clock, self.endpoints, self._own, datadir.damaged)
        self.reports = Reports(
            datadir,
            store,
            clock,
            self.endpoints,
            leases,
            self.windows,
            self.disabling,
            self.suspects,
            self.watch,
        )
        self.retries = Retries(
            datadir, store, words, self.endpoints, leases, self.dead_letters, self.suspects
        )
        for worker, tail in enumerate(self.reports.tails):
            self.retries.worker_lost(worker, tail)
        self.configure(snapshot)

    @property
    def outages(self) -> set[str]:
        """Return what could not be written the last time, of `datadir.OUTAGES`."""
        found = {"store"} if self.outage.under_way else set()
        return found | ({"audit"} if self.retention.purge_fails else set())

    @property
    def snapshot(self) -> Snapshot:
        return self.endpoints.snapshot

    def configure(self, snapshot: Snapshot) -> None:
        """Take over a changed configuration."""
        self.endpoints.configure(snapshot)
        self.retention.configure(snapshot)
        self.events.configure(snapshot)
        self._own.configure(snapshot)
        self.watch.configure(snapshot)

    # ---- the step --------------------------------------------------------------------------

    def step(self, now_ns: int) -> int:
        """Apply what was reported and hand out what is due; return when to be called again at the
        latest. Both are engine time."""
        if now_ns < self._store_failed_ns + STORE_BACKOFF_NS:
            self.busy = False
            return self._store_failed_ns + STORE_BACKOFF_NS
        self.given_up.say(now_ns)
        self.watch.look(now_ns)
        try:
            wake_ns, self.busy = self._work(now_ns)
        except StoreError as e:
            self.outage.failed(
                f"the store cannot be written, nothing is released until it can: {e}"
            )
            self._store_failed_ns = now_ns
            self.busy = False
            return now_ns + STORE_BACKOFF_NS
        self.outage.worked()
        if self.busy or now_ns < self.reports.lingers_until_ns:
            return min(wake_ns, self.reports.lingers_until_ns)  # without a doorbell
        self.busy = not self.reports.arm()
        return wake_ns

    def _work(self, now_ns: int) -> tuple[int, bool]:
        """Return when to go on, and whether there is more now."""
        more = self.reports.collect(now_ns)
        self.watch.look(now_ns)
        more |= self.disabling.disable(now_ns)
        self.retries.release_lost(self.reports.reached, now_ns)
        wake_ns, left = self.windows.close(now_ns)
        more |= left
        if self.reports.caught_up:
            wake_ns = min(wake_ns, self.retention.step(now_ns))
            if self.feeding:
                self.suspects.try_next(now_ns)
                due_ns, left = self.retries.feed(now_ns)
                wake_ns, more = min(wake_ns, due_ns), more or left
        return wake_ns, more

    @property
    def caught_up(self) -> bool:
        """Return whether all is applied that was reported before this scheduler began."""
        return self.reports.caught_up

    def stop_feeding(self) -> None:
        """Hand out nothing more: the engine drains."""
        self.feeding = False

    def spare(self) -> None:
        """Find nothing too old for a while: the engine was away."""
        self.retention.spare(self._clock.now_ns())

    def close(self) -> None:
        """Apply what the workers reported last, as far as the store lets it."""
        self.stop_feeding()
        self._store_failed_ns = -STORE_BACKOFF_NS
        self.step(self._clock.now_ns())
        while self.busy:
            self.step(self._clock.now_ns())
        self.given_up.say(self._clock.now_ns(), all=True)
        self.events.close()

    # ---- workers ---------------------------------------------------------------------------

    def worker_lost(self, worker: int, *, by_own_fault: bool = False) -> None:
        """Note that a worker ended. `by_own_fault`: it may have ended at a delivery that it had at
        hand."""
        self.retries.worker_lost(worker, self.reports.tails[worker], by_own_fault=by_own_fault)

    def spare_workers(self, workers: Collection[int]) -> None:
        """Hand out nothing to these: they leave."""
        self.retries.spare_workers(workers)

    def applied(self, workers: Collection[int]) -> bool:
        """Return whether all is applied that these workers have reported, and the words say so."""
        return self.reports.applied(workers)

    def change_workers(self, count: int) -> None:
        """Go on with so many workers; those that left have ended, and all that they reported is
        applied."""
        self.reports.open_outboxes()
        self.retries.change_workers(count)

    def _on_dead_letter(self, delivery: DeliveryRow) -> None:
        if delivery.cause not in GIVEN_UP:
            self._words.publish_died(delivery.endpoint, self._clock.now_ns())
        self.events.delivery_failed(delivery)

    # ---- what is asked for -----------------------------------------------------------------

    def endpoint(self, endpoint_id: int) -> Endpoint | None:
        """Return the endpoint, unless it is removed or disabled."""
        return self.endpoints.get(endpoint_id)

    def make_test(
        self, endpoint_id: int, type: str, data: Any, now_ns: int
    ) -> tuple[EventHead, bytes]:
        """Return an event for one endpoint, and its body. Raises EventError, StoreError."""
        self.reports.check_committed()
        return self._own.make(self.endpoints.by_id[endpoint_id], type, data, now_ns)

    def send(
        self, endpoint_id: int, event: EventHead, body: bytes, now_ns: int, cause: str = ""
    ) -> DeliveryRow:
        """Have an event delivered to one endpoint, whatever it subscribed to; `cause` says why it is
        not sent at once."""
        endpoint = self.endpoints.by_id[endpoint_id]
        with self._store.transaction() as transaction:
            transaction.count(endpoint_id, "accepted")
            row = self._own.add(transaction, endpoint_id, endpoint, event, body, now_ns, cause)
        self.endpoints.publish_stored([endpoint_id])
        return row

    def check_committed(self) -> None:
        """Raise StoreError while the store does not know all that was taken of the reports."""
        self.reports.check_committed()

    def replay(self, delivery_ids: list[int], now_ns: int, record: RecordRows = unrecorded) -> int:
        """Make dead letters wait again; return how many of these were any."""
        self.reports.check_committed()
        return self.dead_letters.replay(delivery_ids, now_ns, record)

    def purge(self, delivery_ids: list[int], now_ns: int, record: RecordRows = unrecorded) -> int:
        """Write dead letters to the audit trail and erase them; return how many of these were any."""
        self.reports.check_committed()
        return self.dead_letters.purge(delivery_ids, now_ns, record)

    def hurry(
        self,
        endpoint_id: int,
        delivery_ids: list[int],
        now_ns: int,
        record: RecordRows = unrecorded,
    ) -> int:
        """Make what waits for its time due now; return how many of these did."""
        self.reports.check_committed()
        return self.retries.hurry(endpoint_id, delivery_ids, now_ns, record)

    def held_until_ns(self, endpoint_id: int, now_ns: int) -> int | None:
        """Return until when the breaker of an endpoint lets nothing go; None where a request may."""
        return self.retries.held_until_ns(endpoint_id, self.endpoints.by_id[endpoint_id], now_ns)

    def breaker(self, endpoint_id: int) -> str:
        """Return the state of an endpoint's breaker; `damaged` for a word that none has written."""
        try:
            return self._words.breaker(endpoint_id).name
        except IllegalMove:
            return "damaged"

    def close_breaker(self, endpoint_id: int) -> None:
        """Have requests go at once, until failures open the breaker again."""
        self._words.clear_breaker(endpoint_id)

    def begin_anew(self, endpoint_id: int) -> None:
        """Forget the failures of an endpoint until now: they do not count any more."""
        self.disabling.begin_anew(endpoint_id)

    def take_disabled(self) -> bool:
        """Return whether an endpoint was disabled since the last call: the snapshot is to say so."""
        return self.disabling.take_disabled()
