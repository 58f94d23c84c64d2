"""An error in the work for one endpoint ends at that endpoint: the others get all of their events."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from fluxhook import Aggregate, Batch, Endpoint, Retry
from fluxhook._native import shared
from fluxhook.errors import PayloadTooLarge
from fluxhook.events.factory import EventFactory
from fluxhook.policy import batch as batches
from fluxhook.policy import delivery as life
from fluxhook.publisher.event_filter import EventFilter
from fluxhook.publisher.publisher import Publisher
from fluxhook.scheduler import reports
from fluxhook.scheduler.endpoints import FAULT_BACKOFF_NS
from fluxhook.stats import EndpointStats, read_stats
from fluxhook.store import DeliveryTransaction, State, StoreError
from fluxhook.transport import build as transport_build
from fluxhook.transport import datadir as d
from fluxhook.transport.process import described
from fluxhook.transport.transfer import Transfer
from fluxhook.worker import dispatcher as dispatch
from fluxhook.worker import endpoint_queue as queue
from fluxhook.worker import results
from fluxhook.worker.dispatcher import Dispatcher
from fluxhook.worker.endpoint_queue import EndpointQueue
from fluxhook.worker.stage_timings import StageTimings
from support.receiver import ReceiverProcess
from support.rig import Rig, seconds, until
from support.scheduler_harness import S, SchedulerHarness

EVENTS = 40


class Odd(Exception):
    """What is raised; its text cannot be encoded as it is."""

    def __init__(self) -> None:
        super().__init__("odd \udcff")


def fail(*_: object, **__: object) -> NoReturn:
    raise Odd


class Bench:
    """A dispatcher in this process, over a real receiver and the scheduler of a `SchedulerHarness`."""

    def __init__(self, path: Path, receiver: ReceiverProcess, **odd: Any) -> None:
        def endpoint(name: str, **options: Any) -> Endpoint:
            defaults: dict[str, Any] = {"signature": "none", "retry": Retry(max_attempts=2)}
            url = f"{receiver.url}/{name}"
            return Endpoint(name=name, url=url, **(defaults | options))

        self.receiver = receiver
        self.endpoints = (endpoint("healthy"), endpoint("odd", **odd))
        self.harness = SchedulerHarness(
            path / "data", *self.endpoints, allow_networks=("127.0.0.0/8",)
        )
        counters = self.harness.reporter.counters
        histograms = shared.Counters(
            str(path / "stages"), counters.rows, d.STAGE_FIELDS, writable=True
        )
        words, clock = self.harness.words, self.harness.supervisor.clock
        stages, reporter = StageTimings(counters, histograms, clock), self.harness.reporter
        self.dispatcher = Dispatcher(
            words, counters, stages, reporter, 0, lambda address: None, clock
        )
        self.now_ns = clock.now_ns
        self.configure()

    def configure(self) -> None:
        for id, endpoint in enumerate(self.endpoints):
            self.dispatcher.configure(id, endpoint, 8)

    @property
    def odd(self) -> EndpointQueue:
        return self.dispatcher.queues[1]

    def run(self, events: int = EVENTS) -> None:
        """Events for both endpoints, in turn, until none is with the worker any more."""
        fresh = [
            self.harness.fresh(f"evt_{i}-{id}", body=b'{"id": "evt_%d-%d"}' % (i, id), endpoint=id)
            for i in range(events)
            for id in (0, 1)
        ]
        self.dispatcher.arrive(fresh, self.now_ns())
        end = time.monotonic() + 20
        while not self.dispatcher.idle:
            assert time.monotonic() < end
            self.dispatcher.send(self.now_ns())
            finished = self.dispatcher.senders.main.step(self.dispatcher.senders.wait_s(0.01))
            self.dispatcher.collect(finished, self.now_ns())
        self.harness.step()

    def stats(self, name: str = "odd") -> EndpointStats:
        return read_stats(self.harness.path).endpoint(name)

    def close(self) -> None:
        self.dispatcher.senders.close()
        self.harness.close()


@pytest.fixture
def bench(
    tmp_path: Path, receiver: ReceiverProcess, request: pytest.FixtureRequest
) -> Iterator[Bench]:
    bench = Bench(tmp_path, receiver, **getattr(request, "param", {}))
    try:
        yield bench
    finally:
        bench.close()


# ---- a worker ------------------------------------------------------------------------------

Inject = Callable[[Bench, pytest.MonkeyPatch], None]


def sign(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.odd.sign = fail


def compress(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MIN_BYTES", 1)
    bench.odd.compress = fail


def encode(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "join", fail)


def set_option(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.odd.target.url = object()  # type: ignore[assignment]


def add_handle(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = bench.dispatcher.senders.main
    real = sender.add_handle

    def add(handle: Any) -> None:
        if sender.transfers[handle].tag[0] is bench.odd:
            raise Odd
        real(handle)

    monkeypatch.setattr(sender, "add_handle", add)


def read_answer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = StageTimings.finished

    def finished(self: StageTimings, queue: EndpointQueue, transfer: Transfer) -> None:
        if queue is bench.odd:
            raise Odd
        real(self, queue, transfer)

    monkeypatch.setattr(StageTimings, "finished", finished)
    monkeypatch.setattr("fluxhook.transport.datadir.SAMPLED_ONE_IN", 1)


def settle(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Transfer.attempt

    def attempt(self: Transfer, cause: Any, *more: Any) -> Any:
        return fail() if cause == "delivered" else real(self, cause, *more)

    monkeypatch.setattr(Transfer, "attempt", attempt)


def read_batch(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "halves", fail)


ORDERED = {"ordered": True, "on_head_failure": "park"}
BATCHED = {"batch": Batch(max_events=4, max_delay=seconds(0.005))}


@pytest.mark.parametrize(
    ("bench", "inject"),
    [
        ({}, sign),
        (ORDERED, sign),
        ({"compression": "gzip"}, compress),
        (BATCHED, encode),
        ({}, set_option),
        (ORDERED, set_option),
        ({}, add_handle),
        (BATCHED, add_handle),
        ({}, read_answer),
        (ORDERED, read_answer),
        ({"record": "all"}, settle),
        (BATCHED, read_batch),
    ],
    indirect=["bench"],
)
def test_each_step_of_a_worker(
    bench: Bench, inject: Inject, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each delivery has an attempt with the cause `internal`, is counted, and tried again; the log has
    one traceback, not one for each."""
    inject(bench, monkeypatch)
    with caplog.at_level(logging.ERROR, "fluxhook"):
        bench.run()
    assert bench.receiver.distinct("/healthy") == EVENTS
    odd = bench.stats()
    assert (odd.faults, odd.failed_attempts, odd.stored) == (EVENTS, EVENTS, EVENTS)
    assert odd.last_error is not None
    assert odd.last_error.cause == "internal"
    assert bench.odd.in_flight == 0
    assert not bench.odd.busy_keys
    (record,) = caplog.records
    assert "endpoint odd" in record.getMessage()
    monkeypatch.undo()
    for row in bench.harness.store.pending_since(2**62, 1000):
        assert (row.cause, row.attempts, row.endpoint) == ("internal", 1, 1)


