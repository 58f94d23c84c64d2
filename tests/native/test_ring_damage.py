"""Files that are not what they should be: damaged, foreign, cut off, or of mixed ages.

What reads outside of the file dies of SIGSEGV, so the reading is done by a child process.
"""

from __future__ import annotations

import mmap
import os
import random
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxhook._native import ring, shared
from native.rings import BOOT_ID, RAM, RingFiles, pack, run_apart
from oracles import ring_file

NEXT_BOOT, BOOT_AFTER = b"\1" * 16, b"\2" * 16
OPENERS: list[Callable[[str], object]] = [
    ring.Producer,
    ring.Consumer,
    ring.unsettled,
    ring.geometry,
    lambda path: ring.repair_ring(path, NEXT_BOOT),
]


def body_of(n: int) -> bytes:
    return bytes([n % 251]) * (n * 37 % 90)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir=RAM))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def path(folder: Path) -> str:
    """A ring of nine records for targets 1 and 2: 0 to 2 are settled, 3 is for target 1, 4 was dropped,
    5 and 6 are in the hands of a consumer that is gone, 7 and 8 wait."""
    rig = RingFiles(folder, queue_size=4, capacity=4096, drop_oldest=True)
    producer, _ = rig.publisher()
    consumer, *_ = rig.worker()

    def put(*numbers: int) -> None:
        for n in numbers:
            assert producer.put(pack(1, 2), b"%d" % n, body_of(n)) == ring.ACCEPTED

    put(0, 1, 2)
    for delivery in consumer.take(3):
        delivery.settle()
    put(3, 4, 5, 6)
    consumer.take(1)[0].settle()
    put(7, 8)
    consumer.take(2)
    return rig.path


OWED = {3: (2,), 5: (1, 2), 6: (1, 2), 7: (1, 2), 8: (1, 2)}


def use(path: str) -> tuple[dict[int, tuple[int, ...]], int]:
    """Open a ring and use it fully; return what came out, and how many damaged records were met.

    Whatever the file holds: nothing torn comes out, and in the end the ring works.
    """
    consumer, producer = ring.Consumer(path), ring.Producer(path)
    consumer.rewind()
    ring.unsettled(path)
    assert 0 <= consumer.load <= 1
    taken = consumer.take(100)
    found: dict[int, tuple[int, ...]] = {}
    for delivery in taken:
        n = int(delivery.event)
        assert delivery.body == body_of(n)
        found[n] = (*found.get(n, ()), delivery.endpoint)
    for _ in range(3):
        assert producer.put(pack(1), b"99", body_of(99)) in (ring.ACCEPTED, ring.FULL)
    for delivery in taken + consumer.take(100):
        delivery.settle()
    for n in range(100, 160):  # some laps
        assert producer.put(pack(1, 2), b"%d" % n, body_of(n)) == ring.ACCEPTED
        assert [d.body for d in consumer.take(9) if d.settle()] == [body_of(n)] * 2
    damaged = consumer.corrupt
    producer.close()
    consumer.close()
    return found, damaged


def sweep(path: str, offsets: range, judge: Callable[[int], None]) -> None:
    """Flip one bit, the top bit, or all bits of each byte in turn and have `judge` use the file."""
    image = Path(path).read_bytes()
    progress = mmap.mmap(-1, 8)

    def work() -> None:
        for offset in offsets:
            for flip in (0x01, 0x80, 0xFF):
                progress[:] = struct.pack("<II", offset, flip)
                damaged = bytearray(image)
                damaged[offset] ^= flip
                Path(path).write_bytes(damaged)
                judge(offset)

    result = run_apart(work)
    offset, flip = struct.unpack("<II", progress[:])
    assert result == 0, f"offset {offset}, flip {flip:#x}: {result}"


