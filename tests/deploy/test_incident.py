"""Replayed incidents: the engine's own code under a clock that the test moves, the metrics that it
exports every 15 seconds, and what Prometheus makes of them.

A worker and the scheduler run in this process. The receiver is the test: it answers when it likes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from deploy.test_alerts import RULES
from fluxhook import Endpoint, Publisher, Retry, Size, stats
from fluxhook._native.ring import RingDelivery
from fluxhook.admin.metrics import Metrics
from fluxhook.transport import datadir as d
from fluxhook.transport.sender import Sender
from fluxhook.transport.transfer import STATUS, TOTAL_US, Transfer
from fluxhook.worker.worker import Worker
from support.prometheus import fired, scraped
from support.rig import seconds
from support.scheduler_harness import S, SchedulerHarness
from support.worker_harness import Handle, Wire

SCRAPE_S = 15
#: of the gateway's document: 15 s, 2 min, 10 min, 1 h
ENDPOINT = Endpoint(
    name="hooks",
    url="http://192.0.2.1/",
    signature="none",
    retry=Retry(schedule=tuple(map(seconds, (15, 120, 600, 3600)))),
)


class Gateway:
    """A host that emits, an engine, and a receiver. `fails` says whether an attempt fails, by the
    number of the event and that of the attempts before."""

    def __init__(self, folder: Path, fails: Callable[[int, int], bool]) -> None:
        self.harness = SchedulerHarness(folder / "data", ENDPOINT, ring_bytes=Size(2**22))
        datadir = self.harness.supervisor.datadir
        self._publisher = Publisher(datadir.path)
        self._control = os.pipe()
        self._worker = Worker(str(datadir.path), 0, self._control[0])
        self._dispatcher, self._wire = self._worker.dispatcher, Wire()
        self._dispatcher.senders.main.close()
        self._dispatcher.senders.main = cast(Sender, self._wire)
        for queue in self._dispatcher.queues.values():
            queue.sender = self._dispatcher.senders.main
        self._serving = d.FileLock(datadir.serving(0))
        self._arrive = self._dispatcher.arrive
        self._dispatcher.arrive = self._arrive_now  # type: ignore[method-assign]
        self._fails = fails
        self._emitted = 0
        self.scrapes: list[dict[str, float]] = []
        self.most_pending = 0

    def close(self) -> None:
        self._publisher.close()
        self._serving.release()
        self._worker.lock.release()
        self.harness.close()
        for fd in self._control:
            os.close(fd)

    @property
    def now_ns(self) -> int:
        return self.harness.now_ns

    def _arrive_now(self, deliveries: list[RingDelivery], now_ns: int) -> None:
        """Date what the publisher has put by the moved clock."""
        for delivery in deliveries:
            delivery.accepted_ns = now_ns
        self._arrive(deliveries, now_ns)

    def run(self, duration_s: int, *, events_per_s: int, latency_s: float = 0.0) -> None:
        """Let time pass, second by second; Prometheus comes by every 15."""
        for _ in range(duration_s):
            for _ in range(events_per_s):
                self._publisher.emit("order.paid", {"n": self._emitted})
                self._emitted += 1
            self._work(latency_s)
            if len(self.scrapes) * SCRAPE_S * S <= self.now_ns - self._began_ns:
                self._scrape()
            self.harness.now_ns += S

    def start(self) -> None:
        self._began_ns = self.now_ns

    def _work(self, latency_s: float) -> None:
        """Do all that can be done now."""
        moved = True
        while moved:
            moved = self._worker.take(self.now_ns)
            self._dispatcher.send(self.now_ns)
            for transfer in list(self._wire.under_way):
                if transfer.started_ns + int(latency_s * S) <= self.now_ns:
                    self._answer(transfer, latency_s)
                    moved = True
            self._worker.reporter.flush()
            self.harness.step()
            moved = moved or self._worker.inbox.next < self._worker.inbox.tail

    def _answer(self, transfer: Transfer, latency_s: float) -> None:
        _, delivery, *_ = transfer.tag
        number = msgspec.json.decode(delivery.body)["data"]["n"]
        status = 503 if self._fails(number, delivery.attempts) else 200
        total_us = int(latency_s * 1e6) or 20_000
        cast(Handle, transfer.curl).info.update({STATUS: status, TOTAL_US: total_us})
        self._wire.under_way.remove(transfer)
        self._dispatcher.collect([(transfer, 0, "")], self.now_ns)
        del (
            self._wire.transfers[:],
            self._wire.bodies[id(transfer)],
            self._wire.headers[id(transfer)],
        )

    def _scrape(self) -> None:
        """Take a page of metrics as Prometheus does."""
        page = Metrics(lambda: stats.read_stats(self.harness.path), 500).page().decode()
        self.scrapes.append(scraped(page))
        read = stats.read_stats(self.harness.path)
        self.most_pending = max(self.most_pending, read.pending)
        assert not read.problems

    def fired(self, folder: Path, *, since_s: int | None = None, at_s: int) -> set[str]:
        """Return the alerts that fire at a time, or at any time since another one."""
        alerts = fired(self.scrapes, RULES, folder, at_s=at_s, since_s=since_s, scrape_s=SCRAPE_S)
        return {alert["alertname"] for alert in alerts}


@pytest.fixture
def make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Callable[[int, int], bool]], Gateway]]:
    made: list[Gateway] = []

    def make(fails: Callable[[int, int], bool]) -> Gateway:
        gateway = Gateway(tmp_path, fails)
        made.append(gateway)
        monkeypatch.setattr(stats, "time", SimpleNamespace(time_ns=lambda: gateway.now_ns))
        gateway.start()
        return gateway

    yield make
    for gateway in made:
        gateway.close()


Make = Callable[[Callable[[int, int], bool]], Gateway]


def occasionally(number: int, attempts: int) -> bool:
    """One event in 50 needs a retry, and of these a few need two, three or four."""
    needed = (1, 1, 2, 1, 1, 3, 1, 2, 1, 4)[number // 50 % 10]
    return number % 50 == 0 and attempts < needed


def never(number: int, attempts: int) -> bool:
    return False


def test_a_healthy_hour_is_quiet(make: Make, tmp_path: Path) -> None:
    """Retries wait for 15 s, 2 min, 10 min and 1 h, which is what they are for: no alert fires at any
    time, and nothing is late."""
    gateway = make(occasionally)
    gateway.run(4500, events_per_s=3)
    scraped = gateway.scrapes[-1]
    failed = scraped[
        'fluxhook_delivery_attempts_failed_total{job="fluxhook",instance="gw",endpoint="hooks"}'
    ]
    assert failed > 300
    late = 'fluxhook_past_due_seconds{job="fluxhook",instance="gw",endpoint="hooks"}'
    assert max(values[late] for values in gateway.scrapes) <= 1
    oldest = 'fluxhook_oldest_pending_seconds{job="fluxhook",instance="gw",endpoint="hooks"}'
    assert max(values[oldest] for values in gateway.scrapes) > 3500
    assert gateway.fired(tmp_path, since_s=0, at_s=4490) == set()


def test_a_slow_receiver_is_told_within_a_minute(make: Make, tmp_path: Path) -> None:
    """It takes 4 s for each request, which took 20 ms, so that a backlog grows past 2,000. Within 60 s
    of the beginning an alert fires; when the receiver is well again, none does any more."""
    gateway = make(never)
    gateway.run(300, events_per_s=60)
    gateway.run(100, events_per_s=60, latency_s=4.0)
    assert gateway.most_pending > 2000
    gateway.run(500, events_per_s=60)
    assert (
        gateway.scrapes[-1][
            'fluxhook_pending{job="fluxhook",instance="gw",endpoint="hooks",where="store"}'
        ]
        == 0
    )
    assert gateway.fired(tmp_path, at_s=300) == set()
    assert gateway.fired(tmp_path, at_s=360) == {"FluxhookBacklogGrows"}
    assert gateway.fired(tmp_path, at_s=885) == set()
    assert gateway.fired(tmp_path, since_s=300, at_s=885) <= {
        "FluxhookBacklogGrows",
        "FluxhookQueueFills",
    }
