"""What a host hears from its engine: log records in its own `logging`, and calls of its callbacks.

Two threads of the host: `fluxhook-log` reads the channel and hands records to `logging`;
`fluxhook-callbacks`, which is there if a callback was given, calls these one after the other. Neither
holds up the engine: what finds no room because the host is slow is counted, and the number is logged.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import sys
import threading
from collections.abc import Callable
from typing import Final

import msgspec

from fluxhook.logs.log import Log
from fluxhook.logs.setup import Format, line_formatter
from fluxhook.transport.host_channel import (
    MAX_MESSAGE,
    DeadLetter,
    EndpointStateChange,
    Line,
    Lost,
    Message,
    decode,
)

__all__ = ["HostListener"]

#: calls that wait for the host's callbacks; one more is left out. Arbitrary.
MOST_CALLS: Final = 10_000
#: how long `close` waits for each of the two threads
CLOSE_S: Final = 5.0
#: bytes that the kernel keeps for messages that the host has not read; it may allow less (socket(7))
BUFFER_BYTES: Final = 1 << 20

log = Log("engine")


class HostListener:
    """Give `fd` to the supervisor. The channel outlives each of them."""

    def __init__(
        self,
        format: Format,
        on_dead_letter: Callable[[DeadLetter], object] | None,
        on_endpoint_state: Callable[[EndpointStateChange], object] | None,
    ) -> None:
        self._formatters: dict[str, logging.Formatter] = {}
        self._format: Format = format
        self._on_dead_letter = on_dead_letter
        self._on_endpoint_state = on_endpoint_state
        self._reading, self._writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._writing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self.fd = self._writing.fileno()
        self._calls: queue.Queue[DeadLetter | EndpointStateChange | None] = queue.Queue(MOST_CALLS)
        self._left_out = 0
        self._closed = threading.Event()
        self._reader = threading.Thread(target=self._read, name="fluxhook-log", daemon=True)
        self._reader.start()
        self._caller: threading.Thread | None = None
        if on_dead_letter is not None or on_endpoint_state is not None:
            self._caller = threading.Thread(
                target=self._call_all, name="fluxhook-callbacks", daemon=True
            )
            self._caller.start()

    def close(self) -> None:
        """Take in what the processes said last; all of them have ended. A callback that does not return
        is not waited for. Either thread may call this."""
        # To close it alone would not end the reader: a child that the host forked has this end too.
        self._writing.shutdown(socket.SHUT_WR)
        self._writing.close()
        _join(self._reader)
        self._reading.close()
        if self._caller is not None:
            self._closed.set()
            with contextlib.suppress(queue.Full):
                self._calls.put_nowait(None)
            _join(self._caller)

    def _read(self) -> None:
        while True:
            try:
                data = self._reading.recv(MAX_MESSAGE)
            except OSError:  # closed under it
                return
            if not data:
                return
            try:
                self._take(decode(data))
            except msgspec.MsgspecError as e:
                log.error("a message of the engine cannot be read: %s", e)
            except Exception as e:  # of a handler or filter of the host's
                log.error("a message of the engine could not be logged", exc_info=e)

    def _take(self, message: Message) -> None:
        match message:
            case Line():
                self._log(message)
            case Lost(role, count):
                log.warning(
                    "%d messages of the %s were left out: this process did not read them in time",
                    count, role, event="messages_left_out", count=count, role=role,
                )  # fmt: skip
            case DeadLetter() if self._on_dead_letter is not None:
                self._enqueue(message)
            case EndpointStateChange() if self._on_endpoint_state is not None:
                self._enqueue(message)

    def _log(self, line: Line) -> None:
        logger = logging.getLogger(line.logger)
        attributes = {
            "name": line.logger,
            "msg": line.text,
            "levelno": line.level,
            "levelname": logging.getLevelName(line.level),
            "created": line.created,
            "msecs": line.created % 1 * 1000,
            "process": line.pid,
            "role": line.role,
            "fields": line.fields,
        }
        record = logging.makeLogRecord({**line.fields, **attributes})
        if logger.hasHandlers():
            if logger.isEnabledFor(line.level):
                logger.handle(record)
            return
        if line.level <= logging.root.manager.disable:
            return
        formatter = self._formatters.get(line.role)
        if formatter is None:
            formatter = self._formatters[line.role] = line_formatter(line.role, self._format)
        if sys.stderr is not None:
            sys.stderr.write(formatter.format(record) + "\n")
            sys.stderr.flush()

    def _enqueue(self, call: DeadLetter | EndpointStateChange) -> None:
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._left_out += 1
            return
        if self._left_out:
            left_out, self._left_out = self._left_out, 0
            log.warning(
                "%d calls of this program's callbacks were left out: they did not return in time",
                left_out, event="calls_left_out", count=left_out,
            )  # fmt: skip

    def _call_all(self) -> None:
        while not (self._closed.is_set() and self._calls.empty()):
            call = self._calls.get()
            if call is None:
                return
            try:
                if isinstance(call, DeadLetter):
                    assert self._on_dead_letter is not None
                    self._on_dead_letter(call)
                else:
                    assert self._on_endpoint_state is not None
                    self._on_endpoint_state(call)
            except BaseException as e:  # `sys.exit` and asyncio's CancelledError too
                name = "on_dead_letter" if isinstance(call, DeadLetter) else "on_endpoint_state"
                log.error("%s raised", name, exc_info=e, event="callback_raised", callback=name)


def _join(thread: threading.Thread) -> None:
    if thread is not threading.current_thread():
        thread.join(CLOSE_S)
