"""What the rings carry: an event's head, a worker's report, a delivery that is due.

A ring record has a list of targets (endpoint ids), a head and a body. The body is always the
envelope, byte for byte as it is sent; the head depends on the ring:

    publisher -> worker   EventHead
    worker -> scheduler   Report (its own targets are not used)
    scheduler -> worker   DueHead
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec

from fluxhook.events.event import Event, order_key_of
from fluxhook.events.trace_context import TraceContext
from fluxhook.text import decoded

__all__ = [
    "DEFERRED",
    "SUSPECT_NS",
    "TAKEN_OVER",
    "Attempt",
    "DueHead",
    "EventHead",
    "Report",
    "Verdict",
]

#: when a delivery at which a worker may have ended is tried at the latest; arbitrary, a thousand take
#: about as long one after the other
SUSPECT_NS = 60_000_000_000

#: of the head of an event without a trace context
_PLAIN_FIELDS: Final = 4

# gc=False: these hold nothing that could refer back to them, so the collector need not look.


class EventHead(NamedTuple):
    """What a worker must know of an event beside its body. No field can contain NUL."""

    event_id: str
    type: str
    topic: str = ""
    order_key: str = ""
    # Only where the event has a trace context (events/trace_context.py); `tracestate` may be empty.
    traceparent: str = ""
    tracestate: str = ""

    @classmethod
    def of(cls, event: Event, order_field: str | None) -> EventHead:
        """Return the head of an event for endpoints that keep the order of a field's values, if any."""
        key = order_key_of(event, order_field) if order_field else ""
        return cls(event.id, event.type, event.topic or "", key, *(event.trace or ()))

    def encode(self) -> bytes:
        return "\0".join(self if self.traceparent else self[:_PLAIN_FIELDS]).encode()

    @classmethod
    def decode(cls, head: bytes) -> EventHead:
        return cls(*head.decode().split("\0"))

    @staticmethod
    def traceparent_of(head: bytes) -> str:
        """Return the trace of which a log line about an event tells; empty where there is none, or the
        head cannot be read."""
        *_, traceparent, _ = [b"", b"", *head.split(b"\0")[_PLAIN_FIELDS:]]
        return decoded(traceparent)

    @property
    def trace(self) -> TraceContext | None:
        return TraceContext(self.traceparent, self.tracestate) if self.traceparent else None


class Attempt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One HTTP request and what came of it, as libcurl measured it.

    `status` is 0 where no status line arrived. Times are microseconds since the attempt began, in
    libcurl's order; 0 where the stage did not happen. `started_ns` is engine time in a report, and
    wall time in the store.
    """

    started_ns: int
    status: int
    cause: str
    error: str = ""
    dns_us: int = 0
    connect_us: int = 0
    tls_us: int = 0
    first_byte_us: int = 0
    total_us: int = 0
    retry_after_s: int | None = None
    #: the first bytes of the answer
    answer: bytes = b""
    worker: int = 0


# Older words than those of the code: a report in an outbox may be of a version before this one.
DEFERRED: Final = "parked"
TAKEN_OVER: Final = "adopted"

#: delivered: settled with success. retry: failed, another attempt is wanted. dead: failed for good.
#: DEFERRED: not attempted (breaker open, endpoint paused, over its share). TAKEN_OVER: still being
#: attempted, but the store keeps it from now on. dropped: by a policy that `cause` names. aggregated:
#: not attempted, it goes into the endpoint's window.
Verdict = Literal["delivered", "retry", "dead", "parked", "adopted", "dropped", "aggregated"]


class Report(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a worker tells the scheduler about one delivery (one event for one endpoint).

    `delivery_id` is the store's row. A worker chooses the id of a delivery that the store does not
    know yet, and sends its `event` head and body with the first report; later ones leave both empty.
    """

    delivery_id: int
    endpoint: int
    verdict: Verdict
    cause: str
    event: bytes = b""
    accepted_ns: int = 0
    attempts: int = 0
    attempt: Attempt | None = None
    #: earliest next attempt, in engine time (0: as the retry policy says, or at once for DEFERRED)
    not_before_ns: int = 0


class DueHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A stored delivery on its way to a worker."""

    delivery_id: int
    attempts: int
    accepted_ns: int
    event: bytes
    #: the last attempt got no answer, so the next one goes over a new connection
    fresh: bool = False
    #: a worker ended while it had this one at hand, among others
    suspect: bool = False
