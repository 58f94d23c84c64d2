"""One endpoint inside one worker: what waits for it, what is under way, what each attempt needs."""

from __future__ import annotations

from collections import deque

from fluxhook._native.ring import Delivery
from fluxhook.config.schema import Endpoint
from fluxhook.config.units import Duration
from fluxhook.policy.aggregate import aggregates
from fluxhook.policy.signature import make_profile
from fluxhook.transport.curl import Target
from fluxhook.transport.records import EventHead

__all__ = ["Lane"]

#: a lane whose queue takes longer than this to empty is slow: the rest goes to the store
SLOW_NS = 250_000_000
#: what a slow lane still keeps at hand
SLOW_QUEUE = 16
#: a rate is measured over at least this long
_WINDOW_NS = 50_000_000

_CONTENT_TYPES = {"cloudevents": b"Content-Type: application/cloudevents+json"}


class Lane:
    """The queue and the limits of one endpoint.

    An ordered lane sends one delivery at a time for each order key. With `on_head_failure: block`
    its order lives in one place at a time: as long as the store has deliveries of it, what arrives
    goes to the store too, behind them (`Worker`, which can see the store's word).
    """

    def __init__(self, endpoint_id: int, endpoint: Endpoint, limit: int) -> None:
        self.id = endpoint_id
        self.queue: deque[Delivery] = deque()
        self.in_flight = 0
        self.done = 0
        self.slow = False
        #: not before this time, because of the rate limit
        self.blocked_until_ns = 0
        #: order keys under way, oldest first
        self.busy_keys: dict[str, Delivery] = {}
        #: sequence number, in the outbox, of what was last handed to the store
        self.handed_over = -1
        self._mark_ns = 0
        self._mark_done = 0
        self.configure(endpoint, limit)

    def configure(self, endpoint: Endpoint, limit: int) -> None:
        """Takes over a changed endpoint; what waits and what is under way stays."""
        self.endpoint = endpoint
        self.limit = limit
        self.retry_on = frozenset(endpoint.retry.retry_on)
        self.ttl_ns = endpoint.ttl.ns if endpoint.ttl else 0
        self.max_payload = int(endpoint.max_payload) if endpoint.max_payload else 0
        #: past the endpoint's own timeout, so that a live probe is not taken for lost
        self.probe_timeout_ns = 2 * endpoint.timeout.ns + 1_000_000_000
        self.profile = make_profile(endpoint.signature, endpoint.secrets)
        self.needs_event_id = endpoint.signature == "standard"
        self.aggregating = endpoint.aggregate.window is not None
        self.records = endpoint.record == "all"
        self.target = Target(
            endpoint.url,
            timeout_ms=_whole_ms(endpoint.timeout),
            connect_timeout_ms=_whole_ms(min(endpoint.connect_timeout, endpoint.timeout)),
            proxy=endpoint.proxy,
        )
        self.headers = [
            _CONTENT_TYPES.get(endpoint.envelope, b"Content-Type: application/json"),
            b"Expect:",  # no 100-continue round trip for large bodies
            *(f"{name}: {value}".encode() for name, value in endpoint.headers.items()),
        ]

    def gathers(self, delivery: Delivery) -> bool:
        """Whether the delivery goes into the endpoint's window of aggregation."""
        return aggregates(self.endpoint.aggregate, EventHead.decode(delivery.event).type)

    @property
    def blocks(self) -> bool:
        """Whether a failing head holds back what is behind it."""
        return self.endpoint.ordered and self.endpoint.on_head_failure == "block"

    def request_headers(self, delivery: Delivery, now_s: int) -> list[bytes]:
        """The header lines of an attempt that is signed now."""
        event_id = delivery.event.split(b"\0", 1)[0].decode() if self.needs_event_id else ""
        return self.headers + self.profile.headers(event_id, now_s, delivery.body)

    def next(self) -> Delivery | None:
        """Takes from the queue the next delivery that may go as far as the order is concerned."""
        if not self.endpoint.ordered:
            return self.queue.popleft() if self.queue else None
        for i, delivery in enumerate(self.queue):
            if order_key(delivery) not in self.busy_keys:
                del self.queue[i]
                return delivery
        return None

    def under_way(self) -> list[Delivery]:
        """What an ordered lane is sending, in the order in which it began."""
        return list(self.busy_keys.values())

    def begin(self, delivery: Delivery) -> None:
        self.in_flight += 1
        if self.endpoint.ordered:
            self.busy_keys[order_key(delivery)] = delivery

    def end(self, delivery: Delivery) -> None:
        self.in_flight -= 1
        self.done += 1
        if self.endpoint.ordered:
            self.busy_keys.pop(order_key(delivery), None)

    def judge(self, now_ns: int) -> bool:
        """Whether the lane is slow: at its present rate the queue lasts longer than SLOW_NS."""
        elapsed_ns = now_ns - self._mark_ns
        if elapsed_ns >= _WINDOW_NS:
            finished = self.done - self._mark_done
            fresh = elapsed_ns > 20 * _WINDOW_NS  # nobody looked for long: no rate to go by
            self._mark_ns, self._mark_done = now_ns, self.done
            if not fresh:
                self.slow = len(self.queue) * elapsed_ns > SLOW_NS * finished
        return self.slow


def order_key(delivery: Delivery) -> str:
    return EventHead.decode(delivery.event).order_key


def _whole_ms(duration: Duration) -> int:
    """Milliseconds for libcurl, rounded up: 0 would mean no limit."""
    return -(-duration.ns // 1_000_000)
