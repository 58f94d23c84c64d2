"""What becomes of a request that is over: settled in its ring, or reported to the keeper.

A batch is one request to breaker and rate limit, and to the histogram of latencies; but each of its
events is settled, counted and reported by itself. A batch that is refused for its content is no attempt
of its events: it goes out again in two halves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from fluxhook._native.ring import Counters, Delivery, Words, settle_fresh
from fluxhook.policy.batch import halves, read_answers
from fluxhook.policy.outcome import Outcome
from fluxhook.transport import datadir as field
from fluxhook.transport.curl import RESENT_US, STATUS, TOTAL_US, Sender, Slot
from fluxhook.transport.process import described, log, traced
from fluxhook.transport.records import Attempt
from fluxhook.worker.admission import Gate
from fluxhook.worker.endpoint_queue import Lane, event_id
from fluxhook.worker.reporter import Reporter
from fluxhook.worker.stage_timings import Stages

__all__ = ["Results"]

MULTI_STATUS, CONTENT_TOO_LARGE = 207, 413
#: the log has at most one error of ours for each endpoint in this time
TELL_NS = 10_000_000_000


class Results:
    """Settles requests. `resume` is told of a lane that has room again, `park` to hand over the queue
    of one whose order has gone to the store, `again` to send what was taken for a request once more,
    `recount` that an error left in doubt what a lane has under way.

    An error in the work for one endpoint ends here, as an attempt with the cause `internal`."""

    def __init__(
        self,
        words: Words,
        counters: Counters,
        stages: Stages,
        reporter: Reporter,
        worker: int,
        *,
        resume: Callable[[Lane], None],
        park: Callable[[Lane, str], object],
        again: Callable[[Lane, list[Delivery]], None],
        recount: Callable[[Lane], None],
    ) -> None:
        self._words = words
        self._gate = Gate(words)
        self._counters = counters
        self._stages = stages
        self._reporter = reporter
        self._worker = worker
        self._resume = resume
        self._park = park
        self._again = again
        self._recount = recount
        self._unsampled = 0
        self._told_ns: dict[int, int] = {}

    def take(self, sender: Sender, finished: list[tuple[Slot, int, str]], now_ns: int) -> None:
        """Settles what the sender finished, and gives the slots back."""
        counters, words = self._counters, self._words
        observe, release, load = counters.observe, sender.release, words.load
        unsampled = self._unsampled
        for slot, code, message in finished:
            lane, what, probe = slot.tag
            try:
                info = slot.getinfo
                status = info(STATUS)
                if info(RESENT_US):
                    counters.add(lane.id, field.RESENT)
                unsampled += 1
                if slot.opened or unsampled >= field.SAMPLED_ONE_IN:
                    unsampled = 0
                    self._stages.finished(lane, slot)
                    if 200 <= status <= 299:
                        lane.sender.heed(lane.target, False)
                if type(what) is list:
                    lane.end(what)
                    self._end_batch(lane, what, probe, slot, status, code, message, now_ns)
                elif 200 <= status <= 299:
                    observe(lane.id, field.HISTOGRAM, info(TOTAL_US))
                    if load(lane.id, field.BREAKER):
                        self._gate.success(lane, now_ns, probe)
                    if lane.ends_plainly and what.id == 0:
                        lane.in_flight -= 1
                        lane.done += 1
                        what.settle(counters, field.DELIVERED)
                    else:
                        lane.end((what,))
                        self._succeed(lane, (what,), slot)
                else:
                    lane.end((what,))
                    self._fail(lane, (what,), probe, slot, status, code, message, now_ns)
            except Exception as e:
                slot.tag = None
                self._recount(lane)
                self.fault(lane, what if type(what) is list else [what], e, now_ns, probe)
            if lane.held:
                self._resume(lane)
            release(slot)
        self._unsampled = unsampled

    def fault(
        self,
        lane: Lane,
        deliveries: Sequence[Delivery],
        error: Exception,
        now_ns: int,
        probe: int = 0,
    ) -> None:
        """Record an attempt that an error of ours ended, for each delivery that has not ended itself.

        Where not even that can be done, a delivery stays in its ring for the worker that comes next.
        """
        text = described(error)
        if not 0 <= now_ns - self._told_ns.get(lane.id, 0) < TELL_NS:
            self._told_ns[lane.id] = now_ns
            log.error(
                "endpoint %s: an attempt ended with an error of ours:\n%s",
                lane.endpoint.name,
                traced(error),
            )
        attempt = Attempt(now_ns, 0, "internal", text, worker=self._worker)
        for delivery in deliveries:
            if delivery.in_ring or delivery.id:
                try:
                    self._report(lane, (delivery,), lane.outcome(0, "internal"), attempt)
                except Exception:
                    log.error("endpoint %s: an event stays in its ring", lane.endpoint.name)
        self._gate.release(lane, now_ns, probe)

    def _succeed(self, lane: Lane, deliveries: Sequence[Delivery], slot: Slot) -> None:
        if lane.endpoint.record != "all":
            deliveries = settle_fresh(deliveries, self._counters, field.DELIVERED)
        if deliveries:
            attempt = slot.attempt("delivered", "", self._worker)
            for delivery in deliveries:
                self._reporter.report(delivery, "delivered", "delivered", attempt)

    def _fail(
        self,
        lane: Lane,
        deliveries: Sequence[Delivery],
        probe: int,
        slot: Slot,
        status: int,
        code: int,
        message: str,
        now_ns: int,
    ) -> None:
        """The request failed, and all that was in it."""
        status, cause, message = slot.failure(code, message)
        outcome = lane.outcome(status, cause)
        self._counters.add(lane.id, field.FAILED_REQUESTS)
        if status:
            lane.sender.heed(lane.target, True)
        if outcome.breaker == "failure":
            self._gate.failure(lane, now_ns, probe)
        else:
            self._gate.release(lane, now_ns, probe)
        attempt = slot.attempt(outcome.cause, message, self._worker, status)
        self._report(lane, deliveries, outcome, attempt)

    def _report(
        self, lane: Lane, deliveries: Sequence[Delivery], outcome: Outcome, attempt: Attempt
    ) -> None:
        """One failed attempt of each."""
        counters, count = self._counters, len(deliveries)
        counters.add(lane.id, field.FAILED, count)
        if outcome.cause == "internal":
            counters.add(lane.id, field.FAULTS, count)
        if outcome.rejection == "signature":
            counters.add(lane.id, field.SIGNATURE_REJECTED, count)
        elif outcome.rejection == "size":
            counters.add(lane.id, field.SIZE_REJECTED, count)
        for delivery in deliveries:
            sequence = self._reporter.report(delivery, outcome.verdict, outcome.cause, attempt)
            if lane.blocks and outcome.verdict == "retry":
                lane.handed_over = sequence
                self._park(lane, "order")

    # ---- batches ---------------------------------------------------------------------------

    def _end_batch(
        self,
        lane: Lane,
        deliveries: list[Delivery],
        probe: int,
        slot: Slot,
        status: int,
        code: int,
        message: str,
        now_ns: int,
    ) -> None:
        if parts := halves(status, len(deliveries)):
            self._halve(lane, deliveries, parts[0], probe, status, now_ns)
            return
        if not 200 <= status <= 299:
            self._fail(lane, deliveries, probe, slot, status, code, message, now_ns)
            return
        self._counters.observe(lane.id, field.HISTOGRAM, slot.getinfo(TOTAL_US))
        if status == MULTI_STATUS:
            self._end_each(lane, deliveries, probe, slot, now_ns)
            return
        self._gate.success(lane, now_ns, probe)
        self._succeed(lane, deliveries, slot)

    def _halve(
        self,
        lane: Lane,
        deliveries: list[Delivery],
        first: int,
        probe: int,
        status: int,
        now_ns: int,
    ) -> None:
        """The breaker waits for what the events come to, however many requests it takes to find out."""
        self._counters.add(lane.id, field.FAILED_REQUESTS)
        self._gate.release(lane, now_ns, probe)
        if status == CONTENT_TOO_LARGE:
            lane.shrink_batches(deliveries, now_ns)
        self._again(lane, deliveries[first:])
        self._again(lane, deliveries[:first])

    def _end_each(
        self, lane: Lane, deliveries: list[Delivery], probe: int, slot: Slot, now_ns: int
    ) -> None:
        """Each event by its own status. To the breaker the request is a success if one event was."""
        silent = "the 207 answer does not name the event"
        try:
            statuses = read_answers(b"".join(slot.answer))
        except ValueError as e:
            statuses, silent = {}, str(e)
        attempt = slot.attempt("delivered", "", self._worker)
        outcomes: list[Outcome] = []
        for delivery in deliveries:
            status = statuses.get(event_id(delivery), 0)
            outcome = lane.outcome(status, None if status else "protocol")
            outcomes.append(outcome)
            if outcome.verdict == "delivered":
                self._succeed(lane, (delivery,), slot)
                continue
            own = msgspec.structs.replace(
                attempt,
                status=status or MULTI_STATUS,
                cause=outcome.cause,
                error="" if status else silent,
            )
            self._report(lane, (delivery,), outcome, own)
        views = {outcome.breaker for outcome in outcomes}
        if "success" in views:
            self._gate.success(lane, now_ns, probe)
        elif "failure" in views:
            self._gate.failure(lane, now_ns, probe)
        else:
            self._gate.release(lane, now_ns, probe)
