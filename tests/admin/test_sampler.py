"""Who reads the counters, and how often; what comes of it over restarts, gaps and set clocks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fluxhook.admin.history import GAP_S, HISTORY_S, INTERVAL_S
from fluxhook.admin.history_file import HistoryFile
from fluxhook.admin.sampler import SHARED_S, Sampler
from fluxhook.errors import EngineNotRunning
from fluxhook.stats import EndpointStats, Stats


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Engine:
    """Stands for the counters: at each reading ten more were accepted."""

    reads = 0
    running = True

    def __call__(self) -> Stats:
        self.reads += 1
        one = EndpointStats(id=0, name="a", url="", state="active", accepted=10 * self.reads)
        return Stats(data_dir="", running=self.running, version=1, endpoints=[one])


class World:
    """An engine, two clocks, and a sampler that nobody has started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine, self.clock, self.wall = Engine(), Clock(), Clock()
        self.sampler = self.make()

    def make(self) -> Sampler:
        return Sampler(self.engine, HistoryFile(self.folder), self.clock, self.wall)

    def go_on(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wall.now += seconds

    async def read(self, after_s: float) -> None:
        self.go_on(after_s)
        await self.sampler.stats()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "history")


def test_all_who_look_share_one_reading(world: World) -> None:
    """Those who ask within a moment get the one that there is; after a change it is a new one."""

    async def look() -> None:
        sampler, engine = world.sampler, world.engine
        await asyncio.gather(*(sampler.stats() for _ in range(5)))
        assert engine.reads == 1
        world.go_on(SHARED_S)
        await asyncio.gather(*(sampler.status() for _ in range(5)))
        assert engine.reads == 2
        sampler.expire()
        await sampler.stats()
        assert engine.reads == 3

    asyncio.run(look())


def test_the_rates_of_this_moment_are_between_two_readings(world: World) -> None:
    """Of those that lie far enough apart, so that a reading out of turn says nothing new."""

    async def look() -> None:
        sampler = world.sampler
        assert sampler.now() is None
        await world.read(0)
        assert sampler.now(0) is not None
        assert sampler.now(0).accepted is None  # type: ignore[union-attr]
        await world.read(SHARED_S)
        for endpoint in (None, 0):
            assert sampler.now(endpoint).accepted == 10 / SHARED_S  # type: ignore[union-attr]
        sampler.expire()
        await world.read(0.01)
        assert sampler.now().accepted == pytest.approx(20 / (SHARED_S + 0.01))  # type: ignore[union-attr]
        assert sampler.now(7) is None

    asyncio.run(look())


def test_a_point_is_kept_every_ten_seconds(world: World) -> None:
    """However often pages ask; the first rates come after two seconds, and a pause is a gap."""

    async def look() -> None:
        sampler = world.sampler
        for _ in range(17):
            await world.read(SHARED_S)
        line = sampler.line(0)
        assert [point.at_s - line[0].at_s for point in line] == [0, 2, 12, 22, 32]
        assert [point.accepted for point in line] == [None, 5, 5, 5, 5]
        await world.read(GAP_S + 1)
        assert sampler.line()[-1].accepted is None
        await world.read(INTERVAL_S)
        assert sampler.line()[-1].accepted == 10 / INTERVAL_S
        await world.read(HISTORY_S)
        assert len(sampler.line()) == 2
        assert len(sampler.line(None, world.wall.now)) == 1

    asyncio.run(look())


def test_an_engine_that_is_down_has_no_points(world: World) -> None:
    """There is a gap until it runs again."""

    async def look() -> None:
        await world.read(0)
        world.engine.running = False
        for _ in range(4):
            await world.read(INTERVAL_S)
        world.engine.running = True
        await world.read(INTERVAL_S)
        line = world.sampler.line()
        assert [point.at_s - line[0].at_s for point in line] == [0, 5 * INTERVAL_S]
        assert line[-1].accepted is None

    asyncio.run(look())


def test_a_clock_that_is_set_moves_the_whole_line(world: World) -> None:
    """Rates are of the time that passed; all points are dated by the clock as it is now, and keep their
    date while nobody sets it."""

    async def look() -> None:
        sampler = world.sampler
        for step_s in (0.0, -3600.0, 90_000.0):
            world.wall.now += step_s
            await world.read(INTERVAL_S)
        line = sampler.line()
        assert [point.at_s for point in line] == [
            world.wall.now - n * INTERVAL_S for n in (2, 1, 0)
        ]
        assert [point.accepted for point in line[1:]] == [10 / INTERVAL_S] * 2
        world.wall.now += 0.003
        assert sampler.line() == line

    asyncio.run(look())


def test_the_next_process_has_the_history(world: World) -> None:
    """Without having looked itself; the time in which there was none is a gap."""

    async def first() -> None:
        await world.sampler.start()
        for _ in range(4):
            await world.read(INTERVAL_S)
        await world.sampler.stop()

    async def second() -> None:
        world.go_on(GAP_S + 1)
        sampler = world.make()
        await sampler.start()
        try:
            line = sampler.line(0)
            assert [point.accepted for point in line[1:4]] == [1.0] * 3
            assert [world.wall.now - point.at_s for point in line[1:4]] == [46.0, 36.0, 26.0]
        finally:
            await sampler.stop()

    asyncio.run(first())
    asyncio.run(second())


def test_it_reads_by_itself_and_goes_on_whatever_happens(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody has to look; what cannot be read is said once, and is a gap."""
    errors = [EngineNotRunning("no engine"), OSError(5, "the disk"), ZeroDivisionError("a bug")]
    read = world.engine

    def failing() -> Stats:
        if errors:
            raise errors.pop()
        return read()

    async def watch() -> None:
        sampler = Sampler(failing, HistoryFile(world.folder), world.clock, world.wall, pause_s=0.0)
        await sampler.start()
        try:
            async with asyncio.timeout(60):
                while not sampler.line():
                    await asyncio.sleep(0)
        finally:
            await sampler.stop()

    asyncio.run(watch())
    assert [record.message.rpartition(": ")[2] for record in caplog.records] == [
        "a bug",
        "[Errno 5] the disk",
        "no engine",
    ]
