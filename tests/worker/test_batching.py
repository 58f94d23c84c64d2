"""Several events in one POST: what a batch is made of, and what becomes of each of its events."""

from __future__ import annotations

import json
import os
import signal
import time
from itertools import pairwise
from typing import Any

import pytest

from fluxhook import Breaker, Endpoint, Engine, Rate, Retry, Size, verify
from fluxhook.config.schema import Batch
from fluxhook.control import Selection
from fluxhook.receiver import Behaviour, Received
from fluxhook.store import ReadStore, State
from fluxhook.transport.datadir import DataDir
from support.rig import Rig, seconds, until
from support.store_rows import dead_letters, deliveries

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


#: an answer of the right form, which is deeper than any interpreter recurses
DEEP = b'{"x": ' + b"[" * 3000 + b"]" * 3000 + b', "results": []}'


#: longer than a busy machine takes to emit a batch: it goes when it is full
AMPLE = seconds(20)


def batched(rig: Rig, **options: Any) -> Endpoint:
    """An endpoint `a`: batches of 10, which wait for up to a tenth of a second."""
    batch = Batch(max_events=10, max_delay=seconds(0.1))
    return rig.endpoint("a", **({"batch": batch} | options))


def emit(engine: Engine, count: int, first: int = 0, **data: Any) -> None:
    """Events n<first>, n<first + 1> and so on."""
    for i in range(first, first + count):
        assert engine.emit("order.paid", {"i": i, **data}, event_id=f"n{i}") == 1


def settled(engine: Engine, deadline_s: float = 60.0) -> None:
    assert engine.drain(deadline_s), engine.stats()
    assert all(endpoint.balance == 0 for endpoint in engine.stats().endpoints)


def ids(request: Received) -> list[str]:
    return [envelope["id"] for envelope in json.loads(request.body)]


def answers(*statuses: int, first: int = 0) -> bytes:
    """Return what a receiver says about n<first> and the events after it."""
    return json.dumps(
        [{"id": f"n{first + i}", "status": status} for i, status in enumerate(statuses)]
    ).encode()


def attempts(rig: Rig) -> dict[str, list[tuple[int, str]]]:
    """Status and cause of each attempt on record, by event."""
    with ReadStore.open(DataDir(rig.data_dir).store) as store:
        return {
            delivery.event_id: [
                (past.attempt.status, past.attempt.cause) for past in store.attempts(delivery.id)
            ]
            for delivery in deliveries(store)
        }


def test_what_waits_goes_in_one_post(rig: Rig) -> None:
    """Batches of `max_events` in the order of emitting; the rest goes when its time has come."""
    with rig.engine(batched(rig)) as engine:
        emit(engine, 25)
        settled(engine)
        stats = engine.stats().endpoint("a")
        assert (stats.accepted, stats.delivered, stats.failed_attempts) == (25, 25, 0)
    requests = rig.receiver.requests("/a")
    assert sorted(i for request in requests for i in ids(request)) == sorted(
        f"n{i}" for i in range(25)
    )
    assert sum(stats.histogram) == len(requests) < 25
    assert all(len(ids(request)) <= 10 for request in requests)
    assert all(ids(r) == sorted(ids(r), key=lambda i: int(i[1:])) for r in requests)


def test_one_event_waits_for_max_delay(rig: Rig) -> None:
    """The delay counts from when the worker took it; then it goes alone, as a batch of one."""
    batch = Batch(max_events=10, max_delay=seconds(0.3))
    with rig.engine(batched(rig, batch=batch)) as engine:
        begun_ns = time.time_ns()
        emit(engine, 1)
        settled(engine)
    (request,) = rig.receiver.requests("/a")
    assert ids(request) == ["n0"]
    assert request.at_ns - begun_ns >= 0.3e9


def test_max_bytes_closes_a_batch(rig: Rig) -> None:
    """No body is larger, but where one event alone is; and it does not wait once it has that many."""
    batch = Batch(max_events=100, max_delay=seconds(30), max_bytes=Size(2048))
    with rig.engine(batched(rig, batch=batch)) as engine:
        emit(engine, 1, text="x" * 3000)
        emit(engine, 30, first=1, text="x" * 500)
        rig.receiver.wait_for(28, "/a")
    sizes = {len(r.body): len(ids(r)) for r in rig.receiver.requests("/a")}
    assert all(size <= 2048 or count == 1 for size, count in sizes.items())
    assert rig.receiver.distinct("/a") == 31  # the rest went when the engine ended


