"""What a worker does with a delivery: queue it, send it, settle it, or give it to the store.

A delivery that succeeds at once never leaves the ring. Any other is handed over to the keeper, by a
report that makes its place in the ring free again:

    the endpoint is paused, or its breaker open     parked
    its lane is slow and full                       parked: one endpoint's trouble stays its own
    held up while the ring runs full                parked, or adopted if it is under way
    its endpoint aggregates its type                aggregated
    it succeeded, and its endpoint records all      delivered
    the attempt failed                              retry or dead
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from fluxhook._native.ring import Counters, Delivery, Words
from fluxhook.config.schema import Endpoint, Tls
from fluxhook.policy import breaker
from fluxhook.policy.outcome import TransportCause, classify, curl_cause
from fluxhook.runtime.gate import Gate
from fluxhook.runtime.idle import IdleGauge
from fluxhook.runtime.lane import SLOW_QUEUE, Lane
from fluxhook.runtime.reporter import Reporter
from fluxhook.transport import datadir as field
from fluxhook.transport.curl import Sender, Slot
from fluxhook.transport.records import DueHead, Verdict

__all__ = ["Dispatcher"]

#: requests of one worker at a time, over all endpoints
MAX_IN_FLIGHT = 1024
#: deliveries that wait at hand before no more are taken, slow lanes' aside
BACKLOG = 1024
#: what a worker has held for this long leaves a ring that it keeps from use; the second where it is the
#: worker that is short of CPU
HELD_UP_NS, HELD_UP_BUSY_NS = 10_000_000, 200_000_000
#: and for this long, a ring that is over half full of whatever
HELD_LONG_NS = 1_000_000_000

_decode_due = msgspec.msgpack.Decoder(DueHead).decode


class Dispatcher:
    """The lanes of one worker and the requests under way."""

    def __init__(
        self,
        words: Words,
        counters: Counters,
        reporter: Reporter,
        worker: int,
        judge: Callable[[str], str | None],
    ) -> None:
        self.lanes: dict[int, Lane] = {}
        self.sender = Sender(MAX_IN_FLIGHT, judge)
        self._judge = judge
        self._tls_senders: dict[Tls, Sender] = {}
        self._words = words
        self._gate = Gate(words)
        self._counters = counters
        self._reporter = reporter
        self._worker = worker
        self._ready: dict[int, Lane] = {}
        self._backlog = 0
        self._gauge = IdleGauge()
        self.backlog_limit = BACKLOG

    # ---- configuration ---------------------------------------------------------------------

    def configure(self, endpoint_id: int, endpoint: Endpoint, limit: int) -> None:
        """Adds a lane, or changes one; what waits and what is under way stays."""
        lane = self.lanes.get(endpoint_id)
        if lane is None:
            lane = self.lanes[endpoint_id] = Lane(endpoint_id, endpoint, limit)
            # What an earlier worker handed over may not have reached the store yet.
            lane.handed_over = self._reporter.outbox.tail - 1
        elif lane.endpoint != endpoint or lane.limit != limit:
            lane.configure(endpoint, limit)
            if endpoint.paused:
                self._park_queue(lane, "paused")
        if endpoint.tls != Tls() and endpoint.tls not in self._tls_senders:
            sender = self._tls_senders[endpoint.tls] = Sender(
                MAX_IN_FLIGHT, self._judge, endpoint.tls
            )
            self.sender.watch(sender.epoll.fileno())

    def remove(self, endpoint_id: int) -> None:
        """Ends a lane; what waits in it is dead, what is under way is settled by its result."""
        lane = self.lanes.pop(endpoint_id)
        self._park_queue(lane, "removed", verdict="dead")

    # ---- arrival ---------------------------------------------------------------------------

    @property
    def backlog_full(self) -> bool:
        return self._backlog >= self.backlog_limit or self._reporter.stuck

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is under way."""
        return not self._ready and not self.in_flight and not self._reporter.stuck

    @property
    def in_flight(self) -> int:
        return self.sender.in_flight + sum(s.in_flight for s in self._tls_senders.values())

    def wants_more(self, now_ns: int) -> bool:
        """Whether the worker should take more records. Under a full backlog slow lanes are found
        out, and what is too much in them goes to the store."""
        if self._reporter.stuck:
            return False
        if self._backlog >= self.backlog_limit and self._gauge.idle(now_ns):
            for lane in list(self._ready.values()):
                # A short queue is not what fills the backlog.
                long = 4 * len(lane.queue) >= self.backlog_limit
                if long and not lane.slow and lane.judge(now_ns):
                    self._slow_down(lane)
        return self._backlog < self.backlog_limit

    def arrive(self, delivery: Delivery, now_ns: int) -> None:
        """Queues a delivery from a publisher's ring."""
        lane = self.lanes.get(delivery.endpoint)
        delivery.taken_ns = now_ns
        if lane is None:
            self._reporter.report(delivery, "dead", "removed")
        elif lane.aggregating and lane.gathers(delivery):
            self._reporter.report(delivery, "aggregated", "")
        elif lane.endpoint.paused:
            self._hand_over(lane, delivery, "parked", "paused")
        elif lane.blocks and self._diverted(lane):
            self._hand_over(lane, delivery, "parked", "order")
        else:
            self._enqueue(lane, delivery)

    def arrive_due(self, delivery: Delivery, now_ns: int) -> None:
        """Queues a delivery that the keeper sent: its head is a DueHead."""
        due = _decode_due(delivery.event)
        delivery.id = due.delivery_id
        delivery.attempts = due.attempts
        delivery.accepted_ns = due.accepted_ns
        delivery.event = due.event
        delivery.taken_ns = now_ns
        lane = self.lanes.get(delivery.endpoint)
        if lane is None:
            self._reporter.report(delivery, "dead", "removed")
        else:
            self._enqueue(lane, delivery)

    def _enqueue(self, lane: Lane, delivery: Delivery) -> None:
        if lane.slow and delivery.id == 0 and len(lane.queue) >= SLOW_QUEUE:
            self._hand_over(lane, delivery, "parked", "over_share")
            return
        lane.queue.append(delivery)
        self._ready[lane.id] = lane
        if not lane.slow:
            self._backlog += 1

    def _diverted(self, lane: Lane) -> bool:
        """Whether the order of a blocking lane lives in the store now. The keeper stores its word
        before it releases the report, so one of the two is always to be seen."""
        return (
            self._words.load(lane.id, field.STORED) > 0
            or lane.handed_over >= self._reporter.outbox.head
        )

    # ---- leaving for the store -------------------------------------------------------------

    def _hand_over(
        self, lane: Lane, delivery: Delivery, verdict: Verdict, cause: str, not_before_ns: int = 0
    ) -> None:
        lane.handed_over = self._reporter.report(
            delivery, verdict, cause, not_before_ns=not_before_ns
        )

    def _park_queue(
        self, lane: Lane, cause: str, not_before_ns: int = 0, verdict: Verdict = "parked"
    ) -> int:
        """Hands the whole queue over, in its order; returns how many that were.

        Where order matters, what is under way goes first: the order lives in one place at a time.
        """
        queue = lane.queue
        if lane.blocks:
            for delivery in lane.under_way():
                if delivery.id == 0:
                    self._hand_over(lane, delivery, "adopted", cause)
        if not lane.slow:
            self._backlog -= len(queue)
        count = len(queue)
        while queue:
            self._hand_over(lane, queue.popleft(), verdict, cause, not_before_ns)
        self._ready.pop(lane.id, None)
        lane.slow = False
        return count

    def _slow_down(self, lane: Lane) -> None:
        """A lane that turned out slow keeps the little that it can send soon; that does not count."""
        self._backlog -= len(lane.queue)
        self._spill(lane, keep=SLOW_QUEUE)

    def _spill(self, lane: Lane, *, keep: int) -> None:
        """Hands over what a publisher's ring has in the queue, but for the first `keep`. What came
        from the store stays: the keeper sends no more of that than the endpoint can take."""
        if lane.blocks:  # its order allows all or nothing
            self._park_queue(lane, "over_share")
            return
        kept: deque[Delivery] = deque()
        for delivery in lane.queue:
            if delivery.id or len(kept) < keep:
                kept.append(delivery)
            else:
                self._hand_over(lane, delivery, "parked", "over_share")
        if not lane.slow:
            self._backlog -= len(lane.queue) - len(kept)
        lane.queue = kept
        if not kept:
            self._ready.pop(lane.id, None)
            lane.slow = False

    def relieve(self, now_ns: int, *, urgent: bool) -> None:
        """Empties rings of what is held up: under way for long, or in a queue that does not move. It
        goes on here; only its keeping changes. `urgent`: it is what was taken that fills a ring."""
        if not urgent:
            age_ns = HELD_LONG_NS
        elif self._gauge.idle(now_ns):
            age_ns = HELD_UP_NS
        else:
            age_ns = HELD_UP_BUSY_NS
        before_ns = now_ns - age_ns
        for sender in (self.sender, *self._tls_senders.values()):
            for lane, delivery, _ in sender.tags():
                if delivery.in_ring and delivery.id == 0 and delivery.taken_ns < before_ns:
                    if lane.blocks:
                        self._park_queue(lane, "over_share")
                    else:
                        self._hand_over(lane, delivery, "adopted", "over_share")
        for lane in list(self._ready.values()):
            if lane.queue[0].taken_ns < before_ns:
                self._spill(lane, keep=0)

    # ---- sending ---------------------------------------------------------------------------

    def send(self, now_ns: int) -> int:
        """Starts what may go now. Returns when a rate limit lets more go, 0 if none is in the way."""
        wake_ns = 0
        started: set[Sender] = set()
        now_s = now_ns // 1_000_000_000
        for lane in list(self._ready.values()):
            if lane.blocked_until_ns > now_ns:
                wake_ns = min(wake_ns or lane.blocked_until_ns, lane.blocked_until_ns)
                continue
            sender = self._tls_senders.get(lane.endpoint.tls, self.sender)
            # Half of what is left: many lanes that hang never take the last handles together.
            quota = min(lane.limit - lane.in_flight, (sender.room + 1) // 2)
            probe = 0
            if quota > 0 and self._words.load(lane.id, field.BREAKER):
                action = self._gate.permit(lane, now_ns)
                if isinstance(action, breaker.Hold):
                    skipped = self._park_queue(lane, "breaker_open", action.until_ns)
                    self._counters.add(lane.id, field.SKIPPED, skipped)
                    continue
                if isinstance(action, breaker.Probe):
                    probe, quota = action.token, 1
            while quota > 0 and (delivery := lane.next()) is not None:
                if not lane.slow:
                    self._backlog -= 1
                if self._disposed(lane, delivery, now_ns):
                    continue
                if lane.endpoint.rate_limit and (wait_ns := self._gate.admit(lane, now_ns)):
                    lane.queue.appendleft(delivery)
                    if not lane.slow:
                        self._backlog += 1
                    lane.blocked_until_ns = now_ns + wait_ns
                    wake_ns = min(wake_ns or lane.blocked_until_ns, lane.blocked_until_ns)
                    break
                lane.begin(delivery)
                headers = lane.request_headers(delivery, now_s)
                sender.send(lane.target, headers, delivery.body, (lane, delivery, probe), now_ns)
                started.add(sender)
                quota -= 1
                probe = 0
            if probe:
                self._gate.release(lane, now_ns, probe)
            if not lane.queue:
                lane.slow = False
                self._ready.pop(lane.id, None)
        for sender in started:
            sender.start()
        return wake_ns

    def _disposed(self, lane: Lane, delivery: Delivery, now_ns: int) -> bool:
        """Settles a delivery that is not to be attempted at all."""
        if lane.ttl_ns and now_ns - delivery.accepted_ns > lane.ttl_ns:
            if delivery.id == 0:
                delivery.settle(self._counters, field.DROPPED_EXPIRED)
            else:
                self._hand_over(lane, delivery, "dropped", "expired")
            return True
        if lane.max_payload and len(delivery.body) > lane.max_payload:
            self._counters.add(lane.id, field.SIZE_REJECTED)
            self._hand_over(lane, delivery, "dead", "payload_too_large")
            return True
        return False

    # ---- results ---------------------------------------------------------------------------

    def collect(self, finished: list[tuple[Slot, int, str]], now_ns: int) -> None:
        """Settles the requests that the main sender finished, and those of the others."""
        self._finish_all(self.sender, finished, now_ns)
        for sender in self._tls_senders.values():
            if sender.in_flight or sender.epoll.fileno() in self.sender.fired:
                self._finish_all(sender, sender.step(0.0), now_ns)

    def _finish_all(
        self, sender: Sender, finished: list[tuple[Slot, int, str]], now_ns: int
    ) -> None:
        counters, gate = self._counters, self._gate
        for slot, code, message in finished:
            lane, delivery, probe = slot.tag
            lane.end(delivery)
            if slot.resent:
                counters.add(lane.id, field.RESENT)
            if 200 <= slot.status <= 299:
                counters.observe(lane.id, field.HISTOGRAM, slot.total_us)
                gate.success(lane, now_ns, probe)
                if delivery.id == 0 and not lane.records:
                    delivery.settle(counters, field.DELIVERED)
                else:
                    attempt = slot.attempt("delivered", "", self._worker)
                    self._reporter.report(delivery, "delivered", "delivered", attempt)
            else:
                self._failed(lane, delivery, probe, slot, code, message, now_ns)
            sender.release(slot)

    def _failed(
        self,
        lane: Lane,
        delivery: Delivery,
        probe: int,
        slot: Slot,
        code: int,
        message: str,
        now_ns: int,
    ) -> None:
        cause: TransportCause | None = None
        if slot.denied:
            cause = slot.denied_cause
        elif code:
            cause = curl_cause(code, connected=slot.connected)
        outcome = classify(slot.status, cause, lane.retry_on)
        counters = self._counters
        counters.add(lane.id, field.FAILED)
        if outcome.rejection == "signature":
            counters.add(lane.id, field.SIGNATURE_REJECTED)
        elif outcome.rejection == "size":
            counters.add(lane.id, field.SIZE_REJECTED)
        if outcome.breaker == "failure":
            self._gate.failure(lane, now_ns, probe)
        else:
            self._gate.release(lane, now_ns, probe)
        attempt = slot.attempt(outcome.cause, message, self._worker)
        sequence = self._reporter.report(delivery, outcome.verdict, outcome.cause, attempt)
        if lane.blocks and outcome.verdict == "retry":
            lane.handed_over = sequence
            self._park_queue(lane, "order")

    def wait_s(self, timeout_s: float) -> float:
        """How long the main sender may sleep so that no other sender's timer is missed."""
        for sender in self._tls_senders.values():
            timeout_s = sender.wait_s(timeout_s)
        return timeout_s

    def rejudge(self) -> None:
        """The networks that may be reached have changed: pooled connections are judged again."""
        for sender in (self.sender, *self._tls_senders.values()):
            sender.rejudge()

    def close(self) -> None:
        """Aborts what is under way; it stays in its rings."""
        for sender in (*self._tls_senders.values(), self.sender):
            sender.close()
