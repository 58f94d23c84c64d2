"""Counters with one writer, words with many, and the latency histogram."""

from __future__ import annotations

import doctest
import os
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fluxhook._native import ring, shared
from fluxhook._native.shared import HISTOGRAM_BUCKETS, Counters, Words, bucket_limit_us
from native.rings import fork, outcome, run_apart

Matrix = type[Counters] | type[Words]
ROWS, FIELDS = 3, 5


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "matrix")


class TestCounters:
    def test_counts(self, path: str) -> None:
        """Each word counts for itself, by any number; `set` starts it anew."""
        counters = Counters(path, ROWS, FIELDS, writable=True)
        counters.add(0, 4)
        counters.add(2, 0, 5)
        counters.add(2, 0, 7)
        counters.add(2, 1, 0)
        counters.set(2, 4, (1 << 44) - 1)
        assert [counters.row(row) for row in range(ROWS)] == [
            [0, 0, 0, 0, 1],
            [0, 0, 0, 0, 0],
            [12, 0, 0, 0, (1 << 44) - 1],
        ]
        counters.set(2, 0, 3)
        assert counters.get(2, 0) == 3

    def test_outlive_their_writer(self, path: str) -> None:
        """A successor goes on from the values that stand there, however the writer died."""

        def count_and_die() -> None:
            counters = Counters(path, ROWS, FIELDS, writable=True)
            for _ in range(1_000):
                counters.add(1, 1)
            os.kill(os.getpid(), signal.SIGKILL)

        for n in (1, 2):
            assert outcome(fork(count_and_die)) == -signal.SIGKILL
            assert Counters(path, writable=False).get(1, 1) == n * 1_000

    def test_readers_see_what_is_written(self, path: str) -> None:
        """Another mapping of the file reads the same words."""
        writer = Counters(path, ROWS, FIELDS, writable=True)
        reader = Counters(path, writable=False)
        for n in range(1, 5):
            writer.add(1, 2)
            assert reader.get(1, 2) == n

    def test_stamps_do_not_reach_the_counts(self, path: str) -> None:
        """The count stays exact while the stamp beside it wraps around."""
        counters = Counters(path, 1, 1, writable=True)
        for _ in range((1 << 20) + 10):
            counters.add(0, 0)
        assert counters.get(0, 0) == (1 << 20) + 10

    def test_nothing_to_recover(self, path: str) -> None:
        """At rest no operation is open."""
        counters = Counters(path, ROWS, FIELDS, writable=True)
        assert not counters.interrupted
        assert ring.recover(counters, []) is False

    def test_an_operation_on_a_ring_that_is_gone(self, path: str) -> None:
        """Is forgotten: what was owed went with the ring."""
        counters = Counters(path, ROWS, FIELDS, writable=True)
        with Path(path).open("r+b") as file:
            file.seek(64)
            file.write(struct.pack("<6Q", 1, 12345, 0, 0, 0, 0))
        assert counters.interrupted
        assert ring.recover(counters, []) is False
        assert not counters.interrupted

    def test_recover_takes_rings_alone(self, path: str) -> None:
        """Anything else in the list is a TypeError, or no ring."""
        counters = Counters(path, ROWS, FIELDS, writable=True)
        with Path(path).open("r+b") as file:
            file.seek(64)
            file.write(struct.pack("<6Q", 1, 12345, 0, 0, 0, 0))
        rings: Any = [None]
        with pytest.raises(TypeError):
            ring.recover(counters, rings)
        rings = [counters]
        with pytest.raises(shared.LayoutMismatch):
            ring.recover(counters, rings)


class TestWords:
    def test_hold_64_bits(self, path: str) -> None:
        """Any value is stored whole."""
        words = Words(path, ROWS, FIELDS)
        words.store(2, 4, (1 << 64) - 1)
        assert words.load(2, 4) == (1 << 64) - 1
        assert words.load(2, 3) == words.load(0, 0) == 0

    def test_swap(self, path: str) -> None:
        """Changes the word only if it is what was expected."""
        words = Words(path, ROWS, FIELDS)
        assert words.swap(0, 0, 0, 7) is True
        assert words.swap(0, 0, 0, 8) is False
        assert words.load(0, 0) == 7

    def test_add(self, path: str) -> None:
        """Returns the new value; below 0 it wraps around."""
        words = Words(path, ROWS, FIELDS)
        assert words.add(1, 1, 5) == 5
        assert words.add(1, 1, -4) == 1
        assert words.add(1, 1, -2) == (1 << 64) - 1

    def test_many_writers(self, path: str) -> None:
        """No addition and no swap of several processes is lost."""
        words = Words(path, ROWS, FIELDS)
        times, writers = 20_000, 3

        def write() -> None:
            for _ in range(times):
                words.add(0, 0, 1)
                while not words.swap(0, 1, value := words.load(0, 1), value + 2):
                    pass

        for pid in [fork(write) for _ in range(writers)]:
            assert outcome(pid) == 0
        assert (words.load(0, 0), words.load(0, 1)) == (times * writers, times * writers * 2)


