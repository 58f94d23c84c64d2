"""One engine, one receiver: what becomes of an event under each policy."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest

from fluxhook import Breaker, Engine, Rate, Retry, Size, verify
from fluxhook._native.shared import Counters
from fluxhook.receiver import Behaviour
from fluxhook.store import ReadStore, State
from fluxhook.transport.datadir import DELIVERED, DataDir
from support.rig import NEVER, Rig, seconds, until
from support.store_rows import dead_letters, deliveries

ERROR = {
    "request_id": "req_7h3k9m2p",
    "path": "/api/v2/inventory",
    "status_code": 503,
    "upstream_service": "stock-manager",
    "latency_ms": 2450,
}
FAIL = Behaviour(status=503)


def settled(engine: Engine, deadline_s: float = 10.0) -> None:
    assert engine.drain(deadline_s), engine.stats()
    assert all(endpoint.balance == 0 for endpoint in engine.stats().endpoints)


def store(rig: Rig) -> ReadStore:
    return ReadStore.open(DataDir(rig.data_dir).store)


def test_an_event_arrives_signed_in_its_envelope(rig: Rig) -> None:
    """The seed's example: five fields, JSON, and a signature that the receiver's half accepts."""
    with rig.engine(rig.endpoint("a", signature="fluxgate", secrets=("sk_live_9x8m2p",))) as engine:
        assert engine.emit("route.error", ERROR) == 1
        settled(engine)
    (request,) = rig.receiver.requests("/a")
    verify(request.body, request.headers, "sk_live_9x8m2p")
    envelope = json.loads(request.body)
    assert list(envelope) == ["id", "type", "timestamp", "gateway_node", "data"]
    assert envelope["data"] == ERROR
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("Fluxhook/")


def test_each_endpoint_gets_the_envelope_it_asked_for(rig: Rig) -> None:
    """One event, one id, in four envelopes; the standard one carries the id in its header."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    endpoints = [
        rig.endpoint("gateway", envelope="gateway"),
        rig.endpoint("broker", envelope="broker"),
        rig.endpoint("cloud", envelope="cloudevents"),
        rig.endpoint("std", envelope="standard", signature="standard", secrets=(secret,)),
    ]
    with rig.engine(*endpoints) as engine:
        assert engine.emit("order.paid", {"n": 1}) == 4
        settled(engine)
    seen = {e.name: rig.receiver.requests(f"/{e.name}")[0] for e in endpoints}
    event_id = json.loads(seen["gateway"].body)["id"]
    assert json.loads(seen["broker"].body)["event_id"] == event_id
    assert json.loads(seen["cloud"].body)["id"] == event_id
    assert seen["cloud"].headers["content-type"] == "application/cloudevents+json"
    assert seen["std"].headers["webhook-id"] == event_id
    verify(seen["std"].body, seen["std"].headers, secret, profile="standard")


def test_filters_choose_the_endpoints(rig: Rig) -> None:
    """Event types, namespaces and topic filters; an event that nobody subscribed to returns 0."""
    with rig.engine(
        rig.endpoint("sensors", events=("message.published",), topic_filters=("sensors/#",)),
        rig.endpoint("routes", events=("route.*",)),
    ) as engine:
        message = {"client_id": "p", "qos": 1, "retained": False, "payload_size": 3}
        assert engine.emit("message.published", {**message, "topic": "sensors/t"}) == 1
        assert engine.emit("message.published", {**message, "topic": "other/t"}) == 0
        assert engine.emit("route.created", {}) == 1
        assert engine.emit("policy.updated", {}) == 0
        settled(engine)
    assert rig.receiver.total("/sensors") == rig.receiver.total("/routes") == 1


def test_one_event_for_many_endpoints(rig: Rig) -> None:
    """A ring record has room for 32 targets; 70 endpoints are three records, and all get the event."""
    with rig.engine(*(rig.endpoint(f"e{i}") for i in range(70))) as engine:
        assert engine.emit("route.created", {}) == 70
        settled(engine)
    assert [rig.receiver.total(f"/e{i}") for i in range(70)] == [1] * 70


def test_a_failing_event_is_tried_again_with_the_same_bytes(rig: Rig) -> None:
    """Id, timestamp and body never change between attempts; each attempt is on record."""
    rig.receiver.behave(Behaviour(fail_first=2, fail_status=503), "/a")
    with rig.engine(rig.endpoint("a")) as engine:
        engine.emit("route.error", ERROR)
        settled(engine)
        assert engine.stats().endpoint("a").failed_attempts == 2
    bodies = [request.body for request in rig.receiver.requests("/a")]
    assert len(bodies) == 3
    assert len(set(bodies)) == 1
    with store(rig) as reader:
        (delivery,) = deliveries(reader)
        assert delivery.state == State.DELIVERED
        attempts = [past.attempt for past in reader.attempts(delivery.id)]
    assert [a.status for a in attempts] == [503, 503, 204]
    assert all(0 < a.first_byte_us <= a.total_us for a in attempts)


