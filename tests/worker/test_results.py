"""What becomes of a request that is over: its events, the breaker, the counters and the reports."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

from fluxhook import Batch, Breaker, Duration, Endpoint, Retry
from fluxhook.policy import breaker
from fluxhook.policy.breaker import State as BreakerState
from fluxhook.store import State
from fluxhook.store.reader import ReadStore
from fluxhook.store.rows import DeliveryRow
from fluxhook.transport import datadir as d
from fluxhook.transport.messages import Attempt
from fluxhook.transport.transfer import STATUS, Transfer
from fluxhook.worker.admission import Admission
from fluxhook.worker.stage_timings import StageTimings
from support.scheduler_harness import S
from support.store_rows import deliveries
from support.worker_harness import WORKER, Handle, WorkerHarness

#: counters of a worker, by name
COUNTED = {
    "delivered": d.DELIVERED,
    "expired": d.DROPPED_EXPIRED,
    "failed": d.FAILED,
    "skipped": d.SKIPPED,
    "signature": d.SIGNATURE_REJECTED,
    "size": d.SIZE_REJECTED,
    "resent": d.RESENT,
    "failed_requests": d.FAILED_REQUESTS,
    "connected": d.CONNECTED,
    "faults": d.FAULTS,
}


def endpoint(**options: Any) -> Endpoint:
    defaults: dict[str, Any] = {
        "url": "https://a.example/",
        "signature": "none",
        "circuit_breaker": Breaker(failure_threshold=3, reset_timeout=Duration(60 * S)),
        "retry": Retry(max_attempts=3),
    }
    return Endpoint(name="a", **(defaults | options))


@pytest.fixture
def works(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[WorkerHarness]:
    with WorkerHarness(tmp_path, endpoint(**getattr(request, "param", {}))) as works:
        yield works


def counted(works: WorkerHarness) -> dict[str, int]:
    """The counters that are not 0."""
    return {name: n for name, field in COUNTED.items() if (n := works.count(field))}


def row_of_failures(works: WorkerHarness) -> BreakerState:
    return breaker.unpack(works.harness.word(0, d.BREAKER))


def stored(works: WorkerHarness) -> dict[str, DeliveryRow]:
    """Return what the store has after the scheduler's turn, by event."""
    works.harness.step()
    return {row.event_id: row for row in deliveries(works.harness.store, limit=1000)}


def attempts(works: WorkerHarness, event_id: str) -> list[Attempt]:
    row = stored(works)[event_id]
    with ReadStore.open(works.harness.supervisor.datadir.store) as store:
        return [past.attempt for past in store.attempts(row.id)]


def ids(transfer: Transfer, works: WorkerHarness) -> list[str]:
    """The events of a batch."""
    return [event["id"] for event in json.loads(works.wire.bodies[id(transfer)])]


# ---- one event -----------------------------------------------------------------------------

#: a status, or libcurl's code, or a refusal: cause, the breaker's row of failures (there was one
#: failure before), and what is counted beside `failed` and `failed_requests`
FAILURES = [
    ({"status": 500}, "server_error", 2, {}),
    ({"status": 404}, "client_error", 2, {}),
    ({"status": 302}, "redirect", 2, {}),
    ({"status": 401}, "unauthorized", 2, {"signature": 1}),
    ({"status": 413}, "content_too_large", 1, {"size": 1}),
    ({"code": 7}, "refused", 2, {}),
    ({"code": 28}, "timeout", 2, {}),
    ({"denied": "10.0.0.1 is private"}, "egress_denied", 1, {}),
    ({"code": 2}, "internal", 1, {"faults": 1}),
]


