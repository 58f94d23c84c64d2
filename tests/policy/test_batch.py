"""Batches: how many events go into one, how they are written, and what a 207 says of them."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from typing import NamedTuple, get_args

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fluxhook.config.schema import Batch, BatchFormat
from fluxhook.config.units import Duration, Size
from fluxhook.policy.batch import (
    batch_id,
    cut,
    halves,
    is_due,
    join,
    read_answers,
    smaller,
    waits_until_ns,
)

formats = st.sampled_from(sorted(get_args(BatchFormat)))
batches = st.builds(
    Batch,
    max_events=st.integers(1, 20),
    max_delay=st.builds(Duration, st.integers(1, 10**9)),
    format=formats,
    max_bytes=st.builds(Size, st.integers(10, 2000)),
)
envelopes = st.dictionaries(st.text(max_size=5), st.text(max_size=100), max_size=3).map(
    msgspec.json.encode
)


@given(batches, st.lists(envelopes, min_size=1, max_size=30))
def test_a_batch_is_as_large_as_it_may_be(batch: Batch, bodies: list[bytes]) -> None:
    """It never has more events or bytes than it may, but where one event alone is too large; and one
    event more would be too much."""
    waiting = bodies[: batch.max_events]
    count = cut(batch, list(map(len, waiting)))
    assert 1 <= count <= len(waiting)
    assert count == 1 or len(join(batch, waiting[:count])) <= batch.max_bytes
    if count < len(waiting):
        assert len(join(batch, waiting[: count + 1])) > batch.max_bytes


@given(batches, st.lists(envelopes, min_size=1, max_size=10))
def test_every_event_comes_out_of_the_body_as_it_went_in(batch: Batch, bodies: list[bytes]) -> None:
    """In its order; a line of NDJSON ends with a line feed, and has none."""
    body = join(batch, bodies)
    if batch.format == "ndjson":
        assert body.endswith(b"\n")
        assert body.split(b"\n")[:-1] == bodies
    else:
        assert list(map(bytes, msgspec.json.decode(body, type=list[msgspec.Raw]))) == bodies


@given(
    batches, st.integers(0, 30), st.integers(0, 4000), st.integers(0, 10**9), st.integers(0, 10**9)
)
def test_a_batch_closes_by_count_bytes_or_age(
    batch: Batch, events: int, n_bytes: int, oldest_ns: int, waited_ns: int
) -> None:
    """Whichever comes first; nothing is never due."""
    due = is_due(batch, events, n_bytes, oldest_ns, oldest_ns + waited_ns)
    assert due == (
        events > 0
        and (
            events >= (batch.max_events or 0)
            or n_bytes >= batch.max_bytes
            or waited_ns >= batch.max_delay.ns
        )
    )


@given(batches, st.integers(0, 10**18))
def test_age_closes_it_when_it_was_said_to(batch: Batch, oldest_ns: int) -> None:
    """A loop that sleeps until then finds it due, and not before."""
    until_ns = waits_until_ns(batch, oldest_ns)
    assert is_due(batch, 1, 0, oldest_ns, until_ns)
    assume((batch.max_events or 0) > 1)
    assert not is_due(batch, 1, 0, oldest_ns, until_ns - 1)


ids = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


@given(st.lists(ids, min_size=1, max_size=5), st.lists(ids, min_size=1, max_size=5))
def test_a_batch_has_the_id_of_its_events(first: list[str], second: list[str]) -> None:
    """Equal events in equal order, equal id; and it can stand in a webhook-id, without a dot."""
    assert (batch_id(first) == batch_id(second)) == (first == second)
    assert batch_id(first).replace("_", "").isalnum()


@given(st.dictionaries(ids, st.integers(200, 599)), st.booleans(), st.booleans())
def test_a_207_is_a_list_of_results_or_an_object_with_one(
    statuses: dict[str, int], wrapped: bool, as_text: bool
) -> None:
    """Members beside id and status are skipped, and a status may be a text."""
    results = [
        {"id": id, "status": str(status) if as_text else status, "error": {"code": [1]}}
        for id, status in statuses.items()
    ]
    body = json.dumps({"took": 3, "results": results} if wrapped else results)
    assert read_answers(b" \n" + body.encode()) == statuses


def test_of_two_answers_for_one_event_the_failure_counts() -> None:
    """Sending again costs a duplicate; not sending again would cost the event."""
    for statuses in ((200, 503), (503, 200)):
        body = json.dumps([{"id": "a", "status": status} for status in statuses])
        assert read_answers(body.encode()) == {"a": 503}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"ok",
        b"{}",
        b"null",
        b'"[]"',
        b"[1]",
        b'[{"id": "a"}]',
        b'[{"status": 200}]',
        b'[{"id": 7, "status": 200}]',
        b'[{"id": "a", "status": "soon"}]',
        b'[{"id": "a", "status": true}]',
        b'[{"id": "a", "status": 99}]',
        b'[{"id": "a", "status": 600}]',
        b'[{"id": "a", "status": 200}',
        b'{"results": {"a": 200}}',
        b'[{"id": "\xff", "status": 200}]',
        b"[" * 100_000,
        b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b', "results": []}',
        b'[{"id": "a", "status": 200, "x": ' + b'{"x":' * 9000 + b"1" + b"}" * 9000 + b"}]",
        b'[{"id": "a", "status": "' + b"2" * 5000 + b'"}]',
    ],
)
def test_what_is_neither_is_refused(body: bytes) -> None:
    """With one sentence; nothing of it is believed."""
    with pytest.raises(ValueError, match="^the 207 answer "):
        read_answers(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_answers_or_refused(body: bytes) -> None:
    """Nothing else than ValueError comes out of a receiver's answer."""
    with contextlib.suppress(ValueError):
        assert all(200 <= status <= 599 for status in read_answers(body).values())


