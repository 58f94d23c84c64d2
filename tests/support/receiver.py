"""A receiver in a process of its own: it outlives whatever a test kills, and shares no GIL with it.

It counts every event that it accepted. The ids of a path stand in a mapped file that only grows, so
a test reads them at any time and asks nobody:

    0     8      16        24
    | used | total | distinct | id \\n id \\n ...        used: bytes of ids
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import re
import select
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

import fluxhook
from fluxhook.receiver import Behaviour, Received, Receiver
from support.tls import Identity, server_context

_HEADER = struct.Struct("=QQQ")
#: A sparse file: what is not written costs nothing. Room for 7 million ids of gateway events.
_LOG_BYTES = 256 * 1024 * 1024
#: the first id in the body is that of the envelope
_ID = re.compile(rb'"(?:event_)?id"\s*:\s*"([^"\\]+)"')


class Options(NamedTuple):
    """What the process is told at its start."""

    directory: str
    host: str
    port: int
    secrets: tuple[str, ...]
    profile: Any
    behaviour: Behaviour
    paths: dict[str, Behaviour]
    tls: Identity | None
    client_ca: str | None
    keep: int
    idle_timeout_s: float


class State(NamedTuple):
    """Connections, ever accepted and now open."""

    accepted: int
    open: int


class ReceiverProcess:
    """A context manager. `keep` requests of each path, the first ones, are kept for inspection.

    Not thread-safe.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        secrets: Sequence[str] = (),
        profile: str = "fluxgate",
        behaviour: Behaviour | None = None,
        paths: dict[str, Behaviour] | None = None,
        tls: Identity | None = None,
        client_ca: str | None = None,
        keep: int = 16,
        idle_timeout_s: float = 75.0,
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="receiver-")
        self._logs: dict[str, mmap.mmap] = {}
        options = Options(
            self._temporary.name,
            host,
            port,
            tuple(secrets),
            profile,
            behaviour or Behaviour(),
            paths or {},
            tls,
            client_ca,
            keep,
            idle_timeout_s,
        )
        ours, theirs = socket.socketpair()
        roots = [str(Path(__file__).parents[1]), str(Path(fluxhook.__file__).parents[1])]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "support.receiver", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)},
            )
        self.pid = self._process.pid
        self._control = Connection(ours.detach())
        self._ended = select.poll()
        pidfd = os.pidfd_open(self.pid)
        self._pidfd = pidfd
        self._ended.register(pidfd, select.POLLIN)
        try:
            self.url: str = self._ask("start", options, type=str)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ReceiverProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        status = self.close()
        assert kind is not None or status == 0, f"the receiver ended with {status}"

    def close(self) -> int:
        """End the process; return its exit status."""
        self._control.close()  # which tells it to
        try:
            status = self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        for log in self._logs.values():
            log.close()
        self._logs.clear()
        with contextlib.suppress(OSError):
            os.close(self._pidfd)
        self._temporary.cleanup()
        return status

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def renew(self) -> None:
        """Begin again in the same process: nothing seen, no connection, and another port if none was
        asked for."""
        for log in self._logs.values():
            log.close()
        self._logs.clear()
        self._temporary.cleanup()
        self._temporary = tempfile.TemporaryDirectory(prefix="receiver-")
        self.url = self._ask("renew", self._temporary.name, type=str)

    def behave(self, behaviour: Behaviour | None, path: str | None = None) -> None:
        """Do as `Receiver.behave`; it is in force when this returns."""
        self._ask("behave", (behaviour, path))

    def requests(self, path: str = "/") -> list[Received]:
        """Return the first requests that came for `path`, accepted or not."""
        requests: list[Received] = self._ask("requests", path, type=list[Received])
        return requests

    def state(self) -> State:
        state: State = self._ask("state", None, type=State)
        return state

    def ids(self, path: str = "/") -> Counter[str]:
        """Return how often the id of each event was accepted (answered 2xx)."""
        log = self._log(path)
        if log is None:
            return Counter()
        used = _HEADER.unpack_from(log)[0]
        return Counter(log[_HEADER.size : _HEADER.size + used].decode().split("\n")[:-1])

    def total(self, path: str = "/") -> int:
        """Return the number of accepted events, duplicates included."""
        return self._counts(path)[0]

    def distinct(self, path: str = "/") -> int:
        return self._counts(path)[1]

    def wait_for(self, count: int, path: str = "/", deadline_s: float = 60.0) -> None:
        """Return once `count` distinct events were accepted. Raise AssertionError at the deadline, or
        if the receiver ends."""
        end = time.monotonic() + deadline_s
        while (seen := self.distinct(path)) < count:
            assert time.monotonic() < end, f"{seen} of {count} events in {deadline_s} s on {path}"
            assert not self._ended.poll(3), "the receiver has ended"

    def _counts(self, path: str) -> tuple[int, int]:
        log = self._log(path)
        if log is None:
            return 0, 0
        _, total, distinct = _HEADER.unpack_from(log)
        return total, distinct

    def _log(self, path: str) -> mmap.mmap | None:
        log = self._logs.get(path)
        if log is None:
            try:
                with open(_log_path(self._temporary.name, path), "rb") as f:
                    log = self._logs[path] = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
            except FileNotFoundError:
                return None
        return log

    def _ask(self, command: str, argument: Any, type: Any = None) -> Any:
        self._control.send_bytes(msgspec.msgpack.encode((command, argument)))
        assert self._control.poll(20), f"the receiver does not answer {command!r}"
        return msgspec.msgpack.decode(self._control.recv_bytes(), type=type)