@pytest.mark.parametrize(("answer", "cause", "row", "more"), FAILURES)
def test_each_failure(
    works: WorkerHarness, answer: dict[str, Any], cause: str, row: int, more: dict[str, int]
) -> None:
    """It is tried again, counted once, and the breaker counts it unless it says nothing about the
    endpoint: an event that is too large, an address that we refuse, a fault of ours."""
    works.harness.word(0, d.BREAKER, 1)
    (transfer,) = works.emit("evt_a")
    works.answer(transfer, message="no", **answer)
    assert row_of_failures(works) == BreakerState("closed", row)
    assert counted(works) == {"failed": 1, "failed_requests": 1} | more
    assert works.latencies() == 0
    delivery = stored(works)["evt_a"]
    assert (State(delivery.state), delivery.attempts) == (State.WAITING, 1)
    (attempt,) = attempts(works, "evt_a")
    assert (attempt.cause, attempt.status) == (cause, answer.get("status", 0))
    assert attempt.error == answer.get("denied", "no")
    assert (attempt.worker, works.queue().in_flight, works.queue().done) == (WORKER, 0, 1)
    # Heads are read from now on where the receiver answered: it may ask for a wait.
    assert works.wire.heeded == ([True] if answer.get("status") else [])
    assert works.wire.released == [transfer]


@pytest.mark.parametrize("works", [{}, {"batch": Batch(max_events=1)}], indirect=True)
@pytest.mark.parametrize(
    ("status", "accepted"), [(199, False), (200, True), (299, True), (300, False)]
)
def test_a_success_is_a_2xx(works: WorkerHarness, status: int, accepted: bool) -> None:
    """To the last of them; only then need heads not be read any more."""
    (transfer,) = works.emit("evt_a")
    works.answer(transfer, status, opened=True)
    assert counted(works).get("delivered", 0) == accepted
    assert works.wire.heeded == [not accepted]
    assert len(stored(works)) == (not accepted)


@pytest.mark.parametrize("works", [{"ordered": True, "on_head_failure": "block"}], indirect=True)
def test_a_head_that_fails_alone(works: WorkerHarness) -> None:
    """Deliveries behind it go to the store too, even before the scheduler has seen the head."""
    (transfer,) = works.emit("evt_a")
    works.answer(transfer, 503)
    assert works.emit("evt_b") == []
    assert [row.cause for row in stored(works).values()] == ["order", "server_error"]


def test_three_failures_open_the_breaker_and_a_success_begins_anew(works: WorkerHarness) -> None:
    """Failures count in a row."""
    for status in (500, 500, 204, 500, 500):
        (transfer,) = works.emit("evt")
        works.answer(transfer, status)
    assert row_of_failures(works) == BreakerState("closed", 2)
    assert works.harness.word(0, d.FAILING) == works.harness.now_ns
    (transfer,) = works.emit("evt")
    works.answer(transfer, 500)
    assert row_of_failures(works).name == "open"
    assert works.emit("evt_held") == []
    assert counted(works)["skipped"] == 1
    held = stored(works)["evt_held"]
    assert (held.cause, held.attempts) == ("breaker_open", 0)


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ({"status": 200}, "closed"),
        ({"status": 500}, "open"),
        ({"code": 7}, "open"),
        ({"status": 413}, "probed"),
        ({"denied": "private"}, "probed"),
        ({"code": 2}, "probed"),
    ],
)
def test_a_probe(works: WorkerHarness, answer: dict[str, Any], name: str) -> None:
    """Its answer closes the breaker or opens it anew; one that says nothing of the endpoint makes
    room for another probe at once."""
    for n in range(3):
        (transfer,) = works.emit(f"evt_{n}")
        works.answer(transfer, 500)
    works.harness.now_ns += 61 * S
    (transfer, *more) = works.emit("evt_probe", "evt_next")
    assert not more
    assert works.wire.distrusted == [works.queue().target]
    works.answer(transfer, **answer)
    state = row_of_failures(works)
    if name == "probed":
        assert state == BreakerState("half_open", 0)
        assert len(works.emit("evt_again")) == 1
    else:
        assert state.name == name


