"""The way back: what is due goes out to the workers, a bounded number for each endpoint."""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from fluxhook._native.ring import FULL, TOO_LARGE, Consumer, Producer
from fluxhook.config.schema import Endpoint
from fluxhook.policy import breaker
from fluxhook.policy import delivery as life
from fluxhook.policy.outcome import was_answered
from fluxhook.policy.table import IllegalMove
from fluxhook.scheduler import step_limits
from fluxhook.scheduler.dead_letters import DeadLetters, RecordRows, unrecorded
from fluxhook.scheduler.endpoints import Endpoints
from fluxhook.scheduler.suspects import Suspects
from fluxhook.scheduler.worker_leases import WorkerLeases
from fluxhook.store import Due, State, Store, StoreError
from fluxhook.transport.datadir import DataDir, open_doorbell
from fluxhook.transport.engine_words import EngineWords
from fluxhook.transport.messages import DueHead

__all__ = ["Retries"]

#: Deliveries of an endpoint that are out at a time, as a multiple of its `concurrency`, while fewer
#: than OUT_FREELY are out in all. A worker must not run out of them while their reports gather: with
#: 8 and 32 connections it waited a tenth of its time, with 32 little less than with 16.
AHEAD, OUT_FREELY = 16, 4096
#: when a worker is looked at again whose inbox is full, or which leaves
INBOX_BACKOFF_NS: Final = 10_000_000
#: when it is looked again whether an endpoint's probe has come back
PROBE_LOOK_NS: Final = 100_000_000

_encode_due = msgspec.msgpack.Encoder().encode