class TestFile:
    @pytest.mark.parametrize("kind", [Counters, Words])
    def test_is_made_once(self, path: str, kind: Matrix) -> None:
        """A file that exists is opened as it stands; `rows` and `fields` tell what it has."""
        first = kind(path, ROWS, FIELDS, writable=True)
        for rows, fields in ((ROWS, FIELDS), (0, 0), (99, 0), (0, FIELDS)):
            other = kind(path, rows, fields, writable=True)
            assert (other.rows, other.fields, other.path) == (ROWS, FIELDS, path)
        with pytest.raises(shared.LayoutMismatch, match="holds rows of 5 words, not of 6"):
            kind(path, ROWS, FIELDS + 1, writable=True)
        first.close()
        assert os.path.getsize(path) == shared.matrix_bytes(ROWS, FIELDS)

    @pytest.mark.parametrize("kind", [Counters, Words])
    @pytest.mark.parametrize(
        ("rows", "fields", "writable"), [(0, FIELDS, True), (0, 0, True), (ROWS, FIELDS, False)]
    )
    def test_is_not_made_by_who_does_not_know_its_size(
        self, path: str, kind: Matrix, rows: int, fields: int, writable: bool
    ) -> None:
        """A reader, or a caller without dimensions, gets FileNotFoundError and leaves nothing."""
        with pytest.raises(FileNotFoundError):
            kind(path, rows, fields, writable=writable)
        assert not os.path.exists(path)

    @pytest.mark.parametrize("kind", [Counters, Words])
    def test_is_not_made_larger_than_can_be(self, path: str, kind: Matrix) -> None:
        """Dimensions whose product overflows are an error, not a small file."""
        with pytest.raises(OverflowError):
            kind(path, 1 << 61, 8, writable=True)
        assert not os.path.exists(path)

    def test_bounds(self, path: str) -> None:
        """A word outside of the matrix is an IndexError, whatever is done with it."""
        counters = Counters(path, ROWS, FIELDS, writable=True)
        words = Words(path + "w", ROWS, FIELDS)
        for row, field in ((ROWS, 0), (0, FIELDS), (1 << 63, 0), (0, 1 << 63), (1 << 61, 1 << 61)):
            for call in (
                lambda r, f: counters.add(r, f),
                lambda r, f: counters.set(r, f, 1),
                lambda r, f: counters.get(r, f),
                lambda r, f: counters.observe(r, f, 0),
                lambda r, f: words.load(r, f),
                lambda r, f: words.store(r, f, 1),
                lambda r, f: words.swap(r, f, 0, 1),
                lambda r, f: words.add(r, f, 1),
            ):
                with pytest.raises(IndexError, match="no word"):
                    call(row, field)
        with pytest.raises(IndexError):
            counters.row(ROWS)
        with pytest.raises(IndexError):
            counters.observe(0, FIELDS - 1, 1_000)
        with pytest.raises(OverflowError):
            counters.get(-1, 0)
        assert all(counters.row(row) == [0] * FIELDS for row in range(ROWS))

    def test_opened_for_reading(self, path: str) -> None:
        """Every change is a ValueError, not a SIGSEGV; so are counters that a put or settle needs."""
        Counters(path, ROWS, FIELDS, writable=True).close()
        Words(path + "w", ROWS, FIELDS).close()
        ring.create_ring(path + "r", 4, 4096, bytes(16))

        def work() -> None:
            counters = Counters(path, writable=False)
            words = Words(path + "w", writable=False)
            producer, consumer = ring.Producer(path + "r"), ring.Consumer(path + "r")
            producer.put(bytes(4), b"", b"")
            (delivery,) = consumer.take(1)
            for call in (
                lambda: counters.add(0, 0),
                lambda: counters.set(0, 0, 1),
                lambda: counters.observe(0, 0, 0),
                lambda: ring.recover(counters, [producer]),
                lambda: words.store(0, 0, 1),
                lambda: words.swap(0, 0, 0, 1),
                lambda: words.add(0, 0, 1),
                lambda: producer.put(bytes(4), b"", b"", counters),
                lambda: delivery.settle(counters),
                lambda: delivery.hand_over(producer, 1, b"", b"", counters),
            ):
                with pytest.raises(ValueError, match="opened for reading"):
                    call()
            assert (counters.get(0, 0), counters.interrupted, words.load(0, 0)) == (0, False, 0)
            assert delivery.in_ring

        assert run_apart(work) == 0

    def test_closed(self, path: str) -> None:
        """Every use is a ValueError; closing twice is fine."""
        counters = Counters(path, ROWS, FIELDS, writable=True)
        words = Words(path + "w", ROWS, FIELDS)
        for matrix in (counters, words):
            matrix.close()
            matrix.close()
        calls: list[Callable[[], object]] = [
            lambda: counters.add(0, 0),
            lambda: counters.set(0, 0, 1),
            lambda: counters.get(0, 0),
            lambda: counters.row(0),
            lambda: counters.observe(0, 0, 0),
            lambda: ring.recover(counters, []),
            lambda: counters.interrupted,
            lambda: counters.sync(),
            lambda: words.load(0, 0),
            lambda: words.store(0, 0, 1),
            lambda: words.swap(0, 0, 0, 1),
            lambda: words.add(0, 0, 1),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="closed"):
                call()

    @pytest.mark.parametrize("kind", [Counters, Words])
    @pytest.mark.parametrize(
        ("offset", "value", "complaint"),
        [
            (0, b"FLXRING1", "is damaged"),
            (8, struct.pack("<I", 2), "another version"),
            (16, struct.pack("<Q", ROWS + 1), "does not fit its header"),
            (16, struct.pack("<Q", 1 << 61), "does not fit its header"),
            (24, struct.pack("<Q", FIELDS + 1), "does not fit its header"),
            (24, struct.pack("<Q", 0), "does not fit its header"),
            (16, struct.pack("<QQ", 1 << 32, 1 << 32), "does not fit its header"),
            (16, struct.pack("<QQ", 1 << 61, 8), "does not fit its header"),
        ],
    )
    def test_damaged(
        self, path: str, kind: Matrix, offset: int, value: bytes, complaint: str
    ) -> None:
        """A header that cannot be, also where its product overflows, is a LayoutMismatch."""
        kind(path, ROWS, FIELDS, writable=True).close()
        with Path(path).open("r+b") as file:
            file.seek(offset)
            file.write(value)
        with pytest.raises(shared.LayoutMismatch, match=complaint):
            kind(path, writable=True)

    @pytest.mark.parametrize("length", [0, 100, 4095, 4096 + 8 * ROWS * FIELDS - 1])
    def test_cut_off(self, path: str, length: int) -> None:
        """A file that is too short for its words is a LayoutMismatch."""
        Counters(path, ROWS, FIELDS, writable=True).close()
        os.truncate(path, length)
        with pytest.raises(shared.LayoutMismatch):
            Counters(path, ROWS, FIELDS, writable=True)

    def test_one_kind_is_not_the_other(self, path: str) -> None:
        """Words are no counters."""
        Words(path, ROWS, FIELDS).close()
        with pytest.raises(shared.LayoutMismatch, match="is damaged"):
            Counters(path, writable=True)