def test_a_success_leaves_nothing_behind(works: WorkerHarness) -> None:
    """It ends in its ring: no report, no row, one latency."""
    (transfer,) = works.emit("evt_a")
    works.answer(transfer, 204, total_us=3000)
    assert counted(works) == {"delivered": 1}
    assert works.latencies() == 1
    assert stored(works) == {}
    assert works.wire.released == [transfer]
    assert (works.queue().in_flight, works.queue().done) == (0, 1)


@pytest.mark.parametrize("works", [{"record": "all"}], indirect=True)
def test_a_success_that_is_to_be_recorded(works: WorkerHarness) -> None:
    """`record: all` keeps the attempt of a success too."""
    (transfer,) = works.emit("evt_a")
    works.answer(transfer, 201, body=b"thanks")
    assert State(stored(works)["evt_a"].state) == State.DELIVERED
    (attempt,) = attempts(works, "evt_a")
    assert (attempt.status, attempt.cause, attempt.error) == (201, "delivered", "")
    assert (attempt.answer, attempt.worker) == (b"thanks", WORKER)
    assert works.queue().in_flight == 0


def test_a_success_of_what_the_store_has(works: WorkerHarness) -> None:
    """It is reported, and the store ends it: no worker counts it."""
    (transfer,) = works.emit("evt_a")
    works.answer(transfer, 503)
    (transfer,) = works.until_due()
    works.answer(transfer, 200)
    row = stored(works)["evt_a"]
    assert (State(row.state), row.attempts) == (State.DELIVERED, 2)
    assert "delivered" not in counted(works)
    assert works.harness.store.counters()[0] == {"delivered": 1}
    assert works.queue().in_flight == 0


@pytest.mark.parametrize("works", [{"ordered": True}], indirect=True)
def test_an_ordered_lane_goes_on_with_the_next(works: WorkerHarness) -> None:
    """After a success its key is free."""
    (first,) = works.emit("evt_a", "evt_b")
    works.answer(first, 200)
    (second,) = works.send()
    assert second.tag[1].body == b'{"id": "evt_b"}'
    works.answer(second, 200)
    assert counted(works) == {"delivered": 2}
    assert stored(works) == {}


@pytest.mark.parametrize(
    ("works", "answer", "kept"),
    [
        ({"ordered": True, "on_head_failure": "block"}, 503, ["evt_a", "evt_b", "evt_c"]),
        (
            {"ordered": True, "on_head_failure": "block", "retry": Retry(retry_on=())},
            503,
            ["evt_a"],
        ),
        ({"ordered": True, "on_head_failure": "park"}, 503, ["evt_a"]),
    ],
    indirect=["works"],
)
def test_a_head_that_fails(works: WorkerHarness, answer: int, kept: list[str]) -> None:
    """With `block` the order moves to the store, behind the head: what waits and what comes; unless
    the head is dead, and holds nothing back."""
    (transfer,) = works.emit("evt_a", "evt_b")
    works.answer(transfer, answer)
    works.emit("evt_c", send=False)
    rows = stored(works)
    assert sorted(rows) == kept
    if len(kept) > 1:
        assert [rows[id].cause for id in kept] == ["server_error", "order", "order"]
        assert works.queue().handed_over == works.harness.reporter.outbox.tail - 1
        assert works.send() == []


@pytest.mark.parametrize("works", [{"concurrency": 1}], indirect=True)
def test_a_lane_that_had_no_room_goes_on(works: WorkerHarness) -> None:
    """It is held while its one request is under way, whatever becomes of that."""
    for status in (200, 500):
        (transfer,) = works.emit("evt_a", "evt_b")
        assert works.send() == []
        assert works.queue().full
        works.answer(transfer, status)
        assert not works.queue().full
        (transfer,) = works.send()
        works.answer(transfer, 200)