@pytest.mark.parametrize("format", ["json", "ndjson", "cloudevents"])
def test_formats(rig: Rig, format: str) -> None:
    """A JSON array, one envelope a line, or the CloudEvents batch; each with its content type."""
    batch = Batch(max_events=3, max_delay=seconds(0.2), format=format)  # type: ignore[arg-type]
    with rig.engine(batched(rig, batch=batch, envelope="cloudevents")) as engine:
        emit(engine, 3)
        settled(engine)
    requests = rig.receiver.requests("/a")
    content_types = {
        "json": "application/json",
        "ndjson": "application/x-ndjson",
        "cloudevents": "application/cloudevents-batch+json",
    }
    assert {r.headers["content-type"] for r in requests} == {content_types[format]}
    found = []
    for request in requests:
        if format == "ndjson":
            assert request.body.endswith(b"\n")
            found += [json.loads(line) for line in request.body.splitlines()]
        else:
            found += json.loads(request.body)
    assert [envelope["id"] for envelope in found] == ["n0", "n1", "n2"]
    assert all(envelope["specversion"] == "1.0" for envelope in found)


def test_a_batch_is_signed_as_one(rig: Rig) -> None:
    """Under the standard profile its id comes from its events' ids, so the same batch has the same."""
    rig.receiver.behave(Behaviour(fail_first=1), "/a")
    endpoint = batched(
        rig,
        batch=Batch(max_events=2, max_delay=seconds(5)),
        signature="standard",
        secrets=(SECRET,),
        retry=Retry(max_attempts=5, initial_interval=seconds(0.05), multiplier=1),
    )
    with rig.engine(endpoint) as engine:
        emit(engine, 2)
        settled(engine)
    first, second = rig.receiver.requests("/a")
    for request in (first, second):
        verify(request.body, request.headers, SECRET, profile="standard")
    assert first.headers["webhook-id"].startswith("batch_")
    if ids(first) == ids(second):
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
    else:
        assert first.headers["webhook-id"] != second.headers["webhook-id"]


def test_a_failed_batch_fails_each_event(rig: Rig) -> None:
    """One attempt each; they come back one by one, meet in the endpoint queue, and go as a batch
    again."""
    rig.receiver.behave(Behaviour(fail_first=1, fail_status=503), "/a")
    with rig.engine(batched(rig, batch=Batch(max_events=10, max_delay=AMPLE))) as engine:
        emit(engine, 10)
        settled(engine)
        stats = engine.stats().endpoint("a")
        assert (stats.delivered, stats.failed_attempts, stats.dead) == (10, 10, 0)
    requests = rig.receiver.requests("/a")
    assert len(ids(requests[0])) == 10
    assert len(requests) < 11
    assert attempts(rig) == {
        f"n{i}": [(503, "server_error"), (204, "delivered")] for i in range(10)
    }


def test_a_207_tells_the_events_apart(rig: Rig) -> None:
    """Each is judged by its own status, and who is not named is tried again."""
    body = answers(200, 503, 400, 204)
    rig.receiver.behave(Behaviour(fail_first=1, fail_status=207, body=body), "/a")
    endpoint = batched(
        rig,
        batch=Batch(max_events=5, max_delay=seconds(2)),
        retry=Retry(initial_interval=seconds(0.05), max_attempts=5, retry_on=("5xx", "transport")),
    )
    with rig.engine(endpoint) as engine:
        emit(engine, 5)
        settled(engine)
        stats = engine.stats().endpoint("a")
        assert (stats.delivered, stats.dead, stats.failed_attempts) == (4, 1, 3)
    assert attempts(rig) == {
        "n1": [(503, "server_error"), (204, "delivered")],
        "n2": [(400, "client_error")],
        "n4": [(207, "protocol"), (204, "delivered")],
    }


@pytest.mark.parametrize("body", [b"", b"fine", b'{"results": 3}', b'[{"id": "n0"}]', DEEP])
def test_a_207_that_cannot_be_read_is_a_protocol_failure(rig: Rig, body: bytes) -> None:
    """All of its events are tried again."""
    rig.receiver.behave(Behaviour(fail_first=1, fail_status=207, body=body), "/a")
    with rig.engine(batched(rig, batch=Batch(max_events=3, max_delay=AMPLE))) as engine:
        emit(engine, 3)
        settled(engine)
        assert engine.stats().endpoint("a").delivered == 3
    assert attempts(rig) == {f"n{i}": [(207, "protocol"), (204, "delivered")] for i in range(3)}