def test_a_retry_is_signed_anew(rig: Rig) -> None:
    """With the time of its attempt, so that a receiver's tolerance holds; the body is as before."""
    rig.receiver.behave(Behaviour(fail_first=1, fail_status=503), "/a")
    retry = Retry(initial_interval=seconds(1.1))
    endpoint = rig.endpoint("a", retry=retry, signature="fluxgate", secrets=("s3cret",))
    with rig.engine(endpoint) as engine:
        engine.emit("route.error", ERROR)
        settled(engine)
    first, again = rig.receiver.requests("/a")
    assert first.body == again.body
    times = []
    for request in (first, again):
        verify(request.body, request.headers, "s3cret", now=request.at_ns / 1e9, tolerance_s=60)
        times.append(int(request.headers["x-fluxgate-signature"].split(",")[0].removeprefix("t=")))
    assert times[0] < times[1]


def test_exhausted_attempts_end_as_a_dead_letter(rig: Rig) -> None:
    """max_attempts counts attempts, the first included."""
    rig.receiver.behave(FAIL, "/a")
    with rig.engine(rig.endpoint("a")) as engine:
        engine.emit("route.error", ERROR)
        settled(engine)
        assert (engine.stats().endpoint("a").dead, engine.stats().pending) == (1, 0)
    with store(rig) as reader:
        (dead,) = dead_letters(reader)
        assert (dead.cause, dead.attempts, dead.type) == ("server_error", 5, "route.error")


def test_retry_after_is_honoured(rig: Rig) -> None:
    """The receiver's second wins over our 50 ms."""
    rig.receiver.behave(Behaviour(fail_first=1, fail_status=429, retry_after="1"), "/a")
    with rig.engine(rig.endpoint("a")) as engine:
        engine.emit("route.error", ERROR)
        settled(engine)
    first, second = rig.receiver.requests("/a")
    assert second.at_ns - first.at_ns >= 0.99e9


@pytest.mark.parametrize(("asked", "seconds_"), [("86400", 86_400), ("9" * 30, 172_800)])
def test_a_long_retry_after_is_honoured(rig: Rig, asked: str, seconds_: int) -> None:
    """Up to `max_retry_after`, however long, and in a number of any length."""
    rig.receiver.behave(Behaviour(status=429, headers={"Retry-After": asked}), "/a")
    retry = Retry(max_attempts=2, initial_interval=seconds(0.05), max_retry_after=seconds(172_800))
    with rig.engine(rig.endpoint("a", retry=retry)) as engine:
        engine.emit("route.error", ERROR)
        until(lambda: engine.stats().endpoint("a").next_retry_ns is not None)
        next_retry_ns = engine.stats().endpoint("a").next_retry_ns
        assert next_retry_ns is not None
        wait_s = (next_retry_ns - time.time_ns()) / 1e9
        assert seconds_ - 60 < wait_s <= seconds_


def test_what_retry_on_leaves_out_is_dead_at_once(rig: Rig) -> None:
    """One attempt, no retry."""
    rig.receiver.behave(Behaviour(status=400), "/a")
    with rig.engine(rig.endpoint("a", retry=Retry(retry_on=("5xx",)))) as engine:
        engine.emit("route.error", ERROR)
        settled(engine)
        assert engine.stats().endpoint("a").dead == 1
    assert len(rig.receiver.requests("/a")) == 1


def test_gone_is_tried_again(rig: Rig) -> None:
    """410 is a 4xx like any other: its event is delivered when the receiver is back."""
    rig.receiver.behave(Behaviour(fail_first=2, fail_status=410), "/a")
    retry = Retry(initial_interval=seconds(0.05))
    with rig.engine(rig.endpoint("a", retry=retry)) as engine:
        engine.emit("route.error", ERROR)
        settled(engine)
        stats = engine.stats().endpoint("a")
        assert (stats.state, stats.delivered, stats.failed_attempts) == ("active", 1, 2)