def test_what_libcurl_sent_again_is_counted(works: WorkerHarness) -> None:
    """The receiver may have seen it twice."""
    (transfer,) = works.emit("evt_a")
    works.answer(transfer, 200, REDIRECT_TIME_T=7)
    assert counted(works) == {"delivered": 1, "resent": 1}


def test_one_request_in_sixteen_is_a_sample(works: WorkerHarness) -> None:
    """And each that opened a connection. After a success heads need not be read any more."""

    def measured() -> int:
        return sum(works.stages.row(0)[d.STAGE_FIRST_BYTE :][: d.STAGE_FIRST_BYTE - d.STAGE_TLS])

    def send(n: int, **how: Any) -> None:
        for _ in range(n):
            (transfer,) = works.emit("evt")
            times: dict[str, Any] = {"STARTTRANSFER_TIME_T": 900, "PRETRANSFER_TIME_T": 100}
            works.answer(transfer, **({"status": 200} | how), **times)

    send(d.SAMPLED_ONE_IN - 1)
    assert (measured(), works.wire.heeded) == (0, [])
    send(1)
    assert (measured(), works.wire.heeded) == (1, [False])
    send(d.SAMPLED_ONE_IN - 1)
    assert measured() == 1
    send(1, opened=True)
    assert (measured(), counted(works)["connected"]) == (2, 1)
    send(d.SAMPLED_ONE_IN - 1)
    assert measured() == 2
    send(1, status=500)
    assert measured() == 3
    assert works.wire.heeded == [False, False, True]


def test_several_that_end_together(works: WorkerHarness) -> None:
    """Each is what it is; the samples are counted over all of them."""
    transfers = works.emit(*(f"evt_{n}" for n in range(6)))
    for n, transfer in enumerate(transfers):
        cast(Handle, transfer.curl).info[STATUS] = 200 if n % 2 else 500
    works.wire.under_way.clear()
    works.dispatcher.collect([(transfer, 0, "") for transfer in transfers], works.harness.now_ns)
    assert counted(works) == {"delivered": 3, "failed": 3, "failed_requests": 3}
    assert works.wire.released == transfers


# ---- a batch -------------------------------------------------------------------------------

BATCH = {"batch": Batch(max_events=4, max_delay=Duration(S))}
FOUR = ("evt_a", "evt_b", "evt_c", "evt_d")


def results_of(*statuses: int) -> bytes:
    """A 207 that tells what became of each of FOUR; 0: it does not name it."""
    named = zip(FOUR, statuses, strict=False)
    return json.dumps([{"id": id, "status": status} for id, status in named if status]).encode()


@pytest.mark.parametrize("works", [BATCH], indirect=True)
def test_a_batch_is_one_request_to_the_breaker(works: WorkerHarness) -> None:
    """One latency, one failure in a row; but each event is counted, and reported by itself."""
    (transfer,) = works.emit(*FOUR)
    works.answer(transfer, 500, message="no")
    assert row_of_failures(works) == BreakerState("closed", 1)
    assert counted(works) == {"failed": 4, "failed_requests": 1}
    assert {row.attempts for row in stored(works).values()} == {1}
    (transfer,) = works.emit(*FOUR)
    works.answer(transfer, 200)
    assert row_of_failures(works) == BreakerState("closed", 0)
    assert counted(works) == {"failed": 4, "failed_requests": 1, "delivered": 4}
    assert works.latencies() == 1
    assert (works.queue().in_flight, works.queue().done) == (0, 8)
    assert len(stored(works)) == 4


