"""The audit trail on disks that fail: an entry may stand twice, but never not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluxhook.errors import LayoutError
from fluxhook.store import StoreError
from fluxhook.store.audit import AuditEntry, AuditTrail, read_audit

NAME = "audit.jsonl"


def entries(first: int, count: int) -> list[AuditEntry]:
    texts = dict.fromkeys(
        ("at", "action", "endpoint", "type", "accepted_at", "ended_at", "cause", "error"), "x"
    )
    return [AuditEntry(event_id=f"n{n}", attempts=1, **texts) for n in range(first, first + count)]


def written(folder: Path) -> Counter[str]:
    return Counter(entry.event_id for entry in read_audit(folder))


def numbers(first: int, count: int) -> Counter[str]:
    return Counter(f"n{n}" for n in range(first, first + count))


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file of this process may become larger: the write that would make it so is cut short."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def trail(tmp_path: Path) -> AuditTrail:
    trail = AuditTrail(tmp_path / "audit", max_bytes=10**9, files=3)
    trail.append(entries(0, 10))
    return trail


def fails(number: int) -> Any:
    def failing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return failing


def test_a_write_that_takes_a_part_only_is_gone_on_with(
    trail: AuditTrail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """write(2) tells by its result alone how much it took."""
    write = os.write
    monkeypatch.setattr("fluxhook.transport.files.os.write", lambda fd, data: write(fd, data[:7]))
    trail.append(entries(10, 20))
    assert written(tmp_path / "audit") == numbers(0, 30)


@pytest.mark.parametrize("room", [0, 1, 60, 5_000])
def test_a_full_disk_takes_all_entries_or_none(
    trail: AuditTrail, tmp_path: Path, room: int
) -> None:
    """However much of them it had room for; once there is more, each stands there once."""
    path = tmp_path / "audit" / NAME
    size = path.stat().st_size
    for _ in range(3):
        with room_for(size + room), pytest.raises(StoreError, match=f"{NAME} cannot be written"):
            trail.append(entries(10, 600))
    assert path.stat().st_size == size
    trail.append(entries(10, 600))
    assert written(tmp_path / "audit") == numbers(0, 610)


def test_what_cannot_be_taken_back_swallows_nothing(
    trail: AuditTrail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that stays torn, as after a kill, does not begin the next one."""
    size = (tmp_path / "audit" / NAME).stat().st_size
    with monkeypatch.context() as patched, room_for(size + 200):
        patched.setattr(os, "ftruncate", fails(errno.EIO))
        with pytest.raises(StoreError):
            trail.append(entries(10, 600))
    trail.append(entries(10, 600))
    found = written(tmp_path / "audit")
    assert found.keys() == numbers(0, 610).keys()
    assert found.total() <= 612


def test_a_disk_that_fails_at_the_sync_has_the_entries_written_again(
    trail: AuditTrail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed fdatasync the kernel may have forgotten what it owes."""
    for number in (errno.ENOSPC, errno.EIO):
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", fails(number))
            with pytest.raises(StoreError):
                trail.append(entries(10, 5))
    trail.append(entries(10, 5))
    assert written(tmp_path / "audit") == numbers(0, 15)


@pytest.mark.parametrize("count", [1, 100])
def test_a_disk_that_stays_full_rotates_nothing_away(tmp_path: Path, count: int) -> None:
    """It rotates once, and not again until something was written; more than a file holds too."""
    folder = tmp_path / "audit"
    trail = AuditTrail(folder, max_bytes=1000, files=3)
    for n in range(40):
        trail.append(entries(n, 1))
    kept = written(folder)
    full = max(path.stat().st_size for path in folder.iterdir())
    trail.append(entries(40, (1000 - (folder / NAME).stat().st_size) // (full // 8)))
    before = written(folder)
    with room_for(100):
        for _ in range(10):
            with pytest.raises(StoreError):
                trail.append(entries(1000, count))
    assert kept.keys() & before.keys()
    lost = before.keys() - written(folder).keys()
    assert len(lost) <= 10, "more than the oldest file"
    trail.append(entries(1000, count))
    assert written(folder).keys() >= numbers(1000, count).keys()


@pytest.mark.parametrize("what", ["folder", "pipe", "file", "device"])
def test_what_is_no_file_is_named_and_nobody_waits_for_it(tmp_path: Path, what: str) -> None:
    """A pipe without a reader would be waited for, for ever."""
    folder = tmp_path / "audit"
    if what == "file":
        folder.touch()
    else:
        folder.mkdir()
    if what == "folder":
        (folder / NAME).mkdir()
    elif what == "pipe":
        os.mkfifo(folder / NAME)
    elif what == "device":
        (folder / NAME).symlink_to("/dev/full")
    begun = time.monotonic()
    with pytest.raises(StoreError, match=str(folder / NAME)):
        AuditTrail(folder, max_bytes=1000, files=3).append(entries(0, 1))
    if what != "file":
        with pytest.raises(LayoutError, match=str(folder / NAME)):
            list(read_audit(folder))
    assert time.monotonic() - begun < 5


def test_a_pipe_that_somebody_reads_is_no_trail(tmp_path: Path) -> None:
    """Entries that are written there would be on no disk."""
    folder = tmp_path / "audit"
    folder.mkdir()
    os.mkfifo(folder / NAME)
    reading = os.open(folder / NAME, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(StoreError, match="not a regular file"):
        AuditTrail(folder, max_bytes=1000, files=3).append(entries(0, 1))
    assert os.read(reading, 100) == b""
    os.close(reading)


def test_files_that_are_not_ours_are_passed_over(trail: AuditTrail, tmp_path: Path) -> None:
    """An operator's copy beside the trail is not read, whatever it is called."""
    (tmp_path / "audit" / "audit.old.jsonl").write_text("{}\n")
    assert written(tmp_path / "audit") == numbers(0, 10)
