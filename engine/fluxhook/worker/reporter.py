"""A worker's reports to the scheduler: the outbox ring, and what did not fit into it yet."""

from __future__ import annotations

import time
from collections import deque

import msgspec

from fluxhook._native.ring import FULL, TOO_LARGE, UNSYNCED, Producer, RingDelivery
from fluxhook._native.shared import Counters
from fluxhook.logs.log import Log
from fluxhook.store.delivery_id import DeliveryIds
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.messages import Attempt, EventHead, Report, Verdict

__all__ = ["NO_ENDPOINT", "Reporter"]

log = Log("worker")

#: Reports that wait for room, and bodies of theirs, before a worker takes nothing new. Arbitrary: as
#: many as the outbox holds, and half of a publisher's ring, where all of them stand as well.
MOST_WAITING, MOST_WAITING_BYTES = 16_384, 32 << 20
#: after the disk failed to sync the outbox
SYNC_BACKOFF_S = 0.5
#: the ring target of a report about a delivery that the store counts already
NO_ENDPOINT = 0xFFFF_FFFF


class Reporter:
    """Hands deliveries over to the scheduler; see `HAND_OVER` in counters.h for what a crash leaves.

    While the outbox is full, or under `durability: power` cannot be synced, it is `stuck`: the reports
    wait here in their order, and what they report keeps its place in its ring. The worker then begins
    nothing whose end needs the store, and once too many wait it takes nothing new at all.
    """

    def __init__(
        self, outbox: Producer, counters: Counters, worker: int, clock: EngineClock
    ) -> None:
        self.outbox = outbox
        #: those of the worker
        self.counters = counters
        self._ids = DeliveryIds(worker)
        self._clock = clock
        #: writes a report
        self.encode = msgspec.msgpack.Encoder().encode
        self._waiting: deque[tuple[RingDelivery, int, bytes, bytes]] = deque()
        self._waiting_bytes = 0
        #: whether any wait
        self.stuck = False
        #: the first that waits stands in the outbox, and is not on the disk
        self._unsynced = False
        self._sync_at = 0.0

    @property
    def overfull(self) -> bool:
        """Too many wait for the worker to take more."""
        return len(self._waiting) >= MOST_WAITING or self._waiting_bytes >= MOST_WAITING_BYTES

    def report(
        self,
        delivery: RingDelivery,
        verdict: Verdict,
        cause: str,
        attempt: Attempt | None = None,
        not_before_ns: int = 0,
    ) -> int:
        """Make the scheduler the owner of the delivery, or tell it what became of one that it owns.

        Returns the sequence number that the report has, or will have, in the outbox.
        """
        new = delivery.id == 0
        id = delivery.id or self._ids.next(self._clock.now_ns())
        head = self.encode(
            Report(
                delivery_id=id,
                endpoint=delivery.endpoint,
                verdict=verdict,
                cause=cause,
                event=delivery.event if new else b"",
                accepted_ns=delivery.accepted_ns if new else 0,
                attempts=delivery.attempts,
                attempt=attempt,
                not_before_ns=not_before_ns,
            )
        )
        delivery.id = id
        target = delivery.endpoint if new else NO_ENDPOINT
        entry = (delivery, target, head, delivery.body if new else b"")
        if self.stuck or not self._put(entry):
            self.stuck = True
            self._waiting.append(entry)
            self._waiting_bytes += len(delivery.body)
        return self.outbox.tail + len(self._waiting) - self._unsynced - 1

    def flush(self) -> None:
        """Send what waits, as far as it fits now."""
        if self._unsynced and time.monotonic() < self._sync_at:
            return
        while self._waiting and self._put(self._waiting[0]):
            delivery, *_ = self._waiting.popleft()
            self._waiting_bytes -= len(delivery.body)
        self.stuck = bool(self._waiting)

    def _put(self, entry: tuple[RingDelivery, int, bytes, bytes]) -> bool:
        delivery, target, head, body = entry
        result = delivery.hand_over(self.outbox, target, head, body, self.counters)
        if result == TOO_LARGE:
            head = self._without_body(head, len(body))
            result = delivery.hand_over(self.outbox, target, head, b"", self.counters)
        if result == UNSYNCED:
            self._sync_at = time.monotonic() + SYNC_BACKOFF_S
            if not self._unsynced:
                log.error(
                    "%s cannot be synced: what it reports stays where it is, and whatever needs the "
                    "store waits, until it can",
                    self.outbox.path,
                )
        elif self._unsynced:
            log.info("%s is synced again", self.outbox.path)
        self._unsynced = result == UNSYNCED
        return result not in (FULL, UNSYNCED)

    def _without_body(self, head: bytes, size: int) -> bytes:
        """Return the report instead of one that no room will ever be for: the event was accepted
        while `max_event_bytes` was larger, and if it is not delivered, it is lost."""
        report = msgspec.msgpack.decode(head, type=Report)
        if report.verdict in ("delivered", "dropped"):
            return head
        log.error(
            "an event of endpoint %d is dropped, %d bytes are too many for %s: raise max_event_bytes",
            report.endpoint, size, self.outbox.path, traceparent=EventHead.traceparent_of(report.event),
        )  # fmt: skip
        return self.encode(
            msgspec.structs.replace(report, verdict="dropped", cause="payload_too_large")
        )