@pytest.mark.parametrize("works", [BATCH], indirect=True)
@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_batch_that_is_refused_for_its_content(works: WorkerHarness, status: int) -> None:
    """It goes out again in halves, in its order, until one event is left; that alone is an attempt, and
    the breaker waits for it."""
    works.harness.word(0, d.BREAKER, 1)
    (transfer,) = works.emit(*FOUR)
    works.answer(transfer, status)
    assert counted(works) == {"failed_requests": 1}
    assert row_of_failures(works) == BreakerState("closed", 1)
    assert works.latencies() == 0
    first, second = works.send()
    assert (ids(first, works), ids(second, works)) == (["evt_a", "evt_b"], ["evt_c", "evt_d"])
    works.answer(first, 200)
    works.answer(second, status)
    third, fourth = works.send()
    works.answer(third, 200)
    works.answer(fourth, status)
    more = {"size": 1} if status == 413 else {}
    assert counted(works) == {"delivered": 3, "failed": 1, "failed_requests": 3} | more
    assert list(stored(works)) == ["evt_d"]


@pytest.mark.parametrize("works", [{"batch": Batch(max_events=3)}], indirect=True)
def test_of_an_odd_number_the_first_half_is_larger(works: WorkerHarness) -> None:
    """Two and one of three."""
    (transfer,) = works.emit(*FOUR[:3])
    works.answer(transfer, 400)
    assert [ids(half, works) for half in works.send()] == [["evt_a", "evt_b"], ["evt_c"]]


@pytest.mark.parametrize("works", [BATCH], indirect=True)
@pytest.mark.parametrize(("status", "next_batch"), [(413, 2), (422, 4)])
def test_only_what_is_too_large_makes_batches_smaller(
    works: WorkerHarness, status: int, next_batch: int
) -> None:
    """After a 413 the next ones have at most half its bytes, for a while."""
    (transfer,) = works.emit(*FOUR)
    works.answer(transfer, status)
    for half in works.send():
        works.answer(half, 200)
    transfers = works.emit(*FOUR)
    assert len(ids(transfers[0], works)) in ((1, 2) if next_batch == 2 else (4,))


@pytest.mark.parametrize("works", [BATCH], indirect=True)
def test_a_refused_batch_that_was_a_probe(works: WorkerHarness) -> None:
    """Its halves are other requests: the permit is handed back, and one of them is the next probe."""
    works.harness.word(0, d.BREAKER, breaker.pack(BreakerState("open", 1)))
    works.harness.now_ns += 61 * S
    (transfer,) = works.emit(*FOUR)
    works.answer(transfer, 413)
    assert row_of_failures(works) == BreakerState("half_open", 0)
    (transfer,) = works.send()
    works.answer(transfer, 200)
    assert row_of_failures(works) == BreakerState("closed", 0)


@pytest.mark.parametrize("works", [BATCH], indirect=True)
@pytest.mark.parametrize(
    ("statuses", "row", "delivered"),
    [
        ((200, 200, 200, 200), 0, 4),
        ((200, 500, 0, 413), 0, 1),
        ((500, 500, 413, 0), 2, 0),
        ((413, 413, 413, 413), 1, 0),
    ],
)
def test_a_207_tells_events_apart(
    works: WorkerHarness, statuses: tuple[int, ...], row: int, delivered: int
) -> None:
    """Each has its own status and outcome; to the breaker the request is a success if one event was,
    and nothing if all failures say nothing of the endpoint. What is not named is tried again."""
    works.harness.word(0, d.BREAKER, 1)
    (transfer,) = works.emit(*FOUR)
    works.answer(transfer, 207, body=results_of(*statuses), total_us=5)
    assert row_of_failures(works) == BreakerState("closed", row)
    assert works.latencies() == 1
    found = {id: status for id, status in zip(FOUR, statuses, strict=True) if status != 200}
    assert stored(works).keys() == found.keys()
    for event_id, status in found.items():
        (attempt,) = attempts(works, event_id)
        causes = {500: "server_error", 413: "content_too_large", 0: "protocol"}
        assert (attempt.status, attempt.cause) == (status or 207, causes[status])
        assert attempt.error == ("" if status else "the 207 answer does not name the event")
    expected = {
        "delivered": delivered,
        "failed": len(found),
        "size": list(found.values()).count(413),
    }
    assert counted(works) == {name: n for name, n in expected.items() if n}