def test_gone_disables_the_endpoint_until_the_next_start(rig: Rig) -> None:
    """410 with `disable_on_gone`: the event is dead, what waits is buried, nothing more is accepted;
    loading the configuration again gives the endpoint another chance."""
    rig.receiver.behave(Behaviour(status=410), "/a")
    with rig.engine(rig.endpoint("a", disable_on_gone=True)) as engine:
        engine.emit("route.error", ERROR)
        settled(engine)
        until(lambda: engine.emit("route.error", ERROR) == 0)
        assert engine.stats().endpoint("a").state == "disabled"
        settled(engine)
    rig.receiver.behave(None, "/a")
    with rig.engine(rig.endpoint("a")) as engine:
        assert engine.emit("route.error", ERROR) == 1
        settled(engine)
        assert engine.stats().endpoint("a").delivered == 1


@pytest.mark.parametrize(
    ("status", "counter"), [(401, "signature_rejections"), (413, "size_rejections")]
)
def test_rejections_are_counted_apart(rig: Rig, status: int, counter: str) -> None:
    """A refused signature and a refused size have counters of their own."""
    rig.receiver.behave(Behaviour(status=status), "/a")
    with rig.engine(rig.endpoint("a", retry=Retry(max_attempts=1))) as engine:
        engine.emit("route.error", ERROR)
        settled(engine)
        assert getattr(engine.stats().endpoint("a"), counter) == 1


def test_a_body_over_max_payload_is_never_sent(rig: Rig) -> None:
    """It is counted as a size rejection and is a dead letter."""
    with rig.engine(rig.endpoint("a", max_payload=Size(300))) as engine:
        engine.emit("order.paid", {"text": "x" * 300})
        engine.emit("order.paid", {})
        settled(engine)
        stats = engine.stats().endpoint("a")
        assert (stats.dead, stats.delivered, stats.size_rejections) == (1, 1, 1)
    assert len(rig.receiver.requests("/a")) == 1


def test_an_event_older_than_its_ttl_is_dropped(rig: Rig) -> None:
    """By the operator's policy, under a counter that names it."""
    rig.receiver.behave(Behaviour(fail_first=1), "/a")
    retry = Retry(initial_interval=seconds(0.5))
    with rig.engine(rig.endpoint("a", ttl=seconds(0.4), retry=retry)) as engine:
        engine.emit("route.error", ERROR)
        settled(engine)
        assert engine.stats().endpoint("a").dropped == {"expired": 1}
    assert rig.receiver.total("/a") == 0


def test_a_paused_endpoint_keeps_its_events(rig: Rig) -> None:
    """They wait in the store, and go out once it is not paused any more."""
    with rig.engine(rig.endpoint("a", paused=True), rig.endpoint("b")) as engine:
        for _ in range(20):
            assert engine.emit("route.error", ERROR) == 2
        rig.receiver.wait_for(20, "/b")
        stats = engine.stats().endpoint("a")
        assert (stats.state, stats.pending, stats.balance) == ("paused", 20, 0)
    with rig.engine(rig.endpoint("a"), rig.endpoint("b")) as engine:
        settled(engine)
    assert rig.receiver.distinct("/a") == 20


def test_a_disabled_engine_accepts_and_sends_nothing(rig: Rig) -> None:
    """`enabled: false`: nobody is subscribed, and what was accepted before waits."""
    rig.receiver.behave(FAIL, "/a")
    slow = Retry(initial_interval=seconds(0.2))
    with rig.engine(rig.endpoint("a", retry=slow)) as engine:
        engine.emit("route.error", ERROR)
        until(lambda: engine.stats().endpoint("a").failed_attempts == 1)
    rig.receiver.behave(None, "/a")
    with rig.engine(rig.endpoint("a", retry=slow), enabled=False) as engine:
        assert engine.emit("route.error", ERROR) == 0
        assert not engine.drain(0.5)
    assert rig.receiver.total("/a") == 0
    with rig.engine(rig.endpoint("a", retry=slow)) as engine:
        settled(engine)
    assert rig.receiver.total("/a") == 1


def test_a_rate_limit_spreads_what_comes_at_once(rig: Rig) -> None:
    """5 at once, then one every 50 ms: in any window no more than burst plus rate."""
    limit = Rate.parse({"rate": "20/s", "burst": 5})
    with rig.engine(rig.endpoint("a", rate_limit=limit)) as engine:
        for _ in range(25):
            engine.emit("route.error", ERROR)
        settled(engine)
    times = sorted(request.at_ns for request in rig.receiver.requests("/a"))
    assert len(times) == 25
    # 20 intervals of 50 ms, less what a busy machine keeps the first one from its receiver
    assert times[-1] - times[0] >= 0.6e9


