"""Templates: the records of events that are known but for a few holes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fluxhook._native import event, ring, shared
from fluxhook.transport.messages import EventHead
from native.rings import ACCEPTED, RingFiles, pack, run_apart

VERSION = 7


@pytest.fixture
def rig(tmp_path: Path) -> RingFiles:
    return RingFiles(tmp_path)


@pytest.fixture
def words(tmp_path: Path) -> Iterator[shared.Words]:
    words = shared.Words(str(tmp_path / "words"), 1, 1)
    words.store(0, 0, VERSION)
    yield words
    words.close()


def template(producers: Any, counters: Any, words: Any, **changes: Any) -> event.Template:
    parts: dict[str, Any] = {
        "targets": pack(5, 3),
        "event_type": "a.b",
        "opening": b'{"i":"',
        "middle": b'","t":"',
        "ending": b'","d":',
        "max_body_bytes": 1000,
    }
    return event.Template(
        producers,
        counters,
        **(parts | changes),
        words=words,
        row=0,
        field=0,
        version=VERSION,
    )


def put(made: event.Template, *parts: Any) -> int:
    """As a publisher does, whatever second begins meanwhile."""
    while (result := made.put(*parts)) == event.EXPIRED:
        made.date(int(time.time()), "now")
    return result


def test_what_comes_out(rig: RingFiles, words: shared.Words) -> None:
    """Head and body with all holes filled, the time of the put, and each target counted."""
    producer, counters = rig.publisher()
    made = template([producer], counters, words)
    before_ns = time.time_ns()
    assert put(made, "id-1", b'{"x":1}') == ring.ACCEPTED
    assert put(made, "id-2", b"{}", "über/alles") == ring.ACCEPTED
    first, second, third, fourth = rig.worker()[0].take(10)
    assert (first.endpoint, second.endpoint) == (5, 3)
    assert before_ns <= first.accepted_ns <= third.accepted_ns <= time.time_ns()
    assert first.event == EventHead("id-1", "a.b").encode()
    assert first.body == b'{"i":"id-1","t":"now","d":{"x":1}}'
    assert fourth.event == EventHead("id-2", "a.b", "über/alles").encode()
    assert fourth.body == b'{"i":"id-2","t":"now","d":{}}'
    assert [counters.get(row, ACCEPTED) for row in (3, 4, 5)] == [2, 0, 2]


def test_a_body_without_the_id(rig: RingFiles, words: shared.Words) -> None:
    """Without an opening the id stands in the head alone."""
    producer, counters = rig.publisher()
    made = template([producer], counters, words, opening=None, middle=b'{"t":"')
    assert put(made, "id-1", b"{}") == ring.ACCEPTED
    delivery = rig.worker()[0].take(1)[0]
    assert EventHead.decode(delivery.event).event_id == "id-1"
    assert delivery.body == b'{"t":"now","d":{}}'


def test_the_ring_with_the_shortest_backlog(tmp_path: Path, words: shared.Words) -> None:
    """Of several rings each record goes into that with the most room; the counters are one file's."""
    for name in "ab":
        (tmp_path / name).mkdir()
    rigs = [RingFiles(tmp_path / name) for name in "ab"]
    producers = [rig.publisher()[0] for rig in rigs]
    counters = rigs[0].published()
    made = template(producers, counters, words)
    assert [put(made, "i", b"{}") for _ in range(8)] == [ring.ACCEPTED] * 8
    assert [producer.backlog for producer in producers] == [4, 4]
    held = rigs[0].worker()[0].take(1)
    assert producers[0].backlog == 3 + len(held) == 5  # two targets
    assert [put(made, "i", b"{}") for _ in range(3)] == [ring.ACCEPTED] * 3
    assert [producer.backlog for producer in producers] == [6, 6]
    assert [producer.waiting for producer in producers] == [4, 6]


