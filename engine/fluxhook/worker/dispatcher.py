"""What a worker does with a delivery: queue it, send it, settle it, or give it to the store.

A delivery that succeeds at once never leaves the ring. Any other is handed over to the keeper, by a
report that makes its place in the ring free again:

    the endpoint is paused, or its breaker open     parked
    it cannot be built                              parked: its state is misconfigured
    its lane is slow and full                       parked: one endpoint's trouble stays its own
    held up while the ring runs full                parked, or adopted if it is under way
    its endpoint aggregates its type                aggregated
    it succeeded, and its endpoint records all      delivered
    the attempt failed                              retry or dead

What finished requests come to is in `results`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import msgspec

from fluxhook._native.ring import Counters, Delivery, Words
from fluxhook.config.schema import Endpoint
from fluxhook.config.workers import IN_FLIGHT
from fluxhook.policy import breaker
from fluxhook.transport import datadir as field
from fluxhook.transport.build import Built, build
from fluxhook.transport.clock import EngineClock
from fluxhook.transport.curl import Sender, Slot
from fluxhook.transport.process import described, log
from fluxhook.transport.records import SUSPECT_NS, DueHead, Verdict
from fluxhook.transport.tls import TlsMaterial
from fluxhook.worker.admission import Gate
from fluxhook.worker.endpoint_queue import Lane
from fluxhook.worker.idle_gauge import IdleGauge
from fluxhook.worker.reporter import Reporter
from fluxhook.worker.results import Results
from fluxhook.worker.stage_timings import Stages

__all__ = ["Dispatcher"]

#: deliveries that wait at hand before no more are taken, slow lanes' aside
BACKLOG = 1024
#: the same while the outbox is full; arbitrary, as many as there may be reports that wait
STUCK_BACKLOG = 16_384
#: what a worker has held for this long leaves a ring that it keeps from use; the second where it is the
#: worker that is short of CPU
HELD_UP_NS, HELD_UP_BUSY_NS = 10_000_000, 200_000_000
#: and for this long, a ring that is over half full of whatever
HELD_LONG_NS = 1_000_000_000
#: what the keeper sends for an endpoint to which nothing is sent comes back after this long
PARK_NS = 1_000_000_000

_decode_due = msgspec.msgpack.Decoder(DueHead).decode


class Dispatcher:
    """The lanes of one worker and the requests under way."""

    def __init__(
        self,
        words: Words,
        counters: Counters,
        stages: Stages,
        reporter: Reporter,
        worker: int,
        judge: Callable[[str], str | None],
        clock: EngineClock,
    ) -> None:
        self.lanes: dict[int, Lane] = {}
        self.sender = Sender(IN_FLIGHT, judge)
        self._judge = judge
        self._clock = clock
        self._tls_senders: dict[TlsMaterial, Sender] = {}
        #: those of them that no lane uses any more
        self._unused: list[TlsMaterial] = []
        self._words = words
        self._gate = Gate(words)
        self._counters = counters
        self._stages = stages
        self._reporter = reporter
        self._results = Results(
            words,
            counters,
            stages,
            reporter,
            worker,
            resume=self._resume,
            park=self._park_queue,
            again=self._put_back,
            recount=self._recount,
        )
        #: the lanes in which something waits: those that may have room, and those that have none
        self._ready: dict[int, Lane] = {}
        self._held: dict[int, Lane] = {}
        #: deliveries of the store, which do not go out while the outbox is full
        self._aside: list[Delivery] = []
        self._backlog = 0
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
        """Add a lane, or change one; what waits and what is under way stays.

        `misconfigured`: the supervisor found that it cannot be built. `files` changes with the files
        that the endpoint names.
        """
        lane = self.lanes.get(endpoint_id)
        if lane is None:
            lane = self.lanes[endpoint_id] = Lane(endpoint_id)
            # What an earlier worker handed over may not have reached the store yet.
            lane.handed_over = self._reporter.outbox.tail - 1
        elif (
            lane.endpoint == endpoint
            and lane.limit == limit
            and lane.files == files
            and (lane.parks == "misconfigured") == misconfigured
        ):
            return
        built, sender = None, self.sender
        if not misconfigured:
            try:
                built = build(endpoint)
                sender = self._sender_for(built)
            except Exception as e:
                # The supervisor could build it: a file went in between.
                built = None
                self._tell_unbuilt(endpoint_id, endpoint, e)
        lane.configure(endpoint, limit, sender, built, files)
        if lane.held:
            self._resume(lane)
        if lane.parks:
            self._park_queue(lane, lane.parks)

    def _tell_unbuilt(self, endpoint_id: int, endpoint: Endpoint, error: Exception) -> None:
        """The supervisor has the endpoint held, for a while, by every worker."""
        log.error("endpoint %s cannot be sent to: %s", endpoint.name, described(error))
        self._words.store(endpoint_id, field.UNBUILT, 1)

    def _sender_for(self, built: Built) -> Sender:
        if built.tls is None:
            return self.sender
        sender = self._tls_senders.get(built.tls)
        if sender is None:
            sender = self._tls_senders[built.tls] = Sender(IN_FLIGHT, self._judge, built.tls)
            self.sender.watch(sender.epoll.fileno())
        return sender

    def retire_senders(self) -> None:
        """Close the senders that no lane uses any more, with their connections, once what is under way
        has ended. To be called when all lanes are configured."""
        used = {id(lane.sender) for lane in self.lanes.values()}
        self._unused = [key for key, sender in self._tls_senders.items() if id(sender) not in used]
        self._close_unused()

    def _close_unused(self) -> None:
        for key in list(self._unused):
            if not self._tls_senders[key].in_flight:
                sender = self._tls_senders.pop(key)
                self._unused.remove(key)
                self.sender.unwatch(sender.epoll.fileno())
                sender.close()

    def remove(self, endpoint_id: int) -> None:
        """Ends a lane; what waits in it is dead, what is under way is settled by its result."""
        lane = self.lanes.pop(endpoint_id)
        self._park_queue(lane, "removed", verdict="dead")

    # ---- arrival ---------------------------------------------------------------------------

    @property
    def backlog_full(self) -> bool:
        if self._reporter.stuck:
            return self._backlog >= STUCK_BACKLOG or self._reporter.overfull
        return self._backlog >= self.backlog_limit

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is under way."""
        waits = self._ready or self._held or self._aside
        return not (waits or self.in_flight or self._reporter.stuck)

    @property
    def in_flight(self) -> int:
        return self.sender.in_flight + sum(s.in_flight for s in self._tls_senders.values())

    def wants_more(self, now_ns: int) -> bool:
        """Whether the worker should take more records. Under a full backlog slow lanes are found
        out, and what is too much in them goes to the store."""
        if self._reporter.stuck:  # no lane can leave what is too much to the store
            return not self.backlog_full
        if self._backlog >= self.backlog_limit and self._gauge.idle(now_ns):
            for lane in self._waiting():
                # A short queue is not what fills the backlog.
                long = 4 * len(lane.queue) >= self.backlog_limit
                if long and not lane.slow and lane.judge(now_ns):
                    self._slow_down(lane)
        return self._backlog < self.backlog_limit

    def _waiting(self) -> list[Lane]:
        """The lanes that have a queue."""
        return [*self._ready.values(), *self._held.values()]

    def arrive(self, deliveries: list[Delivery], now_ns: int) -> None:
        """Queues what comes from the publishers' rings."""
        lane: Lane | None = None
        append: Callable[[Delivery], None] | None = None  # to a lane that need not be asked
        last, asked = -1, 0
        for delivery in deliveries:
            delivery.taken_ns = now_ns
            id = delivery.endpoint
            if id != last:  # neighbours are often for the same one
                last, append = id, None
                lane = self.lanes.get(id)
                if lane is not None and lane.arrives_plainly and not lane.slow:
                    append = lane.queue.append
                    if not lane.queue:
                        self._ready[id] = lane
            if append is not None:
                append(delivery)
            else:
                asked += 1
                try:
                    self._arrive(lane, delivery)
                except Exception as e:
                    self._fault(lane, delivery, e, now_ns)
        self._backlog += len(deliveries) - asked

    def _arrive(self, lane: Lane | None, delivery: Delivery) -> None:
        if lane is None:
            self._reporter.report(delivery, "dead", "removed")
        elif lane.aggregating and lane.gathers(delivery):
            self._reporter.report(delivery, "aggregated", "")
        elif lane.parks:
            self._hand_over(lane, delivery, "parked", lane.parks)
        elif lane.blocks and self._diverted(lane):
            self._hand_over(lane, delivery, "parked", "order")
        else:
            self._enqueue(lane, delivery)

    def arrive_due(self, delivery: Delivery, now_ns: int) -> None:
        """Queues a delivery that the keeper sent: its head is a DueHead."""
        due = self._take_head(delivery, now_ns)
        if due is None:
            return
        lane = self.lanes.get(delivery.endpoint)
        self._arrive_due(lane, delivery, due.fresh, now_ns)

    def _arrive_due(self, lane: Lane | None, delivery: Delivery, fresh: bool, now_ns: int) -> None:
        """`fresh`: its next attempt is to go over a new connection."""
        try:
            if lane is None:
                self._reporter.report(delivery, "dead", "removed")
            elif lane.parks:
                self._hand_over(lane, delivery, "parked", lane.parks, now_ns + PARK_NS)
            else:
                if fresh:
                    lane.sender.distrust(lane.target)
                self._enqueue(lane, delivery)
        except Exception as e:
            self._fault(lane, delivery, e, now_ns)

    def _take_head(self, delivery: Delivery, now_ns: int) -> DueHead | None:
        """Has a delivery say what its head says of it."""
        try:
            due = _decode_due(delivery.event)
        except msgspec.MsgspecError as e:
            log.error("what the keeper sent cannot be read, it comes again: %s", described(e))
            return None
        delivery.id = due.delivery_id
        delivery.attempts = due.attempts
        delivery.accepted_ns = due.accepted_ns
        delivery.event = due.event
        delivery.taken_ns = now_ns
        return due

    def _enqueue(self, lane: Lane, delivery: Delivery) -> None:
        if lane.slow and delivery.id == 0 and len(lane.queue) >= lane.slow_queue:
            self._hand_over(lane, delivery, "parked", "over_share")
            return
        if not lane.queue:
            self._ready[lane.id] = lane
        lane.queue.append(delivery)
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
        self._emptied(lane)
        return count

    def _emptied(self, lane: Lane) -> None:
        """Nothing waits in the lane any more."""
        if lane.held:
            del self._held[lane.id]
            lane.held = False
        else:
            self._ready.pop(lane.id, None)
        lane.slow = False
        lane.forget_batches()

    def _resume(self, lane: Lane) -> None:
        """A lane that was held may have room."""
        lane.held = False
        self._ready[lane.id] = self._held.pop(lane.id)

    def _slow_down(self, lane: Lane) -> None:
        """A lane that turned out slow keeps the little that it can send soon; that does not count."""
        self._backlog -= len(lane.queue)
        self._spill(lane, keep=lane.slow_queue)

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
        lane.forget_batches()
        if not kept:
            self._emptied(lane)

    def relieve(self, now_ns: int, *, urgent: bool) -> None:
        """Empties rings of what is held up: under way for long, or in a queue that does not move. It
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
        for sender in (self.sender, *self._tls_senders.values()):
            for lane, what, _ in sender.tags():
                for delivery in what if type(what) is list else (what,):
                    if delivery.in_ring and delivery.id == 0 and delivery.taken_ns < before_ns:
                        if lane.blocks:
                            self._park_queue(lane, "over_share")
                        else:
                            self._hand_over(lane, delivery, "adopted", "over_share")
        for lane in self._waiting():
            if lane.queue[0].taken_ns < before_ns:
                if lane.batching and not lane.held:
                    lane.hurried = True  # it waits for company alone
                else:
                    self._spill(lane, keep=0)

    # ---- sending ---------------------------------------------------------------------------

    def send(self, now_ns: int) -> int:
        """Starts what may go now. Returns when more may go without anything else happening, because a
        rate limit or a batch waits for its time; 0 if none does."""
        wake_ns = 0
        load, ready = self._words.load, self._ready
        lanes = list(ready.values())
        if self._reporter.stuck:
            lanes = self._without_store(lanes)
        elif self._aside:
            lanes = self._with_aside(now_ns)
        now_s = int(time.time()) if lanes else 0  # what a receiver compares with its own clock
        for lane in lanes:
            try:
                if lane.blocked_until_ns > now_ns:
                    wake_ns = min(wake_ns or lane.blocked_until_ns, lane.blocked_until_ns)
                    continue
                room = lane.limit - lane.in_flight
                if room <= 0:
                    lane.held = True
                    self._held[lane.id] = ready.pop(lane.id)
                    continue
                sender = lane.sender
                # Half of what is left: many lanes that hang never take the last handles together.
                quota = (sender.size - sender.in_flight + 1) // 2
                if quota > room:
                    quota = room
                if quota <= 0:
                    continue
                # Below that it is the number of failures of a closed breaker (policy/breaker.py).
                troubled = load(lane.id, field.BREAKER) >= lane.failure_threshold
                if lane.sends_plainly and not troubled:
                    self._send_plain(lane, quota, now_ns, now_s)
                    if not (lane.queue or lane.slow):
                        del ready[lane.id]
                        continue
                elif until_ns := self._send_judged(lane, quota, troubled, now_ns, now_s):
                    wake_ns = min(wake_ns or until_ns, until_ns)
                if not lane.queue:
                    self._emptied(lane)
            except Exception as e:
                self._withdraw(lane, e, now_ns)
        for sender in (self.sender, *self._tls_senders.values()):
            if sender.queued:
                sender.start()
        return wake_ns

    def _without_store(self, lanes: list[Lane]) -> list[Lane]:
        """While the outbox is full: the lanes whose deliveries can end without the store. What cannot
        would be sent again if this worker died before there is room for its report."""
        for lane in self._waiting():
            if any(delivery.id for delivery in lane.queue):
                self._set_aside(lane)
        return [lane for lane in lanes if lane.queue and lane.endpoint.record != "all"]

    def _set_aside(self, lane: Lane) -> None:
        """Takes what came from the store out of a lane's queue."""
        fresh: deque[Delivery] = deque()
        for delivery in lane.queue:
            (self._aside if delivery.id else fresh).append(delivery)
        if not lane.slow:
            self._backlog -= len(lane.queue) - len(fresh)
        lane.queue = fresh
        lane.forget_batches()
        if not fresh:
            self._emptied(lane)

    def _with_aside(self, now_ns: int) -> list[Lane]:
        """The outbox has room: the lanes, in which waits again what was set aside."""
        aside, self._aside = self._aside, []
        for delivery in aside:
            self._arrive_due(self.lanes.get(delivery.endpoint), delivery, False, now_ns)
        return list(self._ready.values())

    def _send_plain(self, lane: Lane, quota: int, now_ns: int, now_s: int) -> None:
        """Sends from a lane of which nothing is to be asked."""
        queue, send, target, request = lane.queue, lane.sender.send, lane.target, lane.request
        quota = min(quota, len(queue))
        unsampled = self._unsampled
        for _ in range(quota):
            delivery = queue.popleft()
            unsampled += 1
            try:
                if unsampled < field.SAMPLED_ONE_IN:
                    headers, body = request(delivery, now_s)
                else:
                    unsampled = 0
                    headers, body = self._stages.make(lane, [delivery], now_ns, now_s)
                send(target, headers, body, (lane, delivery, 0), now_ns)
            except Exception as e:
                quota -= 1
                if not lane.slow:
                    self._backlog -= 1
                self._fault(lane, delivery, e, now_ns)
        self._unsampled = unsampled
        lane.in_flight += quota
        if not lane.slow:
            self._backlog -= quota

    def _send_judged(self, lane: Lane, quota: int, troubled: bool, now_ns: int, now_s: int) -> int:
        """Sends what breaker, order, rate limit, age, size and batching let go. Returns when more may
        go, or 0."""
        if lane.batching and not self._batch_due(lane, now_ns):
            return lane.batch_until_ns
        probe = until_ns = 0
        taken: list[Delivery] | None = None
        if troubled:
            action = self._gate.permit(lane, now_ns)
            if isinstance(action, breaker.Hold):
                skipped = self._park_queue(lane, "breaker_open", action.until_ns)
                self._counters.add(lane.id, field.SKIPPED, skipped)
                return 0
            if isinstance(action, breaker.Probe):
                probe, quota = action.token, 1
                # The failures may have been other workers', and connections kept here as dead.
                lane.sender.distrust(lane.target)
        while quota > 0 and (taken := self._next(lane, now_ns)) is not None:
            if not taken:
                continue
            if lane.endpoint.rate_limit and (wait_ns := self._gate.admit(lane, now_ns)):
                self._put_back(lane, taken)
                lane.blocked_until_ns = until_ns = now_ns + wait_ns
                break
            self._unsampled += 1
            try:
                if self._unsampled < field.SAMPLED_ONE_IN:
                    headers, body = lane.request_for(taken, now_s)
                else:
                    self._unsampled = 0
                    headers, body = self._stages.make(lane, taken, now_ns, now_s)
                lane.begin(taken)
                what = taken if lane.batching else taken[0]
                lane.sender.send(lane.target, headers, body, (lane, what, probe), now_ns)
            except Exception as e:
                self._recount(lane)
                self._results.fault(lane, taken, e, now_ns, probe)
            quota -= 1
            probe = 0
        if probe:
            self._gate.release(lane, now_ns, probe)
        if lane.batching and lane.queue and quota > 0 and not until_ns:
            until_ns = lane.batch_until_ns
        return until_ns

    def _put_back(self, lane: Lane, taken: list[Delivery]) -> None:
        """What was taken for one request goes out next, unless it may not go at all any more."""
        if self.lanes.get(lane.id) is not lane:
            for delivery in taken:
                self._reporter.report(delivery, "dead", "removed")
        elif lane.parks:
            for delivery in taken:
                self._hand_over(lane, delivery, "parked", lane.parks)
        else:
            if not lane.queue:
                self._ready[lane.id] = lane
            lane.put_back(taken)
            if not lane.slow:
                self._backlog += len(taken)

    def _batch_due(self, lane: Lane, now_ns: int) -> bool:
        """What is to come does not come while the backlog is full."""
        return self.draining or self.backlog_full or lane.batch_due(now_ns)

    def _next(self, lane: Lane, now_ns: int) -> list[Delivery] | None:
        """What the lane's next request takes from its queue, without what is not to be attempted; None
        if nothing may go."""
        if lane.batching:
            taken = lane.next_batch() if self._batch_due(lane, now_ns) else []
        else:
            delivery = lane.next()
            taken = [] if delivery is None else [delivery]
        if not taken:
            return None
        if not lane.slow:
            self._backlog -= len(taken)
        if lane.ttl_ns or lane.max_payload:
            try:
                taken = [d for d in taken if not self._disposed(lane, d, now_ns)]
            except Exception as e:
                self._results.fault(lane, taken, e, now_ns)
                return []
        return taken

    def _disposed(self, lane: Lane, delivery: Delivery, now_ns: int) -> bool:
        """Settles a delivery that is not to be attempted at all."""
        if lane.ttl_ns and self._clock.surely_older(delivery.accepted_ns, lane.ttl_ns, now_ns):
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

    def abandon(self) -> None:
        """Forget what waits and was not begun: it stays where it is, for whoever follows."""
        for lane in self._waiting():
            lane.queue.clear()
            lane.forget_batches()
            self._emptied(lane)
        self._aside.clear()
        self._backlog = 0

    def suspect(self, fresh: list[Delivery], due: list[Delivery], now_ns: int) -> None:
        """Hand to the store what the worker before had at hand when it ended by a fault of its own.

        The keeper has each tried by itself. One that was, and at which a worker ended again, is the
        cause, and a dead letter.
        """
        for delivery in fresh:
            lane = self.lanes.get(delivery.endpoint)
            try:
                if lane is None or (lane.aggregating and lane.gathers(delivery)):
                    self._arrive(lane, delivery)
                else:
                    self._hand_over(lane, delivery, "parked", "suspect", now_ns + SUSPECT_NS)
            except Exception as e:
                self._fault(lane, delivery, e, now_ns)
        heads = [(delivery, self._take_head(delivery, now_ns)) for delivery in due]
        tried = [delivery for delivery, head in heads if head is not None and head.suspect]
        for delivery, head in heads:
            if head is None:
                continue
            if tried == [delivery]:
                log.error("two workers ended at delivery %d: it is a dead letter", delivery.id)
                self._reporter.report(delivery, "dead", "poison")
            else:
                self._reporter.report(
                    delivery, "parked", "suspect", not_before_ns=now_ns + SUSPECT_NS
                )

    # ---- errors of ours --------------------------------------------------------------------

    def _fault(self, lane: Lane | None, delivery: Delivery, error: Exception, now_ns: int) -> None:
        if lane is None:  # it is to be a dead letter; the next worker tries that again
            log.error("an event stays in its ring: %s", described(error))
        else:
            self._results.fault(lane, [delivery], error, now_ns)

    def _recount(self, lane: Lane) -> None:
        senders = (self.sender, *self._tls_senders.values())
        tags = [tag for sender in senders for tag in sender.tags()]
        lane.recount([what for owner, what, _ in tags if owner is lane])

    def _withdraw(self, lane: Lane, error: Exception, now_ns: int) -> None:
        """An error that no delivery is known to be the cause of: nothing more is sent, and what waits
        goes to the store."""
        self._tell_unbuilt(lane.id, lane.endpoint, error)
        lane.hold()
        try:
            self._park_queue(lane, lane.parks, now_ns + PARK_NS)
            self._recount(lane)
        except Exception as e:
            log.error(
                "endpoint %s: events stay in their rings: %s", lane.endpoint.name, described(e)
            )
            lane.queue.clear()
            self._emptied(lane)

    # ---- results ---------------------------------------------------------------------------

    def collect(self, finished: list[tuple[Slot, int, str]], now_ns: int) -> None:
        """Settles the requests that the main sender finished, and those of the others."""
        self._results.take(self.sender, finished, now_ns)
        for sender in self._tls_senders.values():
            if sender.in_flight or sender.epoll.fileno() in self.sender.fired:
                self._results.take(sender, sender.step(0.0), now_ns)
        if self._unused:
            self._close_unused()

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
