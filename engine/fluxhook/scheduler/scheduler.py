"""The scheduler: the one writer of the store, and the way back of what has to be tried again.

It lives in the supervisor's process. Reports come from the workers' outbox rings and are committed
in batches; a ring is released only afterwards. What is due goes out through the inbox rings, a
bounded number for each endpoint, and its row stays until a report settles it.

A scheduler that is killed repeats what it had not released: the store knows up to where it applied each
ring. What it had handed out is handed out again.
"""

from __future__ import annotations

import contextlib
import os
import random
import struct
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from fluxhook._native.ring import FULL, TOO_LARGE, Consumer, Delivery, Producer
from fluxhook.config.schema import Endpoint
from fluxhook.config.units import Duration
from fluxhook.errors import PayloadTooLarge
from fluxhook.events.gateway import FailuresAggregated
from fluxhook.policy import aggregate, breaker
from fluxhook.policy import delivery as life
from fluxhook.policy.outcome import CAUSES, was_answered
from fluxhook.scheduler.mint import Mint
from fluxhook.scheduler.operational_events import OperationalEvents
from fluxhook.scheduler.retention import Retention
from fluxhook.store import Due, State, Store, StoreError, Transaction
from fluxhook.store.audit import AuditTrail, timestamp
from fluxhook.store.delivery_id import SCHEDULER, DeliveryIds
from fluxhook.store.records import Delivery as Row
from fluxhook.transport import datadir as d
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.files import make_folder, replace_file
from fluxhook.transport.messages import (
    DEFERRED,
    SUSPECT_NS,
    TAKEN_OVER,
    DueHead,
    EventHead,
    Report,
    Verdict,
)
from fluxhook.transport.process import described, log, traced
from fluxhook.transport.snapshot import Snapshot
from fluxhook.transport.words import EngineWords

__all__ = ["Scheduler"]

#: What one step takes, hands out, or gives up at most, so that nothing keeps all else waiting: reports
#: from each outbox in one transaction, deliveries to workers, rows of removed or disabled endpoints.
BATCH = 1024
#: windows that one step closes, and endpoints that it disables: a transaction for each; arbitrary
TRANSACTIONS = 64
#: how long reports may gather after some have come: a transaction costs as much as dozens of rows
LINGER_NS = 10_000_000
#: Deliveries of an endpoint that are out at a time, as a multiple of its `concurrency`, while fewer
#: than OUT_FREELY are out in all. A worker must not run out of them while their reports gather: with
#: 8 and 32 connections it waited a tenth of its time, with 32 little less than with 16.
AHEAD, OUT_FREELY = 16, 4096
#: after the disk failed
STORE_BACKOFF_NS = 500_000_000
#: how often the store is looked through for what is older than the retention
RETENTION_CHECK_NS = 1_000_000_000
NEVER_NS = 2**63 - 1
#: how long an endpoint is left alone at which an error of ours came up
FAULT_BACKOFF_NS = 10_000_000_000
#: a notification leaves this much of max_event_bytes to what is not its originals
NOTIFICATION_BYTES = 2048

#: what a report says, in the words of policy/delivery.py
_EVENTS: Mapping[Verdict, life.Event] = {
    "delivered": "delivered",
    "retry": "retry",
    "dead": "dead",
    DEFERRED: "deferred",
    TAKEN_OVER: "taken_over",
    "dropped": "dropped",
    "aggregated": "aggregated",
}

_decode_report = msgspec.msgpack.Decoder(Report).decode
_encode_due = msgspec.msgpack.Encoder().encode
_encode_window = msgspec.msgpack.Encoder().encode
_decode_window = msgspec.msgpack.Decoder(aggregate.Window).decode