@pytest.mark.parametrize("works", [BATCH], indirect=True)
def test_a_207_that_cannot_be_read(works: WorkerHarness) -> None:
    """Each event is tried again, and its attempt says why."""
    (transfer,) = works.emit(*FOUR)
    works.answer(transfer, 207, body=b"<html>")
    assert row_of_failures(works) == BreakerState("closed", 1)
    for event_id in FOUR:
        (attempt,) = attempts(works, event_id)
        assert (attempt.status, attempt.cause) == (207, "protocol")
        assert attempt.error.startswith("the 207 answer cannot be read: ")


@pytest.mark.parametrize("works", [BATCH], indirect=True)
@pytest.mark.parametrize(("status", "name"), [(200, "closed"), (500, "open"), (413, "half_open")])
def test_a_207_of_a_probe(works: WorkerHarness, status: int, name: str) -> None:
    """The token goes back with whatever the events came to."""
    works.harness.word(0, d.BREAKER, breaker.pack(BreakerState("open", 1)))
    works.harness.now_ns += 61 * S
    (transfer,) = works.emit(*FOUR)
    works.answer(transfer, 207, body=results_of(*[status] * 4))
    state = row_of_failures(works)
    assert state.name == name
    assert state.value == 0 or name == "open"


@pytest.mark.parametrize("works", [BATCH | {"record": "all"}], indirect=True)
def test_a_recorded_batch(works: WorkerHarness) -> None:
    """`record: all` has an attempt of each event, of a plain success and of a 207."""
    (transfer,) = works.emit(*FOUR)
    works.answer(transfer, 200)
    (transfer,) = works.emit("evt_e", "evt_f", "evt_g", "evt_h")
    works.answer(transfer, 207, body=b'[{"id": "evt_e", "status": 202}]')
    rows = stored(works)
    assert [rows[id].state for id in FOUR] == [State.DELIVERED] * 4
    assert State(rows["evt_e"].state) == State.DELIVERED
    assert [attempt.status for attempt in attempts(works, "evt_a")] == [200]
    assert State(rows["evt_f"].state) == State.WAITING


@pytest.mark.parametrize("works", [BATCH], indirect=True)
def test_a_batch_from_ring_and_store(works: WorkerHarness) -> None:
    """A delivery that has a row is reported, one that has none ends in its ring."""
    (transfer,) = works.emit(*FOUR)
    works.answer(transfer, 500)
    works.until_due()
    (transfer,) = works.wire.under_way
    taken = transfer.tag[1]
    taken.append(works.harness.fresh("evt_new"))
    works.answer(transfer, 200)
    rows = stored(works)
    assert {row.state for row in rows.values()} == {State.DELIVERED}
    assert rows.keys() == set(FOUR)
    assert counted(works)["delivered"] == 1


# ---- errors of ours ------------------------------------------------------------------------


class Odd(Exception):
    pass


def odd(*_: object, **__: object) -> NoReturn:
    raise Odd("by and by")