class Retries:
    """One inbox for each worker. A row stays in the store until a report settles it."""

    def __init__(
        self,
        datadir: DataDir,
        store: Store,
        words: EngineWords,
        endpoints: Endpoints,
        leases: WorkerLeases,
        dead_letters: DeadLetters,
        suspects: Suspects,
    ) -> None:
        self._datadir = datadir
        self._store = store
        self._words = words
        self._endpoints = endpoints
        self._leases = leases
        self._dead_letters = dead_letters
        self._suspects = suspects
        self.inboxes: list[Producer] = []
        self._doorbells: list[int] = []
        #: workers that get nothing, since they leave
        self.leaving: frozenset[int] = frozenset()
        #: workers that ended, and the number of the first report that is a successor's
        self.lost: dict[int, int] = {}
        #: those of them that ended by a fault of their own
        self.lost_by_fault: set[int] = set()
        #: what this step may still hand out or give up, and the endpoint at which the last one stopped
        self._left = step_limits.DELIVERIES
        self._stopped_at: int | None = None
        self._open_inboxes(endpoints.snapshot.workers)

    # ---- workers ---------------------------------------------------------------------------

    def spare_workers(self, workers: Collection[int]) -> None:
        """Hand out nothing to these: they leave."""
        self.leaving = frozenset(workers)

    def change_workers(self, count: int) -> None:
        """Hand out to so many workers from now on. What was out with one that has no successor is
        handed out again."""
        for worker in range(count, len(self.inboxes)):
            self._store.release(self._leases.take_back_sent(worker))
            self.inboxes[worker].close()
            os.close(self._doorbells[worker])
        del self.inboxes[count:], self._doorbells[count:]
        self._open_inboxes(count)
        self.leaving = frozenset()

    def _open_inboxes(self, count: int) -> None:
        """Open the inboxes and empty them: what stands in those is in the store, and is handed out
        again."""
        for worker in range(len(self.inboxes), count):
            path = str(self._datadir.worker(worker) / "inbox.ring")
            _empty(path)
            self._doorbells.append(open_doorbell(self._datadir.doorbell(worker)))
            self.inboxes.append(Producer(path, doorbell=self._doorbells[-1]))

    def worker_lost(self, worker: int, tail: int, *, by_own_fault: bool = False) -> None:
        """Note that a worker ended; its reports are those before `tail`. Its successor takes what is
        in the inbox; what the store took over from it is only here, or will be once its last report
        is applied. `by_own_fault`: it may have ended at a delivery that it had at hand."""
        self.lost[worker] = tail
        if by_own_fault:
            self.lost_by_fault.add(worker)

    def release_lost(self, reached: Sequence[int], now_ns: int) -> None:
        """Have what the store took over from a lost worker handed out again, but for what its last
        reports settle. `reached` is the first report of each worker that is not applied."""
        for worker, tail in list(self.lost.items()):
            if reached[worker] < tail:
                continue
            left = self._leases.take_back_taken_over(worker, tail)
            if worker in self.lost_by_fault:
                self._suspects.suspect(left, now_ns)
            else:
                self._store.release(left)
            del self.lost[worker]
            self.lost_by_fault.discard(worker)

    # ---- what is due -----------------------------------------------------------------------

    def feed(self, now_ns: int) -> tuple[int, bool]:
        """Hand out up to DELIVERIES of what is due; return when the next is, and whether there may
        be more now."""
        wake_ns, self._left = step_limits.NEVER_NS, step_limits.DELIVERIES
        given_up = False
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
            until_ns = self._endpoints.left_alone_until_ns(endpoint_id)
            if now_ns < until_ns:
                wake_ns = min(wake_ns, until_ns)
                continue
            try:
                endpoint = self._endpoints.get(endpoint_id)
                if endpoint is None:
                    dead = self._dead_letters.give_up(endpoint_id, now_ns, self._left)
                    self._left -= dead
                    given_up = given_up or dead > 0
                elif not endpoint.paused:
                    next_ns = self._feed_one(endpoint_id, endpoint, due_ns, now_ns)
                    wake_ns = min(wake_ns, next_ns)
            except StoreError:
                raise
            except Exception as e:
                self._endpoints.fault(endpoint_id, e, now_ns)
        return wake_ns, given_up or not self._left

    def _feed_one(self, endpoint_id: int, endpoint: Endpoint, due_ns: int, now_ns: int) -> int:
        """Hand out what is due for one endpoint; return when the next is."""
        if due_ns > now_ns:
            return due_ns
        room, again_ns = self.room(endpoint_id, endpoint, now_ns)
        if room <= 0:
            return again_ns
        assigned = self._endpoints.snapshot.assigned_worker(endpoint)
        if assigned in self.leaving or len(self.leaving) == len(self.inboxes):
            return now_ns + INBOX_BACKOFF_NS
        wake_ns, target = step_limits.NEVER_NS, struct.pack("<I", endpoint_id)
        leased = self._store.lease(endpoint_id, now_ns, min(room, self._left))
        self._left -= len(leased)
        try:
            while leased:
                worker = self.idlest() if assigned is None else assigned
                if not self._send(worker, target, leased[0], now_ns):
                    self._store.release([leased[0].delivery.id])
                    wake_ns = now_ns + INBOX_BACKOFF_NS
                del leased[0]
        finally:
            self._store.release([due.delivery.id for due in leased])
        front_ns = self._store.front_ns(endpoint_id)
        if front_ns is not None and front_ns > now_ns:
            wake_ns = min(wake_ns, front_ns)
        return wake_ns

    def room(self, endpoint_id: int, endpoint: Endpoint, now_ns: int) -> tuple[int, int]:
        """Return how many deliveries of an endpoint may go out, and if none, when to look again.

        A window, so that the many that wait for one endpoint do not fill the rings; one while it is
        probed.
        """
        out = self._store.leased(endpoint_id)
        state = self._words.breaker(endpoint_id)
        if state.name == "closed":
            freely = self._leases.sent_in_all < OUT_FREELY
            at_a_time = endpoint.concurrency * (endpoint.batch.max_events or 1)
            return at_a_time * (AHEAD if freely else 1) - out, step_limits.NEVER_NS
        until_ns = breaker.held_until_ns(state, endpoint.circuit_breaker, now_ns)
        if until_ns is not None:
            return 0, until_ns
        return 1 - out, now_ns + PROBE_LOOK_NS

    def held_until_ns(self, endpoint_id: int, endpoint: Endpoint, now_ns: int) -> int | None:
        """Return until when an open breaker lets nothing go; None where a request may go now."""
        try:
            state = self._words.breaker(endpoint_id)
        except IllegalMove:  # of a damaged word, which a worker's next permit would name
            return None
        return breaker.held_until_ns(state, endpoint.circuit_breaker, now_ns)

    def hurry(
        self,
        endpoint_id: int,
        delivery_ids: Collection[int],
        now_ns: int,
        record: RecordRows = unrecorded,
    ) -> int:
        """Make those of an endpoint's deliveries due now that wait for their time; return how many
        these were. What is with a worker, or is tried by itself as a suspect, is left alone."""
        found = map(self._store.delivery, dict.fromkeys(delivery_ids))
        early = [
            row
            for row in found
            if row is not None
            and row.endpoint == endpoint_id
            and row.state == State.WAITING
            and row.due_ns > now_ns
            and row.cause != "suspect"
            and not self._store.is_leased(row.id)
        ]
        if not early:
            return 0
        record(early)
        with self._store.transaction() as transaction:
            for row in early:
                before = life.DeliveryStatus("waiting", row.attempts, row.due_ns)
                after = life.step(before, "hurry", now_ns, retry=None, attempted=False)
                transaction.reschedule(transaction.copy(row), after.due_ns, row.cause, row.error)
        return len(early)

    def idlest(self) -> int:
        """Return the worker with the fewest deliveries out."""
        if len(self.inboxes) == 1:
            return 0
        there = (worker for worker in range(len(self.inboxes)) if worker not in self.leaving)
        return min(there, key=lambda worker: len(self._leases.sent[worker]))

    def _send(self, worker: int, target: bytes, due: Due, now_ns: int) -> bool:
        """Put a delivery into a worker's inbox; False if it is full."""
        row, body = due
        fresh = not was_answered(row.cause)
        suspect = row.cause == "suspect"
        due_head = DueHead(
            row.id, row.attempts, row.accepted_ns, row.event.encode(), fresh, suspect
        )
        head = _encode_due(due_head)
        result = self.inboxes[worker].put(target, head, body)
        if result == TOO_LARGE:
            self._dead_letters.give_up_too_large(row, now_ns)
        elif result != FULL:
            self._leases.sent[worker].add(row.id)
        return result != FULL


def _empty(inbox: str) -> None:
    """Take everything out of an inbox: its rows are in the store and will be handed out again."""
    consumer = Consumer(inbox)
    consumer.rewind()
    while taken := consumer.take(step_limits.DELIVERIES):
        for record in taken:
            record.settle()
    consumer.close()
