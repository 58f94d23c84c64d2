"""Reports of the workers: taken from the outbox rings, applied to the store in one transaction, and
released once that is committed (store/interface.py has the order, and what a crash leaves)."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

import msgspec

from fluxhook._native.ring import Consumer, RingDelivery
from fluxhook.logs.log import Log, described
from fluxhook.policy import delivery as life
from fluxhook.scheduler import damaged, step_limits
from fluxhook.scheduler.aggregation import Windows
from fluxhook.scheduler.disabling import Disabling
from fluxhook.scheduler.endpoint_watch import EndpointWatch
from fluxhook.scheduler.endpoints import Endpoints, blocks
from fluxhook.scheduler.suspects import Suspects
from fluxhook.scheduler.worker_leases import WorkerLeases
from fluxhook.store import Store, StoreError, Transaction
from fluxhook.store.rows import DeliveryRow as Row
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.messages import DEFERRED, TAKEN_OVER, EventHead, Report, Verdict

__all__ = ["Reports"]

log = Log("store")

#: how long reports may gather after some have come: a transaction costs as much as dozens of rows
LINGER_NS: Final = 10_000_000

#: what a report says, in the words of policy/delivery.py
_EVENTS: Final[Mapping[Verdict, life.Event]] = {
    "delivered": "delivered",
    "retry": "retry",
    "dead": "dead",
    DEFERRED: "deferred",
    TAKEN_OVER: "taken_over",
    "dropped": "dropped",
    "aggregated": "aggregated",
}

#: reads what a worker reports
decode_report = msgspec.msgpack.Decoder(Report).decode


class _Uncommitted(NamedTuple):
    """A transaction that is complete, and the reports that are in it, by worker."""

    transaction: Transaction
    taken: list[list[RingDelivery]]


class Reports:
    """One outbox for each worker that ever was."""

    def __init__(
        self,
        datadir: DataDir,
        store: Store,
        clock: EngineClock,
        endpoints: Endpoints,
        leases: WorkerLeases,
        windows: Windows,
        disabling: Disabling,
        suspects: Suspects,
        watch: EndpointWatch,
    ) -> None:
        self._watch = watch
        #: of this transaction: failed attempts by endpoint, cause and error, and deliveries
        self._failed: list[tuple[int, int, str, str]] = []
        self._delivered: list[int] = []
        self._datadir = datadir
        self._store = store
        self._clock = clock
        self._endpoints = endpoints
        self._leases = leases
        self._windows = windows
        self._disabling = disabling
        self._suspects = suspects
        self._outboxes: list[Consumer] = []
        #: damaged reports that were passed over, of each outbox
        self._damaged_reports: list[int] = []
        self._positions = store.positions()
        self._positions_before = self._positions
        #: endpoints of which deliveries changed in this transaction
        self._changed: set[int] = set()
        #: could not be committed
        self._uncommitted: _Uncommitted | None = None
        #: how many reports are taken at a time from each outbox; one after an error of ours
        self.limit = step_limits.DELIVERIES
        #: without a doorbell
        self.lingers_until_ns = 0
        self.open_outboxes()
        #: where the reports of the engine before this one end, as long as some are not applied
        self._inherited = [outbox.tail for outbox in self._outboxes]

    def open_outboxes(self) -> None:
        """Open those that are not open. Those of workers that the engine has no more are read too:
        their reports are still owed."""
        for folder in self._datadir.worker_folders()[len(self._outboxes) :]:
            outbox = Consumer(str(folder / "outbox.ring"))
            outbox.rewind()
            self._compare(outbox)
            self._outboxes.append(outbox)
            self._damaged_reports.append(0)
            self._leases.add_worker()

    # ---- how far they are applied ----------------------------------------------------------

    @property
    def tails(self) -> list[int]:
        """Return the number that the next report of each worker gets."""
        return [outbox.tail for outbox in self._outboxes]

    @property
    def reached(self) -> list[int]:
        """Return the number of the first report of each worker that is not taken yet."""
        return [outbox.next for outbox in self._outboxes]

    @property
    def caught_up(self) -> bool:
        """Return whether all is applied that was reported before this scheduler began. Until then a row
        may wait in the store although its delivery has ended, so none is handed out or given up."""
        if all(o.next >= tail for o, tail in zip(self._outboxes, self._inherited, strict=False)):
            self._inherited.clear()
        return not self._inherited

    def applied(self, workers: Collection[int]) -> bool:
        """Return whether all is applied that these workers have reported, and the words say so."""
        return self._uncommitted is None and all(
            self._outboxes[worker].next >= self._outboxes[worker].tail for worker in workers
        )

    def check_committed(self) -> None:
        """Raise StoreError while a transaction waits that could not be committed: the store would not
        know of it what it is asked."""
        if self._uncommitted is not None:
            raise StoreError("the store cannot be written at the moment; try again")

    def arm(self) -> bool:
        """Have the next report ring the doorbell; False if one has come."""
        return all([outbox.arm() for outbox in self._outboxes])

    # ---- from the rings to the store -------------------------------------------------------

    def collect(self, now_ns: int) -> bool:
        """Apply up to DELIVERIES reports from each outbox; True if there may be more."""
        if self._uncommitted is None:
            taken = self._take()
            damaged_ones = self._count_damaged()
            if not any(taken) and not damaged_ones:
                return False
            transaction = self._apply_taken(taken, now_ns)
            if transaction is None:
                return True
            self._uncommitted = _Uncommitted(transaction, taken)
        transaction, taken = self._uncommitted
        try:
            transaction.commit()
        except StoreError:
            raise
        except Exception as e:  # a value that no column takes
            self._uncommitted = None
            self._isolate(taken, e, now_ns)
            return True
        self._tell_watch()
        self.lingers_until_ns = now_ns + LINGER_NS
        self._uncommitted = None
        self.limit = min(step_limits.DELIVERIES, 2 * self.limit)
        self._endpoints.publish_stored(self._changed)  # before the release: see interface.py
        for records in taken:
            for record in records:
                record.settle()
        return self.limit < step_limits.DELIVERIES or any(
            len(r) == step_limits.DELIVERIES for r in taken
        )

    def _tell_watch(self) -> None:
        """Tell what is committed: a report that is applied twice is told once."""
        for endpoint_id in self._delivered:
            self._watch.delivered(endpoint_id)
        for failed in self._failed:
            self._watch.attempt_failed(*failed)

    def _take(self) -> list[list[RingDelivery]]:
        """Take what is applied next; after an error of ours a single report."""
        if self.limit > 1:
            return [outbox.take(self.limit) for outbox in self._outboxes]
        taken: list[list[RingDelivery]] = [[] for _ in self._outboxes]
        for records, outbox in zip(taken, self._outboxes, strict=True):
            records += outbox.take(1)
            if records:
                break
        return taken

    def _take_back(self) -> None:
        """Have all that was taken and not released be taken again."""
        self._positions = self._positions_before
        self._windows.take_back()
        for outbox in self._outboxes:
            outbox.rewind()

    def _apply_taken(self, taken: list[list[RingDelivery]], now_ns: int) -> Transaction | None:
        """Return what follows from these reports; None if an error of ours came up at one of them."""
        transaction = self._store.transaction()
        self._changed = set()
        self._failed, self._delivered = [], []
        self._positions_before = self._positions.copy()
        self._windows.begin()
        try:
            for worker, records in enumerate(taken):
                self._apply_all(transaction, worker, records, now_ns)
        except StoreError:  # it could not be read: take all of it again
            self._take_back()
            raise
        except Exception as e:
            self._isolate(taken, e, now_ns)
            return None
        self._windows.write(transaction)
        return transaction

    def _apply_all(
        self, transaction: Transaction, worker: int, records: list[RingDelivery], now_ns: int
    ) -> None:
        outbox = self._outboxes[worker]
        uid, reached = outbox.uid.to_bytes(8, "little"), outbox.next - 1
        applied = self._positions.get(uid, -1)
        for record in records:
            if record.seq > applied:
                self._apply(transaction, worker, record, now_ns)
        if reached > applied:
            self._positions[uid] = reached
            transaction.position(uid, reached)

    def _apply(
        self, transaction: Transaction, worker: int, record: RingDelivery, now_ns: int
    ) -> None:
        """Apply one report. A stale one, about a delivery that has ended, changes nothing."""
        report = decode_report(record.event)
        event = _EVENTS[report.verdict]
        if event == "aggregated":  # it has no row
            self._windows.gather(transaction, report, record.body, now_ns)
            return
        row = self._reported(transaction, worker, report, record.body, now_ns)
        if row is None:
            return
        self._changed.add(report.endpoint)
        after = self._after(transaction, row, report, event, now_ns)
        error = "" if report.attempt is None else report.attempt.error
        wall_ns = self._clock.wall_ns(now_ns)
        match after.state:
            case "sending":
                self._leases.take_over(worker, row.id, record.seq)
            case "waiting":
                transaction.reschedule(row, after.due_ns or now_ns, report.cause, error)
                if report.cause == "suspect":
                    self._suspects.add(row.id)
            case "delivered":
                transaction.delivered(row, wall_ns)
                transaction.count(report.endpoint, "delivered")
                self._delivered.append(report.endpoint)
            case "dead":
                transaction.dead_letter(row, wall_ns, report.cause, error)
            case "dropped":
                transaction.drop(row, wall_ns, report.cause)
                transaction.count(report.endpoint, f"dropped.{report.cause}")
        endpoint = self._endpoints.get(report.endpoint)
        if report.attempt is not None and endpoint is not None and after.state != "delivered":
            ended_ns = report.attempt.started_ns + 1000 * report.attempt.total_us
            at_ns = self._clock.wall_ns(ended_ns)
            self._failed.append((report.endpoint, at_ns, report.attempt.cause, error))
            self._disabling.attempt_failed(report.endpoint, endpoint, report.attempt.cause, now_ns)

    def _after(
        self, transaction: Transaction, row: Row, report: Report, event: life.Event, now_ns: int
    ) -> life.DeliveryStatus:
        """Record the attempt of a report, if there was one, and return what becomes of the delivery."""
        before = life.DeliveryStatus("sending", row.attempts)
        attempt = report.attempt
        if attempt is not None:
            started_ns = self._clock.wall_ns(attempt.started_ns)
            if offset_ns := started_ns - attempt.started_ns:
                attempt = msgspec.structs.replace(attempt, started_ns=started_ns)
            transaction.attempt(row, attempt, offset_ns)
        endpoint = self._endpoints.get(report.endpoint)
        return life.step(
            before,
            event,
            now_ns,
            retry=None if endpoint is None else endpoint.retry,
            attempted=attempt is not None,
            first_failed_ns=row.first_failed_ns,
            u=random.random(),
            retry_after_s=None if attempt is None else attempt.retry_after_s,
            not_before_ns=report.not_before_ns,
        )

    def _reported(
        self, transaction: Transaction, worker: int, report: Report, body: bytes, now_ns: int
    ) -> Row | None:
        """Return the delivery that a report is about, which the store may not have yet; None if it has
        ended."""
        if not report.event:
            self._leases.reported(worker, report.delivery_id)
            return transaction.find(report.delivery_id)
        endpoint = self._endpoints.get(report.endpoint)
        return transaction.add(
            report.delivery_id,
            report.endpoint,
            EventHead.decode(report.event),
            body,
            accepted_ns=report.accepted_ns,
            due_ns=now_ns,
            ordered=endpoint is not None and blocks(endpoint),
            leased=report.verdict == TAKEN_OVER,
            cause=report.cause,
        )

    # ---- reports at which an error of ours comes up ----------------------------------------

    def _isolate(self, taken: list[list[RingDelivery]], error: Exception, now_ns: int) -> None:
        """Take a report by itself at which an error of ours comes up: it must not stop the others.

        They are taken again one by one; the one that raises by itself becomes a dead letter or, where
        not even that can be made of it, is set aside.
        """
        self._take_back()
        found = [(worker, record) for worker, records in enumerate(taken) for record in records]
        if len(found) > 1:
            self.limit = 1
            return
        ((worker, record),) = found
        (record,) = self._outboxes[worker].take(1)
        uid = self._outboxes[worker].uid.to_bytes(8, "little")
        for end in (self._dead_letter_faulty, self._set_aside):
            transaction = self._store.transaction()
            try:
                end(transaction, worker, record, error, now_ns)
                transaction.position(uid, max(self._positions.get(uid, -1), record.seq))
                transaction.commit()
            except StoreError:
                self._take_back()
                raise
            except Exception as e:
                error = e
            else:
                break
        self._positions[uid] = max(self._positions.get(uid, -1), record.seq)
        self._endpoints.publish_stored(self._changed & self._store.pending.keys())
        record.settle()
        self.limit = 2

    def _dead_letter_faulty(
        self,
        transaction: Transaction,
        worker: int,
        record: RingDelivery,
        error: Exception,
        now_ns: int,
    ) -> None:
        """Make a dead letter of a delivery whose report raises."""
        report = decode_report(record.event)
        row = self._reported(transaction, worker, report, record.body, now_ns)
        if row is None:
            return
        transaction.dead_letter(row, self._clock.wall_ns(now_ns), "internal", described(error))
        transaction.count(report.endpoint, "faults")
        name = self._endpoints.name(report.endpoint)
        log.error(
            "a report on endpoint %s cannot be applied, its delivery is a dead letter", name,
            exc_info=error, event="internal_error", endpoint=name, cause="internal",
            traceparent=row.traceparent,
        )  # fmt: skip

    def _set_aside(
        self,
        transaction: Transaction,
        worker: int,
        record: RingDelivery,
        error: Exception,
        now_ns: int,
    ) -> None:
        """Keep the bytes of a report of which nothing can be made, by a defect or of another version;
        an event that was in it counts as dropped."""
        folder = self._datadir.damaged
        try:
            for kind, content in (("report", record.event), ("body", record.body)):
                damaged.keep(folder, f"{worker}-{record.seq}.{kind}", content)
        except OSError as e:
            raise StoreError(
                f"a report that cannot be read cannot be kept in {folder}: {e.strerror}"
            ) from e
        if record.endpoint in self._store.pending:
            transaction.count(record.endpoint, "dropped.unreadable")
            transaction.count(record.endpoint, "faults")
        log.error("a report cannot be read (%s); it is kept in %s", described(error), folder)

    # ---- rings that are damaged, or older copies -------------------------------------------

    def _compare(self, outbox: Consumer) -> None:
        """Check that a ring and the position of the store in it fit each other: one may be an older
        copy."""
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
        """Tell of damaged reports that were passed over; True if there were any."""
        counts = [outbox.corrupt for outbox in self._outboxes]
        for outbox, before, now in zip(self._outboxes, self._damaged_reports, counts, strict=True):
            if now > before:
                log.error("%s: %d damaged reports are lost", outbox.path, now - before)
        changed = counts != self._damaged_reports
        self._damaged_reports = counts
        return changed