def test_an_open_breaker_holds_back_and_probes(rig: Rig) -> None:
    """After failure_threshold failures nothing is sent but one probe each reset_timeout; what was
    held back is not an attempt, and is delivered when the endpoint is well. Another endpoint has a
    breaker of its own."""
    rig.receiver.behave(FAIL, "/a")
    breaker = Breaker(failure_threshold=3, reset_timeout=seconds(0.3))
    endpoint = rig.endpoint(
        "a", circuit_breaker=breaker, concurrency=1, retry=Retry(max_attempts=100)
    )
    with rig.engine(endpoint, rig.endpoint("b", circuit_breaker=breaker)) as engine:
        for _ in range(150):
            engine.emit("route.error", ERROR)
        until(lambda: len(rig.receiver.requests("/a")) >= 6)
        for _ in range(50):
            engine.emit("route.error", ERROR)
        rig.receiver.wait_for(200, "/b")
        assert engine.stats().endpoint("b").state == "active"
        times = [request.at_ns for request in rig.receiver.requests("/a")]
        assert all(b - a >= 0.29e9 for a, b in pairwise(times[2:]))
        assert engine.stats().endpoint("a").skipped > 100
        rig.receiver.behave(None, "/a")
        settled(engine)
        assert engine.stats().endpoint("a").delivered == 200
        assert engine.stats().endpoint("a").state == "active"