# ---- in the process ------------------------------------------------------------------------


class _Log:
    """The accepted ids of one path."""

    def __init__(self, directory: str, path: str) -> None:
        final = _log_path(directory, path)
        with open(f"{final}.new", "w+b") as f:
            f.truncate(_LOG_BYTES)
            self._map = mmap.mmap(f.fileno(), _LOG_BYTES)
        os.rename(f.name, final)  # a reader never finds it half made
        self._used = 0
        self._total = 0
        self._seen: set[bytes] = set()

    def add(self, event_id: bytes) -> None:
        start = _HEADER.size + self._used
        line = event_id + b"\n"
        self._map[start : start + len(line)] = line
        self._used += len(line)
        self._total += 1
        self._seen.add(event_id)
        _HEADER.pack_into(self._map, 0, self._used, self._total, len(self._seen))


class _Host:
    """The receiver, and its answers to the test."""

    def __init__(self, control: Connection) -> None:
        self._control = control
        self._logs: dict[str, _Log]
        self._kept: dict[str, list[Received]]
        #: asyncio itself keeps no task alive
        self._renewal: asyncio.Task[None] | None = None

    async def run(self) -> None:
        command, raw = msgspec.msgpack.decode(
            self._control.recv_bytes(), type=tuple[str, msgspec.Raw]
        )
        assert command == "start"
        self._options = msgspec.msgpack.decode(raw, type=Options)
        await self._start(self._options.directory)
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        # A TLS handshake that fails is some test's wish, and asyncio has nothing else to say.
        loop.set_exception_handler(self._on_error)
        loop.add_reader(self._control.fileno(), self._serve, ended)
        await ended.wait()
        loop.remove_reader(self._control.fileno())
        await self._receiver.stop()

    async def _start(self, directory: str) -> None:
        options = self._options
        self._directory = directory
        self._logs, self._kept = {}, {}
        context: ssl.SSLContext | None = None
        if options.tls:
            context = server_context(options.tls, options.client_ca)
        self._receiver = Receiver(
            options.host,
            options.port,
            secrets=options.secrets,
            profile=options.profile,
            behaviour=options.behaviour,
            paths=options.paths,
            on_delivery=self._on_delivery,
            ssl=context,
            idle_timeout_s=options.idle_timeout_s,
        )
        await self._receiver.start()
        self._reply(self._receiver.url)

    async def _renew(self, directory: str) -> None:
        await self._receiver.stop()
        await self._start(directory)

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), OSError):
            loop.default_exception_handler(context)

    def _serve(self, ended: asyncio.Event) -> None:
        try:
            message = self._control.recv_bytes()
        except (EOFError, ConnectionError):
            ended.set()
            return
        command, raw = msgspec.msgpack.decode(message, type=tuple[str, msgspec.Raw])
        if command == "behave":
            behaviour, path = msgspec.msgpack.decode(raw, type=tuple[Behaviour | None, str | None])
            self._receiver.behave(behaviour, path)
            self._reply(None)
        elif command == "renew":
            self._renewal = asyncio.create_task(self._renew(msgspec.msgpack.decode(raw, type=str)))
        elif command == "requests":
            self._reply(self._kept.get(msgspec.msgpack.decode(raw, type=str), []))
        else:
            self._reply(State(self._receiver.accepted, len(self._receiver.connections)))

    def _reply(self, value: Any) -> None:
        self._control.send_bytes(msgspec.msgpack.encode(value))

    def _on_delivery(self, received: Received) -> None:
        path = received.path
        kept = self._kept.setdefault(path, [])
        if len(kept) < self._options.keep:
            kept.append(received)
        if not 200 <= received.status <= 299:
            return
        for envelope in _envelopes(received):
            if found := _ID.search(envelope):
                log = self._logs.get(path)
                if log is None:
                    log = self._logs[path] = _Log(self._directory, path)
                log.add(found[1])


def _envelopes(received: Received) -> Iterable[bytes]:
    """Yield the events of a request: one, or those of a batch."""
    if received.body[:1] == b"[":
        return map(bytes, msgspec.json.decode(received.body, type=list[msgspec.Raw]))
    if received.headers.get("content-type") == "application/x-ndjson":
        return received.body.splitlines()
    return (received.body,)


def _log_path(directory: str, path: str) -> str:
    return os.path.join(directory, quote(path, safe=""))


if __name__ == "__main__":
    asyncio.run(_Host(Connection(int(sys.argv[1]))).run())
