"""What is left when a process dies at a step of ring.h, and what two of them make of a bad moment.

The processes are real and die of SIGKILL, at each step that the header names: see `ring_steps.h`.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from native.rings import ACCEPTED, DROPPED, NATIVE, SETTLED, RingFiles, fork, kill, outcome, pack
from native.stepped import Stepped

BOTH = pack(1, 2)


@pytest.fixture
def rig(tmp_path: Path, stepped: Stepped) -> RingFiles:
    return RingFiles(tmp_path, queue_size=4, capacity=4096, endpoints=4, native=stepped.native)


@pytest.fixture
def doorbell() -> Iterator[int]:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    yield writing
    os.close(reading)
    os.close(writing)


Killed = Callable[..., None]


@pytest.fixture
def killed(stepped: Stepped) -> Killed:
    """Do something in a child that is killed at the nth of the named steps."""

    def killed(work: Callable[[], object], step: str, nth: int = 1) -> None:
        def armed() -> None:
            stepped.arm(step, nth, signal.SIGKILL)
            work()

        assert outcome(fork(armed)) == -signal.SIGKILL, f"{step!r} was not reached"

    return killed


def opened(
    opening: Callable[[], tuple[Any, ...]], use: Callable[..., object]
) -> Callable[[], object]:
    """Return the work of a child: it opens its own end, then uses it."""
    return lambda: use(*opening())


# Each table: the step and its number, and whether the operation happened once the successor is there.

PUT = [
    ("put written", 1, False),
    ("put described", 1, False),
    ("put begun", 1, False),
    ("put committed", 1, True),
    ("counted", 1, True),
    ("counted", 2, True),
    ("put done", 1, True),
    ("doorbell", 1, True),
]


@pytest.mark.parametrize(("step", "nth", "happened"), PUT)
def test_put(
    rig: RingFiles, killed: Killed, doorbell: int, step: str, nth: int, happened: bool
) -> None:
    """A record is there and counted for each target once, or there was no put at all. A doorbell that
    was not rung any more is made good by the consumer's next look."""
    consumer, *_ = rig.worker()
    assert consumer.arm()
    work = opened(lambda: rig.publisher(doorbell), lambda p, c: p.put(BOTH, b"first", b"x" * 99, c))
    killed(work, step, nth)
    producer, published = rig.publisher()
    for endpoint in (1, 2):
        assert published.row(endpoint) == [happened, 0]
    assert producer.put(BOTH, b"second", b"", published) == rig.ring.ACCEPTED
    heads = [d.event for d in consumer.take(9)]
    assert heads == [b"first"] * 2 * happened + [b"second"] * 2
    assert rig.balance() == [0] * 4


DROP = [
    ("drop begun", 1, False),
    ("drop committed", 1, True),
    ("counted", 1, True),
    ("counted", 2, True),
    ("drop cleared", 1, True),
    ("drop done", 1, True),
    ("advanced", 1, True),
]


@pytest.mark.parametrize("by_bytes", [False, True])
@pytest.mark.parametrize(("step", "nth", "happened"), DROP)
def test_drop(
    rig: RingFiles, killed: Killed, step: str, nth: int, happened: bool, by_bytes: bool
) -> None:
    """The oldest record waits as before, or it is dropped and counted for each target once. The put
    that wanted its place did not happen."""
    rig.drop_oldest = True
    size = 1_100 if by_bytes else 0
    producer, published = rig.publisher()
    fitting = 3 if by_bytes else 4
    for n in range(fitting):
        producer.put(BOTH, b"%d" % n, b"x" * size, published)
    killed(opened(rig.publisher, lambda p, c: p.put(BOTH, b"1", b"x" * size, c)), step, nth)
    producer, published = rig.publisher()
    for endpoint in (1, 2):
        assert published.row(endpoint) == [fitting, happened]
    assert producer.put(BOTH, b"2", b"x" * size, published) == rig.ring.ACCEPTED
    heads = [d.event for d in rig.worker()[0].take(9)][::2]
    assert heads == [b"%d" % n for n in range(1, fitting)] + [b"2"]
    assert [published.get(e, DROPPED) for e in (1, 2)] == [1, 1]
    assert rig.balance() == [0] * 4


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_take(rig: RingFiles, killed: Killed, nth: int) -> None:
    """Nothing was settled, so all of it comes again."""
    producer, published = rig.publisher()
    for n in range(3):
        producer.put(BOTH, b"%d" % n, b"", published)
    killed(opened(rig.worker, lambda c, *_: c.take(9)), "taken", nth)
    heads = [d.event for d in rig.worker()[0].take(9)]
    assert heads == [b"0", b"0", b"1", b"1", b"2", b"2"]