@pytest.mark.parametrize("works", [{}, BATCH], indirect=True)
def test_an_error_of_ours_is_an_attempt(
    works: WorkerHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the cause `internal`: counted, tried again, nothing to the breaker; and the log tells it
    once in ten seconds of each endpoint."""
    monkeypatch.setattr("fluxhook.worker.results.Transfer.failure", odd, raising=False)
    works.harness.word(0, d.BREAKER, 1)

    def fail() -> None:
        transfers = works.emit(*FOUR)
        for transfer in transfers:
            works.answer(transfer, 500)
            assert transfer in works.wire.released

    with caplog.at_level(logging.ERROR, "fluxhook"):
        fail()
        assert len(caplog.records) == 1
        works.harness.now_ns += 10 * S - 1
        fail()
        assert len(caplog.records) == 1
        works.harness.now_ns += 1
        fail()
        assert len(caplog.records) == 2
    assert "endpoint a: " in caplog.text
    assert "Odd: by and by" in caplog.text
    assert counted(works) == {"failed": 12, "faults": 12}
    assert row_of_failures(works) == BreakerState("closed", 1)
    assert works.queue().in_flight == 0
    works.harness.step()
    rows = deliveries(works.harness.store, limit=100)
    assert len(rows) == 12
    for row in rows:
        assert (row.cause, row.attempts, row.error) == ("internal", 1, "Odd: by and by")


def test_the_record_of_an_error_of_ours(
    works: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt without an answer, of this worker; and nothing is under way any more, wherever the
    error came up."""
    monkeypatch.setattr(StageTimings, "finished", odd)
    (transfer,) = works.emit("evt_a")
    works.answer(transfer, 200, opened=True)
    assert works.queue().in_flight == 0
    (attempt,) = attempts(works, "evt_a")
    assert (attempt.status, attempt.cause, attempt.worker) == (0, "internal", WORKER)
    assert attempt.error == "Odd: by and by"


@pytest.mark.parametrize("works", [BATCH], indirect=True)
def test_an_error_after_all_has_ended(
    works: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deliveries that were settled before it are settled: no attempt of theirs failed."""
    works.harness.word(0, d.BREAKER, 1)
    monkeypatch.setattr(Admission, "success", odd)
    (transfer,) = works.emit(*FOUR)
    works.answer(transfer, 207, body=results_of(200, 200, 200, 200))
    assert counted(works) == {"delivered": 4}
    assert stored(works) == {}


def test_an_error_at_what_was_taken_over(
    works: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has it while it is under way: its attempt is reported all the same."""
    (transfer,) = works.emit("evt_a")
    works.harness.reporter.report(transfer.tag[1], "adopted", "over_share")
    works.harness.step()
    monkeypatch.setattr(Transfer, "failure", odd)
    works.answer(transfer, 500)
    row = stored(works)["evt_a"]
    assert (row.cause, row.attempts) == ("internal", 1)


def test_a_probe_that_ends_in_an_error_of_ours(
    works: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Makes room for the next probe."""
    works.harness.word(0, d.BREAKER, breaker.pack(BreakerState("open", 1)))
    works.harness.now_ns += 61 * S
    (transfer,) = works.emit("evt_a")
    monkeypatch.setattr(Transfer, "failure", odd)
    works.answer(transfer, 500)
    assert row_of_failures(works) == BreakerState("half_open", 0)


def test_what_cannot_even_be_reported_stays_in_its_ring(
    works: WorkerHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The next worker finds it there; the others of the batch are reported."""
    (transfer,) = works.emit("evt_a")
    monkeypatch.setattr(works.harness.reporter, "report", odd)
    works.answer(transfer, 500)
    monkeypatch.undo()
    assert "endpoint a: an event stays in its ring" in caplog.text
    assert stored(works) == {}
    consumer = works.harness.consumer
    consumer.rewind()
    assert [left.in_ring for left in consumer.take(10)] == [True]


# ---- another worker's ----------------------------------------------------------------------


def test_what_another_worker_serves_goes_to_the_store(works: WorkerHarness) -> None:
    """An endpoint becomes another worker's: what waits and what comes is not sent here, and no longer
    waits here; what is under way ends as ever."""
    works.dispatcher.configure(0, works.queue().endpoint, 1)
    (transfer,) = works.emit("evt_1", "evt_2")
    works.dispatcher.configure(0, works.queue().endpoint, 0)
    assert not works.emit("evt_3")
    works.answer(transfer, 200)
    waiting = {id: row.cause for id, row in stored(works).items() if row.state == State.WAITING}
    assert waiting == {"evt_2": "other_worker", "evt_3": "other_worker"}
    works.dispatcher.configure(0, works.queue().endpoint, 4)
    assert len(works.until_due()) == 2