def test_a_long_207_is_read_to_its_end(rig: Rig) -> None:
    """The cap on answers leaves room for what a large batch needs."""
    body = json.dumps(
        [{"id": f"n{i}", "status": 200, "message": "accepted " * 60} for i in range(500)]
    ).encode()
    assert len(body) > 200_000
    rig.receiver.behave(Behaviour(status=207, body=body), "/a")
    batch = Batch(max_events=500, max_delay=seconds(0.2))
    with rig.engine(batched(rig, batch=batch)) as engine:
        emit(engine, 500)
        settled(engine)
        stats = engine.stats().endpoint("a")
        assert (stats.delivered, stats.failed_attempts) == (500, 0)


def test_a_batch_is_one_event_to_the_breaker(rig: Rig) -> None:
    """Three failed POSTs open it, however many events were in them; what then waits is parked."""
    rig.receiver.behave(Behaviour(status=503), "/a")
    endpoint = batched(
        rig,
        circuit_breaker=Breaker(failure_threshold=3, reset_timeout=seconds(0.3)),
        concurrency=1,
        retry=Retry(max_attempts=100, initial_interval=seconds(0.01)),
    )
    with rig.engine(endpoint) as engine:
        emit(engine, 200)
        until(lambda: len(rig.receiver.requests("/a")) >= 5)
        times = [request.at_ns for request in rig.receiver.requests("/a")]
        assert all(b - a >= 0.29e9 for a, b in pairwise(times[2:]))
        rig.receiver.behave(None, "/a")
        settled(engine, 60)
        assert engine.stats().endpoint("a").delivered == 200
    assert rig.receiver.distinct("/a") == 200


def test_a_rate_limit_counts_posts(rig: Rig) -> None:
    """10 a second with a burst of 1: ten batches take nine intervals, and hold 100 events."""
    limit = Rate.parse({"rate": "10/s", "burst": 1})
    batch = Batch(max_events=10, max_delay=AMPLE)
    with rig.engine(batched(rig, batch=batch, rate_limit=limit)) as engine:
        emit(engine, 100)
        settled(engine)
    requests = rig.receiver.requests("/a")
    times = [request.at_ns for request in requests]
    assert len(requests) == 10
    assert times[-1] - times[0] >= 0.5e9  # the first may arrive late


def test_ttl_and_size_are_each_events_own(rig: Rig) -> None:
    """An event that is too large is a dead letter, and the batch goes without it."""
    with rig.engine(batched(rig, max_payload=Size(400))) as engine:
        emit(engine, 4)
        emit(engine, 1, first=4, text="x" * 400)
        emit(engine, 4, first=5)
        settled(engine)
        stats = engine.stats().endpoint("a")
        assert (stats.delivered, stats.dead, stats.size_rejections) == (8, 1, 1)
    assert "n4" not in rig.receiver.ids("/a")


def test_a_drain_sends_what_waits_at_once(rig: Rig) -> None:
    """It does not wait for company that will not come."""
    batch = Batch(max_events=100, max_delay=seconds(50))
    with rig.engine(batched(rig, batch=batch)) as engine:
        emit(engine, 5)
        until(lambda: engine.stats().endpoint("a").queued == 5)
        begun = time.monotonic()
    assert time.monotonic() - begun < 20
    assert rig.receiver.distinct("/a") == 5


def test_a_batch_does_not_wait_where_a_ring_needs_room(rig: Rig) -> None:
    """In a ring of 256 a batch of 1000 would never come about: what is there goes out. Each event waits
    for room in the ring, and gets it long before the batch's time is over."""
    batch = Batch(max_events=1000, max_delay=seconds(60))
    options = {"queue_size": 256, "drop_policy": "block", "block_timeout": seconds(30)}
    with rig.engine(batched(rig, batch=batch), **options) as engine:
        emit(engine, 1000)
        assert engine.stats().endpoint("a").refused == 0
    assert rig.receiver.distinct("/a") == 1000
    assert len(rig.receiver.requests("/a")) < 500


def test_a_paused_endpoint_batches_when_it_is_resumed(rig: Rig) -> None:
    """Events that waited in the store go out in batches too."""
    with rig.engine(batched(rig, paused=True)) as engine:
        emit(engine, 30)
        until(lambda: engine.stats().endpoint("a").stored == 30)
    with rig.engine(batched(rig)) as engine:
        settled(engine)
    assert rig.receiver.distinct("/a") == 30
    assert len(rig.receiver.requests("/a")) < 30