SETTLE = [
    ("settle begun", 1, False),
    ("settle committed", 1, True),
    ("settle counted", 1, True),
    ("settle done", 1, True),
    ("advanced", 1, True),
]


@pytest.mark.parametrize(("step", "nth", "happened"), SETTLE)
def test_settle(rig: RingFiles, killed: Killed, step: str, nth: int, happened: bool) -> None:
    """A delivery is repeated, or it is settled and counted once; others are not touched."""
    producer, published = rig.publisher()
    producer.put(pack(1), b"", b"", published)
    producer.put(BOTH, b"", b"", published)
    work = opened(rig.worker, lambda c, _, worked: c.take(1)[0].settle(worked, SETTLED))
    killed(work, step, nth)
    consumer, _, worked = rig.worker()
    assert [worked.get(e, SETTLED) for e in (1, 2)] == [happened, 0]
    taken = consumer.take(9)
    assert [d.seq for d in taken] == [0] * (not happened) + [1, 1]
    for delivery in taken:
        delivery.settle(worked, SETTLED)
    assert [worked.get(e, SETTLED) for e in (1, 2)] == [2, 1]
    assert rig.balance() == [0] * 4


HAND_OVER = [
    ("hand-over begun", 1, False),
    ("put written", 1, False),
    ("put described", 1, False),
    ("put begun", 1, False),
    ("put committed", 1, True),
    ("put done", 1, True),
    ("doorbell", 1, True),
    ("hand-over committed", 1, True),
    ("hand-over cleared", 1, True),
    ("hand-over done", 1, True),
    ("advanced", 1, True),
]


@pytest.mark.parametrize(("step", "nth", "happened"), HAND_OVER)
def test_hand_over(
    rig: RingFiles, killed: Killed, doorbell: int, step: str, nth: int, happened: bool
) -> None:
    """A delivery is in its ring or in the outbox, never in both, never in none."""
    scheduler = rig.scheduler()
    assert scheduler.arm()
    producer, published = rig.publisher()
    producer.put(pack(1), b"", b"", published)

    def work(consumer: Any, outbox: Any, worked: Any) -> None:
        consumer.take(1)[0].hand_over(outbox, 1, b"why", b"", worked)

    killed(opened(lambda: rig.worker(doorbell), work), step, nth)
    consumer, outbox, worked = rig.worker()
    reports = scheduler.take(9)
    assert [d.event for d in reports] == [b"why"] * happened
    again = consumer.take(9)
    assert len(again) == (not happened)
    assert rig.balance([d.endpoint for d in reports]) == [0] * 4
    for delivery in again:
        assert delivery.hand_over(outbox, 1, b"why", b"", worked) == rig.ring.ACCEPTED
    assert producer.empty
    assert [d.event for d in reports + scheduler.take(9)] == [b"why"]


