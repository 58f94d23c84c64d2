"""The history on disk: taken up by the next process, whatever became of the files."""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fluxhook.admin.history import HISTORY_S, INTERVAL_S, MAX_FRAMES, Frame, Frames, Point
from fluxhook.admin.history_file import HistoryFile, Moment

BOOT, NEXT_BOOT = b"b" * 16, b"n" * 16


def moment(at_s: float, boot: bytes = BOOT, ahead_s: float = 1e9) -> Moment:
    return Moment(boot, at_s, at_s + ahead_s)


def made(at_s: float) -> Frame:
    return Frames().add(at_s, {None: Point(at_s, pending=int(at_s)), 3: Point(at_s, 0.5)})


@contextmanager
def opened(folder: Path, now: Moment) -> Iterator[tuple[HistoryFile, list[Frame]]]:
    file = HistoryFile(folder)
    try:
        yield file, file.load(now)
    finally:
        file.close()


def write(folder: Path, first: int, n: int) -> list[Frame]:
    """Write frames by a process of its own; return them."""
    frames = [made(i * INTERVAL_S) for i in range(first, first + n)]
    with opened(folder, moment(frames[0].at_s)) as (file, _):
        for frame in frames:
            file.append(frame, moment(frame.at_s))
    return frames


def load(folder: Path, now: Moment) -> list[Frame]:
    with opened(folder, now) as (_, frames):
        return frames


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "history"


def test_the_next_process_goes_on_with_it(folder: Path) -> None:
    """It makes the files where there are none; they are the owner's alone."""
    assert load(folder, moment(0)) == []
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    frames = write(folder, 1, 3) + write(folder, 4, 2)
    assert load(folder, moment(60)) == frames
    assert load(folder, moment(HISTORY_S + 30)) == frames[2:]


def test_the_files_are_bounded(folder: Path) -> None:
    """They have an hour at least and two at most, whatever restarts there were."""
    frames: list[Frame] = []
    sizes = []
    for i in range(8):
        frames += write(folder, i * 130, 130)
        now = moment(frames[-1].at_s)
        assert load(folder, now) == frames[-MAX_FRAMES:]
        sizes.append(sum(path.stat().st_size for path in folder.iterdir()))
    assert max(sizes) <= sizes[-1] * 2
    assert max(sizes) < 2.1 * MAX_FRAMES * (len(frames[0].records) + 40)


def test_a_wall_clock_that_was_set_moves_nothing(folder: Path) -> None:
    """Within a boot the clock that nobody sets tells when it was; after another boot, the wall's."""
    frames = write(folder, 1, 3)
    assert load(folder, moment(40, ahead_s=-5e8)) == frames
    rebooted = load(folder, Moment(NEXT_BOOT, 5.0, 1e9 + 40))
    assert [frame.at_s for frame in rebooted] == [-25.0, -15.0, -5.0]
    assert load(folder, Moment(NEXT_BOOT, 5.0, 1e9 + 15)) == [Frame(0.0, frames[0].records)]


def test_what_is_cut_off_is_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A process that was killed in the middle of a frame costs that one, and the next one goes on."""
    frames = write(folder, 1, 3)
    whole = folder.joinpath("0").stat().st_size
    os.truncate(folder / "0", whole - 1)
    with caplog.at_level(logging.WARNING):
        assert load(folder, moment(40)) == frames[:2]
    assert "is damaged from byte" in caplog.text
    caplog.clear()
    more = write(folder, 4, 1)
    assert load(folder, moment(50)) == frames[:2] + more
    assert not caplog.records


@pytest.mark.parametrize("at", [0, 25, 60, -1])
def test_a_damaged_file_is_said_so(folder: Path, caplog: pytest.LogCaptureFixture, at: int) -> None:
    """The frames before the damage stay, and it takes new ones."""
    frames = write(folder, 1, 3)
    content = bytearray((folder / "0").read_bytes())
    content[at] ^= 0xFF
    (folder / "0").write_bytes(content)
    found = load(folder, moment(40))
    assert found == frames[: len(found)]
    assert len(found) < 3
    assert len(caplog.records) == 1
    assert load(folder, moment(40)) == found
    more = write(folder, 4, 2)
    assert load(folder, moment(60)) == found + more


@pytest.mark.parametrize("content", [b"", b"x", b"SQLite format 3\0" * 99, b"\0" * 4096])
def test_a_foreign_file_begins_anew(folder: Path, content: bytes) -> None:
    """Whatever stood in either of the files."""
    folder.mkdir()
    for name in ("0", "1"):
        (folder / name).write_bytes(content)
    assert load(folder, moment(0)) == []
    frames = write(folder, 1, 2)
    assert load(folder, moment(30)) == frames


def test_a_file_that_is_too_large_is_not_read(folder: Path) -> None:
    """It is none of ours, whatever it begins with."""
    write(folder, 1, 2)
    os.truncate(folder / "0", 1 << 40)
    assert load(folder, moment(30)) == []
    assert folder.joinpath("0").stat().st_size < 100


def test_two_processes_do_not_mix(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The second one keeps nothing on disk, and says so once."""
    with opened(folder, moment(0)) as (first, _):
        first.append(made(10.0), moment(10))
        with opened(folder, moment(10)) as (second, frames):
            assert frames == []
            second.append(made(20.0), moment(20))
        first.append(made(30.0), moment(30))
    assert [frame.at_s for frame in load(folder, moment(40))] == [10.0, 30.0]
    assert [r.message for r in caplog.records if "another admin process" in r.message]


def test_a_folder_that_cannot_be_used_is_said_so(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file in its place, a link, a folder in the place of a file: the history stays in memory."""
    folder.write_text("not a folder")
    assert load(folder, moment(0)) == []
    folder.unlink()
    folder.mkdir()
    (folder / "0").symlink_to(folder.parent / "elsewhere")
    assert load(folder, moment(0)) == []
    (folder / "0").unlink()
    (folder / "0").mkdir()
    with opened(folder, moment(0)) as (file, frames):
        assert frames == []
        file.append(made(10.0), moment(10))
    assert len(caplog.records) == 3
    assert not (folder.parent / "elsewhere").exists()


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Have the system refuse what a file would get beyond a size, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_the_frames_that_do_not_fit(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A frame is written whole or not at all, it is said once, and the next ones are kept again."""
    with opened(folder, moment(0)) as (file, _):
        file.append(made(10.0), moment(10))
        size = folder.joinpath("0").stat().st_size
        for at_s, room in ((20.0, 5), (30.0, 5), (40.0, 10_000)):
            with no_file_above(size + room):
                file.append(made(at_s), moment(at_s))
    assert [frame.at_s for frame in load(folder, moment(50))] == [10.0, 40.0]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    caplog.clear()
    with no_file_above(0):
        assert load(folder.parent / "new", moment(50)) == []
    assert len(caplog.records) == 1
