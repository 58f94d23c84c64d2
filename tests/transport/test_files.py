"""Small files stand whole or not at all, on a full disk too."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from fluxhook import Config, Publisher
from fluxhook.supervisor.supervisor import Supervisor
from fluxhook.transport.files import replace_file


def test_a_write_that_takes_a_part_only_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """write(2) tells by its result alone how much it took."""
    write = os.write
    monkeypatch.setattr("fluxhook.transport.files.os.write", lambda fd, data: write(fd, data[:7]))
    replace_file(tmp_path / "engine.json", bytes(range(100)))
    assert (tmp_path / "engine.json").read_bytes() == bytes(range(100))
    assert (tmp_path / "engine.json").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """And nothing beside it that would take room."""
    path = tmp_path / "engine.json"
    replace_file(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            replace_file(path, bytes(100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_made_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of new files and folders too: of rings and their slots, of workers, of the table of
    thresholds."""
    synced: list[set[str]] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        fsync(fd)
        folder = Path(os.readlink(f"/proc/self/fd/{fd}"))
        synced.append({str(path.relative_to(tmp_path)) for path in folder.iterdir()})

    monkeypatch.setattr(os, "fsync", noted)
    supervisor = Supervisor(tmp_path / "data", Config(workers=2))
    Publisher(tmp_path / "data").close()
    supervisor.close()
    names = set().union(*synced)
    assert {"data/thresholds", "data/rings", "data/rings/0", "data/rings/0/1.ring"} <= names
    assert {"data/workers", "data/workers/1", "data/workers/1/outbox.ring"} <= names