class TestFailingDisk:
    """fdatasync fails; see fx_sync."""

    def test_a_hand_over(self, rig: RingFiles, stepped: Stepped) -> None:
        """Leaves the delivery in its ring until the report is on the disk, and puts that once."""
        producer, published = rig.publisher()
        producer.put(pack(1), b"", b"", published)
        consumer, _, worked = rig.worker()
        outbox = rig.ring.Producer(rig.outbox_path, sync=True)
        (delivery,) = consumer.take(1)
        stepped.fail_syncs(2)
        for _ in range(2):
            assert delivery.hand_over(outbox, 1, b"why", b"", worked) == rig.ring.UNSYNCED
            assert delivery.in_ring
            assert not worked.interrupted
            assert rig.ring.unsettled(rig.path) == {1: 1}
        assert delivery.hand_over(outbox, 1, b"why", b"", worked) == rig.ring.ACCEPTED
        assert not delivery.in_ring
        assert consumer.empty
        reports = rig.scheduler().take(9)
        assert [d.event for d in reports] == [b"why"]
        assert rig.balance([d.endpoint for d in reports]) == [0] * 4

    def test_a_publisher(self, rig: RingFiles, stepped: Stepped) -> None:
        """Is told each time, with the error that the disk gave."""
        producer, _ = rig.publisher()
        producer.put(pack(1), b"", b"body")
        before = Path(rig.path).read_bytes()
        stepped.fail_syncs(2)
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output error") as e:
                producer.sync()
            assert (e.value.errno, e.value.filename) == (errno.EIO, rig.path)
        producer.sync()
        assert Path(rig.path).read_bytes() == before

    def test_what_is_open_for_reading(self, rig: RingFiles, stepped: Stepped) -> None:
        """Is not written to."""
        counters = rig.shared.Counters(rig.path.replace("ring", "publisher"), writable=False)
        stepped.fail_syncs(1)
        with pytest.raises(OSError, match="Input/output error"):
            counters.sync()
        counters.sync()


@pytest.mark.parametrize("step", ["recovered", "advanced"])
@pytest.mark.parametrize("at", ["settle committed", "hand-over committed"])
def test_recover(rig: RingFiles, killed: Killed, at: str, step: str) -> None:
    """A successor that dies while it recovers leaves the same to the next one."""
    producer, published = rig.publisher()
    producer.put(pack(1), b"", b"", published)

    def work(consumer: Any, outbox: Any, worked: Any) -> None:
        (delivery,) = consumer.take(1)
        if at == "settle committed":
            delivery.settle(worked, SETTLED)
        else:
            delivery.hand_over(outbox, 1, b"why", b"", worked)

    killed(opened(rig.worker, work), at)
    killed(rig.worker, step)
    consumer, _, worked = rig.worker()
    assert not worked.interrupted
    assert consumer.empty
    reports = [d.endpoint for d in rig.scheduler().take(9)]
    assert (worked.get(1, SETTLED), reports) == ((1, []) if "settle" in at else (0, [1]))
    assert rig.balance(reports) == [0] * 4


@pytest.mark.parametrize("at", ["put committed", "drop committed", "counted"])
def test_recover_a_publisher(rig: RingFiles, killed: Killed, at: str) -> None:
    """The same for the one that takes a killed publisher's place."""
    rig.drop_oldest = True
    producer, published = rig.publisher()
    for _ in range(4):
        producer.put(BOTH, b"", b"", published)
    killed(opened(rig.publisher, lambda p, c: p.put(BOTH, b"", b"", c)), at)
    killed(rig.publisher, "recovered")
    _, published = rig.publisher()
    accepted = 5 if at == "put committed" else 4
    assert [published.row(e) for e in (1, 2)] == [[accepted, 1]] * 2
    assert rig.balance() == [0] * 4


@pytest.mark.parametrize(("step", "nth"), [*(("rewinding", n) for n in (1, 2, 3)), ("rewound", 1)])
def test_rewind(rig: RingFiles, killed: Killed, step: str, nth: int) -> None:
    """A successor that dies while it starts over leaves every record to the next one."""
    producer, published = rig.publisher()
    for n in range(3):
        producer.put(BOTH, b"%d" % n, b"", published)
    rig.worker()[0].take(3)
    killed(rig.worker, step, nth)
    assert producer.waiting <= 3
    taken = rig.worker()[0].take(9)
    assert [d.seq for d in taken] == [0, 0, 1, 1, 2, 2]