class TestFlippedBits:
    def test_in_records(self, path: str) -> None:
        """A damaged record is skipped and counted; each other record comes out, whole and once."""
        image = Path(path).read_bytes()
        *_, data = ring_file.geometry(image)
        places = {}
        for stored in ring_file.records(image):
            position = struct.unpack_from("<Q", image, ring_file.PAGE + 16 * (stored.seq % 8))[0]
            size = 32 + 8 + len(stored.head) + len(stored.body)
            places[stored.seq] = range(data + position, data + position + size)

        def judge(offset: int) -> None:
            found, damaged = use(path)
            lost = [n for n, place in places.items() if offset in place and n in OWED]
            assert damaged == len(lost)
            assert found == {n: targets for n, targets in OWED.items() if n not in lost}

        sweep(path, range(data, places[8].stop), judge)

    def test_in_slots(self, path: str) -> None:
        """Costs the record of that slot at most: a target, or all of it."""

        def judge(offset: int) -> None:
            found, damaged = use(path)
            assert damaged <= 1
            for n, targets in OWED.items():
                if n % 8 != (offset - ring_file.PAGE) // 16:
                    assert found.get(n) == targets

        sweep(path, range(ring_file.PAGE, ring_file.PAGE + 16 * 8), judge)

    def test_in_the_header(self, path: str) -> None:
        """A clear refusal, or a ring that works and gives nothing torn."""
        refused = set()

        def judge(offset: int) -> None:
            try:
                use(path)
            except shared.LayoutMismatch:
                refused.add(offset)

        def checked(offset: int) -> None:
            judge(offset)
            assert offset >= 40 or offset in refused or offset in {12, 13, 14, 15, *range(32, 36)}

        sweep(path, range(320), checked)

    def test_in_the_newest_record(self, path: str) -> None:
        """A producer that cannot tell where the data ends writes over nothing: it waits until the ring
        is empty."""
        image = bytearray(Path(path).read_bytes())
        newest = ring_file.PAGE + 16 * (8 % 8)
        position = struct.unpack_from("<Q", image, newest)[0]
        image[ring_file.geometry(image)[2] + position] ^= 1
        Path(path).write_bytes(image)
        producer, consumer = ring.Producer(path), ring.Consumer(path)
        assert producer.put(pack(1), b"99", b"x" * 1_500) == ring.FULL
        consumer.rewind()
        taken = consumer.take(9)
        assert {int(d.event) for d in taken} == OWED.keys() - {8}
        assert consumer.corrupt == 1
        for delivery in taken:
            assert producer.put(pack(1), b"99", b"") == ring.FULL
            delivery.settle()
        assert producer.put(pack(1), b"99", b"") == ring.ACCEPTED

    def test_while_a_consumer_is_at_work(self, path: str) -> None:
        """A slot that goes bad under a consumer costs its record and blocks nothing."""
        image = bytearray(Path(path).read_bytes())

        def work() -> None:
            for seq in OWED:
                Path(path).write_bytes(image)
                consumer, producer = ring.Consumer(path), ring.Producer(path)
                consumer.rewind()
                with Path(path).open("r+b") as file:
                    file.seek(ring_file.PAGE + 16 * (seq % 8))
                    file.write(b"\xff" * 16)
                taken = consumer.take(100)
                assert consumer.corrupt == 1
                assert {int(d.event) for d in taken} == OWED.keys() - {seq}
                for delivery in taken:
                    delivery.settle()
                assert consumer.empty
                assert producer.put(pack(1), b"99", b"") == ring.ACCEPTED

        assert run_apart(work) == 0


