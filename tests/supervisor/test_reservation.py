"""How much disk a data directory takes: said, and looked for, before anything is made."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from fluxhook import Config, Engine, EngineError, Size, load
from fluxhook._native import ring
from fluxhook.supervisor.reservation import mib, reservation
from fluxhook.supervisor.supervisor import Supervisor
from support.receiver import ReceiverProcess
from support.rig import until

LIMITS = Path(__file__).parents[2] / "docs/limits.md"


def small(path: Path, url: str) -> Config:
    """Return the configuration that docs/limits.md shows for small hosts, with an endpoint."""
    _, _, rest = LIMITS.read_text().partition("## The data directory")
    text = rest.partition("```yaml\n")[2].partition("```")[0]
    text += "  drop_policy: newest\n"
    path.write_text(f"{text}  endpoints: [{{name: a, url: {url}, secret: s}}]\n")
    return load(path, allow_networks=("127.0.0.0/8",)).config


def on_disk(folder: Path) -> int:
    """Return the bytes that are allocated there."""
    return sum(512 * path.lstat().st_blocks for path in folder.glob("**/*"))


def test_a_small_one_delivers_in_under_10_mb(tmp_path: Path, receiver: ReceiverProcess) -> None:
    """The example of the guide, store and all, after more than its rings hold at a time."""
    config, data = small(tmp_path / "small.yaml", receiver.url), tmp_path / "data"
    assert reservation(config).total < 7_000_000
    with Engine(config, data) as engine:
        for n in range(200):
            until(lambda: engine.emit("order.paid", {"x": "x" * 20_000}), f"room for the {n}th")
        assert engine.drain(60)
        assert engine.stats().endpoint("a").delivered == 200
        assert on_disk(data) < 10_000_000


@pytest.mark.parametrize(
    ("ring_bytes", "max_event_bytes", "capacity"),
    [
        ("64MiB", "1MiB", 16 << 20),
        ("1MiB", "64KiB", 1 << 20),
        ("256KiB", "64KiB", 512 << 10),
        ("64MiB", "10MiB", 80 << 20),
    ],
)
def test_rings_to_the_scheduler_are_as_small_as_those_of_publishers(
    tmp_path: Path, ring_bytes: str, max_event_bytes: str, capacity: int
) -> None:
    """But for room for eight of the largest events, and never above 16 MiB without need."""
    config = Config(
        workers=1, ring_bytes=Size.parse(ring_bytes), max_event_bytes=Size.parse(max_event_bytes)
    )
    Supervisor(tmp_path / "data", config).close()
    rings = [*(tmp_path / "data/workers/0").glob("*.ring")]
    assert {ring.geometry(str(path))[1] for path in rings} == {capacity}


def with_room(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    disk = SimpleNamespace(f_bavail=free_bytes // 4096, f_frsize=4096)
    monkeypatch.setattr("os.statvfs", lambda _: disk)


def test_a_disk_without_room_is_an_error_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has both numbers, and names the options; not even a folder is made."""
    config = Config(workers=1)
    wanted = reservation(config).total
    with_room(monkeypatch, 50 << 20)
    with pytest.raises(EngineError) as caught:
        Supervisor(tmp_path / "a/b/data", config)
    for words in (f"needs {mib(wanted)}", "its disk has 50.0 MiB left", "ring_bytes"):
        assert words in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_what_exists_starts_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The size is said, and room asked for, when the directory is made, and at no other start."""
    caplog.set_level(logging.INFO, "fluxhook")
    config = Config(workers=1, ring_bytes=Size.parse("4MiB"))
    Supervisor(tmp_path / "data", config).close()
    said = f"the data directory {tmp_path / 'data'} takes {mib(reservation(config).total)}: "
    assert said in caplog.text
    caplog.clear()
    with_room(monkeypatch, 0)
    Supervisor(tmp_path / "data", config).close()
    assert "takes" not in caplog.text