# ---- refused batches -----------------------------------------------------------------------


class Halving(NamedTuple):
    requests: int
    delivered: list[int]
    refused: list[int]


def halve(events: int, answer: Callable[[list[int]], int]) -> Halving:
    """Return what a batch of events comes to at a receiver that answers so."""
    requests, delivered, refused = 0, [], []
    waiting = [list(range(events))]
    while waiting:
        batch = waiting.pop()
        requests += 1
        status = answer(batch)
        if status == 200:
            delivered += batch
        elif parts := halves(status, len(batch)):
            assert sum(parts) == len(batch)
            assert min(parts) > 0
            waiting += [batch[parts[0] :], batch[: parts[0]]]
        else:
            refused += batch
    return Halving(requests, delivered, refused)


@given(st.integers(1, 300), st.sets(st.integers(0, 299)), st.sampled_from((400, 413, 422)))
def test_what_is_refused_alone_is_found(events: int, bad: set[int], status: int) -> None:
    """Every event ends exactly once, the good ones delivered and in their order; each bad one costs at
    most two requests for each halving of the batch."""
    bad = {event for event in bad if event < events}
    found = halve(events, lambda batch: status if bad.intersection(batch) else 200)
    assert found.delivered == [event for event in range(events) if event not in bad]
    assert found.refused == sorted(bad)
    depth = math.ceil(math.log2(events)) if events > 1 else 0
    assert found.requests <= 1 + 2 * depth * len(bad)
    assert found.requests <= 2 * events - 1


def test_one_in_a_thousand_costs_twenty_requests() -> None:
    """Two for each halving, and the first."""
    found = halve(1000, lambda batch: 400 if 3 in batch else 200)
    assert found.requests <= 21


@given(st.lists(st.integers(1, 100), min_size=1, max_size=200), st.integers(1, 1000))
def test_what_is_too_large_alone_is_found(sizes: list[int], limit: int) -> None:
    """Each event that fits is delivered, whatever it came with."""
    found = halve(len(sizes), lambda b: 413 if sum(sizes[event] for event in b) > limit else 200)
    assert found.refused == [event for event, size in enumerate(sizes) if size > limit]


@pytest.mark.parametrize("status", [0, 301, 401, 403, 404, 408, 410, 415, 429, 500, 503])
def test_other_answers_count_for_every_event(status: int) -> None:
    """They say nothing about the content: two requests would be answered as one was."""
    assert halves(status, 10) is None