class TestForeignFiles:
    @pytest.mark.parametrize("length", [0, 1, 4095, 4096, 4097, 8000, 8319, 8321, 12_416])
    def test_cut_off(self, path: str, length: int) -> None:
        """A file of another length than its header tells is refused by all who open it."""
        assert os.path.getsize(path) == 8320
        os.truncate(path, length)
        for opener in OPENERS:
            with pytest.raises(shared.LayoutMismatch, match=r"not a fluxhook file|does not fit"):
                opener(path)

    @pytest.mark.parametrize(("name", "value"), [("magic", b"FLXRING2"), ("layout", 2)])
    def test_another_version(self, path: str, name: str, value: int | bytes) -> None:
        """Is told apart from damage, for what it holds may be drained by that version."""
        change(path, **{name: value})
        for opener in OPENERS:
            with pytest.raises(shared.OtherVersion, match="another version of fluxhook"):
                opener(path)

    @pytest.mark.parametrize(
        ("name", "value"), [("magic", b"FLXCONT1"), ("magic", bytes(8)), ("layout", 1 << 24)]
    )
    def test_another_kind(self, path: str, name: str, value: int | bytes) -> None:
        """Is damaged."""
        change(path, **{name: value})
        for opener in OPENERS:
            with pytest.raises(shared.LayoutMismatch, match="is damaged") as e:
                opener(path)
            assert not isinstance(e.value, shared.OtherVersion)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"slot_count": 0},
            {"slot_count": 7},
            {"slot_count": 16},
            {"slot_count": 1 << 60},  # times 16 bytes it is 0 again
            {"slot_count": 1 << 60, "capacity": 4096 + 128},
            {"slot_count": 1 << 63, "capacity": 4096 + 128},
            {"capacity": 0},
            {"capacity": 4095},
            {"capacity": 4096 - 8},
            {"capacity": (1 << 64) - 8},
            {"slot_count": 256, "capacity": 128},
            {"queue_size": 0},
            {"queue_size": 1 << 63},
        ],
    )
    def test_impossible_geometry(self, path: str, wrong: dict[str, int]) -> None:
        """Is refused, also where the product of the numbers overflows to the right length."""
        change(path, **wrong)
        for opener in OPENERS:
            with pytest.raises(shared.LayoutMismatch, match="its size does not fit its header"):
                opener(path)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"head": 10},
            {"cursor": 10},
            {"tail": 2},
            {"tail": 12},
            {"tail": 1 << 63},
            {"head": 0},
            {"head": (1 << 64) - 1},
        ],
    )
    def test_contradicting_positions(self, path: str, wrong: dict[str, int]) -> None:
        """Are refused at once: nobody walks from a wrong head to a wrong tail."""
        change(path, **wrong)
        for opener in (ring.Producer, ring.Consumer, ring.unsettled):
            with pytest.raises(shared.LayoutMismatch, match="its positions contradict each other"):
                opener(path)

    def test_leave_nothing_open(self, path: str) -> None:
        """A refusal closes the file."""
        os.truncate(path, 5000)
        before = len(os.listdir("/proc/self/fd"))
        for opener in OPENERS:
            with pytest.raises(shared.LayoutMismatch):
                opener(path)
        assert len(os.listdir("/proc/self/fd")) == before


def change(path: str, **fields: int | bytes) -> None:
    image = bytearray(Path(path).read_bytes())
    for name, value in fields.items():
        ring_file.put(image, name, value)
    Path(path).write_bytes(image)


class TestLayout:
    def test_is_the_drawn_one(self, path: str) -> None:
        """The file as ring.h draws it. A change here needs another layout version."""
        image = Path(path).read_bytes()
        assert [ring_file.get(image, name) for name in ("magic", "layout")] == [b"FLXRING1", 1]
        names = ("capacity", "slot_count", "queue_size", "head", "tail", "cursor", "boot_id")
        assert [ring_file.get(image, n) for n in names] == [4096, 8, 4, 3, 9, 7, BOOT_ID]
        assert ring_file.get(image, "uid") == ring.Producer(path).uid
        in_hand, waiting = ring_file.TAKEN, ring_file.WAITING
        assert ring_file.records(image) == [
            (1, in_hand, (), b"1", body_of(1)),
            (2, in_hand, (), b"2", body_of(2)),
            (3, in_hand, (2,), b"3", body_of(3)),
            (4, ring_file.DROPPED, (), b"4", body_of(4)),
            (5, in_hand, (1, 2), b"5", body_of(5)),
            (6, in_hand, (1, 2), b"6", body_of(6)),
            (7, waiting, (1, 2), b"7", body_of(7)),
            (8, waiting, (1, 2), b"8", body_of(8)),
        ]


# ---- power loss ------------------------------------------------------------------------------


