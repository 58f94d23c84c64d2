"""The built-in receiver of `fluxhook bench`, in a process of its own.

    python -P -m fluxhook.cli.bench_receiver

It answers every POST with 200 and counts events by their ids (`event_id`). It writes a line with its
port, then one with a report for each line that it reads, and ends when there is nothing more to read.
It takes HTTP/1.1 with a Content-Length, as the engine sends it, and nothing else: it has to be faster
than what it measures.
"""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import subprocess
import sys
import time
from typing import Any, Final

import msgspec

from fluxhook.errors import EngineError
from fluxhook.transport.process import python

__all__ = ["BenchReceiver", "Report", "event_id"]

_ID: Final = re.compile(rb"bench-(\d+)-([0-9a-f]*)")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Report(msgspec.Struct):
    """What came since the receiver began: requests, and the distinct events in them."""

    port: int = 0
    requests: int = 0
    events: int = 0
    #: of the events that said when they were emitted, in the order of arrival
    latencies_ms: list[float] = []


def event_id(sequence: int, *, timed: bool = False) -> str:
    """Return the id of an event; a `timed` one says when it was emitted."""
    return f"bench-{sequence}-{time.monotonic_ns():x}" if timed else f"bench-{sequence}-"


class BenchReceiver:
    """The command's side. Raises EngineError where the receiver ended by itself."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            python("fluxhook.cli.bench_receiver"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the command, which ends its receiver
        )
        self.url = f"http://127.0.0.1:{self._read().port}/"

    def report(self) -> Report:
        """Return what came so far."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: so there is no answer either
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _read(self) -> Report:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise EngineError("the receiver of the benchmark ended before its time")
        return msgspec.json.decode(line, type=Report)


class _Counts:
    """One byte for each event: as many as a run can emit are some megabytes."""

    def __init__(self) -> None:
        self.requests = 0
        self._seen = bytearray()
        self._latencies_ms: list[float] = []

    def take(self, body: bytes) -> None:
        self.requests += 1
        match = _ID.search(body)
        if match is None:
            return
        sequence, emitted = int(match[1]), match[2]
        if sequence >= len(self._seen):
            self._seen.extend(bytes(sequence + 1 - len(self._seen)))
        if not self._seen[sequence] and emitted:
            self._latencies_ms.append((time.monotonic_ns() - int(emitted, 16)) / 1e6)
        self._seen[sequence] = 1

    def report(self) -> Report:
        return Report(
            requests=self.requests, events=self._seen.count(1), latencies_ms=self._latencies_ms
        )


class _Connection:
    def __init__(self, connection: socket.socket, counts: _Counts) -> None:
        self._socket = connection
        self._counts = counts
        self._buffer = b""

    def step(self) -> bool:
        """Read what is there and answer what is whole; False if the other side has gone."""
        try:
            read = self._socket.recv(262_144)
            if not read:
                return False
            buffer = self._buffer + read if self._buffer else read
            answers = 0
            while (end := buffer.find(b"\r\n\r\n")) >= 0:
                length = _LENGTH.search(buffer, 0, end + 2)
                whole = end + 4 + (int(length[1]) if length else 0)
                if len(buffer) < whole:
                    break
                self._counts.take(buffer[end + 4 : whole])
                buffer = buffer[whole:]
                answers += 1
            self._buffer = buffer
            self._socket.sendall(_ANSWER * answers)
        except OSError:
            return False
        return True


def _say(report: Report) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Serve until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    counts = _Counts()
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        _say(Report(port=listener.getsockname()[1]))
        while True:
            for key, _ in selector.select():
                ready: Any = key.fileobj
                if isinstance(key.data, _Connection):
                    if not key.data.step():
                        selector.unregister(ready)
                        ready.close()
                elif ready is listener:
                    connection, _ = listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    made = _Connection(connection, counts)
                    selector.register(connection, selectors.EVENT_READ, made)
                elif sys.stdin.buffer.readline():
                    _say(counts.report())
                else:
                    return


if __name__ == "__main__":
    main()