def test_a_killed_worker_loses_no_event_of_a_batch(rig: Rig) -> None:
    """Events that were in batches under way are sent again, and every event is counted once."""
    rig.receiver.behave(Behaviour(delay_s=0.05), "/a")
    with rig.engine(batched(rig, concurrency=4)) as engine:
        for first in range(0, 1200, 200):
            emit(engine, 200, first=first)
            rig.receiver.wait_for(first // 2, "/a")
            (killed,) = before = _workers(rig)
            os.kill(killed, signal.SIGKILL)
            _wait_for_others(rig, before)
        settled(engine, 60)
        stats = engine.stats().endpoint("a")
        assert (stats.delivered, stats.pending, stats.balance) == (1200, 0, 0)
    assert rig.receiver.distinct("/a") == 1200


def _wait_for_others(rig: Rig, before: list[int]) -> None:
    until(lambda: _workers(rig) not in ([], before))


def _workers(rig: Rig) -> list[int]:
    """The processes of the workers."""
    supervisor = json.loads(DataDir(rig.data_dir).engine_file.read_text())["pid"]
    try:
        with open(f"/proc/{supervisor}/task/{supervisor}/children") as file:
            children = [int(pid) for pid in file.read().split()]
    except OSError:
        return []
    found = []
    for pid in children:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if b"worker" in file.read():
                    found.append(pid)
        except OSError:
            continue
    return found


def test_batches_and_dead_letters(rig: Rig) -> None:
    """An event whose attempts are used up is a dead letter by itself."""
    rig.receiver.behave(Behaviour(status=207, body=answers(200, 500, 200)), "/a")
    retry = Retry(max_attempts=2, initial_interval=seconds(0.05))
    batch = Batch(max_events=3, max_delay=seconds(0.2))
    with rig.engine(batched(rig, batch=batch, retry=retry)) as engine:
        emit(engine, 3)
        settled(engine)
        stats = engine.stats().endpoint("a")
        assert (stats.delivered, stats.dead) == (2, 1)
    with ReadStore.open(DataDir(rig.data_dir).store) as store:
        (dead,) = dead_letters(store)
        assert (dead.event_id, dead.state, dead.attempts) == ("n1", State.DEAD, 2)


# ---- refused batches -----------------------------------------------------------------------


def refused(rig: Rig) -> dict[str, list[tuple[int, str]]]:
    return {event: tries for event, tries in attempts(rig).items() if tries}


def test_a_batch_that_is_too_large_is_halved(rig: Rig) -> None:
    """At once, without the schedule; it was no attempt of its events. The next batches are as large as
    the receiver takes, so that not each of them is refused first."""
    rig.receiver.behave(Behaviour(fail_over=2000, fail_status=413), "/a")
    batch = Batch(max_events=50, max_delay=seconds(0.1))
    retry = Retry(max_attempts=2, initial_interval=seconds(60), max_interval=seconds(60))
    with rig.engine(batched(rig, batch=batch, retry=retry, concurrency=1)) as engine:
        emit(engine, 50, text="x" * 100)
        settled(engine)
        learned = len(rig.receiver.requests("/a"))
        emit(engine, 50, first=50, text="x" * 100)
        settled(engine)
        stats = engine.stats().endpoint("a")
        assert (stats.delivered, stats.failed_attempts, stats.size_rejections) == (100, 0, 0)
    later = rig.receiver.requests("/a")[learned:]
    assert all(len(request.body) <= 2000 for request in later)
    assert len(later) <= 20
    assert refused(rig) == {}


def test_an_event_that_is_too_large_alone_is_dead(rig: Rig) -> None:
    """Those beside it are delivered, each once; it alone has an attempt on record."""
    rig.receiver.behave(Behaviour(fail_over=2000, fail_status=413), "/a")
    batch = Batch(max_events=20, max_delay=seconds(0.1))
    retry = Retry(max_attempts=2, initial_interval=seconds(0.05))
    with rig.engine(batched(rig, batch=batch, retry=retry)) as engine:
        emit(engine, 7)
        emit(engine, 1, first=7, text="x" * 3000)
        emit(engine, 12, first=8)
        settled(engine)
        stats = engine.stats().endpoint("a")
        assert (stats.delivered, stats.dead, stats.size_rejections) == (19, 1, 2)
    assert refused(rig) == {"n7": [(413, "content_too_large")] * 2}
    passed = [i for r in rig.receiver.requests("/a") if r.status == 204 for i in ids(r)]
    assert sorted(passed) == sorted({f"n{i}" for i in range(20)} - {"n7"})


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_bad_event_is_found(rig: Rig, status: int, compression: str) -> None:
    """By halving; a breaker that one failure opens stays closed until the event itself has failed."""
    rig.receiver.behave(Behaviour(fail_on=b"poison", fail_status=status), "/a")
    endpoint = batched(
        rig,
        batch=Batch(max_events=100, max_delay=seconds(5)),
        compression=compression,
        retry=Retry(retry_on=("5xx",)),
        circuit_breaker=Breaker(failure_threshold=1, reset_timeout=seconds(0.1)),
    )
    with rig.engine(endpoint) as engine:
        for i in range(100):
            emit(engine, 1, first=i, text="poison" if i == 3 else "x" * 50)
        settled(engine)
        stats = engine.stats().endpoint("a")
        assert (stats.delivered, stats.dead, stats.failed_attempts) == (99, 1, 1)
    assert refused(rig) == {"n3": [(status, "client_error")]}
    assert len(rig.receiver.requests("/a")) <= 2 * 15 + 1  # up to two batches


def test_a_replay_is_halved_too(rig: Rig) -> None:
    """Deliveries that come from the store meet in a batch again."""
    rig.receiver.behave(Behaviour(status=500), "/a")
    batch = Batch(max_events=50, max_delay=seconds(0.2))
    with rig.engine(batched(rig, batch=batch, retry=Retry(max_attempts=1))) as engine:
        emit(engine, 50, text="x" * 100)
        until(lambda: engine.stats().endpoint("a").dead == 50)
        rig.receiver.behave(Behaviour(fail_over=1500, fail_status=413), "/a")
        assert engine.control.replay(Selection(endpoint="a")).done == 50
        settled(engine)
        stats = engine.stats().endpoint("a")
        assert (stats.delivered, stats.dead, stats.balance) == (50, 0, 0)


def test_a_worker_that_is_killed_while_it_halves_loses_nothing(rig: Rig) -> None:
    """Events that it had not settled stand in its ring."""
    rig.receiver.behave(Behaviour(fail_over=1500, fail_status=413, delay_s=0.02), "/a")
    batch = Batch(max_events=100, max_delay=seconds(0.2))
    with rig.engine(batched(rig, batch=batch, concurrency=2)) as engine:
        emit(engine, 300, text="x" * 100)
        rig.receiver.wait_for(10, "/a")
        before = _workers(rig)
        os.kill(before[0], signal.SIGKILL)
        _wait_for_others(rig, before)
        settled(engine, 60)
        stats = engine.stats().endpoint("a")
        assert (stats.delivered, stats.dead, stats.balance) == (300, 0, 0)


def test_a_receiver_that_refuses_everything_opens_the_breaker(rig: Rig) -> None:
    """The events fail one after the other, and the breaker counts those: no storm of halves."""
    rig.receiver.behave(Behaviour(status=400), "/a")
    endpoint = batched(
        rig,
        batch=Batch(max_events=100, max_delay=seconds(0.2)),
        concurrency=1,
        circuit_breaker=Breaker(failure_threshold=3, reset_timeout=seconds(60)),
    )
    with rig.engine(endpoint) as engine:
        emit(engine, 200)
        until(lambda: engine.stats().endpoint("a").state == "open")
        until(lambda: engine.stats().endpoint("a").stored == 200)
        assert len(rig.receiver.requests("/a")) <= 12


def test_a_pause_holds_halves_back(rig: Rig) -> None:
    """Events that were under way when the endpoint was paused wait in the store."""
    rig.receiver.behave(Behaviour(status=400, delay_s=0.3), "/a")
    with rig.engine(batched(rig, batch=Batch(max_events=10, max_delay=seconds(0.1)))) as engine:
        emit(engine, 10)
        until(lambda: bool(rig.receiver.requests("/a")))
        engine.control.pause("a")
        until(lambda: engine.stats().endpoint("a").stored == 10)
        assert len(rig.receiver.requests("/a")) == 1
        rig.receiver.behave(None, "/a")
        engine.control.resume("a")
        settled(engine)
        assert engine.stats().endpoint("a").delivered == 10