def test_each_step_is_in_a_table() -> None:
    """No step of ring.h goes untried."""
    named = set(re.findall(r'FX_STEP\("([^"]+)"\)', (NATIVE / "ring.h").read_text()))
    tried = {step for step, *_ in PUT + DROP + SETTLE + HAND_OVER}
    assert named == tried | {"taken", "recovered", "rewinding", "rewound"}


def test_at_every_step_of_a_day(tmp_path: Path, stepped: Stepped, killed: Killed) -> None:
    """Publisher and worker die together after n steps, for each n of a busy scenario: the books are
    right and everything accepted is delivered, handed over, dropped or still there."""

    def scenario(rig: RingFiles) -> None:
        producer, published = rig.publisher()
        consumer, outbox, worked = rig.worker()
        for n in range(6):
            producer.put(BOTH, b"%d" % n, b"x" * 200 * n, published)
        first, second = consumer.take(1)
        first.settle(worked, SETTLED)
        for n in range(6, 9):
            producer.put(pack(3), b"%d" % n, b"x" * 700, published)
        for delivery in consumer.take(2):
            delivery.hand_over(outbox, delivery.endpoint, b"", b"", worked)
        second.settle(worked, SETTLED)
        consumer.rewind()
        for delivery in consumer.take(9):
            delivery.settle(worked, SETTLED)

    n = 0
    while True:
        n += 1
        folder = tmp_path / str(n)
        folder.mkdir()
        rig = RingFiles(
            folder,
            queue_size=4,
            capacity=4096,
            endpoints=4,
            drop_oldest=True,
            native=stepped.native,
        )

        def armed(n: int = n, rig: RingFiles = rig) -> None:
            stepped.arm("", n, signal.SIGKILL)
            scenario(rig)

        status = outcome(fork(armed))
        if status == 0:
            break
        assert status == -signal.SIGKILL
        rig.publisher()
        consumer, _, worked = rig.worker()
        scheduler = rig.scheduler()
        handed_over = [d.endpoint for d in scheduler.take(99)]
        assert rig.balance(handed_over) == [0] * 4, f"after {n} steps"
        for delivery in consumer.take(99):
            delivery.settle(worked, SETTLED)
        assert consumer.empty
        assert consumer.corrupt == scheduler.corrupt == 0
        assert rig.balance(handed_over) == [0] * 4, f"after {n} steps"
    assert n > 100


# ---- two processes at a bad moment -----------------------------------------------------------


class Stopped:
    """A child that stops at a step, so that the other side can act in between."""

    def __init__(self, stepped: Stepped, work: Callable[[], object], step: str, nth: int) -> None:
        def armed() -> None:
            stepped.arm(step, nth, signal.SIGSTOP)
            work()

        self.pid = fork(armed)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"{step!r} was not reached"

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        assert outcome(self.pid) == 0


@pytest.fixture
def stopped(stepped: Stepped) -> Iterator[Callable[..., Stopped]]:
    children: list[Stopped] = []

    def stop(work: Callable[[], object], step: str, nth: int = 1) -> Stopped:
        children.append(Stopped(stepped, work, step, nth))
        return children[-1]

    yield stop
    kill(*(child.pid for child in children))


