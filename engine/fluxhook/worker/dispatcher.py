"""What a worker does with a delivery: queue it, send it, settle it, or give it to the store.

A delivery that succeeds at once never leaves the ring. Any other is handed over to the scheduler, by a
report that makes its place in the ring free again:

    the endpoint is paused, or its breaker open     deferred
    it cannot be built                              deferred: its state is misconfigured
    its queue is slow and full                      deferred: one endpoint's trouble stays its own
    held up while the ring runs full                deferred, or taken over if it is under way
    its endpoint aggregates its type                aggregated
    it succeeded, and its endpoint records all      delivered
    the attempt failed                              retry or dead

What finished requests come to is in `results`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from fluxhook._native.ring import RingDelivery
from fluxhook._native.shared import Counters, Words
from fluxhook.config.schema import Endpoint
from fluxhook.logs.log import Log, described
from fluxhook.policy import breaker
from fluxhook.transport import datadir as field
from fluxhook.transport.build import build
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.messages import DEFERRED, SUSPECT_NS, TAKEN_OVER, DueHead, Verdict
from fluxhook.worker.admission import Admission
from fluxhook.worker.endpoint_queue import Backlog, EndpointQueue, traceparent_of
from fluxhook.worker.idle_gauge import IdleGauge
from fluxhook.worker.reporter import Reporter
from fluxhook.worker.results import Results
from fluxhook.worker.senders import Finished, Senders
from fluxhook.worker.stage_timings import StageTimings

__all__ = ["Dispatcher"]

log = Log("worker")

#: deliveries that wait at hand before no more are taken, slow queues' aside
BACKLOG = 1024
#: the same while the outbox is full; arbitrary, as many as there may be reports that wait
STUCK_BACKLOG = 16_384
#: what a worker has held for this long leaves a ring that it keeps from use; the second where it is the
#: worker that is short of CPU
HELD_UP_NS, HELD_UP_BUSY_NS = 10_000_000, 200_000_000
#: and for this long, a ring that is over half full of whatever
HELD_LONG_NS = 1_000_000_000
#: what the scheduler sends for an endpoint to which nothing is sent comes back after this long
DEFER_NS = 1_000_000_000

_decode_due = msgspec.msgpack.Decoder(DueHead).decode


class Dispatcher:
    """The queues of one worker and the requests under way."""

    def __init__(
        self,
        words: Words,
        counters: Counters,
        stages: StageTimings,
        reporter: Reporter,
        worker: int,
        judge: Callable[[str], str | None],
        clock: EngineClock,
    ) -> None:
        self.queues: dict[int, EndpointQueue] = {}
        self.senders = Senders(judge)
        self._clock = clock
        self._words = words
        self._admission = Admission(words)
        self._counters = counters
        self._timings = stages
        self._reporter = reporter
        #: what comes of requests
        self.results = Results(
            words,
            self._admission,
            counters,
            stages,
            reporter,
            worker,
            defer=self._defer_all,
            again=self._put_back,
            recount=self._recount,
        )
        self._backlog = Backlog()
        #: deliveries of the store, which do not go out while the outbox is full
        self._aside: list[RingDelivery] = []
        #: requests since the last one that is a sample (datadir.SAMPLED_ONE_IN)
        self._unsampled = 0
        self._gauge = IdleGauge()
        self.backlog_limit = BACKLOG
        #: batches do not wait to be filled any more
        self.draining = False

    # ---- configuration ---------------------------------------------------------------------

    def configure(
        self,
        endpoint_id: int,
        endpoint: Endpoint,
        limit: int,
        *,
        misconfigured: bool = False,
        files: int = 0,
    ) -> None:
        """Add a queue, or change one; what waits and what is under way stays.

        `misconfigured`: the supervisor found that it cannot be built. `files` changes with the files
        that the endpoint names.
        """
        queue = self.queues.get(endpoint_id)
        if queue is None:
            queue = self.queues[endpoint_id] = EndpointQueue(endpoint_id, self._backlog)
            # What an earlier worker handed over may not have reached the store yet.
            queue.handed_over = self._reporter.outbox.tail - 1
        elif (
            queue.endpoint == endpoint
            and queue.limit == limit
            and queue.files == files
            and (queue.defers == "misconfigured") == misconfigured
        ):
            return
        built, sender = None, self.senders.main
        if not misconfigured:
            try:
                built = build(endpoint)
                sender = self.senders.get(built.tls)
            except Exception as e:
                # The supervisor could build it: a file went in between.
                built = None
                self._tell_unbuilt(endpoint_id, endpoint, e)
        queue.configure(endpoint, limit, sender, built, files)
        queue.make_ready()
        if queue.defers:
            self._defer_all(queue, queue.defers)

    def _tell_unbuilt(self, endpoint_id: int, endpoint: Endpoint, error: Exception) -> None:
        """Have the supervisor hold the endpoint, for a while and in every worker."""
        log.error(
            "endpoint %s cannot be sent to: %s", endpoint.name, described(error),
            event="endpoint_unbuilt", endpoint=endpoint.name,
        )  # fmt: skip
        self._words.store(endpoint_id, field.UNBUILT, 1)

    def carry_traces(self) -> None:
        """Look from now on for the trace context of what is sent: there may be some."""
        self._backlog.carries_traces = True
        for queue in self.queues.values():
            queue.carry_traces()

    def retire_senders(self) -> None:
        """Close the senders that no queue uses. To be called when all queues are configured."""
        self.senders.retire(queue.sender for queue in self.queues.values())

    def remove(self, endpoint_id: int) -> None:
        """End a queue; what waits in it is dead, what is under way is settled by its result."""
        queue = self.queues.pop(endpoint_id)
        self._defer_all(queue, "removed", verdict="dead")

    # ---- arrival ---------------------------------------------------------------------------

    @property
    def backlog_full(self) -> bool:
        if self._reporter.stuck:
            return self._backlog.count >= STUCK_BACKLOG or self._reporter.overfull
        return self._backlog.count >= self.backlog_limit

    @property
    def idle(self) -> bool:
        """Return whether nothing waits and nothing is under way."""
        waits = self._backlog.ready or self._backlog.full or self._aside
        return not (waits or self.senders.in_flight or self._reporter.stuck)

    def wants_more(self, now_ns: int) -> bool:
        """Return whether the worker should take more records. Under a full backlog slow queues are
        found out, and what is too much in them goes to the store."""
        if self._reporter.stuck:  # no queue can leave what is too much to the store
            return not self.backlog_full
        backlog = self._backlog
        if backlog.count >= self.backlog_limit and self._gauge.idle(now_ns):
            for queue in backlog.queues():
                # A short queue is not what fills the backlog.
                long = 4 * len(queue.waiting) >= self.backlog_limit
                if long and queue.turns_slow(now_ns):
                    # It keeps the little that it can send soon.
                    self._spill(queue, keep=queue.slow_limit)
        return backlog.count < self.backlog_limit

    def arrive(self, deliveries: list[RingDelivery], now_ns: int) -> None:
        """Queue what comes from the publishers' rings."""
        queue: EndpointQueue | None = None
        append: Callable[[RingDelivery], None] | None = None  # to a queue that need not be asked
        last, asked = -1, 0
        for delivery in deliveries:
            delivery.taken_ns = now_ns
            id = delivery.endpoint
            if id != last:  # neighbours are often for the same one
                last = id
                queue = self.queues.get(id)
                append = None if queue is None else queue.plain_append()
            if append is not None:
                append(delivery)
            else:
                asked += 1
                try:
                    self._arrive(queue, delivery)
                except Exception as e:
                    self._fault(queue, delivery, e, now_ns)
        self._backlog.count += len(deliveries) - asked

    def _arrive(self, queue: EndpointQueue | None, delivery: RingDelivery) -> None:
        if queue is None:
            self._reporter.report(delivery, "dead", "removed")
        elif queue.aggregating and queue.gathers(delivery):
            self._reporter.report(delivery, "aggregated", "")
        elif queue.defers:
            self._hand_over(queue, delivery, DEFERRED, queue.defers)
        elif queue.blocks and self._diverted(queue):
            self._hand_over(queue, delivery, DEFERRED, "order")
        else:
            self._enqueue(queue, delivery)

    def arrive_due(self, delivery: RingDelivery, now_ns: int) -> None:
        """Queue a delivery that the scheduler sent: its head is a DueHead."""
        due = self._take_head(delivery, now_ns)
        if due is None:
            return
        queue = self.queues.get(delivery.endpoint)
        self._arrive_due(queue, delivery, due.fresh, now_ns)

    def _arrive_due(
        self, queue: EndpointQueue | None, delivery: RingDelivery, fresh: bool, now_ns: int
    ) -> None:
        """Queue the delivery; `fresh`: its next attempt is to go over a new connection."""
        try:
            if queue is None:
                self._reporter.report(delivery, "dead", "removed")
            elif queue.defers:
                self._hand_over(queue, delivery, DEFERRED, queue.defers, now_ns + DEFER_NS)
            else:
                if fresh:
                    queue.sender.distrust(queue.target)
                self._enqueue(queue, delivery)
        except Exception as e:
            self._fault(queue, delivery, e, now_ns)

    def _take_head(self, delivery: RingDelivery, now_ns: int) -> DueHead | None:
        """Have a delivery say what its head says of it."""
        try:
            due = _decode_due(delivery.event)
        except msgspec.MsgspecError as e:
            log.error("what the scheduler sent cannot be read, it comes again: %s", described(e))
            return None
        delivery.id = due.delivery_id
        delivery.attempts = due.attempts
        delivery.accepted_ns = due.accepted_ns
        delivery.event = due.event
        delivery.taken_ns = now_ns
        return due

    def _enqueue(self, queue: EndpointQueue, delivery: RingDelivery) -> None:
        if queue.over_share and delivery.id == 0:
            self._hand_over(queue, delivery, DEFERRED, "over_share")
        else:
            queue.add(delivery)

    def _diverted(self, queue: EndpointQueue) -> bool:
        """Return whether the order of a blocking queue lives in the store now. The scheduler stores its
        word before it releases the report, so one of the two is always to be seen."""
        return (
            self._words.load(queue.id, field.STORED) > 0
            or queue.handed_over >= self._reporter.outbox.head
        )

    # ---- leaving for the store -------------------------------------------------------------

    def _hand_over(
        self,
        queue: EndpointQueue,
        delivery: RingDelivery,
        verdict: Verdict,
        cause: str,
        not_before_ns: int = 0,
    ) -> None:
        queue.handed_over = self._reporter.report(
            delivery, verdict, cause, not_before_ns=not_before_ns
        )

    def _defer_all(
        self, queue: EndpointQueue, cause: str, not_before_ns: int = 0, verdict: Verdict = DEFERRED
    ) -> int:
        """Hand the whole queue over, in its order; return how many that were.

        Where order matters, what is under way goes first: the order lives in one place at a time.
        """
        if queue.blocks:
            for delivery in queue.under_way():
                if delivery.id == 0:
                    self._hand_over(queue, delivery, TAKEN_OVER, cause)
        count = len(queue.waiting)
        while queue.waiting:
            self._hand_over(queue, queue.pop(), verdict, cause, not_before_ns)
        queue.emptied()
        return count

    def _spill(self, queue: EndpointQueue, *, keep: int) -> None:
        """Hand over what a publisher's ring has in the queue, but for the first `keep`."""
        if queue.blocks:  # its order allows all or nothing
            self._defer_all(queue, "over_share")
        else:
            for delivery in queue.cut(keep):
                self._hand_over(queue, delivery, DEFERRED, "over_share")

    def relieve(self, now_ns: int, *, urgent: bool) -> None:
        """Empty rings of what is held up: under way for long, or in a queue that does not move. It
        goes on here; only its keeping changes. `urgent`: it is what was taken that fills a ring."""
        if self._reporter.stuck:  # nothing can leave, and what is under way may need no store
            return
        if not urgent:
            age_ns = HELD_LONG_NS
        elif self._gauge.idle(now_ns):
            age_ns = HELD_UP_NS
        else:
            age_ns = HELD_UP_BUSY_NS
        before_ns = now_ns - age_ns
        for queue, what, *_ in self.senders.tags():
            for delivery in what if type(what) is list else (what,):
                if delivery.in_ring and delivery.id == 0 and delivery.taken_ns < before_ns:
                    if queue.blocks:
                        self._defer_all(queue, "over_share")
                    else:
                        self._hand_over(queue, delivery, TAKEN_OVER, "over_share")
        for queue in self._backlog.queues():
            if queue.waiting[0].taken_ns < before_ns:
                if queue.batching and not queue.full:
                    queue.hurry()  # it waits for company alone
                else:
                    self._spill(queue, keep=0)

    # ---- sending ---------------------------------------------------------------------------

    def send(self, now_ns: int) -> int:
        """Start what may go now. Return when more may go without anything else happening, because a
        rate limit or a batch waits for its time; 0 if none does."""
        wake_ns = 0
        load = self._words.load
        queues = list(self._backlog.ready.values())
        if self._reporter.stuck:
            queues = self._without_store(queues)
        elif self._aside:
            queues = self._with_aside(now_ns)
        now_s = int(time.time()) if queues else 0  # what a receiver compares with its own clock
        for queue in queues:
            try:
                if queue.blocked_until_ns > now_ns:
                    wake_ns = min(wake_ns or queue.blocked_until_ns, queue.blocked_until_ns)
                    continue
                room = queue.limit - queue.in_flight
                if room <= 0:
                    queue.fill()
                    continue
                sender = queue.sender
                # Half of what is left: many queues that hang never take the last handles together.
                quota = (sender.size - sender.in_flight + 1) // 2
                if quota > room:
                    quota = room
                if quota <= 0:
                    continue
                # Below that it is the number of failures of a closed breaker (policy/breaker.py).
                troubled = load(queue.id, field.BREAKER) >= queue.failure_threshold
                if queue.sends_plainly and not troubled:
                    self._send_plain(queue, quota, now_ns, now_s)
                    continue
                if until_ns := self._send_judged(queue, quota, troubled, now_ns, now_s):
                    wake_ns = min(wake_ns or until_ns, until_ns)
                if not queue.waiting:
                    queue.emptied()
            except Exception as e:
                self._withdraw(queue, e, now_ns)
        self.senders.start()
        return wake_ns

    def _without_store(self, queues: list[EndpointQueue]) -> list[EndpointQueue]:
        """Return, while the outbox is full, the queues whose deliveries can end without the store.
        What cannot would be sent again if this worker died before there is room for its report."""
        for queue in self._backlog.queues():
            self._aside += queue.take_stored()
        return [queue for queue in queues if queue.waiting and queue.endpoint.record != "all"]

    def _with_aside(self, now_ns: int) -> list[EndpointQueue]:
        """Return the queues, in which waits again what was set aside: the outbox has room."""
        aside, self._aside = self._aside, []
        for delivery in aside:
            self._arrive_due(self.queues.get(delivery.endpoint), delivery, False, now_ns)
        return list(self._backlog.ready.values())

    def _send_plain(self, queue: EndpointQueue, quota: int, now_ns: int, now_s: int) -> None:
        """Send from a queue of which nothing is to be asked."""
        waiting, send, target, request = (
            queue.waiting,
            queue.sender.send,
            queue.target,
            queue.request,
        )
        before, failed = len(waiting), 0
        unsampled = self._unsampled
        try:
            for _ in range(min(quota, before)):
                delivery = waiting.popleft()
                unsampled += 1
                try:
                    if sampled := unsampled >= field.SAMPLED_ONE_IN:
                        unsampled = 0
                        headers, body = self._timings.make(queue, [delivery], now_ns, now_s)
                    else:
                        headers, body = request(delivery, now_s)
                    send(target, headers, body, (queue, delivery, 0, sampled), now_ns)
                except Exception as e:
                    failed += 1
                    self._fault(queue, delivery, e, now_ns)
        finally:
            self._unsampled = unsampled
            taken = before - len(waiting)
            queue.begin_plainly(taken, taken - failed)

    def _send_judged(
        self, queue: EndpointQueue, quota: int, troubled: bool, now_ns: int, now_s: int
    ) -> int:
        """Send what breaker, order, rate limit, age, size and batching let go. Return when more may
        go, or 0."""
        if queue.batching and not self._batch_due(queue, now_ns):
            return queue.batch_until_ns
        probe = until_ns = 0
        taken: list[RingDelivery] | None = None
        if troubled:
            action = self._admission.permit(queue, now_ns)
            if isinstance(action, breaker.Hold):
                skipped = self._defer_all(queue, "breaker_open", action.until_ns)
                self._counters.add(queue.id, field.SKIPPED, skipped)
                return 0
            if isinstance(action, breaker.Probe):
                probe, quota = action.token, 1
                # The failures may have been other workers', and connections kept here as dead.
                queue.sender.distrust(queue.target)
        while quota > 0 and (taken := self._next(queue, now_ns)) is not None:
            if not taken:
                continue
            if queue.endpoint.rate_limit and (wait_ns := self._admission.admit(queue, now_ns)):
                self._put_back(queue, taken)
                queue.blocked_until_ns = until_ns = now_ns + wait_ns
                break
            self._unsampled += 1
            try:
                if sampled := self._unsampled >= field.SAMPLED_ONE_IN:
                    self._unsampled = 0
                    headers, body = self._timings.make(queue, taken, now_ns, now_s)
                else:
                    headers, body = queue.request_for(taken, now_s)
                queue.begin(taken)
                tag = (queue, taken if queue.batching else taken[0], probe, sampled)
                queue.sender.send(queue.target, headers, body, tag, now_ns)
            except Exception as e:
                self._recount(queue)
                self.results.fault(queue, taken, e, now_ns, probe)
            quota -= 1
            probe = 0
        if probe:
            self._admission.release(queue, now_ns, probe)
        if queue.batching and queue.waiting and quota > 0 and not until_ns:
            until_ns = queue.batch_until_ns
        return until_ns

    def _put_back(self, queue: EndpointQueue, taken: list[RingDelivery]) -> None:
        """Have what was taken for one request go out next, unless it may not go at all any more."""
        if self.queues.get(queue.id) is not queue:
            for delivery in taken:
                self._reporter.report(delivery, "dead", "removed")
        elif queue.defers:
            for delivery in taken:
                self._hand_over(queue, delivery, DEFERRED, queue.defers)
        else:
            queue.put_back(taken)

    def _batch_due(self, queue: EndpointQueue, now_ns: int) -> bool:
        """Return whether a batch goes out now. While the backlog is full, what is to come does not."""
        return self.draining or self.backlog_full or queue.batch_due(now_ns)

    def _next(self, queue: EndpointQueue, now_ns: int) -> list[RingDelivery] | None:
        """Take what the next request of the queue sends, without what is not to be attempted; None if
        nothing may go."""
        if queue.batching:
            taken = queue.next_batch() if self._batch_due(queue, now_ns) else []
        else:
            delivery = queue.next()
            taken = [] if delivery is None else [delivery]
        if not taken:
            return None
        if queue.ttl_ns or queue.max_payload:
            try:
                taken = [d for d in taken if not self._disposed(queue, d, now_ns)]
            except Exception as e:
                self.results.fault(queue, taken, e, now_ns)
                return []
        return taken

    def _disposed(self, queue: EndpointQueue, delivery: RingDelivery, now_ns: int) -> bool:
        """Settle a delivery that is not to be attempted at all."""
        if queue.ttl_ns and self._clock.surely_older(delivery.accepted_ns, queue.ttl_ns, now_ns):
            if delivery.id == 0:
                delivery.settle(self._counters, field.DROPPED_EXPIRED)
            else:
                self._hand_over(queue, delivery, "dropped", "expired")
            return True
        if queue.max_payload and len(delivery.body) > queue.max_payload:
            self._counters.add(queue.id, field.SIZE_REJECTED)
            self._hand_over(queue, delivery, "dead", "payload_too_large")
            return True
        return False

    def abandon(self) -> None:
        """Forget what waits and was not begun: it stays where it is, for the worker that follows."""
        for queue in self._backlog.queues():
            queue.clear()
        self._aside.clear()

    def suspect(self, fresh: list[RingDelivery], due: list[RingDelivery], now_ns: int) -> None:
        """Hand to the store what the worker before had at hand when it ended by a fault of its own.

        The scheduler has each tried by itself. One that was, and at which a worker ended again, is the
        cause, and a dead letter.
        """
        for delivery in fresh:
            queue = self.queues.get(delivery.endpoint)
            try:
                if queue is None or (queue.aggregating and queue.gathers(delivery)):
                    self._arrive(queue, delivery)
                else:
                    self._hand_over(queue, delivery, DEFERRED, "suspect", now_ns + SUSPECT_NS)
            except Exception as e:
                self._fault(queue, delivery, e, now_ns)
        heads = [(delivery, self._take_head(delivery, now_ns)) for delivery in due]
        tried = [delivery for delivery, head in heads if head is not None and head.suspect]
        for delivery, head in heads:
            if head is None:
                continue
            if tried == [delivery]:
                log.error(
                    "two workers ended at delivery %d: it is a dead letter", delivery.id,
                    event="poison", delivery=delivery.id, cause="poison",
                    traceparent=traceparent_of(delivery),
                )  # fmt: skip
                self._reporter.report(delivery, "dead", "poison")
            else:
                self._reporter.report(
                    delivery, DEFERRED, "suspect", not_before_ns=now_ns + SUSPECT_NS
                )

    # ---- errors of ours --------------------------------------------------------------------

    def _fault(
        self, queue: EndpointQueue | None, delivery: RingDelivery, error: Exception, now_ns: int
    ) -> None:
        if queue is None:  # it is to be a dead letter; the next worker tries that again
            log.error("an event stays in its ring: %s", described(error))
        else:
            self.results.fault(queue, [delivery], error, now_ns)

    def _recount(self, queue: EndpointQueue) -> None:
        queue.recount([what for owner, what, *_ in self.senders.tags() if owner is queue])

    def _withdraw(self, queue: EndpointQueue, error: Exception, now_ns: int) -> None:
        """Send nothing more, and hand what waits to the store, after an error that no delivery is
        known to be the cause of."""
        self._tell_unbuilt(queue.id, queue.endpoint, error)
        queue.suspend()
        try:
            self._defer_all(queue, queue.defers, now_ns + DEFER_NS)
            self._recount(queue)
        except Exception as e:
            log.error(
                "endpoint %s: events stay in their rings: %s", queue.endpoint.name, described(e),
                endpoint=queue.endpoint.name,
            )  # fmt: skip
            queue.clear()

    # ---- results ---------------------------------------------------------------------------

    def collect(self, finished: list[Finished], now_ns: int) -> None:
        """Settle the requests that the main sender finished, and those of the others."""
        for sender, done in self.senders.collect(finished):
            self.results.take(sender, done, now_ns)