class Scheduler:
    """Call `step` whenever the doorbell rings or the time it returned has come."""

    def __init__(
        self,
        datadir: d.DataDir,
        store: Store,
        words: EngineWords,
        snapshot: Snapshot,
        clock: EngineClock,
    ) -> None:
        self._store = store
        self._words = words
        self._clock = clock
        self._datadir = datadir
        self._outboxes: list[Consumer] = []
        #: damaged reports that were passed over, of each outbox
        self._damaged_reports: list[int] = []
        #: deliveries out with each worker: those in its inbox, and those it had from a publisher
        self._sent: list[set[int]] = []
        #: with the sequence number of the report
        self._taken_over: list[dict[int, int]] = []
        self._positions = store.positions()
        self._open_outboxes()
        self._inboxes: list[Producer] = []
        self._doorbells: list[int] = []
        self._open_inboxes(snapshot.workers)
        #: workers that get nothing, since they leave
        self._leaving: frozenset[int] = frozenset()
        #: workers that ended, and where their last report stands in the outbox
        self._lost = {worker: outbox.tail for worker, outbox in enumerate(self._outboxes)}
        #: where the reports of the engine before this one end, as long as some are not applied
        self._inherited = list(self._lost.values())
        #: those of them that ended by a fault of their own
        self._lost_by_fault: set[int] = set()
        #: deliveries at one of which a worker may have ended, and the one that is tried now
        self._suspects: deque[int] = deque()
        self._trial = 0
        self._held: tuple[Transaction, list[list[Delivery]]] | None = None
        #: how many reports are taken at a time from each outbox
        self._limit = BATCH
        #: endpoints at which an error of ours came up, and until when they are left alone
        self._faulty: dict[int, int] = {}
        self._store_failed_ns = -STORE_BACKOFF_NS
        self._feeding = True
        #: what this step may still hand out or give up, and the endpoint at which the last one stopped
        self._left = BATCH
        self._stopped_at: int | None = None
        #: endpoints to be disabled: the reason, and since when they have failed
        self._doomed: dict[int, tuple[str, int]] = {}
        #: endpoints disabled in the store and not yet in the snapshot
        self._disabling: set[int] = set()
        self._ids = DeliveryIds(SCHEDULER)
        self._linger_until_ns = 0
        self.busy = False
        config = snapshot.config
        trail = AuditTrail(
            datadir.audit, max_bytes=int(config.audit_bytes), files=config.audit_files
        )
        self._retention = Retention(store, trail, clock)
        self._damaged = datadir.path / "damaged"
        self._next_purge_ns = self._next_overdue_ns = 0
        self._purge_failing = False
        self._events = OperationalEvents(datadir)
        store.on_dead_letter = self._events.delivery_failed
        self.configure(snapshot)
        self._windows = {id: self._window(id, state) for id, _, state in store.windows()}
        for endpoint_id in store.pending:
            self._publish_stored(endpoint_id)

    def configure(self, snapshot: Snapshot) -> None:
        """Takes over a changed configuration."""
        self.snapshot = snapshot
        self._endpoints = snapshot.endpoints()
        self._names = {id: name for name, id in snapshot.ids.items()}
        self._retention.configure(snapshot)
        self._events.configure(snapshot)
        self._mint = Mint(snapshot.config)

    def step(self, now_ns: int) -> int:
        """Applies what was reported and hands out what is due; returns when to be called again at
        the latest. Both are engine time."""
        if now_ns < self._store_failed_ns + STORE_BACKOFF_NS:
            self.busy = False
            return self._store_failed_ns + STORE_BACKOFF_NS
        try:
            self.busy = self._collect(now_ns)
            self._disable_doomed(now_ns)
            self._release_lost()
            wake_ns = self._close_windows(now_ns)
            if self.caught_up:
                wake_ns = min(wake_ns, self._retire(now_ns))
                if self._feeding:
                    self._try_suspect(now_ns)
                    wake_ns = min(wake_ns, self._feed(now_ns))
        except StoreError as e:
            log.error("the store cannot be written, nothing is released until it can: %s", e)
            self._store_failed_ns = now_ns
            self.busy = False
            return now_ns + STORE_BACKOFF_NS
        if self.busy or now_ns < self._linger_until_ns:
            return min(wake_ns, self._linger_until_ns)  # without a doorbell
        if not all([outbox.arm() for outbox in self._outboxes]):
            self.busy = True
        return wake_ns

    def stop_feeding(self) -> None:
        """Hands out nothing more: the engine drains."""
        self._feeding = False

    def spare(self) -> None:
        """The engine was away: nothing is found too old for a while."""
        self._retention.spare(self._clock.now_ns())

    def worker_lost(self, worker: int, *, by_own_fault: bool = False) -> None:
        """A worker ended. Its successor takes what is in the inbox; what the store took over from it
        is only here, or will be once its last report is applied.

        `by_own_fault`: it may have ended at a delivery that it had at hand.
        """
        self._lost[worker] = self._outboxes[worker].tail
        if by_own_fault:
            self._lost_by_fault.add(worker)

    def spare_workers(self, workers: Collection[int]) -> None:
        """Hand out nothing to these: they leave."""
        self._leaving = frozenset(workers)

    def applied(self, workers: Collection[int]) -> bool:
        """Whether all is applied that these workers have reported, and the shared words say so."""
        return self._held is None and all(
            self._outboxes[worker].next >= self._outboxes[worker].tail for worker in workers
        )

    def change_workers(self, count: int) -> None:
        """There are so many workers from now on; those that left have ended, and all that they
        reported is applied. What was out with one that has no successor is handed out again."""
        self._open_outboxes()
        for worker in range(count, len(self._inboxes)):
            self._store.release(self._sent[worker])
            self._sent[worker].clear()
            self._inboxes[worker].close()
            os.close(self._doorbells[worker])
        del self._inboxes[count:], self._doorbells[count:]
        self._open_inboxes(count)
        self._leaving = frozenset()

    def _open_outboxes(self) -> None:
        """Those of workers that the engine has no more are read too: their reports are still owed."""
        for folder in self._datadir.worker_folders()[len(self._outboxes) :]:
            outbox = Consumer(str(folder / "outbox.ring"))
            outbox.rewind()
            self._compare(outbox)
            self._outboxes.append(outbox)
            self._damaged_reports.append(0)
            self._sent.append(set())
            self._taken_over.append({})

    def _open_inboxes(self, count: int) -> None:
        """What stands in those that are opened is in the store, and is handed out again."""
        for worker in range(len(self._inboxes), count):
            path = str(self._datadir.worker(worker) / "inbox.ring")
            _empty(path)
            self._doorbells.append(d.open_doorbell(self._datadir.doorbell(worker)))
            self._inboxes.append(Producer(path, bell=self._doorbells[-1]))

    def take_disabled(self) -> bool:
        """Whether an endpoint was disabled since the last call."""
        disabled = bool(self._disabling)
        self._disabling.clear()
        return disabled

    # ---- what the operator asks for --------------------------------------------------------

    def send_test(self, endpoint_id: int, type: str, data: Any, now_ns: int) -> Row:
        """Has an event delivered to one endpoint, whatever it subscribed to. Raises EventError."""
        endpoint = self._endpoints[endpoint_id]
        head, body = self._mint.make(endpoint, type, data, self._clock.wall_ns(now_ns))
        with self._batch() as batch:
            batch.count(endpoint_id, "accepted")
            row = self._born(batch, endpoint_id, endpoint, head, body, now_ns)
        self._publish_stored(endpoint_id)
        return row

    def replay(self, delivery_ids: list[int], now_ns: int) -> int:
        """Makes dead letters wait again; returns how many of these were any."""
        with self._batch() as batch:
            dead = self._dead(delivery_ids)
            for delivery in dead:
                batch.replay(batch.copy(delivery), now_ns)
        for endpoint_id in {delivery.endpoint for delivery in dead}:
            self._publish_stored(endpoint_id)
        return len(dead)

    def purge(self, delivery_ids: list[int], now_ns: int) -> int:
        """Writes dead letters to the audit trail and erases them; returns how many of these."""
        self._batch()
        dead = self._dead(delivery_ids)
        self._retention.erase(dead, now_ns)
        return len(dead)

    def endpoint(self, endpoint_id: int) -> Endpoint | None:
        """The endpoint, unless it is removed or disabled."""
        return self._endpoints.get(endpoint_id)

    def begin_anew(self, endpoint_id: int) -> None:
        """The failures of an endpoint until now do not count any more."""
        self._doomed.pop(endpoint_id, None)
        self._words.begin_anew(endpoint_id)

    def _batch(self) -> Transaction:
        if self._held is not None:
            raise StoreError("the store cannot be written at the moment; try again")
        return self._store.batch()

    def _dead(self, delivery_ids: list[int]) -> list[Row]:
        found = map(self._store.delivery, dict.fromkeys(delivery_ids))
        return [row for row in found if row is not None and row.state == State.DEAD]

    def _born(
        self,
        batch: Transaction,
        endpoint_id: int,
        endpoint: Endpoint,
        head: EventHead,
        body: bytes,
        now_ns: int,
    ) -> Row:
        """A delivery that comes from no ring: the store counts that it was accepted."""
        return batch.add(
            self._ids.next(now_ns),
            endpoint_id,
            head,
            body,
            accepted_ns=self._clock.wall_ns(now_ns),
            due_ns=now_ns,
            ordered=_blocks(endpoint),
        )

    # ---- aggregation -----------------------------------------------------------------------

    def _gather(self, batch: Transaction, report: Report, body: bytes, now_ns: int) -> None:
        """Puts an event into its endpoint's window, which is committed with the report's position."""
        endpoint = self._endpoints.get(report.endpoint, _NOBODY)
        options = endpoint.aggregate
        if not options.window:  # since it was changed: what is open closes, nothing else opens
            options = msgspec.structs.replace(options, window=Duration(0))
        window = self._windows.get(report.endpoint)
        if window is None:  # its notification is as good as accepted, and pending from here on
            batch.count(report.endpoint, "accepted")
        self._windows[report.endpoint] = aggregate.add(
            window,
            EventHead.decode(report.event).type,
            body,
            report.accepted_ns,
            now_ns,
            aggregate=options,
            room_bytes=self._max_bytes(endpoint) - NOTIFICATION_BYTES,
        )
        batch.count(report.endpoint, "aggregated")

    def _close_windows(self, now_ns: int) -> int:
        """Turns each window whose time is over into a delivery; returns when the next one's is."""
        wake_ns, left = NEVER_NS, TRANSACTIONS
        for endpoint_id, window in list(self._windows.items()):
            endpoint = self._endpoints.get(endpoint_id)
            if not aggregate.closes(window, now_ns) and endpoint is not None:
                wake_ns = min(wake_ns, window.closes_ns)
                continue
            if self._left_alone(endpoint_id, now_ns):
                wake_ns = min(wake_ns, self._faulty[endpoint_id])
                continue
            if not left:
                self.busy = True
                break
            left -= 1
            try:
                with self._store.batch() as batch:
                    batch.close_window(endpoint_id)
                    self._notify(batch, endpoint_id, window, now_ns)
            except StoreError:
                raise
            except Exception as e:
                self._fault(endpoint_id, e, now_ns)
                continue
            del self._windows[endpoint_id]
            self._publish_stored(endpoint_id)
            wake_ns = now_ns
        return wake_ns

    def _window(self, endpoint_id: int, state: bytes) -> aggregate.Window:
        """An endpoint's window as the store has it; of one that cannot be read only that it is open.

        It closes in its length at the latest, by whatever clock it was opened."""
        now_ns = self._clock.now_ns()
        try:
            window = _decode_window(state)
        except msgspec.MsgspecError as e:
            with contextlib.suppress(OSError):
                self._keep_damaged(f"{endpoint_id}.window", state)
            log.error(
                "the open window of endpoint %d cannot be read (%s), and is closed; it is kept in %s",
                endpoint_id, described(e), self._damaged,
            )  # fmt: skip
            wall_ns = self._clock.wall_ns(now_ns)
            return aggregate.Window(0, {}, wall_ns, wall_ns)
        length = self._endpoints.get(endpoint_id, _NOBODY).aggregate.window or Duration(0)
        closes_ns = min(window.closes_ns, now_ns + length.ns)
        return msgspec.structs.replace(window, closes_ns=closes_ns)

    def _notify(
        self, batch: Transaction, endpoint_id: int, window: aggregate.Window, now_ns: int
    ) -> None:
        endpoint = self._endpoints.get(endpoint_id, _NOBODY)
        data = FailuresAggregated(
            endpoint=self._names.get(endpoint_id, str(endpoint_id)),
            count=window.count,
            counts=window.counts,
            first_at=timestamp(window.first_ns),
            last_at=timestamp(window.last_ns),
            originals=tuple(map(msgspec.Raw, window.originals)),
        )
        brief = msgspec.structs.replace(data, originals=())
        for choice in (data, brief, msgspec.structs.replace(brief, counts={})):
            with contextlib.suppress(PayloadTooLarge):
                head, body = self._mint.make(
                    endpoint, "webhook.failures.aggregated", choice, self._clock.wall_ns(now_ns)
                )
                self._born(batch, endpoint_id, endpoint, head, body, now_ns)
                return
        batch.count(endpoint_id, "dropped.payload_too_large")

    def _max_bytes(self, endpoint: Endpoint) -> int:
        """Of a body that the endpoint takes."""
        limit = int(self.snapshot.config.max_event_bytes)
        return min(limit, int(endpoint.max_payload)) if endpoint.max_payload else limit

    def close(self) -> None:
        """Applies what the workers reported last, as far as the store lets it."""
        self._feeding = False
        self._store_failed_ns = -STORE_BACKOFF_NS
        self.step(self._clock.now_ns())
        while self.busy:
            self.step(self._clock.now_ns())
        self._events.close()

    def _release_lost(self) -> None:
        """Has what was taken over from a lost worker handed out again, but for what its last reports
        settle. More may have been taken over from its successor since."""
        for worker, tail in list(self._lost.items()):
            if self._outboxes[worker].next < tail:
                continue
            taken_over = self._taken_over[worker]
            left = [id for id, seq in taken_over.items() if seq < tail]
            if worker in self._lost_by_fault:
                self._suspect(left)
            else:
                self._store.release(left)
            for id in left:
                del taken_over[id]
            del self._lost[worker]
            self._lost_by_fault.discard(worker)

    def _suspect(self, delivery_ids: list[int]) -> None:
        with self._store.batch() as batch:
            for id in delivery_ids:
                if row := batch.find(id):
                    batch.reschedule(row, self._clock.now_ns() + SUSPECT_NS, "suspect")
        self._suspects += delivery_ids

    def _try_suspect(self, now_ns: int) -> None:
        """Makes the next suspect due, once the one before has come back: so it is known at which a
        worker ends. What is not tried in time is due like any other."""
        while self._suspects and not self._store.is_leased(self._trial):
            self._trial = self._suspects.popleft()
            if self._store.is_leased(self._trial):
                return
            with self._store.batch() as batch:
                row = batch.find(self._trial)
                if row is not None and row.cause == "suspect":
                    before = life.Delivery("waiting", row.attempts, row.due_ns)
                    after = life.step(before, "hurry", now_ns, retry=None, attempted=False)
                    batch.reschedule(row, after.due_ns, "suspect")
                    return

    @property
    def caught_up(self) -> bool:
        """Whether all is applied that was reported before this scheduler began. Until then a row may
        wait in the store although its delivery has ended, so none is handed out or given up."""
        if all(o.next >= tail for o, tail in zip(self._outboxes, self._inherited, strict=False)):
            self._inherited.clear()
        return not self._inherited

    def _retire(self, now_ns: int) -> int:
        """Buries what could not be delivered for too long, and purges what ended long ago; returns
        when to do so again."""
        if now_ns >= self._next_overdue_ns:
            overdue = [
                d for d in self._retention.overdue(now_ns) if not self._store.is_leased(d.id)
            ]
            with self._store.batch() as batch:
                for delivery in overdue:
                    wall_ns = self._clock.wall_ns(now_ns)
                    batch.dead_letter(batch.copy(delivery), wall_ns, "retention", event="overdue")
            for endpoint_id in {delivery.endpoint for delivery in overdue}:
                self._publish_stored(endpoint_id)
            self._next_overdue_ns = now_ns + (0 if overdue else RETENTION_CHECK_NS)
        if now_ns >= self._next_purge_ns:
            more = self._purge_expired(now_ns)
            self._next_purge_ns = now_ns + (0 if more else RETENTION_CHECK_NS)
        return min(self._next_overdue_ns, self._next_purge_ns)

    def _purge_expired(self, now_ns: int) -> bool:
        """True if there may be more. Deliveries do not wait until the audit trail has room."""
        try:
            more = self._retention.purge(now_ns)
        except StoreError as e:
            if not self._purge_failing:
                log.error("nothing is purged until the audit trail can be written: %s", e)
            self._purge_failing = True
            return False
        if self._purge_failing:
            log.info("the audit trail is written again")
        self._purge_failing = False
        return more

    # ---- reports ---------------------------------------------------------------------------

    def _collect(self, now_ns: int) -> bool:
        """Applies up to a batch of reports from each outbox; True if there may be more."""
        if self._held is None:
            taken = self._take()
            damaged = self._count_damaged()
            if not any(taken) and not damaged:
                return False
            batch = self._store.batch()
            self._changed: set[int] = set()
            self._before = self._positions.copy(), self._windows.copy()
            try:
                for worker, records in enumerate(taken):
                    self._apply_all(batch, worker, records, now_ns)
            except StoreError:  # it could not be read: take all of it again
                self._take_back()
                raise
            except Exception as e:
                self._isolate(taken, e, now_ns)
                return True
            for endpoint_id, window in self._windows.items():
                if window is not self._before[1].get(endpoint_id):
                    batch.window(endpoint_id, window.closes_ns, _encode_window(window))
            self._held = batch, taken
        batch, taken = self._held
        try:
            batch.commit()
        except StoreError:
            raise
        except Exception as e:  # a value that no column takes
            self._held = None
            self._isolate(taken, e, now_ns)
            return True
        self._linger_until_ns = now_ns + LINGER_NS
        self._held = None
        self._limit = min(BATCH, 2 * self._limit)
        for endpoint_id in self._changed:
            self._publish_stored(endpoint_id)  # before the release: see Dispatcher._diverted
        for records in taken:
            for record in records:
                record.settle()
        return self._limit < BATCH or any(len(records) == BATCH for records in taken)

    def _take(self) -> list[list[Delivery]]:
        """What is applied next; after an error of ours a single report."""
        if self._limit > 1:
            return [outbox.take(self._limit) for outbox in self._outboxes]
        taken: list[list[Delivery]] = [[] for _ in self._outboxes]
        for records, outbox in zip(taken, self._outboxes, strict=True):
            records += outbox.take(1)
            if records:
                break
        return taken

    def _take_back(self) -> None:
        self._positions, self._windows = self._before
        for outbox in self._outboxes:
            outbox.rewind()

    def _isolate(self, taken: list[list[Delivery]], error: Exception, now_ns: int) -> None:
        """A report at which an error of ours comes up must not stop the others.

        They are taken again one by one; the one that raises by itself becomes a dead letter or, where
        not even that can be made of it, is set aside.
        """
        self._take_back()
        found = [(worker, record) for worker, records in enumerate(taken) for record in records]
        if len(found) > 1:
            self._limit = 1
            return
        ((worker, record),) = found
        (record,) = self._outboxes[worker].take(1)
        uid = self._outboxes[worker].uid.to_bytes(8, "little")
        for end in (self._bury_faulty, self._set_aside):
            batch = self._store.batch()
            try:
                end(batch, worker, record, error, now_ns)
                batch.position(uid, max(self._positions.get(uid, -1), record.seq))
                batch.commit()
            except StoreError:
                self._take_back()
                raise
            except Exception as e:
                error = e
            else:
                break
        self._positions[uid] = max(self._positions.get(uid, -1), record.seq)
        for endpoint_id in self._changed & self._store.pending.keys():
            self._publish_stored(endpoint_id)
        record.settle()
        self._limit = 2

    def _bury_faulty(
        self, batch: Transaction, worker: int, record: Delivery, error: Exception, now_ns: int
    ) -> None:
        """Makes a dead letter of a delivery whose report raises."""
        report = _decode_report(record.event)
        row = self._reported(batch, worker, report, record.body, now_ns)
        if row is None:
            return
        batch.dead_letter(row, self._clock.wall_ns(now_ns), "internal", described(error))
        batch.count(report.endpoint, "faults")
        log.error(
            "a report on endpoint %s cannot be applied, its delivery is a dead letter:\n%s",
            self._names.get(report.endpoint, report.endpoint),
            traced(error),
        )

    def _apply_all(
        self, batch: Transaction, worker: int, records: list[Delivery], now_ns: int
    ) -> None:
        outbox = self._outboxes[worker]
        uid, reached = outbox.uid.to_bytes(8, "little"), outbox.next - 1
        applied = self._positions.get(uid, -1)
        for record in records:
            if record.seq > applied:
                self._apply(batch, worker, record, now_ns)
        if reached > applied:
            self._positions[uid] = reached
            batch.position(uid, reached)

    def _compare(self, outbox: Consumer) -> None:
        """A ring and the position of the store in it fit each other, unless one is an older copy."""
        applied = self._positions.get(outbox.uid.to_bytes(8, "little"))
        if applied is None:
            return
        if applied >= outbox.tail:
            log.error(
                "%s is an older copy: it ends with report %d, the store has those up to %d; what was "
                "reported in the newer one and not stored is lost",
                outbox.path, outbox.tail - 1, applied,
            )  # fmt: skip
            outbox.go_on_at(applied + 1)  # or new reports would be taken for those that are stored
        elif outbox.head > applied + 1:
            log.error(
                "%s is an older copy, or its log is damaged: %d reports that it had are not in it",
                self._store.path, outbox.head - applied - 1,
            )  # fmt: skip

    def _count_damaged(self) -> bool:
        """Tells of damaged reports that were passed over; True if there were any."""
        counts = [outbox.corrupt for outbox in self._outboxes]
        for outbox, before, now in zip(self._outboxes, self._damaged_reports, counts, strict=True):
            if now > before:
                log.error("%s: %d damaged reports are lost", outbox.path, now - before)
        changed = counts != self._damaged_reports
        self._damaged_reports = counts
        return changed

    def _apply(self, batch: Transaction, worker: int, record: Delivery, now_ns: int) -> None:
        """One report. A stale one, about a delivery that has ended, changes nothing."""
        report = _decode_report(record.event)
        endpoint_id, verdict, cause = report.endpoint, report.verdict, report.cause
        endpoint = self._endpoints.get(endpoint_id)
        if verdict == "aggregated":
            self._gather(batch, report, record.body, now_ns)
            return
        row = self._reported(batch, worker, report, record.body, now_ns)
        if row is None:
            return
        self._changed.add(endpoint_id)
        before = life.Delivery("sending", row.attempts)
        attempt = report.attempt
        if attempt is None:
            error, retry_after_s = "", None
        else:
            error, retry_after_s = attempt.error, attempt.retry_after_s
            started_ns = self._clock.wall_ns(attempt.started_ns)
            if offset_ns := started_ns - attempt.started_ns:
                attempt = msgspec.structs.replace(attempt, started_ns=started_ns)
            batch.attempt(row, attempt, offset_ns)
        after = life.step(
            before,
            _EVENTS[verdict],
            now_ns,
            retry=None if endpoint is None else endpoint.retry,
            attempted=attempt is not None,
            first_failed_ns=row.first_failed_ns,
            u=random.random(),
            retry_after_s=retry_after_s,
            not_before_ns=report.not_before_ns,
        )
        match after.state:
            case "sending":
                self._taken_over[worker][row.id] = record.seq
            case "waiting":
                batch.reschedule(row, after.due_ns or now_ns, cause, error)
                if cause == "suspect":
                    self._suspects.append(row.id)
            case "delivered":
                batch.delivered(row, self._clock.wall_ns(now_ns))
                batch.count(endpoint_id, "delivered")
            case "dead":
                batch.dead_letter(row, self._clock.wall_ns(now_ns), cause, error)
            case "dropped":
                batch.drop(row, self._clock.wall_ns(now_ns), cause)
                batch.count(endpoint_id, f"dropped.{cause}")
        if attempt is not None and endpoint is not None and after.state != "delivered":
            self._disable_if(endpoint_id, endpoint, attempt.cause, now_ns)

    def _reported(
        self, batch: Transaction, worker: int, report: Report, body: bytes, now_ns: int
    ) -> Row | None:
        """Return the delivery that a report is about, which the store may not have yet; None if it has
        ended."""
        if not report.event:
            self._sent[worker].discard(report.delivery_id)
            self._taken_over[worker].pop(report.delivery_id, None)
            return batch.find(report.delivery_id)
        endpoint = self._endpoints.get(report.endpoint)
        return batch.add(
            report.delivery_id,
            report.endpoint,
            EventHead.decode(report.event),
            body,
            accepted_ns=report.accepted_ns,
            due_ns=now_ns,
            ordered=endpoint is not None and _blocks(endpoint),
            leased=report.verdict == TAKEN_OVER,
            cause=report.cause,
        )

    def _disable_if(self, endpoint_id: int, endpoint: Endpoint, cause: str, now_ns: int) -> None:
        """Disables an endpoint whose receiver asked for it, or that has done nothing but fail."""
        gone = cause == "gone" and endpoint.disable_on_gone
        if not gone and endpoint.disable_after is None:
            return
        failing_ns = self._words.failing_ns(endpoint_id) or now_ns
        if gone:
            reason = CAUSES[cause].user
        elif endpoint.disable_after and now_ns - failing_ns >= endpoint.disable_after.ns:
            reason = (
                f"Every attempt has failed for {endpoint.disable_after}; the last one: {cause}."
            )
        else:
            return
        if endpoint_id not in self._disabling:
            self._doomed.setdefault(endpoint_id, (reason, failing_ns))

    def _disable_doomed(self, now_ns: int) -> None:
        """A transaction of its own for each, once the reports that led to it are committed."""
        doomed = list(self._doomed.items())
        self.busy = self.busy or len(doomed) > TRANSACTIONS
        for endpoint_id, (reason, failing_ns) in doomed[:TRANSACTIONS]:
            self._store.disable_endpoint(endpoint_id, self._clock.wall_ns(now_ns), reason)
            del self._doomed[endpoint_id]
            self._disabling.add(endpoint_id)
            name = self._names.get(endpoint_id, str(endpoint_id))
            self._events.endpoint_disabled(name, reason, self._clock.wall_ns(failing_ns))
            log.warning("endpoint %s is disabled: %s", name, reason)

    def _set_aside(
        self, batch: Transaction, worker: int, record: Delivery, error: Exception, now_ns: int
    ) -> None:
        """A report of which nothing can be made, by a defect or of another version: its bytes are kept
        for whoever looks into it, and an event that was in it counts as dropped."""
        try:
            for kind, content in (("report", record.event), ("body", record.body)):
                self._keep_damaged(f"{worker}-{record.seq}.{kind}", content)
        except OSError as e:
            raise StoreError(
                f"a report that cannot be read cannot be kept in {self._damaged}: {e.strerror}"
            ) from e
        if record.endpoint in self._store.pending:
            batch.count(record.endpoint, "dropped.unreadable")
            batch.count(record.endpoint, "faults")
        log.error("a report cannot be read (%s); it is kept in %s", described(error), self._damaged)

    def _keep_damaged(self, name: str, content: bytes) -> None:
        make_folder(self._damaged)
        replace_file(self._damaged / name, content)

    def _left_alone(self, endpoint_id: int, now_ns: int) -> bool:
        """Whether an error of ours came up at the endpoint a moment ago."""
        return now_ns < self._faulty.get(endpoint_id, 0)

    def _fault(self, endpoint_id: int, error: Exception, now_ns: int) -> None:
        """An error of ours in the work for one endpoint, which is left alone for a while."""
        self._faulty[endpoint_id] = now_ns + FAULT_BACKOFF_NS
        log.error(
            "endpoint %s: its deliveries wait for %d s, after an error of ours:\n%s",
            self._names.get(endpoint_id, endpoint_id),
            FAULT_BACKOFF_NS // 1_000_000_000,
            traced(error),
        )
        with self._store.batch() as batch:
            batch.count(endpoint_id, "faults")

    def _publish_stored(self, endpoint_id: int) -> None:
        self._words.publish_stored(endpoint_id, self._store.pending.get(endpoint_id, 0))

    # ---- what is due -----------------------------------------------------------------------

    def _feed(self, now_ns: int) -> int:
        """Hands out what is due, up to BATCH deliveries; returns when the next is."""
        wake_ns, self._left = NEVER_NS, BATCH
        fronts = self._store.fronts()
        ids = [endpoint_id for endpoint_id, _ in fronts]
        if self._stopped_at in ids:  # the others have had their turn
            first = ids.index(self._stopped_at)
            fronts = fronts[first:] + fronts[:first]
        self._stopped_at = None
        for endpoint_id, due_ns in fronts:
            if not self._left:
                self._stopped_at = endpoint_id
                break
            if self._left_alone(endpoint_id, now_ns):
                wake_ns = min(wake_ns, self._faulty[endpoint_id])
                continue
            try:
                wake_ns = min(wake_ns, self._feed_one(endpoint_id, due_ns, now_ns))
            except StoreError:
                raise
            except Exception as e:
                self._fault(endpoint_id, e, now_ns)
        self.busy = self.busy or not self._left
        return wake_ns

    def _feed_one(self, endpoint_id: int, due_ns: int, now_ns: int) -> int:
        """Hands out what is due for one endpoint; returns when the next is."""
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            cause = "disabled" if self._is_disabled(endpoint_id) else "removed"
            wall_ns = self._clock.wall_ns(now_ns)
            if dead := self._store.dead_letter_all(endpoint_id, wall_ns, cause, limit=self._left):
                self._left -= dead
                self._publish_stored(endpoint_id)
                self.busy = True
            return NEVER_NS
        if endpoint.paused:
            return NEVER_NS
        if due_ns > now_ns:
            return due_ns
        room, again_ns = self._room(endpoint_id, endpoint, now_ns)
        if room <= 0:
            return again_ns
        wake_ns = NEVER_NS
        home, target = self._home(endpoint), struct.pack("<I", endpoint_id)
        if home in self._leaving or len(self._leaving) == len(self._inboxes):
            return now_ns + 10_000_000
        leased = self._store.lease(endpoint_id, now_ns, min(room, self._left))
        self._left -= len(leased)
        try:
            while leased:
                if not self._send(self._idlest() if home is None else home, target, leased[0]):
                    self._store.release([leased[0].delivery.id])
                    wake_ns = now_ns + 10_000_000
                del leased[0]
        finally:
            self._store.release([due.delivery.id for due in leased])
        front_ns = self._store.front_ns(endpoint_id)
        if front_ns is not None and front_ns > now_ns:
            wake_ns = min(wake_ns, front_ns)
        return wake_ns

    def _room(self, endpoint_id: int, endpoint: Endpoint, now_ns: int) -> tuple[int, int]:
        """How many deliveries of an endpoint may go out, and if none, when to look again. A window,
        so that the many that wait for one endpoint do not fill the rings; one while it is probed."""
        out = self._store.leased(endpoint_id)
        state = self._words.breaker(endpoint_id)
        if state.name == "closed":
            freely = sum(map(len, self._sent)) < OUT_FREELY
            at_a_time = endpoint.concurrency * (endpoint.batch.max_events or 1)
            return at_a_time * (AHEAD if freely else 1) - out, NEVER_NS
        until_ns = breaker.held_until_ns(state, endpoint.circuit_breaker, now_ns)
        if until_ns is not None:
            return 0, until_ns
        return 1 - out, now_ns + 100_000_000

    def _home(self, endpoint: Endpoint) -> int | None:
        """The worker that serves an endpoint; None: any may."""
        ring = self.snapshot.home(endpoint)
        return None if ring is None else ring % self.snapshot.workers

    def _idlest(self) -> int:
        """The worker with the fewest deliveries out."""
        if len(self._inboxes) == 1:
            return 0
        there = (worker for worker in range(len(self._inboxes)) if worker not in self._leaving)
        return min(there, key=lambda worker: len(self._sent[worker]))

    def _send(self, worker: int, target: bytes, due: Due) -> bool:
        """Puts a delivery into a worker's inbox; False if it is full."""
        row, body = due
        fresh = not was_answered(row.cause)
        suspect = row.cause == "suspect"
        due_head = DueHead(
            row.id, row.attempts, row.accepted_ns, row.event.encode(), fresh, suspect
        )
        head = _encode_due(due_head)
        result = self._inboxes[worker].put(target, head, body)
        if result == TOO_LARGE:
            self._dead_letter_too_large(row)
        elif result != FULL:
            self._sent[worker].add(row.id)
        return result != FULL

    def _dead_letter_too_large(self, row: Row) -> None:
        """It came while `max_event_bytes` was larger, and the worker's ring cannot take it."""
        error = (
            "larger than max_event_bytes allows now: raise that, start the engine anew, and replay"
        )
        with self._store.batch() as batch:
            wall_ns = self._clock.wall_ns(self._clock.now_ns())
            batch.dead_letter(batch.copy(row), wall_ns, "payload_too_large", error)
        self._publish_stored(row.endpoint)

    def _is_disabled(self, endpoint_id: int) -> bool:
        return any(self.snapshot.ids.get(name) == endpoint_id for name in self.snapshot.disabled)


#: stands in for an endpoint that is no more; what is made for it becomes a dead letter
_NOBODY = Endpoint(name="", url="")


def _blocks(endpoint: Endpoint) -> bool:
    return endpoint.ordered and endpoint.on_head_failure == "block"


def _empty(inbox: str) -> None:
    """Takes everything out of an inbox: its rows are in the store and will be handed out again."""
    consumer = Consumer(inbox)
    consumer.rewind()
    while taken := consumer.take(BATCH):
        for record in taken:
            record.settle()
    consumer.close()