class TestBadMoments:
    def test_drop_against_take(self, rig: RingFiles, stopped: Callable[..., Stopped]) -> None:
        """The consumer takes what the producer is about to drop: it is taken, and not counted."""
        rig.drop_oldest = True
        producer, published = rig.publisher()
        for n in range(4):
            producer.put(BOTH, b"%d" % n, b"", published)
        consumer, *_ = rig.worker()
        publisher = stopped(
            opened(rig.publisher, lambda p, c: p.put(BOTH, b"new", b"", c)), "drop begun"
        )
        first = consumer.take(1)
        publisher.go_on()
        assert [published.row(e) for e in (1, 2)] == [[5, 1]] * 2  # record 1 went instead
        heads = [d.event for d in first + consumer.take(9)]
        assert heads[::2] == [b"0", b"2", b"3", b"new"]
        assert rig.balance() == [0] * 4

    def test_take_against_drop(self, rig: RingFiles, stopped: Callable[..., Stopped]) -> None:
        """The producer has dropped what the consumer is about to take: it is passed over."""
        rig.drop_oldest = True
        producer, published = rig.publisher()
        for n in range(4):
            producer.put(BOTH, b"%d" % n, b"", published)
        consumer, *_ = rig.worker()
        publisher = stopped(
            opened(rig.publisher, lambda p, c: p.put(BOTH, b"new", b"", c)), "drop committed"
        )
        heads = [d.event for d in consumer.take(9)]
        publisher.go_on()
        heads += [d.event for d in consumer.take(9)]
        assert heads[::2] == [b"1", b"2", b"3", b"new"]
        assert rig.balance() == [0] * 4

    def test_an_unpublished_record_is_not_seen(
        self, rig: RingFiles, stopped: Callable[..., Stopped]
    ) -> None:
        """A record that is written but not committed does not exist for the consumer."""
        consumer, *_ = rig.worker()
        work = opened(rig.publisher, lambda p, c: p.put(BOTH, b"", b"", c))
        for step in ("put written", "put described", "put begun"):
            publisher = stopped(work, step)
            assert consumer.take(9) == []
            assert consumer.arm()
            publisher.go_on()
            assert len(consumer.take(9)) == 2

    @pytest.mark.parametrize("dies", [False, True])
    def test_a_consumer_in_the_middle_of_taking(
        self, rig: RingFiles, stopped: Callable[..., Stopped], dies: bool
    ) -> None:
        """A consumer that has taken records and not said so yet, or died before it could, does not
        make the producer drop what waits behind them for bytes that cannot come free."""
        rig.drop_oldest = True
        producer, published = rig.publisher()
        for n in range(3):
            producer.put(BOTH, b"%d" % n, b"x" * 1_100, published)
        worker = stopped(opened(rig.worker, lambda c, *_: c.take(9)), "taken")
        if dies:
            kill(worker.pid)
        for _ in range(3):
            assert producer.put(BOTH, b"new", b"x" * 1_100, published) == rig.ring.FULL
        assert [published.row(e) for e in (1, 2)] == [[3, 0]] * 2
        if not dies:
            worker.go_on()
        assert len(rig.worker()[0].take(9)) == 6

    def test_a_queue_that_only_seems_full(
        self, rig: RingFiles, stopped: Callable[..., Stopped]
    ) -> None:
        """The consumer holds all records and has not said so: under drop_oldest the newest fits."""
        rig.drop_oldest = True
        producer, published = rig.publisher()
        for n in range(4):
            producer.put(BOTH, b"%d" % n, b"", published)
        worker = stopped(opened(rig.worker, lambda c, *_: c.take(9)), "taken", 4)
        for _ in range(4):
            assert producer.put(BOTH, b"new", b"", published) == rig.ring.ACCEPTED
        assert [published.row(e) for e in (1, 2)] == [[8, 0]] * 2
        worker.go_on()
        assert rig.balance() == [0] * 4

    def test_drop_while_a_successor_starts_over(
        self, rig: RingFiles, stopped: Callable[..., Stopped]
    ) -> None:
        """A record that waits again can be dropped at once; the books are right all the same."""
        rig.drop_oldest = True
        producer, published = rig.publisher()
        for n in range(4):
            producer.put(BOTH, b"%d" % n, b"", published)
        rig.worker()[0].take(9)
        worker = stopped(
            opened(rig.worker, lambda c, _, w: [d.settle(w, SETTLED) for d in c.take(9)]),
            "rewinding",
            2,
        )
        for n in range(9):
            producer.put(BOTH, b"new %d" % n, b"x" * 500, published)
        worker.go_on()
        assert rig.balance() == [0] * 4
        consumer, _, worked = rig.worker()
        for delivery in consumer.take(99):
            delivery.settle(worked, SETTLED)
        assert consumer.empty
        assert consumer.corrupt == 0
        assert rig.balance() == [0] * 4
        assert published.get(1, ACCEPTED) == published.get(1, DROPPED) + worked.get(1, SETTLED)
