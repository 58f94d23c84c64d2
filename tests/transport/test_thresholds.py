"""The table of thresholds: a counter for each key, whichever processes race and die."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from fluxhook._native.shared import Words
from fluxhook.config.units import Threshold
from fluxhook.transport import thresholds as module
from fluxhook.transport.thresholds import FIELDS, ROWS, Thresholds

#: a window in which every test fits
LIMIT = Threshold.parse("1000/h")


def still() -> int:
    return 10**18


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Thresholds.make(tmp_path / "thresholds")
    return tmp_path / "thresholds"


def forked(work: Callable[[], None]) -> int:
    """A child that does this and nothing of pytest's."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def events(path: Path, row: int) -> int:
    words = Words(str(path), 0, FIELDS)
    counted = words.load(row, FIELDS - 1) & (1 << 22) - 1
    words.close()
    return counted


def test_every_key_has_a_row_of_its_own(path: Path) -> None:
    """Endpoint, type and window: another one is another counter, the same one the same."""
    table, other = Thresholds(path), Thresholds(path)
    keys = [(e, t, w) for e in range(20) for t in ("route.error", "a") for w in (10**9, 10**10)]
    rows = [table.row(*key) for key in keys]
    assert None not in rows
    assert len(set(rows)) == len(keys)
    assert [other.row(*key) for key in reversed(keys)] == rows[::-1]


def test_a_row_belongs_to_a_boot(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter's window is of a clock that begins anew with the machine."""
    before = Thresholds(path).row(1, "a", 10**9)
    monkeypatch.setattr(module, "boot_id", lambda: bytes(16))
    assert Thresholds(path).row(1, "a", 10**9) not in (before, None)


def test_three_quarters_of_the_table_are_of_use(path: Path) -> None:
    """12,288 keys find a row each."""
    table = Thresholds(path)
    rows = {table.row(i, "a", 1) for i in range(ROWS * 3 // 4)}
    assert None not in rows
    assert len(rows) == ROWS * 3 // 4


def test_a_full_table_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And still knows those that it has."""
    monkeypatch.setattr(module, "ROWS", 16)
    Thresholds.make(tmp_path / "t")
    table = Thresholds(tmp_path / "t")
    rows = [table.row(i, "a", 1) for i in range(17)]
    assert sorted(r for r in rows if r is not None) == list(range(16))
    assert rows[16] is None
    assert [table.row(i, "a", 1) for i in range(17)] == rows


def test_keys_that_share_half_a_hash_share_no_counter(path: Path) -> None:
    """A row whose high half was claimed by a key of another low half belongs to that one."""
    table = Thresholds(path)
    row = table.row(0, "a", 1)
    assert row is not None
    words = Words(str(path), 0, FIELDS)
    words.store(row, 1, words.load(row, 1) + 2)
    assert table.row(0, "a", 1) != row


def test_a_row_that_was_left_half_claimed_is_completed(path: Path) -> None:
    """Killed between the two halves: the next one with that key takes the row."""
    table = Thresholds(path)
    row = table.row(0, "a", 1)
    assert row is not None
    words = Words(str(path), 0, FIELDS)
    words.store(row, 1, 0)
    assert Thresholds(path).row(0, "a", 1) == row


def test_a_new_table_is_empty_and_leaves_the_old_one_alone(path: Path) -> None:
    """A process that has the old one open goes on in that, until it looks again."""
    old = Thresholds(path, now_ns=still)
    row = old.row(0, "a", LIMIT.window_ns)
    assert row is not None
    old.exceeded(row, LIMIT)
    Thresholds.make(path)
    old.exceeded(row, LIMIT)
    assert events(path, row) == 0


def test_a_full_disk_empties_the_old_table(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which needs no room. Where there is none to empty it is an error."""
    row = Thresholds(path).row(0, "a", 1)
    assert row is not None

    def full(fd: int, start: int, length: int) -> None:
        if os.fstat(fd).st_size < start + length:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    Thresholds.make(path)
    words = Words(str(path), 0, FIELDS)
    assert words.rows == ROWS
    assert not any(words.load(n, field) for n in range(ROWS) for field in range(FIELDS))
    assert [p.name for p in path.parent.iterdir()] == ["thresholds"]
    path.unlink()
    with pytest.raises(OSError, match="No space left"):
        Thresholds.make(path)


def test_racing_processes_lose_no_count(path: Path) -> None:
    """Four processes count 5,000 events each of one key, claimed by all at once; all are there, and
    what exceeded is what is above the limit, to the event."""
    results, into = os.pipe()

    def work() -> None:
        table = Thresholds(path, now_ns=still)
        row = table.row(7, "route.error", LIMIT.window_ns)
        assert row is not None
        exceeded = sum([table.exceeded(row, LIMIT) for _ in range(5_000)])
        os.write(into, f"{row} {exceeded}\n".encode())

    children = [forked(work) for _ in range(4)]
    for child in children:
        os.waitpid(child, 0)
    os.close(into)
    with os.fdopen(results) as file:
        said = [tuple(map(int, line.split())) for line in file]
    assert len(said) == 4
    assert len({row for row, _ in said}) == 1
    assert events(path, said[0][0]) == 20_000
    assert sum(exceeded for _, exceeded in said) == 20_000 - LIMIT.limit


def test_a_killed_process_leaves_the_counter_in_use(path: Path) -> None:
    """SIGKILL in the middle of counting: others go on in the same word, and nothing waits."""
    table = Thresholds(path, now_ns=still)
    row = table.row(0, "a", LIMIT.window_ns)
    assert row is not None
    started, into = os.pipe()

    def work() -> None:
        mine = Thresholds(path, now_ns=still)
        mine.exceeded(row, LIMIT)
        os.write(into, b"!")
        while True:
            mine.exceeded(row, LIMIT)

    child = forked(work)
    assert os.read(started, 1) == b"!"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(started)
    os.close(into)
    before = events(path, row)
    assert before >= 1
    for _ in range(100):
        table.exceeded(row, LIMIT)
    assert events(path, row) == min(before + 100, (1 << 22) - 1)
