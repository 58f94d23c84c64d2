"""What must hold of an engine that starts on a damaged data directory."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from damage.world import Case, World
from fluxhook.errors import LayoutError
from fluxhook.logs.log import limit
from fluxhook.stats import read_stats
from fluxhook.store import StoreDamaged
from fluxhook.supervisor.supervisor import Supervisor

__all__ = ["examine"]


@contextmanager
def logged() -> Iterator[list[str]]:
    """The warnings and errors that the engine logs."""
    lines: list[str] = []
    limit.over(0.0, all=True)  # each start is a process of its own

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log, handler = logging.getLogger("fluxhook"), Lines(logging.WARNING)
    log.addHandler(handler)
    try:
        yield lines
    finally:
        log.removeHandler(handler)


def examine(world: World, case: Case, target: Path) -> None:
    """Damage a copy of the data directory, look at it, and start an engine on it twice.

    Either the store is what is damaged, and it refuses in one line; or it starts, every event is
    accounted for or said to be lost, and a line names the file.
    """
    case.inflict(world, target)
    status = read_stats(target)
    assert {e.name for e in status.endpoints} >= {"plain", "waiting", "dead"}
    assert all("\n" not in problem for problem in status.problems)
    with logged() as lines:
        try:
            found = start(world, target)
        except StoreDamaged as e:
            refused(e, case)
            found = start(world, target, accept_loss=True)
    file = target / case.file
    assert all("\n" not in line for line in lines)
    # What is damaged in an outbox is found as its reports are applied, after the books were read.
    met = f"{file}: {sum(found.values())} damaged reports are lost" in lines
    for name, n in () if met else found.items():
        assert any(line.startswith(f"endpoint {name}: {abs(n)} ") for line in lines), (
            name,
            n,
            lines,
        )
    if found and case.damage not in ("older", *QUIET):
        # a database and its log are one file to those who look for it
        named = str(file).removesuffix("-wal").removesuffix("-shm")
        assert any(named in line for line in lines), lines
    with logged() as lines:
        assert start(world, target) == found
    assert len([line for line in lines if line.startswith("endpoint ")]) == len(found), lines


#: damage that leaves a file that could be whole: only the books tell
QUIET = ("flipped_middle", "flipped_all_over")


def refused(error: LayoutError, case: Case) -> None:
    assert case.file.startswith("store.db"), error
    assert "\n" not in str(error)
    assert "store.db" in str(error)
    assert "--accept-loss" in str(error)


def start(world: World, target: Path, *, accept_loss: bool = False) -> dict[str, int]:
    """Start an engine without workers; return by how much each endpoint's books do not balance."""
    supervisor = Supervisor(target, world.config, accept_loss=accept_loss)
    try:
        now_ns = time.time_ns()
        for _ in range(10):
            supervisor.scheduler.step(now_ns)
            if not supervisor.scheduler.busy:
                break
        return {e.name: e.balance for e in read_stats(target).endpoints if e.balance}
    finally:
        supervisor.close()