def test_what_cannot_be_built(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint queue hands its events to the store, and the supervisor is told."""
    real = transport_build.build

    def build(endpoint: Endpoint) -> Any:
        return fail() if endpoint.name == "odd" else real(endpoint)

    monkeypatch.setattr(dispatch, "build", build)
    bench.endpoints = (bench.endpoints[0], Endpoint(name="odd", url="http://127.0.0.1/"))
    bench.configure()
    assert bench.harness.word(1, d.UNBUILT) == 1
    bench.run()
    assert bench.receiver.distinct("/healthy") == EVENTS
    assert (bench.stats().stored, bench.stats().faults) == (EVENTS, 0)


@pytest.mark.parametrize("bench", [ORDERED], indirect=True)
def test_an_error_of_no_delivery(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it cannot be told which delivery is at fault, the endpoint queue sends nothing more."""
    monkeypatch.setattr(queue, "order_key", fail)
    bench.run()
    assert bench.receiver.distinct("/healthy") == EVENTS
    assert bench.stats().stored == EVENTS
    assert bench.odd.defers == "misconfigured"
    assert bench.harness.word(1, d.UNBUILT) == 1


@pytest.mark.parametrize(
    "bench", [{"aggregate": Aggregate(window=seconds(60), types=("route.error",))}], indirect=True
)
def test_an_arrival(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def aggregates(aggregate: Aggregate, event_type: str) -> bool:
        if aggregate == bench.odd.endpoint.aggregate:
            fail()
        return False

    monkeypatch.setattr(queue, "aggregates", aggregates)
    bench.run()
    assert bench.receiver.distinct("/healthy") == EVENTS
    assert (bench.stats().faults, bench.stats().stored) == (EVENTS, EVENTS)


def test_a_report_that_cannot_be_made_stays_in_its_ring(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not lost: the next worker finds it there, as new as it was."""
    bench.odd.sign = fail
    real = bench.harness.reporter.encode
    monkeypatch.setattr(bench.harness.reporter, "encode", fail)
    bench.run(1)
    monkeypatch.setattr(bench.harness.reporter, "encode", real)
    consumer = bench.harness.consumer
    consumer.rewind()
    (left,) = consumer.take(10)
    assert (left.endpoint, left.id) == (1, 0)


def test_a_real_worker(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker ends, and the healthy endpoint has nothing twice."""
    (tmp_path / "sitecustomize.py").write_text(
        """
import sys
if "worker" in sys.argv or "worker" in sys.orig_argv:
    from fluxhook.worker.endpoint_queue import EndpointQueue
    real = EndpointQueue.request
    def request(self, delivery, now_s):
        if self.endpoint.name == "odd":
            raise RuntimeError("odd")
        return real(self, delivery, now_s)
    EndpointQueue.request = request
"""
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    odd = rig.endpoint("odd", retry=Retry(max_attempts=1))
    with rig.engine(rig.endpoint("healthy"), odd) as engine:
        for i in range(200):
            assert engine.emit("order.paid", {"i": i}) == 2
        until(lambda: engine.stats().endpoint("odd").dead == 200)
        rig.receiver.wait_for(200, "/healthy")
        stats = engine.stats()
    assert stats.endpoint("odd").faults == 200
    assert stats.endpoint("odd").last_error is not None
    assert all(endpoint.balance == 0 for endpoint in stats.endpoints)
    assert rig.receiver.total("/healthy") == 200


# ---- the scheduler ----------------------------------------------------------------------------

PLAIN = (
    Endpoint(name="healthy", url="https://a.example/", secrets=("s",)),
    Endpoint(name="odd", url="https://b.example/", secrets=("s",)),
)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SchedulerHarness]:
    with SchedulerHarness(tmp_path / "data", *PLAIN) as harness:
        yield harness


def report(harness: SchedulerHarness, n: int) -> None:
    for i in range(n):
        for id in (0, 1):
            delivery = harness.fresh(f"evt_{i}-{id}", endpoint=id)
            harness.reporter.report(delivery, "retry", "server_error", harness.attempt())


def test_a_report_that_raises(harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """It becomes a dead letter, which can be replayed; those around it are applied, once each."""
    real = life.step

    def step(before: Any, verdict: Any, now_ns: int, **more: Any) -> Any:
        return fail() if more["retry"].max_attempts == 77 else real(before, verdict, now_ns, **more)

    odd = Endpoint(
        name="odd", url="https://b.example/", secrets=("s",), retry=Retry(max_attempts=77)
    )
    harness.reopen(PLAIN[0], odd)
    monkeypatch.setattr(life, "step", step)
    report(harness, 5)
    for _ in range(10):
        harness.step()
    healthy, broken = (read_stats(harness.path).endpoint(name) for name in ("healthy", "odd"))
    assert (healthy.stored, healthy.failed_attempts, healthy.dead) == (5, 0, 0)
    assert (broken.stored, broken.dead, broken.faults) == (0, 5, 5)
    assert broken.queued == 0
    dead = [harness.store.delivery(row.id) for row in harness.store.expired(2**62, 10)]
    assert all(row and row.state == State.DEAD and row.cause == "internal" for row in dead)
    monkeypatch.undo()
    assert harness.scheduler.replay([row.id for row in dead if row], harness.now_ns) == 5


def test_a_report_of_which_nothing_can_be_made(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are kept, and its event counts as dropped, so that the books are right."""
    real = reports.decode_report

    def decode(head: bytes) -> Any:
        found = real(head)
        return fail() if found.endpoint == 1 else found

    monkeypatch.setattr(reports, "decode_report", decode)
    report(harness, 3)
    for _ in range(10):
        harness.step()
    healthy, broken = (read_stats(harness.path).endpoint(name) for name in ("healthy", "odd"))
    assert (healthy.stored, healthy.faults) == (3, 0)
    assert broken.dropped == {"unreadable": 3}
    assert broken.queued == broken.stored == 0
    assert len(list((harness.path / "damaged").glob("*.report"))) == 3


def test_a_value_that_the_store_does_not_take(harness: SchedulerHarness) -> None:
    """A commit that raises is no end of the others either."""
    harness.reporter.report(harness.fresh("evt_0"), "parked", "paused", not_before_ns=2**63 - 1)
    attempt = harness.attempt()
    delivery = harness.fresh("evt_1", endpoint=1)
    delivery.accepted_ns = 2**64 - 1
    harness.reporter.report(delivery, "retry", "server_error", attempt)
    harness.reporter.report(harness.fresh("evt_2"), "retry", "server_error", attempt)
    for _ in range(10):
        harness.step()
    stats = read_stats(harness.path)
    assert stats.endpoint("healthy").stored == 2
    assert stats.endpoint("odd").dropped == {"unreadable": 1}


def test_handing_out(harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliveries that are due for the others are handed out; the endpoint is tried again a while
    later."""
    for id in (0, 1):
        harness.reporter.report(harness.fresh(f"evt_{id}", endpoint=id), "parked", "paused")
    real = harness.scheduler.retries.room

    def room(endpoint_id: int, *more: Any) -> tuple[int, int]:
        return fail() if endpoint_id == 1 else real(endpoint_id, *more)

    monkeypatch.setattr(harness.scheduler.retries, "room", room)
    assert [delivery.endpoint for delivery in harness.due()] == [0]
    assert read_stats(harness.path).endpoint("odd").faults == 1
    monkeypatch.undo()
    assert harness.due() == []
    harness.now_ns += FAULT_BACKOFF_NS
    assert [delivery.endpoint for delivery in harness.due()] == [1]


def test_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose notification cannot be made, and one that cannot be read when the engine starts."""
    window = Aggregate(window=seconds(10))
    healthy, odd = (
        Endpoint(name=name, url="https://a.example/", secrets=("s",), aggregate=window)
        for name in ("healthy", "odd")
    )
    with SchedulerHarness(tmp_path / "data", healthy, odd) as harness:
        for id in (0, 1):
            delivery = harness.fresh(f"evt_{id}", "service.5xx", endpoint=id)
            harness.reporter.report(delivery, "aggregated", "")
        harness.step()
        real = harness.scheduler.windows.notify

        def notify(batch: Any, endpoint_id: int, *more: Any) -> None:
            return fail() if endpoint_id == 1 else real(batch, endpoint_id, *more)

        monkeypatch.setattr(harness.scheduler.windows, "notify", notify)
        harness.now_ns += 11 * S
        assert [delivery.endpoint for delivery in harness.due()] == [0]
        monkeypatch.undo()
        harness.store.db.execute("UPDATE windows SET state = ?", (b"\xc1",))
        harness.reopen()
        assert [delivery.endpoint for delivery in harness.sleep_until_due()][-1:] == [1]
        assert (harness.path / "damaged" / "1.window").read_bytes() == b"\xc1"


def test_a_failing_store_is_no_fault(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk goes on being what stops the releases, and nothing becomes a dead letter for it."""
    report(harness, 2)

    def full(*_: object) -> NoReturn:
        raise StoreError("full")

    monkeypatch.setattr(DeliveryTransaction, "commit", full)
    harness.step()
    monkeypatch.undo()
    harness.now_ns += S
    harness.step()
    assert [read_stats(harness.path).endpoint(name).stored for name in ("healthy", "odd")] == [2, 2]


# ---- a publisher ---------------------------------------------------------------------------


def test_a_filter_that_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event is forwarded to its endpoint too: one too many does less harm than one too few."""
    odd = Endpoint(name="odd", url="https://b.example/", secrets=("s",), sample=0.5)
    with (
        SchedulerHarness(tmp_path / "data", PLAIN[0], odd) as harness,
        Publisher(harness.path) as publisher,
    ):
        monkeypatch.setattr(EventFilter, "__call__", fail)
        assert publisher.emit("order.paid", {"i": 1}) == 2


def test_an_envelope_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others have the event, and the endpoint counts it as refused; where nobody can have it, it
    is the caller's error."""
    odd = Endpoint(name="odd", url="https://b.example/", secrets=("s",), envelope="cloudevents")
    with (
        SchedulerHarness(tmp_path / "data", odd, PLAIN[0]) as harness,
        Publisher(harness.path) as publisher,
    ):
        real = EventFactory.encode

        def encode(self: EventFactory, style: Any, event: Any) -> bytes:
            return fail() if style == "cloudevents" else real(self, style, event)

        monkeypatch.setattr(EventFactory, "encode", encode)
        assert publisher.emit("order.paid", {"i": 1}) == 1
        stats = read_stats(harness.path)
        assert (stats.endpoint("odd").refused, stats.endpoint("healthy").accepted) == (1, 1)
        monkeypatch.undo()
        with pytest.raises(PayloadTooLarge):
            publisher.emit("order.paid", {"i": "x" * (2 << 20)})
        assert read_stats(harness.path).endpoint("healthy").accepted == 1


def test_patterns_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint of another version's, say, which is held: the others get their events."""
    odd = Endpoint(name="odd", url="https://b.example/", secrets=("s",), events=("..",))
    with (
        SchedulerHarness(tmp_path / "data", PLAIN[0], odd) as harness,
        Publisher(harness.path) as publisher,
    ):
        assert publisher.emit("order.paid", {"i": 1}) == 1


def test_an_error_is_described_whatever_it_is() -> None:
    """A text that can be stored, shown and logged."""

    class Worse(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert described(Odd()).encode().startswith(b"Odd: odd ")
    assert described(Worse()) == "Worse"
    assert len(described(ValueError("x" * 1000))) == 500
