"""A process that is killed between two stores to shared memory leaves an operation half done: the
record has moved, and is not counted. Random kills hit these few nanoseconds too rarely, so the state
that they leave is forged here (the native tests kill at each step); what is proven is that somebody
finishes the operation, whichever engine starts next and however many workers there are then."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from crash.support import CrashStage
from fluxhook import EndpointStats, connect
from fluxhook._native import ring, shared
from fluxhook.publisher.slot import Slot, recover_slot
from fluxhook.stats import read_stats
from fluxhook.supervisor.supervisor import Supervisor
from fluxhook.transport import datadir as d
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.messages import EventHead
from fluxhook.transport.snapshot import Snapshot
from fluxhook.worker.reporter import Reporter

# counters.h and ring.h
PAGE = 4096
PUT, SETTLE, HAND_OVER = 1, 3, 4
TAKEN = 1
STAMP_BITS = 20
REDO = struct.Struct("<8Q")  # op, ring, seq, mask, row, field, token, serial
REDO_AT = 64
HEAD_AT = 256


class Forger:
    """Turns a finished operation of a counters file back into one that was cut short."""

    def __init__(self, counters: Path, ring_path: Path) -> None:
        self.counters = counters
        self.ring_path = ring_path
        consumer = ring.Consumer(str(ring_path))
        self.uid = consumer.uid
        consumer.close()

    def open_redo(self, op: int, *, field: int = 0, token: int | None = None) -> None:
        """An operation on the first record of the ring, for its only target, endpoint 0."""
        serial = struct.unpack_from("<Q", self.counters.read_bytes(), REDO_AT + 56)[0]
        token = serial if token is None else token
        self._write(self.counters, REDO_AT, REDO.pack(op, self.uid, 0, 1, 0, field, token, serial))

    def uncount(self, field: int) -> None:
        """Take back the one that endpoint 0 was counted last, with the stamp of its operation."""
        at = PAGE + 8 * field
        word = struct.unpack_from("<Q", self.counters.read_bytes(), at)[0]
        assert word >> STAMP_BITS == 1
        self._write(self.counters, at, struct.pack("<Q", 0))

    def unsettle(self) -> None:
        """The first record is in the consumer's hands again, its target not settled."""
        self._write(self.ring_path, PAGE + 8, struct.pack("<Q", TAKEN << 32 | 1))
        self._write(self.ring_path, HEAD_AT, struct.pack("<Q", 0))

    def _write(self, path: Path, at: int, data: bytes) -> None:
        with path.open("r+b") as file:
            file.seek(at)
            file.write(data)


def books(stage: CrashStage) -> EndpointStats:
    return read_stats(stage.data_dir).endpoint("main")


@pytest.fixture(params=[0, 2], ids=["kept", "gone"])
def worker(stage: CrashStage, request: pytest.FixtureRequest) -> int:
    """The index of the worker whose ring has the only record: of one that the next engine has too,
    or of one that it has not, for it starts with two instead of three."""
    Supervisor(stage.data_dir, stage.config(workers=3)).close()
    datadir = d.DataDir(stage.data_dir)
    with closing(Slot(datadir, Snapshot.load(datadir))) as slot:
        for ring_path in (stage.data_dir / "rings/0").glob("*.ring"):
            assert not ring.unsettled(str(ring_path))
        targets = struct.pack("<I", 0)
        event = EventHead("1", "crash.event").encode()
        assert slot.rings[request.param].put(targets, event, b"{}", slot.counters) == ring.ACCEPTED
    assert books(stage).accepted == books(stage).pending == 1
    index: int = request.param
    return index


def next_engine(stage: CrashStage) -> None:
    Supervisor(stage.data_dir, stage.config(workers=2)).close()


def next_publisher(stage: CrashStage) -> None:
    connect(stage.data_dir).close()


def housekeeping(stage: CrashStage) -> None:
    recover_slot(stage.data_dir / "rings/0")


@pytest.mark.parametrize("successor", [next_publisher, housekeeping])
def test_put(stage: CrashStage, worker: int, successor: Callable[[CrashStage], None]) -> None:
    """An event that was published is counted as accepted."""
    slot = stage.data_dir / "rings/0"
    forger = Forger(slot / "counters", slot / f"{worker}.ring")
    forger.open_redo(PUT, field=d.ACCEPTED)
    forger.uncount(d.ACCEPTED)
    assert books(stage).balance == -1
    next_engine(stage)
    successor(stage)
    assert books(stage).accepted == books(stage).pending == 1


def test_settle(stage: CrashStage, worker: int) -> None:
    """A delivery that was settled is counted as delivered."""
    own = stage.data_dir / "workers" / str(worker)
    path = stage.data_dir / "rings/0" / f"{worker}.ring"
    counters = shared.Counters(str(own / "counters"), writable=True)
    consumer = ring.Consumer(str(path))
    (delivery,) = consumer.take(1)
    delivery.settle(counters, d.DELIVERED)
    forger = Forger(own / "counters", path)
    forger.open_redo(SETTLE, field=d.DELIVERED)
    forger.uncount(d.DELIVERED)
    assert books(stage).balance == 1
    next_engine(stage)
    assert books(stage).delivered == 1
    assert books(stage).balance == 0


def test_hand_over(stage: CrashStage, worker: int) -> None:
    """A delivery whose report was published is the scheduler's, and nobody else's."""
    own = stage.data_dir / "workers" / str(worker)
    path = stage.data_dir / "rings/0" / f"{worker}.ring"
    counters = shared.Counters(str(own / "counters"), writable=True)
    consumer = ring.Consumer(str(path))
    outbox = ring.Producer(str(own / "outbox.ring"))
    (delivery,) = consumer.take(1)
    clock = EngineClock(Snapshot.load(d.DataDir(stage.data_dir)).clock)
    Reporter(outbox, counters, worker, clock).report(delivery, "parked", "over_share")
    forger = Forger(own / "counters", path)
    forger.open_redo(HAND_OVER, token=0)
    forger.unsettle()
    assert books(stage).balance == -1
    next_engine(stage)
    assert books(stage).pending == 1
    assert not ring.unsettled(str(path))
    assert not ring.unsettled(str(own / "outbox.ring"))
