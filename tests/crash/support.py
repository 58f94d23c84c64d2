"""The stage of the crash tests: an engine on a data directory, its hosts, and the books on both sides.

What is killed is found by the engine's own files, and nothing else is: the supervisor's pid stands in
engine.json, the workers are its children, and the hosts are processes that the test started.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import crash.host
from crash.host import KEYS, SIDE, Load, Progress
from fluxhook import Breaker, Config, Duration, Endpoint, Retry, Size, Stats
from fluxhook.config import codec
from fluxhook.receiver import Behaviour
from fluxhook.stats import EndpointStats, read_stats
from fluxhook.transport.datadir import DataDir, FileLock
from fluxhook.transport.snapshot import Snapshot
from support.receiver import ReceiverProcess
from support.rig import until as until

__all__ = [
    "CONCURRENCY",
    "DEADLINE_S",
    "EVENTS",
    "FAILING",
    "FINE",
    "HANGING",
    "KEYS",
    "SIDE",
    "CrashStage",
    "Row",
    "until",
]

#: of each test
EVENTS = 20_000
#: for anything to happen; several times what it takes on a machine that is busy
DEADLINE_S = 30.0
#: requests at a time for one endpoint, over all workers
CONCURRENCY = 32

NEVER_NS = 2**63 - 1

FAILING = Behaviour(fail_rate=1.0, fail_status=500)
HANGING = Behaviour(fault="hang")
FINE = Behaviour()

_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload(["__main__", "fluxhook.supervisor.supervisor", "fluxhook"])


class Row(NamedTuple):
    """A line of the table at the end of the run."""

    test: str
    accepted: int
    delivered: int
    duplicates: int
    bound: int
    missing: int
    kills: int
    seconds: float


class Host:
    """A process that emits."""

    def __init__(
        self, data_dir: Path, loads: list[Load], *, config: Config | None = None, forks: int = 0
    ) -> None:
        self.progress = [Progress(load, create=True) for load in loads]
        #: loads that will never be done, since a child that emitted them was killed
        self.cut_short: set[int] = set()
        self.control, theirs = _fork.Pipe()
        encoded = codec.encode(config) if config else None
        self.process = _fork.Process(
            target=crash.host.host, args=(str(data_dir), encoded, theirs, loads, forks), daemon=True
        )
        self.process.start()
        theirs.close()

    @property
    def accepted(self) -> int:
        return sum(progress.accepted for progress in self.progress)

    @property
    def done(self) -> bool:
        assert self.process.exitcode in (None, -signal.SIGKILL), "a host failed"
        return all(p.done or i in self.cut_short for i, p in enumerate(self.progress))

    def hear(self) -> Any:
        assert self.control.poll(DEADLINE_S), "a host does not answer"
        return self.control.recv()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.cut_short.update(range(len(self.progress)))

    def end(self) -> None:
        """Ask it to leave, and see that it does so in order."""
        self.control.close()
        self.process.join(DEADLINE_S)
        assert self.process.exitcode in (0, -signal.SIGKILL), f"status {self.process.exitcode}"


class CrashStage:
    """One test's data directory, receiver and processes; `name` is part of every path.

    The endpoint `main` gets all events, the others those of type `crash.side`.
    """

    def __init__(self, name: str, directory: Path, receiver: ReceiverProcess) -> None:
        self.name = name
        self.directory = directory
        self.data_dir = directory / "data"
        self.receiver = receiver
        self.hosts: list[Host] = []
        self.kills = 0
        self._engine: tuple[Any, Connection] | None = None
        self._config_file = directory / "config.json"
        self._next = 0
        #: when each endpoint's receiver began to answer, if it did not always
        self._answers_since_ns: dict[str, int] = {}
        self._started = time.monotonic()

    # ---- configuration ---------------------------------------------------------------------

    def path(self, endpoint: str) -> str:
        return f"/{self.name}/{endpoint}"

    def behave(self, endpoint: str, behaviour: Behaviour) -> None:
        self.receiver.behave(behaviour, self.path(endpoint))
        hangs = behaviour.fault == "hang"
        self._answers_since_ns[endpoint] = NEVER_NS if hangs else time.time_ns()

    def endpoint(self, name: str, **changes: Any) -> Endpoint:
        fields: dict[str, Any] = {
            "url": self.receiver.url + self.path(name),
            "events": ("crash.*",) if name == "main" else ("crash.side",),
            "signature": "none",
            "timeout": Duration.parse("500ms"),
            "concurrency": CONCURRENCY,
            "retry": Retry(
                initial_interval=Duration.parse("50ms"),
                max_interval=Duration.parse("200ms"),
                max_attempts=10_000,
            ),
            "circuit_breaker": Breaker(reset_timeout=Duration.parse("200ms")),
        }
        return Endpoint(name=name, **(fields | changes))

    def config(self, *endpoints: Endpoint, **changes: Any) -> Config:
        fields: dict[str, Any] = {
            "endpoints": endpoints or (self.endpoint("main"),),
            "event_types": ("crash.event", "crash.side"),
            "workers": 2,
            "queue_size": 2_000,
            "drop_policy": "block",
            "block_timeout": Duration.parse("1m"),
            "ring_bytes": Size.parse("8MiB"),
            "max_event_bytes": Size.parse("16KiB"),
            "max_endpoints": 16,
            "shutdown_timeout": Duration.parse("5s"),
            "allow_networks": ("127.0.0.0/8",),
        }
        return Config(**(fields | changes))

    # ---- processes -------------------------------------------------------------------------

    def load(self, count: int, rate: int = 0) -> Load:
        """Return numbers that no other host emits."""
        first, self._next = self._next, self._next + count
        return Load(first, count, str(self.directory / f"{first}.progress"), rate)

    def host(
        self, *counts: int, config: Config | None = None, forks: int = 0, rate: int = 0
    ) -> Host:
        """Start a host; one with a `config` embeds the engine. `start` it."""
        loads = [self.load(count, rate) for count in counts]
        new = Host(self.data_dir, loads, config=config, forks=forks)
        self.hosts.append(new)
        return new

    def start(self, host: Host) -> None:
        """Make a host emit, once it is attached and the workers are there."""
        assert host.hear() == "ready"
        workers = Snapshot.load(DataDir(self.data_dir)).workers
        until(lambda: all(map(self._holds_lock, range(workers))), "the workers")
        host.control.send("go")

    def _holds_lock(self, worker: int) -> bool:
        try:
            FileLock(self.data_dir / "workers" / str(worker) / "lock").release()
        except BlockingIOError:
            return True
        return False

    def serve(self, config: Config, *, sidecar: str | None = None, stuck_looks: int = 0) -> None:
        """Start an engine that no host embeds."""
        self.configure(config)
        control, theirs = _fork.Pipe()
        process = _fork.Process(
            target=crash.host.supervise,
            args=(str(self.data_dir), str(self._config_file), theirs, sidecar, stuck_looks),
            daemon=True,
        )
        process.start()
        theirs.close()
        self._engine = process, control
        assert control.poll(DEADLINE_S), "the engine does not start"
        assert control.recv() == "ready"

    def configure(self, config: Config) -> None:
        """Write what a standalone engine reads at its start, and at SIGHUP."""
        temporary = self._config_file.with_suffix(".new")
        temporary.write_bytes(codec.encode(config))
        temporary.rename(self._config_file)

    def reload(self, config: Config) -> None:
        version = read_stats(self.data_dir).version
        self.configure(config)
        os.kill(self.supervisor(), signal.SIGHUP)
        until(lambda: read_stats(self.data_dir).version > version, "a reload")

    def terminate(self) -> float:
        """Send SIGTERM to a standalone engine; return how many seconds it takes to leave."""
        assert self._engine is not None
        process, _ = self._engine
        begun = time.monotonic()
        process.terminate()
        process.join(DEADLINE_S)
        assert process.exitcode == 0, f"the engine ended with status {process.exitcode}"
        self._engine = None
        return time.monotonic() - begun

    def supervisor(self) -> int:
        """Return the pid of the supervisor that is alive and has announced itself."""
        found: list[int] = []

        def look() -> bool:
            with contextlib.suppress(OSError, ValueError):
                pid = json.loads((self.data_dir / "engine.json").read_bytes())["pid"]
                if self.is_ours(pid):
                    found.append(pid)
            return bool(found)

        until(look, "a supervisor")
        return found[0]

    def workers(self, count: int = 2) -> list[int]:
        """Return the pids of all workers, once that many are there and serve."""
        found: list[int] = []

        def look() -> bool:
            pid = self.supervisor()
            with contextlib.suppress(OSError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                # a child bears its title from the moment at which it runs our code
                found[:] = [int(child) for child in children if self.is_ours(int(child))]
            return len(found) == count

        until(look, f"{count} workers")
        return found

    def stats(self, endpoint: str) -> EndpointStats:
        return read_stats(self.data_dir).endpoint(endpoint)

    def state(self, endpoint: str) -> str:
        return self.stats(endpoint).state

    @property
    def running(self) -> bool:
        return read_stats(self.data_dir).running

    def is_ours(self, pid: int) -> bool:
        """Return whether it is alive and one of this data directory's: a process's title names that."""
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
        standalone = self._engine is not None and pid == self._engine[0].pid
        return state != "Z" and (standalone or str(self.data_dir).encode() in title)

    # ---- kills -----------------------------------------------------------------------------

    def kill_worker(self, index: int) -> None:
        """Kill one of the workers, in turn."""
        workers = self.workers()
        os.kill(workers[index % len(workers)], signal.SIGKILL)
        self.kills += 1

    def kill_supervisor(self) -> None:
        """Return when it has a successor, if it stands in a host."""
        pid = self.supervisor()
        os.kill(pid, signal.SIGKILL)
        self.kills += 1
        if self._engine is not None:
            self._engine[0].join()
            self._engine = None
        else:
            until(lambda: not self.is_ours(pid), "the supervisor's end")

    def kill_everything(self, count: int = 2, *, spare: Sequence[Host] = ()) -> None:
        """Kill hosts, but for those to `spare`, supervisor and workers, of which there are `count`."""
        supervisor, workers = self.supervisor(), self.workers(count)
        hosts = [host for host in self.hosts if host.process.is_alive() and host not in spare]
        for pid in (*(host.process.pid for host in hosts), supervisor, *workers):
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        self.kills += 1
        for host in hosts:
            host.kill()
        if self._engine is not None:
            self._engine[0].join()
            self._engine = None
        for pid in (supervisor, *workers):
            until(partial(self._is_gone, pid), "the end of a killed process")

    def _is_gone(self, pid: int) -> bool:
        return not self.is_ours(pid)

    # ---- the books -------------------------------------------------------------------------

    @property
    def accepted(self) -> int:
        """The emits that returned, in all hosts."""
        return sum(host.accepted for host in self.hosts)

    def ids(self, endpoint: str) -> Counter[int]:
        """Return how often each event arrived, at whichever URL the endpoint had."""
        ids: Counter[int] = Counter()
        for path in (self.path(endpoint), self.path(endpoint) + "?moved"):
            ids.update({int(id): n for id, n in self.receiver.ids(path).items()})
        return ids

    def reach(self, accepted: int) -> None:
        """Wait until so many were accepted."""
        until(lambda: self.accepted >= accepted, f"{accepted} accepted events")

    def settle(self) -> Stats:
        """Wait until nothing is pending and the books are closed; return what they say then."""
        until(lambda: all(host.done for host in self.hosts), "the hosts")
        until(lambda: _closed(read_stats(self.data_dir)), "balanced books with nothing pending")
        return read_stats(self.data_dir)

    def timeouts(self) -> int:
        """Return the attempts that timed out, but for those that hung on purpose."""
        db = sqlite3.connect(f"file:{self.data_dir / 'store.db'}?mode=ro", uri=True)
        try:
            attempts = db.execute(
                "SELECT e.name, a.started_ns FROM attempts AS a JOIN deliveries AS d "
                "ON d.id = a.delivery JOIN endpoints AS e ON e.id = d.endpoint "
                "WHERE a.cause = 'timeout'"
            ).fetchall()
        finally:
            db.close()
        return sum(
            started_ns >= self._answers_since_ns.get(name, 0) for name, started_ns in attempts
        )

    def prove(self, *, bound: int, wanted: dict[str, set[int]] | None = None) -> Row:
        """Prove that every accepted id arrived, the duplicates are within the bound, and the books
        balance, while the engine runs and when it has ended.

        `wanted` are the events of other endpoints than `main` and `side`; one that is removed may
        have dead letters instead.
        """
        problem = ""
        try:
            self.settle()
        except AssertionError as error:
            problem = f"{error}; "
        stats = read_stats(self.data_dir)
        known = {
            n: count for h in self.hosts for p in h.progress for n, count in p.answers().items()
        }
        begun = {p.load.first + p.begun - 1 for h in self.hosts for p in h.progress if p.begun}
        duplicates = missing = 0
        wanted = {
            "main": set(known),
            "side": {n for n in known if n % SIDE == 0},
            **(wanted or {}),
        }
        for endpoint in stats.endpoints:
            ids = self.ids(endpoint.name)
            lost = sorted(wanted[endpoint.name] - ids.keys())
            dead = endpoint.dead if endpoint.state == "removed" else 0
            missing += max(0, len(lost) - dead)
            duplicates += sum(ids.values()) - len(ids)
            if len(lost) > dead:
                problem += f"{endpoint.name} lost {len(lost)}: {lost[:20]}; "
            if strange := sorted(ids.keys() - wanted[endpoint.name] - begun):
                problem += f"{endpoint.name} got what nobody emitted: {strange[:20]}; "
            if endpoint.accepted != len(ids.keys() | wanted[endpoint.name]):
                problem += f"{endpoint.name} accepted {endpoint.accepted}, {len(ids)} arrived; "
            if endpoint.delivered + dead != endpoint.accepted or not _closed(stats):
                problem += f"the books: {endpoint}; "
        # On a busy machine a receiver may stall for half a second, and a request that timed out is
        # sent again, whether or not it had arrived.
        if duplicates > bound + (stalled := self.timeouts()):
            problem += f"{duplicates} duplicates, {bound} + {stalled} allowed; "
        row = Row(
            self.name,
            len(known),
            len(self.ids("main")),
            duplicates,
            bound,
            missing,
            self.kills,
            time.monotonic() - self._started,
        )
        assert not problem, f"{problem}\n{row}\nkept in {self.data_dir}"
        self.close()
        assert read_stats(self.data_dir).endpoints == stats.endpoints, "the end changed the books"
        return row

    # ---- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        for host in self.hosts:
            host.end()
        if self._engine is not None:
            self.terminate()

    def __enter__(self) -> CrashStage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Leave no process behind, whatever happened."""
        for host in self.hosts:
            host.kill()
            host.control.close()
        if self._engine is not None:
            process, control = self._engine
            process.kill()
            process.join()
            control.close()


def _closed(stats: Stats) -> bool:
    return not stats.pending and all(endpoint.balance == 0 for endpoint in stats.endpoints)