def test_nothing_is_written_undated(rig: RingFiles, words: shared.Words) -> None:
    """EXPIRED before the first date, and when the second is another one."""
    producer, counters = rig.publisher()
    made = template([producer], counters, words)
    assert made.put("i", b"{}") == event.EXPIRED
    made.date(int(time.time()) - 1, "then")
    assert made.put("i", b"{}") == event.EXPIRED
    assert producer.tail == 0
    assert put(made, "i", b"{}") == ring.ACCEPTED


def test_nothing_is_written_for_another_configuration(rig: RingFiles, words: shared.Words) -> None:
    """STALE as soon as the word has another version."""
    producer, counters = rig.publisher()
    made = template([producer], counters, words)
    words.store(0, 0, VERSION + 1)
    assert made.put("i", b"{}") == event.STALE
    assert producer.tail == 0


@pytest.mark.parametrize("closed", [0, 1], ids=["ring", "words"])
def test_nothing_is_written_into_what_is_closed(
    rig: RingFiles, words: shared.Words, closed: int
) -> None:
    """STALE: to close a publisher, nobody has to ask for its templates."""
    producer, counters = rig.publisher()
    made = template([producer], counters, words)
    (producer, words)[closed].close()
    assert made.put("i", b"{}") == event.STALE


def test_a_child_does_not_write(rig: RingFiles, words: shared.Words) -> None:
    """FORKED, as from the producer itself."""
    producer, counters = rig.publisher()
    made = template([producer], counters, words)

    def child() -> None:
        assert made.put("i", b"{}") == ring.FORKED
        assert producer.tail == 0

    assert run_apart(child) == 0


def test_limits(tmp_path: Path, words: shared.Words) -> None:
    """TOO_LARGE counts the bytes of the body alone; FULL comes from the ring."""
    rig = RingFiles(tmp_path, queue_size=1)
    producer, counters = rig.publisher()
    made = template([producer], counters, words, max_body_bytes=30)
    around = len(b'{"i":"i","t":"now","d":}')
    assert put(made, "i", b"x" * (31 - around), "t" * 500) == ring.TOO_LARGE
    assert put(made, "i", b"x" * (30 - around), "t" * 500) == ring.ACCEPTED
    assert put(made, "i", b"{}") == ring.FULL


def test_border(rig: RingFiles, words: shared.Words) -> None:
    """Everything that C would read is checked: rings, targets, the word, texts that are none in
    UTF-8."""
    producer, counters = rig.publisher()
    none: Any = None
    refused: list[tuple[Callable[[], object], type[Exception]]] = [
        (lambda: template([], counters, words), ValueError),
        (lambda: template([none], counters, words), TypeError),
        (lambda: template([rig.worker()[0]], counters, words), TypeError),
        (lambda: template([producer], counters, words, targets=b"123"), ValueError),
        (lambda: template([producer], counters, words, middle=none), TypeError),
        (lambda: event.Template.__new__(event.Template).put("i", b"{}"), TypeError),
        (lambda: event.Template.__new__(event.Template).date(1, ""), TypeError),
    ]
    for make, error in refused:
        with pytest.raises(error):
            make()
    made = template([producer], counters, words)
    unwritable: list[tuple[tuple[Any, ...], type[Exception]]] = [
        ((none, b"{}"), TypeError),
        (("i", none), TypeError),
        (("\udfff", b"{}"), UnicodeEncodeError),
        (("i", b"{}", "\udfff"), UnicodeEncodeError),
    ]
    for parts, error in unwritable:
        with pytest.raises(error):
            put(made, *parts)
    assert producer.tail == 0


def test_what_a_template_needs_stays_alive(rig: RingFiles, words: shared.Words) -> None:
    """It keeps its parts, and a list of its own, whatever becomes of the caller's."""
    producer, counters = rig.publisher()
    producers = [producer]
    made = template(producers, counters, words, middle=bytes(bytearray(b'","t":"')))
    producers.clear()
    del producer, producers
    assert put(made, "i", b"{}") == ring.ACCEPTED
    assert rig.worker()[0].take(1)[0].body == b'{"i":"i","t":"now","d":{}}'
