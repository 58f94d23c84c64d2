"""The host programs of the crash tests: each `main` here is the body of a process that may be killed.

A host writes down what `emit` told it in a mapped file, after `emit` returned, so that its own
SIGKILL cannot take the record away:

    0       8          16     24     32
    | begun | accepted | done | stop | answers: one byte for each event, the number `emit` returned |

`stop` is the test's word, and ends a load early.

Event n has the id "n" and is of type `crash.side` if n is a multiple of SIDE, else `crash.event`.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from fluxhook import Config, Engine, Publisher, connect
from fluxhook.config import codec
from fluxhook.supervisor import preparation
from fluxhook.supervisor.supervisor import Supervisor
from fluxhook.transport import heartbeat

__all__ = ["KEYS", "SIDE", "Load", "Progress", "host", "supervise"]

#: every so many events one goes to the side endpoints too
SIDE = 40
#: different values of `key` in the data, for endpoints with an order
KEYS = 64
_ANSWERS = 32


class Load(msgspec.Struct, frozen=True):
    """What a host emits: `count` events that begin with number `first`, at most `rate` a second (0:
    as fast as the engine takes them)."""

    first: int
    count: int
    progress: str
    rate: int = 0


class Progress:
    """The mapped file of one load."""

    def __init__(self, load: Load, *, create: bool = False) -> None:
        path = Path(load.progress)
        if create:
            with path.open("wb") as file:
                file.truncate(_ANSWERS + load.count)
        self.load = load
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._words = memoryview(self._map)[:_ANSWERS].cast("Q")

    def begin(self, n: int) -> None:
        self._words[0] = n - self.load.first + 1

    def accept(self, n: int, answer: int) -> None:
        """Keep what `emit` answered; the count last, for it is what the tests believe."""
        index = n - self.load.first
        self._map[_ANSWERS + index] = answer
        self._words[1] = index + 1

    def finish(self) -> None:
        self._words[2] = 1

    def stop(self) -> None:
        self._words[3] = 1

    @property
    def stopped(self) -> bool:
        return bool(self._words[3])

    @property
    def accepted(self) -> int:
        """The emits that returned."""
        return self._words[1]

    @property
    def begun(self) -> int:
        """The emits that were called: as many as returned, or one more."""
        return self._words[0]

    @property
    def done(self) -> bool:
        return bool(self._words[2])

    def answers(self) -> dict[int, int]:
        """Return for each emit that returned the event's number, and how many endpoints accepted it."""
        answers = self._map[_ANSWERS : _ANSWERS + self.accepted]
        return dict(enumerate(answers, self.load.first))


def emit_all(emit: Callable[..., int], load: Load) -> None:
    """Emit a load. Each event must be accepted by somebody."""
    progress = Progress(load)
    begun = time.monotonic()
    for n in range(load.first, load.first + load.count):
        if load.rate:
            time.sleep(max(0.0, begun + (n - load.first) / load.rate - time.monotonic()))
        if progress.stopped:
            break
        progress.begin(n)
        kind = "crash.side" if n % SIDE == 0 else "crash.event"
        answer = emit(kind, {"key": n % KEYS}, event_id=str(n))
        assert answer, f"event {n} was refused"
        progress.accept(n, answer)
    progress.finish()


def host(
    data_dir: str, config: bytes | None, control: Connection, loads: list[Load], forks: int
) -> None:
    """Run a host program: its own engine if it has a `config`, otherwise attached to one that runs.

    It says "ready", begins to emit at the word "go" and ends at the end of `control`. Each of its
    last `forks` loads is emitted by a child, through the object that it inherited, each of the
    others by a thread.
    """
    _apart()
    with contextlib.ExitStack() as stack:
        emitter: Engine | Publisher
        if config is not None:
            emitter = stack.enter_context(Engine(codec.decode(config, Config), data_dir))
        else:
            emitter = stack.enter_context(connect(data_dir))
        control.send("ready")
        assert control.recv() == "go"
        threads = [
            threading.Thread(target=emit_all, args=(emitter.emit, load))
            for load in loads[: len(loads) - forks]
        ]
        for thread in threads:
            thread.start()
        # The children are forked while other threads are within `emit`.
        children = [_forked(emitter.emit, load) for load in loads[len(threads) :]]
        if children:
            control.send(children)
        for thread in threads:
            thread.join()
        for pid in children:
            os.waitpid(pid, 0)
        with contextlib.suppress(EOFError):
            control.recv()


def _forked(emit: Callable[..., int], load: Load) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        emit_all(emit, load)
        status = 0
    finally:
        os._exit(status)


def supervise(
    data_dir: str,
    config_file: str,
    control: Connection,
    sidecar: str | None,
    stuck_looks: int,
) -> None:
    """Run `fluxhook serve` without its command line: the configuration is read again at SIGHUP. With
    `stuck_looks` a child without a heartbeat is killed after so many seconds."""
    _apart()
    if stuck_looks:
        heartbeat.STUCK_LOOKS = stuck_looks
        preparation.PATIENCE_S = float(stuck_looks)

    def load() -> Config:
        return codec.decode(Path(config_file).read_bytes(), Config)

    supervisor = Supervisor(data_dir, load(), reload=load, sidecar=sidecar)
    supervisor.run(on_ready=lambda: control.send("ready"))


def _apart() -> None:
    """Leave nothing of the test's process: neither its signals nor its standard input."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdin.close()
