"""A supervisor whose only worker is the test, under a clock that the test moves."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from fluxhook import Config, Endpoint
from fluxhook._native import ring, shared
from fluxhook.control import Origin, Request
from fluxhook.events.trace_context import TraceContext
from fluxhook.store import DeliveryStore
from fluxhook.supervisor.supervisor import Supervisor
from fluxhook.transport import datadir as d
from fluxhook.transport.messages import Attempt, DueHead, EventHead, Verdict
from fluxhook.worker.reporter import Reporter

__all__ = ["HOUR", "S", "SchedulerHarness"]

S = 1_000_000_000
HOUR = 3600 * S

R = TypeVar("R", bound=msgspec.Struct)


class SchedulerHarness:
    """It reports what it likes, takes what is due, and asks for changes. No process is started."""

    def __init__(self, path: Path, *endpoints: Endpoint, **options: Any) -> None:
        self.path = path
        source = path.with_name("source.ring")
        if not source.exists():
            ring.create_ring(str(source), 16_384, 1 << 23, os.urandom(16))
        self._producer = ring.Producer(str(source))
        #: takes what `fresh` has put
        self.consumer = ring.Consumer(str(source))
        #: delivery ids, and what is asked for, carry the real time, so the moved clock begins there
        self.now_ns = time.time_ns() + 60 * S
        #: of the configuration, from the next start on
        self.options = options
        self._endpoints = endpoints
        self.open()

    def open(self) -> None:
        """Start an engine, the first or another one."""
        path = self.path
        config = Config(endpoints=self._endpoints, workers=1, **self.options)
        self.supervisor = Supervisor(path, config)
        self.scheduler = self.supervisor.scheduler
        own = self.supervisor.datadir.worker(0)
        #: what the worker counts
        self.counters = shared.Counters(str(own / "counters"), writable=True)
        outbox = ring.Producer(str(own / "outbox.ring"))
        self.reporter = Reporter(outbox, self.counters, 0, self.supervisor.clock)
        self.inbox = ring.Consumer(str(own / "inbox.ring"))
        self.inbox.rewind()
        self.wake_ns = 0

    @property
    def words(self) -> shared.Words:
        """The words that the workers share."""
        return self.supervisor.words.matrix

    @property
    def store(self) -> DeliveryStore:
        return self.supervisor.store

    def close(self) -> None:
        self.supervisor.close()

    def reopen(self, *endpoints: Endpoint) -> None:
        """The next engine on the data directory, with other endpoints of the file if they are given."""
        self.close()
        self._endpoints = endpoints or self._endpoints
        self.open()

    def __enter__(self) -> SchedulerHarness:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, request: Request, kind: type[R]) -> R:
        """As if it had come through the control socket."""
        answer = self.supervisor.listener.apply(request, Origin("tester", "api"))
        assert isinstance(answer, kind)
        return answer

    def endpoint(self, name: str) -> Endpoint:
        """As the processes have it now."""
        (found,) = (e for e in self.supervisor.snapshot.config.endpoints if e.name == name)
        return found

    def step(self) -> None:
        """All that the scheduler has to do now."""
        for _ in range(20):
            self.wake_ns = self.scheduler.step(self.now_ns)
            if self.wake_ns > self.now_ns and not self.scheduler.busy:
                break

    # ---- a worker's part -------------------------------------------------------------------

    def fresh(
        self,
        event_id: str,
        type: str = "route.error",
        body: bytes = b"{}",
        endpoint: int = 0,
        trace: TraceContext | None = None,
    ) -> ring.RingDelivery:
        """A record as a publisher puts it, in the test's hands."""
        head = EventHead(event_id, type, "", "", *(trace or ())).encode()
        assert self._producer.put(endpoint.to_bytes(4, "little"), head, body) == ring.ACCEPTED
        (delivery,) = self.consumer.take(1)
        delivery.accepted_ns = self.now_ns
        return delivery

    def first_failure(self, event_id: str, body: bytes = b"{}") -> None:
        """Hand over an event whose first attempt fails now."""
        self.fail(self.fresh(event_id, body=body))

    def fail(
        self,
        delivery: ring.RingDelivery,
        verdict: Verdict = "retry",
        cause: str = "server_error",
        status: int = 503,
    ) -> None:
        self.reporter.report(delivery, verdict, cause, self.attempt(cause, status))
        self.step()

    def attempt(self, cause: str = "server_error", status: int = 503) -> Attempt:
        """One that ends now and took three seconds."""
        return Attempt(self.now_ns - 3 * S, status, cause, "no", total_us=3_000_000)

    def gather(self, event_id: str, type: str = "service.5xx", body: bytes = b"{}") -> None:
        """Report an event of an aggregating endpoint, without a step."""
        self.reporter.report(self.fresh(event_id, type, body), "aggregated", "")

    def due(self) -> list[ring.RingDelivery]:
        """Return what the scheduler hands out now, as the worker's dispatcher understands it."""
        self.step()
        return self.take()

    def take(self) -> list[ring.RingDelivery]:
        """Return what the scheduler has handed out, without a step."""
        taken = self.inbox.take(100)
        for delivery in taken:
            head = msgspec.msgpack.decode(delivery.event, type=DueHead)
            delivery.id, delivery.attempts = head.delivery_id, head.attempts
        return taken

    def sleep_until_due(self) -> list[ring.RingDelivery]:
        """Move the clock to whenever the scheduler asks to be called, until it hands something out."""
        for _ in range(200_000):
            if taken := self.due():
                return taken
            self.now_ns = max(self.wake_ns, self.now_ns + 1)
        raise AssertionError("nothing was ever due")

    # ---- what came of it -------------------------------------------------------------------

    def emitted(self, type: str) -> list[dict[str, Any]]:
        """The data of each event of the engine's own that waits for a worker."""
        consumer = ring.Consumer(str(d.DataDir(self.path).rings / "engine" / "0.ring"))
        consumer.rewind()
        events = [json.loads(delivery.body) for delivery in consumer.take(1000)]
        consumer.close()
        return [event["data"] for event in events if event["type"] == type]

    def word(self, endpoint: int, field: int, value: int | None = None) -> int:
        """A word that the workers share, or sets it."""
        words = self.words
        if value is not None:
            words.store(endpoint, field, value)
        return words.load(endpoint, field)