def test_a_hanging_endpoint_does_not_delay_another(rig: Rig) -> None:
    """All of the healthy endpoint's events arrive before the hanging one's first timeout."""
    rig.receiver.behave(Behaviour(fault="hang"), "/hang")
    with rig.engine(
        rig.endpoint("hang", timeout=seconds(30), retry=Retry(max_attempts=1)),
        rig.endpoint("ok"),
        shutdown_timeout=seconds(0.1),
    ) as engine:
        begun = time.monotonic()
        for _ in range(3000):
            assert engine.emit("route.error", ERROR) == 2
        rig.receiver.wait_for(3000, "/ok", deadline_s=29)
        assert time.monotonic() - begun < 30
        stats = engine.stats().endpoint("hang")
        assert (stats.delivered, stats.balance) == (0, 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_no_more_requests_at_a_time_than_concurrency(rig: Rig, workers: int) -> None:
    """Over all workers, however many events wait and however slow the receiver is."""
    rig.receiver.behave(Behaviour(delay_s=0.05), "/a")
    with rig.engine(rig.endpoint("a", concurrency=4), workers=workers) as engine:
        for _ in range(60):
            engine.emit("route.error", ERROR)
        seen = set()

        def delivered() -> bool:
            seen.add(rig.receiver.state().open)
            return engine.stats().endpoint("a").delivered == 60

        until(delivered)
        assert max(seen) == 4  # connections, each with one request at a time


def test_workers_share_a_burst_for_slow_endpoints(rig: Rig) -> None:
    """Of every endpoint each gets some: it has a part of the `concurrency`, and alone takes four times
    as long."""
    names = [f"slow{n}" for n in range(4)]
    for name in names:
        rig.receiver.behave(Behaviour(delay_s=0.1), f"/{name}")
    slow = [rig.endpoint(name, events=(f"{name}.x",), concurrency=8) for name in names]
    with rig.engine(*slow, workers=4) as engine:
        for burst in (20, 400):  # the first wakes all of them
            for n in range(burst):
                engine.emit(f"{names[n % 4]}.x", {})
            settled(engine)
        folders = DataDir(rig.data_dir).worker_folders()
        workers = [Counters(str(folder / "counters"), writable=False) for folder in folders]
        ids = [engine.stats().endpoint(name).id for name in names]
        shares = [[worker.get(id, DELIVERED) for id in ids] for worker in workers]
        assert sum(map(sum, shares)) == 420
        assert min(map(min, shares)) >= 8, shares


def test_a_small_ring_is_relieved_of_what_is_held_up(rig: Rig) -> None:
    """A hanging endpoint does not fill the ring: its events move to the store, those of the other
    endpoint are neither refused nor dropped."""
    rig.receiver.behave(Behaviour(fault="hang"), "/hang")
    with rig.engine(
        rig.endpoint("hang", timeout=seconds(60), retry=Retry(max_attempts=1)),
        rig.endpoint("ok"),
        queue_size=256,
        drop_policy="newest",
        shutdown_timeout=seconds(0.1),
    ) as engine:
        for i in range(20):
            for _ in range(50):
                engine.emit("route.error", ERROR)
            rig.receiver.wait_for((i + 1) * 50, "/ok")
        until(lambda: engine.stats().endpoint("ok").delivered == 1000)
        # While some move to the store they may be counted in both places.
        until(lambda: engine.stats().endpoint("hang").pending == 1000)
        stats = engine.stats()
        assert stats.endpoint("ok").refused == stats.endpoint("hang").refused == 0


def test_a_ring_full_of_large_bodies_is_relieved_too(rig: Rig) -> None:
    """By its bytes, where it is far from full by the number of its records: what hangs for over a
    second makes room for the others."""
    rig.receiver.behave(Behaviour(fault="hang"), "/hang")
    large = {"text": "x" * 200_000}
    with rig.engine(
        rig.endpoint(
            "hang", events=("order.large",), timeout=seconds(8), retry=Retry(max_attempts=1)
        ),
        rig.endpoint("ok", events=("order.small",)),
        ring_bytes=Size(2**22),
        drop_policy="newest",
        shutdown_timeout=seconds(0.1),
    ) as engine:
        while engine.emit("order.large", large):
            pass
        until(lambda: engine.emit("order.large", large) == 1, deadline_s=5)
        for _ in range(10):
            until(lambda: engine.emit("order.small", {}) == 1, deadline_s=5)
        rig.receiver.wait_for(10, "/ok", deadline_s=5)
        assert engine.stats().endpoint("hang").dead == 0


def test_a_circuit_that_recovers_loses_nothing(rig: Rig) -> None:
    """Failures at random, breaker and retries at work: every id arrives."""
    rig.receiver.behave(Behaviour(fail_rate=0.3, seed=7), "/a")
    breaker = Breaker(failure_threshold=4, reset_timeout=seconds(0.05))
    endpoint = rig.endpoint(
        "a",
        circuit_breaker=breaker,
        retry=Retry(max_attempts=60, initial_interval=seconds(0.01), max_interval=seconds(0.05)),
    )
    with rig.engine(endpoint, workers=2) as engine:
        for _ in range(2000):
            engine.emit("route.error", ERROR)
        settled(engine, 30)
    assert rig.receiver.distinct("/a") == 2000
    assert rig.receiver.total("/a") == 2000


ORDERED_RETRY = Retry(max_attempts=100, initial_interval=seconds(0.01), max_interval=seconds(0.02))


@pytest.mark.parametrize(
    "breaker", [NEVER, Breaker(failure_threshold=2, reset_timeout=seconds(0.05))]
)
def test_an_ordered_endpoint_keeps_the_order(rig: Rig, breaker: Breaker) -> None:
    """`block`: behind a failing head everything waits, whether it is in a ring, in a worker or in
    the store, and with the breaker in between too."""
    rig.receiver.behave(Behaviour(fail_rate=0.2, seed=3), "/a")
    endpoint = rig.endpoint("a", ordered=True, retry=ORDERED_RETRY, circuit_breaker=breaker)
    with rig.engine(endpoint, workers=2) as engine:
        for i in range(300):
            engine.emit("order.paid", {"i": i}, event_id=f"n{i}")
        settled(engine, 60)
    assert list(rig.receiver.ids("/a")) == [f"n{i}" for i in range(300)]


def test_order_is_kept_within_each_key(rig: Rig) -> None:
    """With `order_key` a failing key holds back only itself."""
    rig.receiver.behave(Behaviour(fail_rate=0.2, seed=3), "/a")
    endpoint = rig.endpoint("a", ordered=True, order_key="client", retry=ORDERED_RETRY)
    with rig.engine(endpoint) as engine:
        for i in range(300):
            engine.emit("order.paid", {"client": i % 7}, event_id=f"{i % 7}-{i}")
        settled(engine, 60)
    for client in range(7):
        mine = [i for i in rig.receiver.ids("/a") if i.startswith(f"{client}-")]
        assert mine == [f"{i % 7}-{i}" for i in range(300) if i % 7 == client]


def test_park_sets_a_failing_head_aside(rig: Rig) -> None:
    """`park`: the others go on at once, the failing one comes when it is its turn to be retried."""
    rig.receiver.behave(Behaviour(fail_first=1), "/a")
    endpoint = rig.endpoint("a", ordered=True, on_head_failure="park", retry=ORDERED_RETRY)
    with rig.engine(endpoint) as engine:
        for i in range(50):
            engine.emit("order.paid", {}, event_id=f"n{i}")
        settled(engine)
    order = list(rig.receiver.ids("/a"))
    assert sorted(order) == sorted(f"n{i}" for i in range(50))
    assert [i for i in order if i != "n0"] == [f"n{i}" for i in range(1, 50)]
    assert order[0] != "n0"
