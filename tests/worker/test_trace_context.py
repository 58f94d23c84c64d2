"""The trace context of an event, from the rings to the receiver: with each attempt the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluxhook import Endpoint, Retry, Size
from fluxhook.config.schema import Aggregate, Batch
from fluxhook.control import Done, Replay
from fluxhook.events.trace_context import TraceContext
from fluxhook.store.rows import State
from fluxhook.transport.messages import EventHead
from fluxhook.transport.transfer import Transfer
from fluxhook.worker.results import TELL_NS
from support.rig import QUICK, seconds
from support.store_rows import deliveries
from support.worker_harness import WorkerHarness

TRACE = TraceContext("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "rojo=1")
OTHER = TraceContext("00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01")
LINES = [b"traceparent: " + TRACE.traceparent.encode(), b"tracestate: rojo=1"]


def endpoint(**options: Any) -> Endpoint:
    defaults: dict[str, Any] = {"name": "a", "signature": "none", "retry": QUICK}
    return Endpoint(url="http://192.0.2.1/", **(defaults | options))


def harness(path: Path, **options: Any) -> WorkerHarness:
    made = WorkerHarness(path, endpoint(**options), ring_bytes=Size(2**20))
    made.dispatcher.carry_traces()
    return made


def trace_lines(worker: WorkerHarness, transfer: Transfer) -> list[bytes]:
    lines = worker.wire.headers[id(transfer)]
    return [line for line in lines if line.lower().startswith(b"trace")]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerHarness]:
    with harness(tmp_path) as worker:
        yield worker


def test_it_travels_as_headers(worker: WorkerHarness) -> None:
    """An empty tracestate is left out (section 3.3); an event without a context has neither."""
    for trace, lines in (
        (TRACE, LINES),
        (OTHER, [LINES[0].replace(b"b7ad6b7169203331", b"00f067aa0ba902b7")]),
        (None, []),
    ):
        (transfer,) = worker.emit("n", trace=trace)
        assert trace_lines(worker, transfer) == lines
        worker.answer(transfer, 200)


def test_each_attempt_has_the_same(worker: WorkerHarness) -> None:
    """Retries out of the store, and those of a dead letter that is replayed."""
    (transfer,) = worker.emit("n", trace=TRACE)
    for _ in range(4):
        assert trace_lines(worker, transfer) == LINES
        worker.answer(transfer, 503)
        (transfer,) = worker.until_due()
    worker.answer(transfer, 503)
    worker.step()
    (row,) = deliveries(worker.harness.store)
    assert (row.state, row.event.trace) == (State.DEAD, TRACE)
    assert worker.harness.ask(Replay([row.id]), Done).count == 1
    (transfer,) = worker.until_due()
    assert trace_lines(worker, transfer) == LINES


def test_a_store_that_was_closed_has_it_still(tmp_path: Path) -> None:
    """It is kept with the delivery, and erased with it."""
    with harness(tmp_path, retry=Retry(max_attempts=1)) as worker:
        (transfer,) = worker.emit("n", trace=TRACE)
        worker.answer(transfer, 503)
        worker.step()
        worker.harness.reopen()
        store = worker.harness.store
        (row,) = deliveries(store)
        assert row.event.trace == TRACE
        store.purge([row.id])
        assert store.db.execute("SELECT count(*) FROM traces").fetchone() == (0,)


def test_it_replaces_what_the_endpoint_s_own_headers_say(tmp_path: Path) -> None:
    """These are for events that have no context."""
    own = {"Traceparent": "00-1-2-00", "X-Trace": "mine"}
    with harness(tmp_path, headers=own) as worker:
        (transfer,) = worker.emit("n", trace=TRACE)
        lines = worker.wire.headers[id(transfer)]
        assert [line for line in lines if b"race" in line] == [b"X-Trace: mine", *LINES]
        (transfer,) = worker.emit("m")
        assert trace_lines(worker, transfer) == [b"Traceparent: 00-1-2-00"]


def test_compressed_and_signed_requests_have_it(tmp_path: Path) -> None:
    """Whatever else is done to them."""
    with harness(
        tmp_path,
        compression="gzip",
        secrets=("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",),
        signature="standard",
    ) as worker:
        (transfer,) = worker.emit("n", trace=TRACE)
        assert trace_lines(worker, transfer) == LINES


def test_a_batch_has_it_if_all_of_its_events_have(tmp_path: Path) -> None:
    """A request can name one context. Where its events have several it names none."""
    batch = Batch(max_events=2, max_delay=seconds(20))
    with harness(tmp_path, batch=batch) as worker:
        for first, second, lines in (
            (TRACE, TRACE, LINES), (TRACE, OTHER, []), (TRACE, None, []), (None, None, []),
        ):  # fmt: skip
            worker.emit("a", send=False, trace=first)
            (transfer,) = worker.emit("b", trace=second)
            assert trace_lines(worker, transfer) == lines
            worker.answer(transfer, 200)


def test_a_notification_has_none(tmp_path: Path) -> None:
    """It is an event of its own, made of events of any number of traces."""
    options = Aggregate(window=seconds(1), types=("route.error",))
    with harness(tmp_path, aggregate=options) as worker:
        worker.emit("n", trace=TRACE)
        (transfer,) = worker.until_due()
        assert json.loads(worker.wire.bodies[id(transfer)])["type"] == "webhook.failures.aggregated"
        assert trace_lines(worker, transfer) == []


def test_who_does_not_look_for_it_makes_requests_plainly(tmp_path: Path) -> None:
    """Until a publisher says that there may be some. From then on new queues look too."""
    with WorkerHarness(tmp_path, endpoint(), ring_bytes=Size(2**20)) as worker:
        (transfer,) = worker.emit("n", trace=TRACE)
        assert trace_lines(worker, transfer) == []
        worker.dispatcher.carry_traces()
        (transfer,) = worker.emit("n", trace=TRACE)
        assert trace_lines(worker, transfer) == LINES
        worker.dispatcher.configure(1, endpoint(name="b"), 8)
        (transfer,) = worker.emit("n", endpoint=1, trace=TRACE)
        assert trace_lines(worker, transfer) == LINES
        worker.dispatcher.configure(1, endpoint(name="b", timeout=seconds(7)), 8)
        (transfer,) = worker.emit("m", endpoint=1, trace=TRACE)
        assert trace_lines(worker, transfer) == LINES


def test_a_log_line_about_a_delivery_names_its_trace(
    worker: WorkerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """An event without one has no such field, nor has a head that cannot be read."""
    now_ns = worker.harness.now_ns
    fresh = [worker.harness.fresh(id, trace=trace) for id, trace in (("n", TRACE), ("m", None))]
    for n, delivery in enumerate(fresh):
        at_ns = now_ns + n * TELL_NS
        worker.dispatcher.results.fault(worker.queue(), [delivery], ValueError("no"), at_ns)
    said = [getattr(record, "traceparent", None) for record in caplog.records]
    assert said == [TRACE.traceparent, None]
    assert EventHead.traceparent_of(b"\xff\xfe") == EventHead.traceparent_of(b"") == ""
