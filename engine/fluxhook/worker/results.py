"""What becomes of a request that is over: settled in its ring, or reported to the scheduler.

A batch is one request to breaker and rate limit, and to the histogram of latencies; but each of its
events is settled, counted and reported by itself. A batch that is refused for its content is no attempt
of its events: it goes out again in two halves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from fluxhook._native.ring import RingDelivery, settle_fresh
from fluxhook._native.shared import Counters, Words
from fluxhook.logs.log import Log, described
from fluxhook.policy.batch import halves, read_answers
from fluxhook.policy.outcome import Outcome
from fluxhook.transport import datadir as field
from fluxhook.transport.messages import Attempt
from fluxhook.transport.sender import Sender
from fluxhook.transport.transfer import RESENT_US, STATUS, TOTAL_US, Transfer
from fluxhook.worker.admission import Admission
from fluxhook.worker.endpoint_queue import EndpointQueue, event_id, traceparent_of
from fluxhook.worker.reporter import Reporter
from fluxhook.worker.stage_timings import StageTimings

__all__ = ["Results"]

log = Log("worker")

MULTI_STATUS, CONTENT_TOO_LARGE = 207, 413
#: the log has at most one error of ours for each endpoint in this time
TELL_NS = 10_000_000_000


class Results:
    """Settles requests.

    `defer` hands over a queue whose order has gone to the store, `again` sends what was taken for a
    request once more, `recount` finds out what a queue has under way where an error left it in doubt.

    An error in the work for one endpoint ends here, as an attempt with the cause `internal`."""

    def __init__(
        self,
        words: Words,
        admission: Admission,
        counters: Counters,
        stages: StageTimings,
        reporter: Reporter,
        worker: int,
        *,
        defer: Callable[[EndpointQueue, str], object],
        again: Callable[[EndpointQueue, list[RingDelivery]], None],
        recount: Callable[[EndpointQueue], None],
    ) -> None:
        self._words = words
        self._admission = admission
        self._counters = counters
        self._timings = stages
        self._reporter = reporter
        self._worker = worker
        self._defer = defer
        self._again = again
        self._recount = recount
        self._told_ns: dict[int, int] = {}

    def take(self, sender: Sender, finished: list[tuple[Transfer, int, str]], now_ns: int) -> None:
        """Settle what the sender finished, and give the transfers back."""
        counters, words = self._counters, self._words
        observe, release, load = counters.observe, sender.release, words.load
        for transfer, code, message in finished:
            queue, what, probe, sampled = transfer.tag
            try:
                info = transfer.getinfo
                status = info(STATUS)
                if info(RESENT_US):
                    counters.add(queue.id, field.RESENT)
                if sampled or transfer.opened:
                    self._timings.finished(queue, transfer)
                    if 200 <= status <= 299:
                        queue.sender.heed(queue.target, False)
                if type(what) is list:
                    queue.end(what)
                    self._end_batch(queue, what, probe, transfer, status, code, message, now_ns)
                elif 200 <= status <= 299:
                    observe(queue.id, field.HISTOGRAM, info(TOTAL_US))
                    if load(queue.id, field.BREAKER):
                        self._admission.success(queue, now_ns, probe)
                    if queue.ends_plainly and what.id == 0:
                        queue.in_flight -= 1
                        queue.done += 1
                        what.settle(counters, field.DELIVERED)
                    else:
                        queue.end((what,))
                        self._succeed(queue, (what,), transfer)
                else:
                    queue.end((what,))
                    self._fail(queue, (what,), probe, transfer, status, code, message, now_ns)
            except Exception as e:
                transfer.tag = None
                self._recount(queue)
                self.fault(queue, what if type(what) is list else [what], e, now_ns, probe)
            if queue.full:
                queue.make_ready()
            release(transfer)

    def fault(
        self,
        queue: EndpointQueue,
        deliveries: Sequence[RingDelivery],
        error: Exception,
        now_ns: int,
        probe: int = 0,
    ) -> None:
        """Record an attempt that an error of ours ended, for each delivery that has not ended itself.

        Where not even that can be done, a delivery stays in its ring for the worker that comes next.
        """
        text = described(error)
        if not 0 <= now_ns - self._told_ns.get(queue.id, 0) < TELL_NS:
            self._told_ns[queue.id] = now_ns
            name = queue.endpoint.name
            log.error(
                "endpoint %s: an attempt ended with an error of ours", name,
                exc_info=error, event="internal_error", endpoint=name, cause="internal",
                traceparent=traceparent_of(deliveries[0]) if deliveries else None,
            )  # fmt: skip
        attempt = Attempt(now_ns, 0, "internal", text, worker=self._worker)
        for delivery in deliveries:
            if delivery.in_ring or delivery.id:
                try:
                    self._report(queue, (delivery,), queue.outcome(0, "internal"), attempt)
                except Exception:
                    name = queue.endpoint.name
                    log.error("endpoint %s: an event stays in its ring", name, endpoint=name)
        self._admission.release(queue, now_ns, probe)

    def _succeed(
        self, queue: EndpointQueue, deliveries: Sequence[RingDelivery], transfer: Transfer
    ) -> None:
        if queue.endpoint.record != "all":
            deliveries = settle_fresh(deliveries, self._counters, field.DELIVERED)
        if deliveries:
            attempt = transfer.attempt("delivered", "", self._worker)
            for delivery in deliveries:
                self._reporter.report(delivery, "delivered", "delivered", attempt)

    def _fail(
        self,
        queue: EndpointQueue,
        deliveries: Sequence[RingDelivery],
        probe: int,
        transfer: Transfer,
        status: int,
        code: int,
        message: str,
        now_ns: int,
    ) -> None:
        """Note that the request failed, and all that was in it."""
        status, cause, message = transfer.failure(code, message)
        outcome = queue.outcome(status, cause)
        self._counters.add(queue.id, field.FAILED_REQUESTS)
        if status:
            queue.sender.heed(queue.target, True)
        if outcome.breaker == "failure":
            self._admission.failure(queue, now_ns, probe)
        else:
            self._admission.release(queue, now_ns, probe)
        attempt = transfer.attempt(outcome.cause, message, self._worker, status)
        self._report(queue, deliveries, outcome, attempt)

    def _report(
        self,
        queue: EndpointQueue,
        deliveries: Sequence[RingDelivery],
        outcome: Outcome,
        attempt: Attempt,
    ) -> None:
        """Report one failed attempt of each."""
        counters, count = self._counters, len(deliveries)
        counters.add(queue.id, field.FAILED, count)
        if outcome.cause == "internal":
            counters.add(queue.id, field.FAULTS, count)
        if outcome.rejection == "signature":
            counters.add(queue.id, field.SIGNATURE_REJECTED, count)
        elif outcome.rejection == "size":
            counters.add(queue.id, field.SIZE_REJECTED, count)
        for delivery in deliveries:
            sequence = self._reporter.report(delivery, outcome.verdict, outcome.cause, attempt)
            if queue.blocks and outcome.verdict == "retry":
                queue.handed_over = sequence
                self._defer(queue, "order")

    # ---- batches ---------------------------------------------------------------------------

    def _end_batch(
        self,
        queue: EndpointQueue,
        deliveries: list[RingDelivery],
        probe: int,
        transfer: Transfer,
        status: int,
        code: int,
        message: str,
        now_ns: int,
    ) -> None:
        if parts := halves(status, len(deliveries)):
            self._halve(queue, deliveries, parts[0], probe, status, now_ns)
            return
        if not 200 <= status <= 299:
            self._fail(queue, deliveries, probe, transfer, status, code, message, now_ns)
            return
        self._counters.observe(queue.id, field.HISTOGRAM, transfer.getinfo(TOTAL_US))
        if status == MULTI_STATUS:
            self._end_each(queue, deliveries, probe, transfer, now_ns)
            return
        self._admission.success(queue, now_ns, probe)
        self._succeed(queue, deliveries, transfer)

    def _halve(
        self,
        queue: EndpointQueue,
        deliveries: list[RingDelivery],
        first: int,
        probe: int,
        status: int,
        now_ns: int,
    ) -> None:
        """Try a batch again in halves. The breaker waits for what the events come to, however many
        requests it takes to find out."""
        self._counters.add(queue.id, field.FAILED_REQUESTS)
        self._admission.release(queue, now_ns, probe)
        if status == CONTENT_TOO_LARGE:
            queue.shrink_batches(deliveries, now_ns)
        self._again(queue, deliveries[first:])
        self._again(queue, deliveries[:first])

    def _end_each(
        self,
        queue: EndpointQueue,
        deliveries: list[RingDelivery],
        probe: int,
        transfer: Transfer,
        now_ns: int,
    ) -> None:
        """End each event by its own status. To the breaker the request is a success if one event
        was."""
        silent = "the 207 answer does not name the event"
        try:
            statuses = read_answers(b"".join(transfer.answer))
        except ValueError as e:
            statuses, silent = {}, str(e)
        attempt = transfer.attempt("delivered", "", self._worker)
        outcomes: list[Outcome] = []
        for delivery in deliveries:
            status = statuses.get(event_id(delivery), 0)
            outcome = queue.outcome(status, None if status else "protocol")
            outcomes.append(outcome)
            if outcome.verdict == "delivered":
                self._succeed(queue, (delivery,), transfer)
                continue
            own = msgspec.structs.replace(
                attempt,
                status=status or MULTI_STATUS,
                cause=outcome.cause,
                error="" if status else silent,
            )
            self._report(queue, (delivery,), outcome, own)
        views = {outcome.breaker for outcome in outcomes}
        if "success" in views:
            self._admission.success(queue, now_ns, probe)
        elif "failure" in views:
            self._admission.failure(queue, now_ns, probe)
        else:
            self._admission.release(queue, now_ns, probe)