class TestHistogram:
    def test_limits_rise(self) -> None:
        """0-1, 2, 3, 4-5, 6-7, 8-11, 12-15 microseconds, and so on up to 71 minutes."""
        limits = [bucket_limit_us(bucket) for bucket in range(HISTOGRAM_BUCKETS)]
        assert limits[:9] == [1, 2, 3, 5, 7, 11, 15, 23, 31]
        assert limits == sorted(set(limits))
        assert limits[-2] == (1 << 32) - 1
        assert limits[-1] == 3 * (1 << 31) - 1

    def test_the_reference_is_right(self) -> None:
        """The examples of shared.pyi."""
        stub = Path(shared.__file__).with_name("shared.pyi")
        assert doctest.testfile(str(stub), module_relative=False) == (0, 2)

    @pytest.mark.parametrize("bucket", [-1, HISTOGRAM_BUCKETS, 1 << 30])
    def test_no_such_bucket(self, bucket: int) -> None:
        """Is an IndexError."""
        with pytest.raises(IndexError):
            bucket_limit_us(bucket)

    @given(value_us=st.integers(0, 1 << 33) | st.integers(0, 100) | st.integers(0, (1 << 64) - 1))
    @example(0)
    @example((1 << 64) - 1)
    def test_a_value_is_close_to_its_limit(
        self, tmp_path_factory: pytest.TempPathFactory, value_us: int
    ) -> None:
        """It falls into the first bucket whose limit is not below it, and that is at most half as much
        again; what takes longer than the last limit falls into the last bucket."""
        path = str(tmp_path_factory.getbasetemp() / "histogram")
        counters = Counters(path, 1, 1 + HISTOGRAM_BUCKETS, writable=True)
        before = counters.row(0)
        counters.observe(0, 1, value_us)
        grown = [b - a for a, b in zip(before, counters.row(0), strict=True)]
        counters.close()
        assert sum(grown) == 1
        bucket = grown.index(1) - 1
        limit = bucket_limit_us(bucket)
        if bucket == HISTOGRAM_BUCKETS - 1:
            assert value_us > bucket_limit_us(bucket - 1)
        else:
            assert value_us <= limit <= max(1, value_us * 1.5)
            assert bucket == 0 or bucket_limit_us(bucket - 1) < value_us
