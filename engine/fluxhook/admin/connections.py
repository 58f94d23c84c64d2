"""The server's connections: how many there may be, and for how long each may say nothing.

uvicorn waits without end for the head of a request and for a client that does not read, and beyond a
limit it answers 503 to everybody. Here a new connection is always taken: where there are too many, one
on which no request is under way gives way, the oldest of the client with the most. So half-sent heads
keep nobody out, nor do handshakes of TLS that are half done: a connection counts from when it is
accepted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fluxhook.admin.failed_tokens import peer_of

__all__ = ["HEAD_S", "MAX_HEAD", "MAX_WRITE_S", "SWEEP_S", "Connection", "Connections"]

#: for the whole head of a request; arbitrary (nginx's client_header_timeout is a minute)
HEAD_S: Final = 15.0
#: bytes of a head, beyond what comes with its last piece; what nginx takes by default is half of it
MAX_HEAD: Final = 65_536
#: for a client that reads nothing of its answer; arbitrary
MAX_WRITE_S: Final = 30.0
#: for what is unread when the server has closed a connection; arbitrary
MAX_CLOSE_S: Final = 10.0
#: between two looks at all connections
SWEEP_S: Final = 1.0


class Connections:
    """Those that are no websockets. One thread's: the event loop's."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._limit = limit
        #: by their peers, the oldest first
        self._of: dict[str, dict[Connection, None]] = {}
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def protocol(self, **given: Any) -> Connection:
        """Return a new connection; uvicorn calls this for each (its option `http`)."""
        return Connection(self, **given)

    def add(self, connection: Connection) -> None:
        self._of.setdefault(connection.peer, {})[connection] = None
        self._n += 1
        if self._n > self._limit:
            self._make_room(connection)

    def remove(self, connection: Connection) -> None:
        of_peer = self._of.get(connection.peer, {})
        if connection in of_peer:
            del of_peer[connection]
            self._n -= 1
            if not of_peer:
                del self._of[connection.peer]

    def sweep(self) -> None:
        """End what has waited for too long."""
        now = self.clock()
        for of_peer in list(self._of.values()):
            for connection in list(of_peer):
                connection.check(now)

    async def keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()

    def _make_room(self, newest: Connection) -> None:
        for of_peer in sorted(self._of.values(), key=len, reverse=True):
            for connection in of_peer:
                if connection.waits:
                    connection.abort()
                    return
        newest.abort()  # which waits too, unless something is wrong


class Connection(HttpToolsProtocol):
    """uvicorn's, with an eye on the time."""

    def __init__(self, connections: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._connections = connections
        self.peer = ""
        #: since when the head of a request is awaited, or the answer read, or the end; None: it is not
        self._head_since: float | None = None
        self._write_since: float | None = None
        self._close_since: float | None = None
        self._head_bytes = 0
        #: TLS has come about, if there is any
        self._made = False

    @property
    def waits(self) -> bool:
        """No request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def check(self, now: float) -> None:
        if self.transport.is_closing():
            self._close_since = self._close_since or now
        if _over(self._head_since, now, HEAD_S) and self._close_since is None:
            self._refuse(b"408 Request Timeout")
        elif _over(self._write_since, now, MAX_WRITE_S) or _over(
            self._close_since, now, MAX_CLOSE_S
        ):
            self.abort()

    def abort(self) -> None:
        """End it now, with what is unsent."""
        self._connections.remove(self)
        self.transport.abort()

    def _refuse(self, status: bytes) -> None:
        self._head_since = None
        self.transport.write(
            b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )
        self.transport.close()

    # ---- what asyncio, httptools and uvicorn call ------------------------------------------------

    def begin_handshake(
        self, transport: asyncio.Transport, client: object, waiter: asyncio.Future[None]
    ) -> None:
        """Note that a connection was accepted that is to speak TLS. The `waiter` is done when it
        does, or never will; asyncio calls `connection_lost` of those alone that did."""
        self.transport = transport
        self.peer = peer_of(client)
        self._connections.add(self)
        waiter.add_done_callback(self._end_handshake)

    def _end_handshake(self, waiter: asyncio.Future[None]) -> None:
        if not self._made:
            self._connections.remove(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        shaken = self.transport is not None
        super().connection_made(transport)  # type: ignore[arg-type]
        self._made = True
        self._head_since = self._connections.clock()
        if not shaken:
            self.peer = peer_of(self.client)
            self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.waits and self._head_since is None:  # the rest of a body counts as the next head
            self._head_since = self._connections.clock()
            self._head_bytes = 0
        super().data_received(data)
        if self._head_since is not None and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._refuse(b"431 Request Header Fields Too Large")

    def on_headers_complete(self) -> None:
        self._head_since = None
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        self._connections.remove(self)  # it is another protocol's from now on
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        self._write_since = self._connections.clock()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._write_since = None
        super().resume_writing()


def _over(since: float | None, now: float, limit_s: float) -> bool:
    return since is not None and now - since > limit_s
