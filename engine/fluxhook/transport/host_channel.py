"""From the engine's processes to the host that embeds it: log records, and what its callbacks get.

One socket that keeps messages whole (SOCK_SEQPACKET), whose writing end the host passes to the
supervisor, and that to its workers. Nobody ever waits to write: what finds no room is counted, and the
number is said once there is room. The host holds a writing end too, so its reader sees no end while
a supervisor is replaced.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import MutableMapping
from typing import Any, Final

import msgspec

from fluxhook.logs.log import safe_text, traced
from fluxhook.logs.setup import line_formatter

__all__ = [
    "MAX_MESSAGE",
    "DeadLetter",
    "EndpointStateChange",
    "HostChannel",
    "HostHandler",
    "Line",
    "Lost",
    "Message",
    "decode",
    "taken_from",
    "variable",
]

#: bytes of a message; a line's text and fields are cut long before that (logs/log.py)
MAX_MESSAGE: Final = 128 << 10
#: messages that wait for room in a process that comes by again; arbitrary: about 10 MB
MOST_WAITING: Final = 20_000
_VARIABLE: Final = "FLUXHOOK_HOST"


class Line(msgspec.Struct, frozen=True, tag_field="kind", tag=True):
    """A log record."""

    logger: str
    level: int
    text: str
    created: float
    role: str
    pid: int
    fields: dict[str, Any]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=True):
    """An event that was given up for one endpoint. It is in the store, and can be delivered again.

    `delivery_id` is the id by which `Control.replay` takes it. `cause` is a word of the table in
    docs/policies.md, `error` what was said by the last attempt. Times are nanoseconds since the epoch.
    """

    delivery_id: int
    endpoint: str
    event_id: str
    type: str
    topic: str
    cause: str
    error: str
    attempts: int
    accepted_ns: int
    dead_ns: int


class EndpointStateChange(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=True):
    """An endpoint is in another state than `before`.

    States are active, failing, open, misconfigured, paused, disabled and removed. While a breaker is
    half open the endpoint counts as open. `reason` says why in a sentence; `cause` and `error` are
    those of the last failed attempt, and empty where none is the reason. `at_ns` is when it was seen,
    in nanoseconds since the epoch.
    """

    endpoint: str
    state: str
    before: str
    reason: str = ""
    cause: str = ""
    error: str = ""
    at_ns: int


class Lost(msgspec.Struct, frozen=True, tag_field="kind", tag=True):
    """So many messages of a process found no room."""

    role: str
    count: int


Message = Line | DeadLetter | EndpointStateChange | Lost

_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final = msgspec.msgpack.Decoder(Message)


def decode(data: bytes) -> Message:
    """Return a message. Raise MsgspecError for what is none."""
    message: Message = _decoder.decode(data)
    return message


def variable(fd: int) -> dict[str, str]:
    """Return what a child's environment has to hold so that it finds the channel."""
    return {_VARIABLE: str(fd)} if fd >= 0 else {}


def taken_from(environ: MutableMapping[str, str]) -> int:
    """Take the descriptor out of an environment; -1 where there is none."""
    said = environ.pop(_VARIABLE, "")
    return int(said) if said.isascii() and said.isdigit() else -1


class HostChannel:
    """The writing end. Any thread may send."""

    def __init__(self, fd: int, role: str, *, waits: bool = False) -> None:
        """Take a descriptor. What `waits` for room is sent by `flush`, which has to be called."""
        os.set_inheritable(fd, False)
        self.fd = fd
        #: this end of it
        self.socket = socket.socket(fileno=fd)
        self._role = role
        self._most = MOST_WAITING if waits else 0
        self._waiting: deque[bytes] = deque()
        self._lost = 0
        self._lock = threading.Lock()
        #: the host is gone, or has closed its end
        self.closed = False

    @property
    def waits(self) -> bool:
        """Return whether something waits for room."""
        return bool(self._waiting)

    def send(self, message: Message) -> None:
        """Send a message, or count it as lost. Never waits."""
        data = _encode(message)
        with self._lock:
            self._flush()
            if len(data) > MAX_MESSAGE or (self._waiting and len(self._waiting) >= self._most):
                self._lost += 1
            elif self._waiting or not self._put(data):
                if self._most:
                    self._waiting.append(data)
                else:
                    self._lost += 1

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        with self._lock:
            self._flush()

    def finish(self, timeout_s: float) -> None:
        """Send what waits, for this long at most. What is left then counts as lost."""
        deadline, room = time.monotonic() + timeout_s, select.poll()
        room.register(self.fd, select.POLLOUT)
        self.flush()
        while self._waiting and (left_s := deadline - time.monotonic()) > 0:
            room.poll(1000 * left_s)
            self.flush()
        with self._lock:
            self._lost += len(self._waiting)
            self._waiting.clear()
            self._flush()

    def _flush(self) -> None:
        while self._waiting and self._put(self._waiting[0]):
            self._waiting.popleft()
        if self._lost and not self._waiting and self._put(_encode(Lost(self._role, self._lost))):
            self._lost = 0

    def _put(self, data: bytes) -> bool:
        if self.closed:
            return True  # to nobody
        try:
            self.socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as e:
            if e.errno == errno.ENOBUFS:  # the kernel has no memory for it now
                return False
            self.closed = True
        return True


class HostHandler(logging.Handler):
    """Sends log records to the host; to standard error once that is gone."""

    def __init__(self, channel: HostChannel, role: str) -> None:
        super().__init__()
        self._channel = channel
        self._role = role
        self._fallback = logging.StreamHandler(sys.stderr)
        self._fallback.setFormatter(line_formatter(role, "text"))

    def setFormatter(self, fmt: logging.Formatter | None) -> None:
        self._fallback.setFormatter(fmt)

    def emit(self, record: logging.LogRecord) -> None:
        if self._channel.closed:
            self._fallback.emit(record)
            return
        try:
            fields = dict(getattr(record, "fields", {}))
            if record.exc_info and record.exc_info[1] is not None:  # of another package
                fields["traceback"] = safe_text(traced(record.exc_info[1]), 8000)
            text = safe_text(record.getMessage(), 4000)
            line = Line(
                record.name, record.levelno, text, record.created, self._role, os.getpid(), fields
            )
            self._channel.send(line)
        except Exception:
            self.handleError(record)
