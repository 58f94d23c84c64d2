"""The supervisor's end of the control socket. It never waits: not for a slow client, nor for one that
has gone; and after each request the scheduler has its turn."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Callable

import msgspec

from fluxhook.control import MAX_MESSAGE, Asked, Failure, Origin, Request, frame, socket_path
from fluxhook.errors import ConfigError, FluxhookError
from fluxhook.logs.log import Log
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.peer import unix_user

__all__ = ["Listener"]

log = Log("changes")

#: connections at a time; one more ends that which has not come up with a request for longest
MAX_CONNECTIONS = 64

_decode = msgspec.msgpack.Decoder(Asked | Request).decode
_encode = msgspec.msgpack.Encoder().encode


class _Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = bytearray()
        self.unsent = b""

    @property
    def length(self) -> int:
        """Of the request that it sends; -1: not known yet."""
        if len(self.received) < 4:
            return -1
        (length,) = struct.unpack_from("<I", self.received)
        return int(length)

    @property
    def is_whole(self) -> bool:
        return 0 <= self.length <= len(self.received) - 4

    def take(self) -> bytes:
        """Return the request that is whole."""
        end = 4 + self.length
        message = bytes(self.received[4:end])
        del self.received[:end]
        return message


class Listener:
    """Register `fd` with an epoll, and call `step` when it is readable."""

    def __init__(
        self, datadir: DataDir, apply: Callable[[Request, Origin], msgspec.Struct]
    ) -> None:
        """Listen; `apply` does what a request asks and returns the reply; a FluxhookError becomes a
        Failure."""
        #: does what a request asks
        self.apply = apply
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with socket_path(datadir) as path:
            with contextlib.suppress(FileNotFoundError):  # of an engine that was killed
                os.unlink(path)
            self._server.bind(path)
            os.chmod(path, 0o600)
        self._server.listen(MAX_CONNECTIONS)
        self._epoll = select.epoll()
        self._epoll.register(self._server, select.EPOLLIN)
        self._connections: dict[int, _Connection] = {}
        self._spare = os.open("/dev/null", os.O_RDONLY)
        #: those with a request that is whole, in their order
        self._asking: deque[_Connection] = deque()
        self.fd = self._epoll.fileno()

    @property
    def busy(self) -> bool:
        """Return whether requests are left that are whole: call `step` again."""
        return bool(self._asking)

    def step(self) -> None:
        """Take what has arrived, and answer one request that is whole."""
        for fd, events in self._epoll.poll(0):
            if fd == self._server.fileno():
                self._accept()
                continue
            connection = self._connections.get(fd)
            if connection is None:  # it made room for another just now
                continue
            try:
                if events & select.EPOLLOUT:
                    self._send(connection)
                if events & ~select.EPOLLOUT:
                    self._receive(connection)
            except OSError:
                self._drop(connection)
        while self._asking:
            connection = self._asking.popleft()
            if connection.sock.fileno() < 0:  # it has gone
                continue
            connection.unsent += frame(_encode(self._answer(connection)))
            try:
                self._send(connection)
            except OSError:
                self._drop(connection)
            else:
                self._note(connection)
            return

    def _note(self, connection: _Connection) -> None:
        if connection.length > MAX_MESSAGE:
            self._drop(connection)
        elif connection.is_whole:
            self._asking.append(connection)

    def close(self) -> None:
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._server.close()
        self._epoll.close()
        os.close(self._spare)

    def _accept(self) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            silent = (c for c in self._connections.values() if c not in self._asking)
            if (one := next(silent, None)) is None:
                return  # each of them is about to be answered
            self._drop(one)
        try:
            sock, _ = self._server.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as e:
            if e.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self._refuse()
            return
        sock.setblocking(False)
        self._connections[sock.fileno()] = _Connection(sock)
        self._epoll.register(sock, select.EPOLLIN)

    def _refuse(self) -> None:
        """End a connection for which there is no descriptor: the client is not left to wait, nor does
        the socket stay readable."""
        os.close(self._spare)
        with contextlib.suppress(OSError):
            self._server.accept()[0].close()
        self._spare = os.open("/dev/null", os.O_RDONLY)

    def _receive(self, connection: _Connection) -> None:
        if connection in self._asking:
            return
        chunk = connection.sock.recv(1 << 20)
        if not chunk:
            self._drop(connection)
            return
        connection.received += chunk
        self._note(connection)

    def _answer(self, connection: _Connection) -> msgspec.Struct:
        try:
            asked = _decode(connection.take())
            if not isinstance(asked, Asked):
                asked = Asked(asked, Origin())
            origin = asked.origin
            if not origin.actor:
                origin = Origin(unix_user(connection.sock), origin.via)
            return self.apply(asked.request, origin)
        except ConfigError as e:
            return Failure("ConfigError", str(e), e.problems, e.more)
        except FluxhookError as e:
            return Failure(type(e).__name__, str(e))
        except msgspec.MsgspecError as e:
            return Failure("EngineError", f"the request is of another version: {e}")
        except Exception as e:
            # A defect; but the engine's deliveries must not end with it.
            log.error("a change that was asked for failed", exc_info=e, event="internal_error")
            return Failure("EngineError", "the engine failed to make the change; its log says why")

    def _send(self, connection: _Connection) -> None:
        with contextlib.suppress(BlockingIOError):
            sent = connection.sock.send(connection.unsent)
            connection.unsent = connection.unsent[sent:]
        mask = select.EPOLLIN | (select.EPOLLOUT if connection.unsent else 0)
        self._epoll.modify(connection.sock, mask)

    def _drop(self, connection: _Connection) -> None:
        del self._connections[connection.sock.fileno()]
        self._epoll.unregister(connection.sock)
        connection.sock.close()
