"""A worker and the scheduler in this process, over a network that the test plays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import pycurl

from fluxhook import Endpoint
from fluxhook._native import shared
from fluxhook.events.trace_context import TraceContext
from fluxhook.transport import datadir as d
from fluxhook.transport.sender import Sender
from fluxhook.transport.target import Target
from fluxhook.transport.transfer import STATUS, TOTAL_US, Transfer
from fluxhook.worker.dispatcher import Dispatcher
from fluxhook.worker.endpoint_queue import EndpointQueue
from fluxhook.worker.stage_timings import StageTimings
from support.scheduler_harness import SchedulerHarness

__all__ = ["WORKER", "Wire", "WorkerHarness"]

#: what the worker is called in its attempts
WORKER = 3


class Handle:
    """What libcurl says of a request."""

    def __init__(self) -> None:
        self.info: dict[int, Any] = {}

    def setopt(self, *_: object) -> None: ...

    def getinfo(self, what: int) -> Any:
        return self.info.get(what, 0)


class Wire:
    """In place of a `Sender`: requests are under way until the test ends them."""

    def __init__(self, size: int = 1024) -> None:
        self.size = size
        self.queued = False
        #: what was sent and has not ended, oldest first, and each body and header lines
        self.under_way: list[Transfer] = []
        self.transfers: list[Transfer] = []
        self.bodies: dict[int, bytes] = {}
        self.headers: dict[int, list[bytes]] = {}
        self.heeded: list[bool] = []
        self.distrusted: list[Target] = []
        self.released: list[Transfer] = []

    @property
    def in_flight(self) -> int:
        return len(self.under_way)

    def send(
        self, target: Target, headers: list[bytes], body: bytes, tag: Any, now_ns: int
    ) -> None:
        transfer = Transfer(cast(Any, Handle()))
        transfer.target, transfer.tag, transfer.started_ns = target, tag, now_ns
        self.under_way.append(transfer)
        self.transfers.append(transfer)
        self.bodies[id(transfer)] = body
        self.headers[id(transfer)] = headers
        self.queued = True

    def start(self) -> None:
        self.queued = False

    def tags(self) -> list[Any]:
        return [transfer.tag for transfer in self.transfers if transfer.tag is not None]

    def heed(self, target: Target, heeded: bool) -> None:
        self.heeded.append(heeded)

    def distrust(self, target: Target) -> None:
        self.distrusted.append(target)

    def release(self, transfer: Transfer) -> None:
        transfer.tag = None
        self.released.append(transfer)

    def close(self) -> None: ...


class WorkerHarness:
    """A worker's dispatcher, results and reports, and the scheduler of a `SchedulerHarness`."""

    def __init__(self, path: Path, *endpoints: Endpoint, **options: Any) -> None:
        self.harness = SchedulerHarness(path / "data", *endpoints, **options)
        self.wire = Wire()
        self.counters = self.harness.reporter.counters
        self.stages = shared.Counters(
            str(path / "stages"), self.counters.rows, d.STAGE_FIELDS, writable=True
        )
        words, clock = self.harness.words, self.harness.supervisor.clock
        self.dispatcher = Dispatcher(
            words,
            self.counters,
            StageTimings(self.counters, self.stages, clock),
            self.harness.reporter,
            WORKER,
            lambda address: None,
            clock,
        )
        self.dispatcher.senders.main.close()
        self.dispatcher.senders.main = cast(Sender, self.wire)
        for id, endpoint in enumerate(endpoints):
            self.dispatcher.configure(id, endpoint, endpoint.concurrency)

    def __enter__(self) -> WorkerHarness:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.harness.close()

    def queue(self, endpoint: int = 0) -> EndpointQueue:
        return self.dispatcher.queues[endpoint]

    # ---- what happens ----------------------------------------------------------------------

    def emit(
        self,
        *event_ids: str,
        endpoint: int = 0,
        send: bool = True,
        trace: TraceContext | None = None,
    ) -> list[Transfer]:
        """Has events arrive from a publisher; returns the requests that this makes."""
        fresh = [
            self.harness.fresh(
                id, body=b'{"id": "%s"}' % id.encode(), endpoint=endpoint, trace=trace
            )
            for id in event_ids
        ]
        self.dispatcher.arrive(fresh, self.harness.now_ns)
        return self.send() if send else []

    def send(self) -> list[Transfer]:
        """Return what may go now."""
        before = len(self.wire.under_way)
        self.dispatcher.send(self.harness.now_ns)
        return self.wire.under_way[before:]

    def answer(
        self,
        transfer: Transfer,
        status: int = 0,
        code: int = 0,
        message: str = "",
        *,
        body: bytes = b"",
        denied: str = "",
        opened: bool = False,
        total_us: int = 1000,
        **info: int,
    ) -> None:
        """End a request: with a status, with an error of libcurl's, or because it was denied."""
        cast(Handle, transfer.curl).info.update(
            {STATUS: status, TOTAL_US: total_us, pycurl.REQUEST_SIZE: 1}
            | {getattr(pycurl, name): value for name, value in info.items()}
        )
        transfer.answer = [body[:9], body[9:]]  # in two pieces, as it may arrive
        transfer.denied, transfer.opened = denied, opened
        self.wire.under_way.remove(transfer)
        self.dispatcher.collect([(transfer, code, message)], self.harness.now_ns)

    def step(self) -> list[Transfer]:
        """The scheduler's turn, and the requests for what it handed out."""
        self.harness.step()
        for delivery in self.harness.inbox.take(1000):
            self.dispatcher.arrive_due(delivery, self.harness.now_ns)
        return self.send()

    def until_due(self) -> list[Transfer]:
        """Move the clock to whenever the scheduler asks to be called, until that makes a request."""
        for _ in range(10_000):
            if transfers := self.step():
                return transfers
            self.harness.now_ns = max(self.harness.wake_ns, self.harness.now_ns + 1)
        raise AssertionError("nothing was ever due")

    def when(self, condition: Callable[[], bool]) -> None:
        """Step until the condition holds."""
        for _ in range(100):
            if condition():
                return
            self.step()
        raise AssertionError("it never held")

    # ---- what came of it -------------------------------------------------------------------

    def count(self, field: int, endpoint: int = 0) -> int:
        return self.counters.get(endpoint, field)

    def latencies(self, endpoint: int = 0) -> int:
        """Return how many the histogram has."""
        return sum(self.counters.row(endpoint)[d.HISTOGRAM :])