@given(st.integers(1, 10**7), st.integers(1, 10**6), st.integers(1, 10**6))
def test_batches_shrink_to_what_a_receiver_takes(maximum: int, limit: int, refused: int) -> None:
    """To no less than half of it, however often and by whatever batches it is found out."""
    batch = Batch(max_events=10, max_bytes=Size(maximum))
    while batch.max_bytes > limit:
        batch = smaller(batch, batch.max_bytes)
        assert smaller(batch, limit + refused).max_bytes >= min(batch.max_bytes, (limit + 1) // 2)
    assert batch.max_bytes >= min(maximum, (limit + 1) // 2)


# ---- to the byte ---------------------------------------------------------------------------

EXACT = Batch(max_events=3, max_bytes=Size(100), max_delay=Duration(10))


@pytest.mark.parametrize(
    ("events", "n_bytes", "now_ns", "due"),
    [
        (0, 500, 500, False),
        (2, 99, 9, False),
        (3, 0, 0, True),
        (4, 0, 0, True),
        (2, 100, 0, True),
        (1, 101, 0, True),
        (1, 0, 10, True),
    ],
)
def test_what_closes_a_batch(events: int, n_bytes: int, now_ns: int, due: bool) -> None:
    """max_events, max_bytes or max_delay, whichever is reached first; never without an event."""
    assert is_due(EXACT, events, n_bytes, 0, now_ns) is due


def test_without_a_number_of_events_one_is_enough() -> None:
    """However long it might wait."""
    batch = Batch(max_events=None, max_bytes=Size(100), max_delay=Duration(10**18))
    assert is_due(batch, 1, 0, 0, 0)
    assert not is_due(batch, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("format", "max_bytes", "count"),
    [
        *(("json", 35, 3), ("json", 34, 3), ("json", 33, 2), ("json", 23, 2), ("json", 22, 1)),
        *(("json", 12, 1), ("json", 11, 1), ("json", 1, 1)),
        *(("ndjson", 33, 3), ("ndjson", 32, 2), ("ndjson", 22, 2), ("ndjson", 21, 1)),
    ],
)
def test_how_many_fit(format: BatchFormat, max_bytes: int, count: int) -> None:
    """Three envelopes of ten bytes, with what stands around and between them."""
    batch = Batch(format=format, max_bytes=Size(max_bytes))
    assert cut(batch, [10, 10, 10]) == count
    assert len(join(batch, [b"x" * 10] * count)) <= max(max_bytes, 12)


def test_a_batch_never_becomes_smaller_than_a_byte() -> None:
    """Half of one is one; and a larger limit is not raised."""
    assert smaller(Batch(max_bytes=Size(5)), 1).max_bytes == 1
    assert smaller(Batch(max_bytes=Size(5)), 100).max_bytes == 5
    assert smaller(Batch(max_bytes=Size(500)), 101).max_bytes == 50


def test_the_id_of_a_batch_is_pinned() -> None:
    """A receiver that knows a batch by its id must know it after an upgrade too."""
    assert batch_id(["evt_a", "evt_b"]) == "batch_09eb518883f0531d7796d2429ae8d349"


@pytest.mark.parametrize(
    ("statuses", "counts"),
    [([200, 500], 500), ([299, 500], 500), ([500, 200], 500), ([300, 200], 300), ([204, 201], 201)],
)
def test_an_event_that_is_named_twice(statuses: list[int], counts: int) -> None:
    """The one that failed counts, whether it comes first or last."""
    body = msgspec.json.encode([{"id": "a", "status": status} for status in statuses])
    assert read_answers(body) == {"a": counts}


@pytest.mark.parametrize(("status", "ok"), [(199, False), (200, True), (599, True), (600, False)])
def test_only_a_final_status_is_an_answer(status: int, ok: bool) -> None:
    """Of 200 to 599."""
    body = msgspec.json.encode([{"id": "a", "status": status}])
    if ok:
        assert read_answers(body) == {"a": status}
    else:
        with pytest.raises(ValueError, match=str(status)):
            read_answers(body)
