"""A data directory with something in every kind of file, as a killed engine leaves it, with an older
copy of it; and the ways in which a file can be damaged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from compat.keep import FAILS, REFUSES, fill, start_mortal, until
from compat.world import config
from fluxhook import Config
from fluxhook.stats import read_stats
from support.receiver import ReceiverProcess

__all__ = ["DAMAGES", "Case", "World", "cases", "copy", "make_world"]


class World(NamedTuple):
    """`config` is what both directories were made with, but for the receiver's URL."""

    data_dir: Path
    older: Path
    config: Config


def make_world(folder: Path, url: str = "http://127.0.0.1:9") -> World:
    """By a process of its own, since it leaves killed children behind."""
    tests = Path(__file__).parents[1]
    command = "import sys; from damage.world import fill_both; fill_both(sys.argv[1])"
    subprocess.run([sys.executable, "-c", command, str(folder)], cwd=tests, check=True)
    return World(folder / "data", folder / "older", config(url))


def fill_both(folder: str) -> None:
    data_dir, older = Path(folder) / "data", Path(folder) / "older"
    with ReceiverProcess() as receiver:
        for path in ("/waiting", "/order", "/broken", "/created"):
            receiver.behave(FAILS, path)
        receiver.behave(REFUSES, "/dead")
        fill(data_dir, receiver)
        _checkpoint(data_dir)
        copy(data_dir, older)
        with_more(data_dir, config(receiver.url))


def _checkpoint(data_dir: Path) -> None:
    """Else all of the store would be in its log."""
    with closing(sqlite3.connect(data_dir / "store.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def with_more(data_dir: Path, settings: Config) -> None:
    """Another engine goes on, delivers, stores and buries, and is killed with all of its workers."""
    engine = start_mortal(settings, data_dir)
    before = read_stats(data_dir)
    for name in ("plain", "waiting", "dead", "paused"):
        for n in range(20):
            engine.emit(f"kept.{name}", {"more": n})

    def gone_on() -> bool:
        now = read_stats(data_dir)
        plain, dead = now.endpoint("plain"), now.endpoint("dead")
        return (
            plain.delivered == before.endpoint("plain").accepted + 20
            and dead.dead >= before.endpoint("dead").dead + 20
            and now.endpoint("waiting").queued == 0
            and now.endpoint("paused").queued == 0
        )

    until(gone_on)
    supervisor = json.loads((data_dir / "engine.json").read_bytes())["pid"]
    workers = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    os.kill(supervisor, signal.SIGSTOP)
    for n in range(10):
        engine.emit("kept.waiting", {"reported": n})
    until(lambda: read_stats(data_dir).endpoint("waiting").queued == 10)
    for pid in map(int, workers):
        os.kill(pid, signal.SIGSTOP)
    for n in range(30):
        engine.emit("kept.plain", {"unread": n})
    for pid in (supervisor, *map(int, workers)):
        os.kill(pid, signal.SIGKILL)
    engine.publisher.close()
    until(lambda: not read_stats(data_dir).running)


def copy(source: Path, target: Path) -> None:
    """With its FIFOs and its holes."""
    subprocess.run(
        ["cp", "-a", "--sparse=always", "--reflink=auto", str(source), str(target)], check=True
    )


# ---- damages -----------------------------------------------------------------------------------


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _cut_end(path: Path) -> None:
    os.truncate(path, max(0, path.stat().st_size - 100))


def _emptied(path: Path) -> None:
    os.truncate(path, 0)


def _zeroed(path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, 0)
    os.truncate(path, size)


def _zeroed_head(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(min(4096, path.stat().st_size)))


def _flip(path: Path, offsets: range) -> None:
    with path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            byte = file.read(1)
            if byte:
                file.seek(offset)
                file.write(bytes([byte[0] ^ 0xFF]))


def _flipped_head(path: Path) -> None:
    _flip(path, range(0, 320, 7))


def _flipped_middle(path: Path) -> None:
    middle = path.stat().st_size // 2
    _flip(path, range(middle, middle + 200))


def _flipped_all_over(path: Path) -> None:
    size = path.stat().st_size
    _flip(path, range(size // 50, size, max(1, size // 997)))


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _file(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"no FIFO")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut": _cut,
    "cut_end": _cut_end,
    "emptied": _emptied,
    "zeroed": _zeroed,
    "zeroed_head": _zeroed_head,
    "flipped_head": _flipped_head,
    "flipped_middle": _flipped_middle,
    "flipped_all_over": _flipped_all_over,
}


class Case(NamedTuple):
    """A file, by its path in the data directory, and what is done to it."""

    file: str
    damage: str

    def __str__(self) -> str:
        return f"{self.file} {self.damage}"

    def inflict(self, world: World, target: Path) -> None:
        """Make a copy of the data directory in which the file is damaged."""
        copy(world.data_dir, target)
        path = target / self.file
        match self.damage:
            case "folder":
                _folder(path)
            case "missing":
                path.unlink()
            case "file":
                _file(path)
            case "older":
                shutil.copyfile(world.older / self.file, path)
            case damage:
                DAMAGES[damage](path)


def cases(world: World) -> Iterator[Case]:
    """Every damage of every file that there is."""
    for folder, _, names in sorted(os.walk(world.data_dir)):
        for name in sorted(names):
            path = Path(folder) / name
            file = str(path.relative_to(world.data_dir))
            if not stat.S_ISREG(path.lstat().st_mode):
                yield from (Case(file, damage) for damage in ("folder", "missing", "file"))
                continue
            yield Case(file, "folder")
            yield Case(file, "missing")
            if path.stat().st_size:
                yield from (Case(file, damage) for damage in DAMAGES)
                if (world.older / file).is_file():
                    yield Case(file, "older")
