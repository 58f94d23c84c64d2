"""One endpoint inside one worker: what waits for it, what is under way, what each attempt needs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from operator import attrgetter

from fluxhook._native.ring import RingDelivery
from fluxhook.config.schema import Endpoint
from fluxhook.events.trace_context import TraceContext, common
from fluxhook.logs.log import Log
from fluxhook.policy import batch
from fluxhook.policy.aggregate import aggregates, gathered
from fluxhook.policy.compression import MIN_BYTES
from fluxhook.policy.outcome import Outcome, TransportCause, classify
from fluxhook.transport.build import Built, with_trace
from fluxhook.transport.messages import EventHead
from fluxhook.transport.sender import Sender

__all__ = ["Backlog", "EndpointQueue"]

log = Log("endpoint")

#: a queue that takes longer than this to empty is slow: the rest goes to the store
SLOW_NS = 250_000_000
#: what a slow queue still keeps at hand, unless a batch takes more
SLOW_LIMIT = 16
#: a rate is measured over at least this long
_WINDOW_NS = 50_000_000
#: how long batches stay as small as a 413 asked for, before a larger one is tried; arbitrary
SMALLER_NS = 600_000_000_000
#: a host that invents types without end must not fill memory; arbitrary
MAX_TYPES = 256

_body: Callable[[RingDelivery], bytes] = attrgetter("body")


class Backlog:
    """What waits in all queues of a worker. Each queue keeps its part of it."""

    __slots__ = ("carries_traces", "count", "full", "ready")

    def __init__(self) -> None:
        #: the deliveries that wait, those in slow queues aside
        self.count = 0
        #: the queues in which something waits, by endpoint: those that may have room for a request, and
        #: those that have none
        self.ready: dict[int, EndpointQueue] = {}
        self.full: dict[int, EndpointQueue] = {}
        #: what is sent may have a trace context
        self.carries_traces = False

    def queues(self) -> list[EndpointQueue]:
        """Return the queues in which something waits."""
        return [*self.ready.values(), *self.full.values()]


class EndpointQueue:
    """What waits for one endpoint, and its limits.

    An ordered queue sends one delivery at a time for each order key. With `on_head_failure: block`
    its order lives in one place at a time: as long as the store has deliveries of it, what arrives
    goes to the store too, behind them (`Dispatcher`, which can see the store's word).
    """

    # A worker may have a thousand of them, and goes through them in turn: few bytes are fast bytes.
    __slots__ = (
        "_backlog",
        "_batch",
        "_encoding",
        "_gathers",
        "_headers",
        "_hurried",
        "_made_plainly",
        "_mark_done",
        "_mark_ns",
        "_outcomes",
        "_pieces",
        "_retry_on",
        "_signs_id",
        "_smaller_until_ns",
        "_weighed",
        "_weight",
        "aggregating",
        "arrives_plainly",
        "batching",
        "blocked_until_ns",
        "blocks",
        "busy_keys",
        "carries_traces",
        "compress",
        "defers",
        "done",
        "endpoint",
        "ends_plainly",
        "failure_threshold",
        "files",
        "full",
        "handed_over",
        "id",
        "in_flight",
        "limit",
        "max_payload",
        "probe_timeout_ns",
        "sender",
        "sends_plainly",
        "sign",
        "slow",
        "slow_limit",
        "target",
        "ttl_ns",
        "waiting",
    )

    def __init__(self, endpoint_id: int, backlog: Backlog) -> None:
        """Make an empty queue; `configure` comes next."""
        self.id = endpoint_id
        self._backlog = backlog
        #: for others to look at: it is changed here alone, and by the hot path (`plain_append`,
        #: `begin_plainly`)
        self.waiting: deque[RingDelivery] = deque()
        self.in_flight = 0
        self.done = 0
        #: it takes long to empty, so what waits in it does not count
        self.slow = False
        #: something waits, and there is no room for a request
        self.full = False
        #: not before this time, because of the rate limit
        self.blocked_until_ns = 0
        #: what waits is to go out in batches as they are
        self._hurried = False
        #: order keys under way, oldest first
        self.busy_keys: dict[str, RingDelivery] = {}
        #: sequence number, in the outbox, of what was last handed to the store
        self.handed_over = -1
        #: how many events go into each of the next batches, where that is decided: the queue begins
        #: with what was taken and put back
        self._pieces: deque[int] = deque()
        self._weighed = 0
        self._weight = 0
        self.carries_traces = backlog.carries_traces
        self._mark_ns = 0
        self._mark_done = 0
        self._outcomes: dict[tuple[int, TransportCause | None], Outcome] = {}
        #: which types go into the window
        self._gathers: dict[bytes, bool] = {}

    def configure(
        self, endpoint: Endpoint, limit: int, sender: Sender, built: Built | None, files: int
    ) -> None:
        """Take over a changed endpoint; what waits and what is under way stays.

        Without `built` nothing is sent. `files` tells versions of the endpoint's files apart.
        """
        e = self.endpoint = endpoint
        self.limit = limit
        self.sender = sender
        self.files = files
        #: why what arrives goes to the store; empty: it is sent
        self.defers = ""
        if built is None:
            self.defers = "misconfigured"
        elif e.paused:
            self.defers = "paused"
        elif not limit:
            self.defers = "other_worker"
        self.ttl_ns = e.ttl.ns if e.ttl else 0
        self.max_payload = int(e.max_payload) if e.max_payload else 0
        #: past the endpoint's own timeout, so that a live probe is not taken for lost
        self.probe_timeout_ns = 2 * e.timeout.ns + 1_000_000_000
        self.failure_threshold = e.circuit_breaker.failure_threshold
        self.aggregating = bool(gathered(e.aggregate, e.events))
        self._gathers.clear()
        self.batching = e.batch.max_events is not None
        #: the endpoint's options, or smaller ones that its receiver asked for
        self._batch = e.batch
        self._smaller_until_ns = 0
        self._forget_batches()
        #: whether a failing head holds back what is behind it
        self.blocks = e.ordered and e.on_head_failure == "block"
        self.slow_limit = max(SLOW_LIMIT, e.batch.max_events or 0)
        # The ways that most deliveries take, on which nothing has to be asked.
        self.arrives_plainly = not (self.aggregating or self.defers or self.blocks)
        self.sends_plainly = not (
            e.ordered or e.rate_limit or self.ttl_ns or self.max_payload or self.batching
        )
        self.ends_plainly = not (e.ordered or e.record == "all")
        self._signs_id = e.signature == "standard"
        self._encoding = b"Content-Encoding: " + e.compression.encode()
        if built:
            self.target, self._headers, self.sign, self.compress = built[:4]
            self._made_plainly = self.compress is None and not self.carries_traces
        self._retry_on = frozenset(e.retry.retry_on)
        self._outcomes.clear()

    def carry_traces(self) -> None:
        """Look for the trace context of what is sent."""
        self.carries_traces, self._made_plainly = True, False

    def gathers(self, delivery: RingDelivery) -> bool:
        """Return whether the delivery goes into the endpoint's window of aggregation."""
        event_type = delivery.event.split(b"\0", 2)[1]
        known = self._gathers.get(event_type)
        if known is None:
            known = aggregates(self.endpoint.aggregate, event_type.decode())
            if len(self._gathers) < MAX_TYPES:
                self._gathers[event_type] = known
        return known

    def outcome(self, status: int, cause: TransportCause | None = None) -> Outcome:
        """Return what an attempt came to, by the endpoint's `retry_on`."""
        known = self._outcomes.get((status, cause))
        if known is None:
            known = self._outcomes[status, cause] = classify(
                status, cause, self._retry_on, disable_on_gone=self.endpoint.disable_on_gone
            )
        return known

    # ---- requests --------------------------------------------------------------------------

    def request(self, delivery: RingDelivery, now_s: int) -> tuple[list[bytes], bytes]:
        """Return the header lines and the body of an attempt that is signed now."""
        body = delivery.body
        if self._made_plainly:
            id = event_id(delivery) if self._signs_id else ""
            return [*self._headers, *self.sign(id, now_s, body)], body
        return self._made(event_id(delivery), body, now_s, (delivery,))

    def request_for(self, taken: Sequence[RingDelivery], now_s: int) -> tuple[list[bytes], bytes]:
        """Return the same for what was taken for one request: a batch, or one delivery."""
        if not self.batching:
            return self.request(taken[0], now_s)
        body = batch.join(self.endpoint.batch, list(map(_body, taken)))
        id = batch.batch_id(map(event_id, taken)) if self._signs_id else ""
        return self._made(id, body, now_s, taken)

    def _made(
        self, id: str, body: bytes, now_s: int, taken: Sequence[RingDelivery]
    ) -> tuple[list[bytes], bytes]:
        headers = self._headers
        if self.carries_traces and (trace := common([*map(trace_of, taken)])):
            headers = with_trace(headers, trace)
        if self.compress is not None and len(body) >= MIN_BYTES:
            headers, body = (*headers, self._encoding), self.compress(body)
        return [*headers, *self.sign(id, now_s, body)], body

    # ---- what waits ------------------------------------------------------------------------

    def plain_append(self) -> Callable[[RingDelivery], None] | None:
        """Return what adds a delivery of which nothing is to be asked; None if something is.

        For the hot path: the caller adds to the count of the backlog itself.
        """
        if not self.arrives_plainly or self.slow:
            return None
        if not self.waiting:
            self._backlog.ready[self.id] = self
        return self.waiting.append

    @property
    def over_share(self) -> bool:
        """Return whether it is slow and has as much as it may."""
        return self.slow and len(self.waiting) >= self.slow_limit

    def add(self, delivery: RingDelivery) -> None:
        """Put a delivery behind all that wait."""
        if not self.waiting:
            self._backlog.ready[self.id] = self
        self.waiting.append(delivery)
        if not self.slow:
            self._backlog.count += 1

    def put_back(self, deliveries: Sequence[RingDelivery]) -> None:
        """Have what was taken last wait again, in its order; it goes out next and together."""
        if not self.waiting:
            self._backlog.ready[self.id] = self
        self.waiting.extendleft(reversed(deliveries))
        self._count(len(deliveries))
        if self.batching:
            self._pieces.appendleft(len(deliveries))
        self._forget_weight()

    def pop(self) -> RingDelivery:
        """Take the first; there must be one."""
        if not self.slow:
            self._backlog.count -= 1
        return self.waiting.popleft()

    def next(self) -> RingDelivery | None:
        """Take the next delivery that may go as far as the order is concerned."""
        if not self.endpoint.ordered:
            return self.pop() if self.waiting else None
        for i, delivery in enumerate(self.waiting):
            if order_key(delivery) not in self.busy_keys:
                del self.waiting[i]
                self._count(-1)
                return delivery
        return None

    def next_batch(self) -> list[RingDelivery]:
        """Take the next batch."""
        if self._pieces:
            count = self._pieces.popleft()
        else:
            bodies = map(_body, islice(self.waiting, self._batch.max_events))
            count = batch.cut(self._batch, list(map(len, bodies)))
        popleft = self.waiting.popleft
        taken = [popleft() for _ in range(count)]
        self._count(-count)
        self._forget_weight()
        return taken

    def cut(self, keep: int) -> list[RingDelivery]:
        """Take out and return what a publisher's ring has, but for the first `keep` of all.

        What came from the store stays: the scheduler sends no more of that than the endpoint can take.
        """
        kept: deque[RingDelivery] = deque()
        taken: list[RingDelivery] = []
        for delivery in self.waiting:
            (kept if delivery.id or len(kept) < keep else taken).append(delivery)
        self._keep(kept)
        return taken

    def take_stored(self) -> list[RingDelivery]:
        """Take out and return what came from the store."""
        taken = [delivery for delivery in self.waiting if delivery.id]
        if taken:
            self._keep(deque(delivery for delivery in self.waiting if not delivery.id))
        return taken

    def clear(self) -> None:
        """Forget all that waits; it stays in its rings."""
        self._keep(deque())

    def _keep(self, kept: deque[RingDelivery]) -> None:
        self._count(len(kept) - len(self.waiting))
        self.waiting = kept
        self._forget_batches()
        if not kept:
            self.emptied()

    def _count(self, more: int) -> None:
        if not self.slow:
            self._backlog.count += more

    def emptied(self) -> None:
        """Note that nothing waits any more, after a `next`, `next_batch` or `pop`."""
        if self.full:
            del self._backlog.full[self.id]
            self.full = False
        elif self._backlog.ready.get(self.id) is self:  # a removed one may have a successor
            del self._backlog.ready[self.id]
        self.slow = False
        self._forget_batches()

    def fill(self) -> None:
        """Have it wait until a request has ended: there are as many as there may be."""
        self.full = True
        self._backlog.full[self.id] = self._backlog.ready.pop(self.id)

    def make_ready(self) -> None:
        """Have it looked at again: there may be room for a request."""
        if self.full:
            self.full = False
            self._backlog.ready[self.id] = self._backlog.full.pop(self.id)

    def turns_slow(self, now_ns: int) -> bool:
        """Return whether it is found slow now: at its present rate it takes longer than SLOW_NS to
        empty. Then what waits in it counts no more."""
        elapsed_ns = now_ns - self._mark_ns
        if self.slow or elapsed_ns < _WINDOW_NS:
            return False
        finished = self.done - self._mark_done
        fresh = elapsed_ns > 20 * _WINDOW_NS  # nobody looked for long: no rate to go by
        self._mark_ns, self._mark_done = now_ns, self.done
        if fresh or len(self.waiting) * elapsed_ns <= SLOW_NS * finished:
            return False
        self._count(-len(self.waiting))
        self.slow = True
        return True

    # ---- batches ---------------------------------------------------------------------------

    def batch_due(self, now_ns: int) -> bool:
        """Return whether what waits goes out in a batch now."""
        if 0 < self._smaller_until_ns <= now_ns:
            self._batch, self._smaller_until_ns = self.endpoint.batch, 0
        waiting, options = self.waiting, self._batch
        events = len(waiting)
        if not events or self._hurried or self._pieces or events >= (options.max_events or 1):
            return events > 0
        if self._weighed < events:  # the others were weighed before
            self._weight += sum(map(len, map(_body, islice(waiting, self._weighed, None))))
            self._weighed = events
        return batch.is_due(options, events, self._weight, waiting[0].taken_ns, now_ns)

    @property
    def batch_until_ns(self) -> int:
        """Return when what waits goes out at the latest; there must be something."""
        return batch.waits_until_ns(self._batch, self.waiting[0].taken_ns)

    def shrink_batches(self, refused: Sequence[RingDelivery], now_ns: int) -> None:
        """Have the next batches be smaller: one with these was too large for the receiver."""
        before = self._batch.max_bytes
        self._batch = batch.smaller(self._batch, sum(map(len, map(_body, refused))))
        self._smaller_until_ns = now_ns + SMALLER_NS
        if self._batch.max_bytes < before:
            log.info(
                "endpoint %s refused a batch of %d events as too large; batches have at most %s now",
                self.endpoint.name, len(refused), self._batch.max_bytes,
                event="batches_shrunk", endpoint=self.endpoint.name,
            )  # fmt: skip

    def hurry(self) -> None:
        """Have what waits go out in batches as they are."""
        self._hurried = True

    def _forget_batches(self) -> None:
        """Begin the next batch anew: something left the queue otherwise than as a batch."""
        self._pieces.clear()
        self._forget_weight()

    def _forget_weight(self) -> None:
        self._weighed = self._weight = 0
        self._hurried = self._hurried and bool(self.waiting)

    # ---- what is under way -----------------------------------------------------------------

    def under_way(self) -> list[RingDelivery]:
        """Return what an ordered queue is sending, in the order in which it began."""
        return list(self.busy_keys.values())

    def begin_plainly(self, taken: int, sent: int) -> None:
        """Note that the hot path has popped some from `waiting`, and sent some of these."""
        self.in_flight += sent
        self._count(-taken)
        if not self.waiting:
            self.emptied()

    def begin(self, deliveries: Sequence[RingDelivery]) -> None:
        """Note that a request with these is sent."""
        self.in_flight += 1
        if self.endpoint.ordered:
            for delivery in deliveries:
                self.busy_keys[order_key(delivery)] = delivery

    def end(self, deliveries: Sequence[RingDelivery]) -> None:
        """Note that a request with these is over."""
        self.in_flight -= 1
        self.done += len(deliveries)
        if self.endpoint.ordered:
            for delivery in deliveries:
                self.busy_keys.pop(order_key(delivery), None)

    def suspend(self) -> None:
        """Send nothing more until it is configured again."""
        self.defers = "misconfigured"
        self.arrives_plainly = False

    def recount(self, requests: Sequence[RingDelivery | list[RingDelivery]]) -> None:
        """Take over what is under way, where an error left the counts in doubt."""
        self.in_flight = len(requests)
        if self.endpoint.ordered:
            found = [d for what in requests for d in (what if isinstance(what, list) else [what])]
            found.sort(key=attrgetter("taken_ns"))
            self.busy_keys = {order_key(delivery): delivery for delivery in found}


def event_id(delivery: RingDelivery) -> str:
    """Return the first part of its EventHead."""
    return delivery.event.split(b"\0", 1)[0].decode()


def traceparent_of(delivery: RingDelivery) -> str:
    """Return what a log line about the delivery names as its trace, or nothing."""
    return EventHead.traceparent_of(delivery.event)


def trace_of(delivery: RingDelivery) -> TraceContext | None:
    return EventHead.decode(delivery.event).trace


def order_key(delivery: RingDelivery) -> str:
    return EventHead.decode(delivery.event).order_key
