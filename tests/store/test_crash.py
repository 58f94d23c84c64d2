"""SIGKILL of a process that writes, at each named step of a transaction.

| killed                      | allowed                  | forbidden                           |
|-----------------------------|--------------------------|-------------------------------------|
| before or while writing     | the transaction never was      | a part of it; its ring position     |
| at COMMIT                   | all of it, or none of it | a part of it; a position without it |
| after COMMIT, before a word | all of it                | anything of it missing              |
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from fluxhook.store import DeliveryStore, State
from support.store_rows import deliveries

NOW = 1_700_000_000_000_000_000
SIZE = 200

# Transaction k adds the deliveries k * SIZE ..., reschedules a quarter of those of the one before,
# delivers a quarter, buries a quarter, and leaves a quarter. `step` kills it in transaction 3.
WRITER = """
import os, signal, sys
from pathlib import Path
from fluxhook.store import DeliveryStore
from fluxhook.transport.messages import Attempt, EventHead

path, step, size, body = sys.argv[1], sys.argv[2], int(sys.argv[3]), bytes(int(sys.argv[4]))
store = DeliveryStore.open(Path(path))
store.ensure_endpoints(["e"])
k = 0

def trace(sql):
    if k == 3 and step != "after" and step in sql:
        os.kill(os.getpid(), signal.SIGKILL)

store.db.set_trace_callback(trace)
while True:
    with store.transaction() as transaction:
        for id in range(k * size, (k + 1) * size):
            event = EventHead(str(id), "t")
            new = transaction.add(id, 0, event, body, accepted_ns=1, due_ns=1)
            transaction.attempt(new, Attempt(1, 500, "5xx"))
            transaction.count(0, "failed")
            old = transaction.find(id - size)
            if old is None or id % 4 == 0:
                continue
            transaction.attempt(old, Attempt(2, 500, "5xx"))
            if id % 4 == 1:
                transaction.reschedule(old, 2)
            elif id % 4 == 2:
                transaction.delivered(old, 2)
            else:
                transaction.dead_letter(old, 2, "5xx")
        transaction.position(b"ring", k + 1)
    if k == 3 and step == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    k += 1
    print(k, flush=True)
"""


def write_until_killed(path: Path, step: str, body: int = 600, delay_s: float | None = None) -> int:
    """Return how many transactions the writer said it had committed."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), step, str(SIZE), str(body)],
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None
    with writer, writer.stdout:
        if delay_s is not None:
            writer.stdout.readline()
            time.sleep(delay_s)
            writer.kill()
        lines = writer.stdout.read().split()
    assert writer.returncode == -signal.SIGKILL
    return int(lines[-1]) if lines else int(delay_s is not None)


def batches_in(path: Path) -> int:
    """Return how many transactions the store holds, every one of them whole."""
    with DeliveryStore.open(path) as store:
        k = store.positions().get(b"ring", 0)
        stored = {d.id: d for d in deliveries(store, limit=10**6)}
        assert stored.keys() == set(range(k * SIZE))
        dead = max(0, k - 1) * SIZE // 4
        deaths = {"dead.5xx": dead, "died.5xx": dead} if dead else {}
        assert store.counters().get(0, {}) == ({"failed": k * SIZE} | deaths if k else {})
        for id, d in stored.items():
            followed = id // SIZE < k - 1 and id % 4
            state = {2: State.DELIVERED, 3: State.DEAD}.get(id % 4, State.WAITING)
            assert d.state == (state if followed else State.WAITING)
            assert d.due_ns == (2 if followed and id % 4 == 1 else 1)
            assert [a.attempt.started_ns for a in store.attempts(id)] == (
                [1, 2] if followed else [1]
            )
            assert store.body(id) is not None
        states = Counter(d.state for d in stored.values())
        row = store.endpoints()[0]
        assert (row.pending, row.dead) == (states[State.WAITING], states[State.DEAD])
        assert len(store.lease(0, NOW, 10**6)) == states[State.WAITING]
        assert store.db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return k


STEPS = {
    "BEGIN": 3,
    "INSERT INTO deliveries": 3,
    "INSERT INTO bodies": 3,
    "INSERT INTO attempts": 3,
    "ON CONFLICT (id) DO UPDATE SET due_ns": 3,
    "UPDATE endpoints": 3,
    "INSERT OR REPLACE INTO ring_positions": 3,
    "COMMIT": 3,
    "after": 4,
}


@pytest.mark.parametrize("step", STEPS)
def test_a_batch_is_whole_or_never_was(path: Path, step: str) -> None:
    """Killed at a named step, the writer leaves each transaction whole, with its ring position."""
    assert write_until_killed(path, step) == 3
    assert batches_in(path) == STEPS[step]


def test_a_batch_larger_than_the_cache_is_whole_or_never_was(path: Path) -> None:
    """Pages that spilled into the log before COMMIT do not count."""
    assert write_until_killed(path, "COMMIT", body=200_000) == 3
    assert Path(f"{path}-wal").stat().st_size > SIZE * 200_000
    assert batches_in(path) == 3


@pytest.mark.parametrize("delay_ms", [5, 17, 29, 41, 53, 67])
def test_a_batch_that_was_acknowledged_is_there(path: Path, delay_ms: int) -> None:
    """Killed at any moment, COMMIT and checkpoints included: all that was said to be committed is
    there, and at most one transaction more."""
    said = write_until_killed(path, "never", delay_s=delay_ms / 1000)
    assert batches_in(path) in (said, said + 1)