class History:
    """A ring under random use, and snapshots of its file on the way."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        # slots within one page and records over several of them, or the other way round
        queue_size, steps, sizes = rng.choice([(8, 20, (0, 50, 700, 2_500)), (256, 600, (0, 20))])
        rig = RingFiles(
            folder, queue_size=queue_size, capacity=16_384, drop_oldest=rng.random() < 0.5
        )
        self.path = rig.path
        self.images: list[bytes] = []
        #: what each snapshot still owed
        self.owed: list[dict[int, set[int]]] = []
        #: every record ever put
        self.records: dict[int, tuple[tuple[int, ...], bytes, bytes]] = {}
        producer, counters = rig.publisher()
        consumer, outbox, worked = rig.worker()
        in_hand: list[ring.RingDelivery] = []
        hanging = rng.choice([None, 7])  # an endpoint that settles nothing
        for _ in range(4):
            for _ in range(rng.randrange(steps)):
                seq = producer.tail
                targets = tuple(rng.sample(range(8), rng.randint(1, 3)))
                head, body = b"%d" % seq, rng.randbytes(rng.choice(sizes))
                if producer.put(pack(*targets), head, body, counters) == ring.ACCEPTED:
                    self.records[seq] = (targets, head, body)
                in_hand += [d for d in consumer.take(rng.randrange(3)) if d.endpoint != hanging]
                rng.shuffle(in_hand)
                while len(in_hand) > rng.randrange(8):
                    in_hand.pop().settle(worked)
            image = Path(self.path).read_bytes()
            self.images.append(image)
            head_now, tail_now = ring_file.get(image, "head"), ring_file.get(image, "tail")
            self.owed.append(
                {
                    r.seq: set(r.unsettled)
                    for r in ring_file.records(image)
                    if int(head_now) <= r.seq < int(tail_now) and r.unsettled
                }
            )
        for mapping in (producer, consumer, outbox, counters, worked):
            mapping.close()


def mixed(rng: random.Random, images: list[bytes]) -> bytearray:
    """One file of pages that reached the disk at different times."""
    pages = range(0, len(images[0]), ring_file.PAGE)
    return bytearray(b"".join(rng.choice(images)[p : p + ring_file.PAGE] for p in pages))


def whole_and_unsettled(image: bytes | bytearray) -> dict[int, ring_file.Stored]:
    """Return what a repair must find, of the newest lap."""
    slot_count, *_ = ring_file.geometry(image)
    owed = {
        r.seq: r for r in ring_file.records(image) if r.unsettled and r.status != ring_file.DROPPED
    }
    return {seq: r for seq, r in owed.items() if seq >= max(owed) + 1 - slot_count}


def take_all(consumer: ring.Consumer) -> dict[int, tuple[tuple[int, ...], bytes, bytes]]:
    found: dict[int, tuple[tuple[int, ...], bytes, bytes]] = {}
    last = -1
    for d in consumer.take(1_000):
        assert d.seq >= last
        last = d.seq
        targets = found[d.seq][0] if d.seq in found else ()
        found[d.seq] = ((*targets, d.endpoint), d.event, d.body)
        assert len(set(found[d.seq][0])) == len(found[d.seq][0])
    return found


class TestPowerLoss:
    @settings(max_examples=80, deadline=None)
    @given(seed=st.integers(0, 1 << 32))  # a history is too long for Hypothesis to shrink
    def test_saves_what_is_whole(self, seed: int) -> None:
        """Pages of any age: every record whose bytes are whole and that is unsettled is there once, in
        order; nothing is invented; and the ring works on."""
        rng = random.Random(seed)
        with tempfile.TemporaryDirectory(dir=RAM) as folder:
            history = History(Path(folder), rng)
            path = history.path
            image = mixed(rng, history.images)
            for boot in (NEXT_BOOT, BOOT_AFTER):
                Path(path).write_bytes(image)
                expected = whole_and_unsettled(image)
                old_uid = ring_file.get(image, "uid")
                assert ring.repair_ring(path, boot) == len(expected)
                assert ring.repair_ring(path, boot) is None
                consumer, producer = ring.Consumer(path), ring.Producer(path)
                assert producer.uid != old_uid
                assert producer.head <= producer.tail
                consumer.rewind()
                found = take_all(consumer)
                assert found == {s: (r.unsettled, r.head, r.body) for s, r in expected.items()}
                for seq, (targets, head, body) in found.items():
                    put_targets, *put_record = history.records[seq]
                    assert set(targets) <= set(put_targets)
                    assert [head, body] == put_record
                # the disk is cut off once more, in the middle of writing the repair back
                image = mixed(rng, [bytes(image), Path(path).read_bytes()])
            # what was synced before the oldest page and is still owed in the newest is there
            for seq, unsettled in history.owed[-1].items():
                if seq in history.owed[0]:
                    assert unsettled <= set(found[seq][0])

            first = producer.tail
            while producer.put(pack(1), b"new", bytes(500)) == ring.ACCEPTED:
                pass
            consumer.rewind()
            news = {s: ((1,), b"new", bytes(500)) for s in range(first, producer.tail)}
            assert take_all(consumer) == found | news
            consumer.rewind()
            for delivery in consumer.take(1_000):
                delivery.settle()
            assert producer.empty
            for _ in range(50):
                assert producer.put(pack(1), b"", bytes(2_500)) == ring.ACCEPTED
                assert [d.settle() for d in consumer.take(9)] == [True]
            assert consumer.corrupt == 0

    def test_of_two_laps_the_newer_counts(self, folder: Path) -> None:
        """Pages of an earlier lap, on which records are still unsettled, do not cost those of now."""
        rig = RingFiles(folder, queue_size=256, capacity=16_384)
        producer, _ = rig.publisher()
        consumer, *_ = rig.worker()

        def put_until(tail: int) -> bytes:
            while producer.tail < tail:
                assert producer.put(pack(1), b"", bytes(12)) == ring.ACCEPTED
            return Path(rig.path).read_bytes()

        def settle_all() -> None:
            for delivery in consumer.take(1_000):
                delivery.settle()

        old = put_until(50)
        settle_all()
        for tail in (250, 500, 750, 910):
            put_until(tail)
            settle_all()
        new = bytearray(put_until(915))
        slots, data = ring_file.PAGE, ring_file.geometry(old)[2]
        for page in (slots, data):  # their first pages; the newest records have the others
            new[page : page + ring_file.PAGE] = old[page : page + ring_file.PAGE]
        assert len([r for r in ring_file.records(new) if r.unsettled]) == 55
        Path(rig.path).write_bytes(new)
        assert ring.repair_ring(rig.path, NEXT_BOOT) == 5
        consumer = ring.Consumer(rig.path)
        consumer.rewind()
        assert [d.seq for d in consumer.take(1_000)] == [910, 911, 912, 913, 914]

    def test_finishes_a_drop_under_way(self, path: str) -> None:
        """A record that was half dropped when the power went is dropped: it must not block the ring."""
        image = bytearray(Path(path).read_bytes())
        at = ring_file.PAGE + 16 * (7 % 8) + 8
        state = struct.unpack_from("<Q", image, at)[0]
        struct.pack_into("<Q", image, at, state | ring_file.DROPPED << 32)
        Path(path).write_bytes(image)
        assert ring.repair_ring(path, NEXT_BOOT) == 4
        found, damaged = use(path)
        assert found == {n: targets for n, targets in OWED.items() if n != 7}
        assert damaged == 0

    def test_of_this_boot_nothing_is_repaired(self, path: str) -> None:
        """The page cache outlives every process: no byte is touched."""
        before = Path(path).read_bytes()
        assert ring.repair_ring(path, BOOT_ID) is None
        assert Path(path).read_bytes() == before

    def test_a_ring_that_owes_nothing(self, path: str) -> None:
        """Goes on with numbers that no slot in the file can have."""
        use(path)
        before = ring.Producer(path).tail
        assert ring.repair_ring(path, NEXT_BOOT) == 0
        producer = ring.Producer(path)
        assert producer.empty
        assert producer.tail == before + 8
        assert use(path) == ({}, 0)

    def test_positions_from_another_age_are_no_matter(self, path: str) -> None:
        """Head, cursor and tail that contradict each other are put right, not refused."""
        change(path, head=1 << 62, cursor=1 << 63, tail=5)
        assert ring.repair_ring(path, NEXT_BOOT) == len(OWED)
        assert use(path) == (OWED, 0)


class TestCheck:
    """What an engine does at its start, before a consumer opens the ring."""

    def test_a_whole_ring(self, path: str) -> None:
        """Stays as it is: what is unsettled, and what a dead consumer had taken."""
        assert ring.check_ring(path, BOOT_ID, alone=True) == (None, 0)
        assert use(path) == (OWED, 0)

    def test_damaged_records(self, path: str) -> None:
        """Are counted and settled, with every one of their targets; the others are delivered."""
        image = bytearray(Path(path).read_bytes())
        *_, data = ring_file.geometry(image)
        for seq in (5, 8):
            position = struct.unpack_from("<Q", image, ring_file.PAGE + 16 * (seq % 8))[0]
            image[data + position + 41] ^= 0xFF
        Path(path).write_bytes(image)
        assert ring.check_ring(path, BOOT_ID, alone=True) == (None, 2)
        assert ring.unsettled(path) == {1: 2, 2: 3}
        assert use(path) == ({n: t for n, t in OWED.items() if n not in (5, 8)}, 0)

    @pytest.mark.parametrize(
        "wrong", [{"head": 9}, {"head": 6}, {"tail": 6}, {"tail": 12}, {"head": 1 << 62}]
    )
    def test_wrong_positions(self, path: str, wrong: dict[str, int]) -> None:
        """Whole records outside of them tell that they are wrong; every record is saved."""
        change(path, **wrong)
        saved, damaged = ring.check_ring(path, BOOT_ID, alone=True)
        assert (saved, damaged) == (len(OWED), 0)
        assert use(path) == (OWED, 0)

    def test_beside_a_publisher(self, path: str) -> None:
        """The positions are its own, and stay."""
        change(path, head=9)
        assert ring.check_ring(path, BOOT_ID, alone=False) == (None, 0)

    def test_a_put_that_was_killed(self, path: str) -> None:
        """A record that stands described at the tail was not accepted."""
        image = bytearray(Path(path).read_bytes())
        ring_file.put(image, "tail", 8)
        Path(path).write_bytes(image)
        assert ring.check_ring(path, BOOT_ID, alone=True) == (None, 0)
        assert use(path) == ({n: t for n, t in OWED.items() if n != 8}, 0)


class TestRebuild:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"magic": bytes(8)},
            {"layout": 1 << 30},
            {"capacity": 8192},
            {"slot_count": 16},
            {"queue_size": 1 << 60},
            {"slot_count": 1 << 60, "capacity": 1 << 60, "tail": 0, "head": 7},
        ],
    )
    def test_the_header(self, path: str, wrong: dict[str, int | bytes]) -> None:
        """Is made anew for the geometry with which the records are whole; all of them are saved."""
        change(path, **wrong)
        assert ring.rebuild_ring(path, 1000, 1 << 20, BOOT_ID) == len(OWED)
        assert ring.geometry(path) == (4, 4096)
        assert use(path) == (OWED, 0)

    def test_a_first_page_of_zeros(self, path: str) -> None:
        image = bytearray(Path(path).read_bytes())
        image[: ring_file.PAGE] = bytes(ring_file.PAGE)
        Path(path).write_bytes(image)
        assert ring.rebuild_ring(path, 1000, 1 << 20, BOOT_ID) == len(OWED)
        assert use(path) == (OWED, 0)

    def test_a_file_that_is_cut(self, path: str) -> None:
        """Has its size again; what stood before the cut is saved."""
        slot, data = ring_file.PAGE + 16 * (7 % 8), ring_file.geometry(Path(path).read_bytes())[2]
        position = struct.unpack_from("<Q", Path(path).read_bytes(), slot)[0]
        os.truncate(path, data + position)
        assert ring.rebuild_ring(path, 1000, 1 << 20, BOOT_ID) == 3
        assert use(path) == ({n: t for n, t in OWED.items() if n < 7}, 0)

    @pytest.mark.parametrize("content", [b"", b"?" * 5000, bytes(8320)])
    def test_nothing_is_whole(self, path: str, content: bytes) -> None:
        Path(path).write_bytes(content)
        with pytest.raises(shared.LayoutMismatch, match="nothing in it is whole"):
            ring.rebuild_ring(path, 4, 4096, BOOT_ID)
        assert Path(path).stat().st_size == len(content)


def test_going_on_at_a_number(path: str) -> None:
    """An older copy of an outbox goes on where its reader is; what is in it was applied."""
    consumer = ring.Consumer(path)
    consumer.go_on_at(1000)
    assert ring.unsettled(path) == {}
    producer = ring.Producer(path)
    assert producer.put(pack(1), b"next", b"") == ring.ACCEPTED
    assert [(d.seq, d.event) for d in consumer.take(9)] == [(1000, b"next")]


def test_unsettled_after_a_number(path: str) -> None:
    """Records that its reader has applied are not counted."""
    assert ring.unsettled(path) == {1: 4, 2: 5}
    uid = ring.Consumer(path).uid.to_bytes(8, "little")
    assert ring.unsettled(path, {uid: 6}) == {1: 2, 2: 2}
    assert ring.unsettled(path, {uid: 99}) == {}
    assert ring.unsettled(path, {bytes(8): 99}) == {1: 4, 2: 5}
