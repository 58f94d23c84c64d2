"""One connection of a receiver: the I/O, and the order of answers."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final, Protocol, cast

from fluxhook.receiver import http2
from fluxhook.receiver.behaviours import Reply, answer
from fluxhook.receiver.faults import Script, Step, find_fault
from fluxhook.receiver.requests import MAX_HEAD_BYTES, BadRequest, Request, Requests

__all__ = ["Connection", "Server"]

#: how long a refused request is read on: long enough for its sender to take the answer
LINGER_S: Final = 2.0

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
#: SO_LINGER on, for 0 seconds: close() sends RST (socket(7))
_LINGER_0: Final = struct.pack("ii", 1, 0)
_WRONG_PROTOCOL: Final = answer(
    505, {"Connection": "close"}, b"this behaviour is of another protocol"
)


class Server(Protocol):
    """What a connection asks its receiver."""

    max_body_bytes: int
    idle_timeout_s: float
    #: connections accepted since the start
    accepted: int
    connections: set[Connection]

    @property
    def is_proxy(self) -> bool:
        """True if CONNECT is served."""

    def open(self) -> Reply | None:
        """Decide about a connection whose first bytes have come: None unless it fails at once."""

    def receive(self, request: Request) -> Reply:
        """Decide about one request."""


class Connection(asyncio.Protocol):
    """One connection: requests in their order, each answered before the next is looked at."""

    _transport: asyncio.Transport

    def __init__(self, receiver: Server) -> None:
        self._receiver = receiver
        self._requests = Requests(receiver.max_body_bytes, connects=receiver.is_proxy)
        self._loop = asyncio.get_running_loop()
        #: an answer is due, at a later time or never
        self._answering = False
        #: the peer reads too slowly for more to be written
        self._stalled = False
        #: what arrives is thrown away
        self._deaf = False
        self._active_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._runs: set[FaultRun] = set()
        self._served = 0
        self._begun = False
        self._http2: http2.Requests | None = None
        self._idle_timer = self._loop.call_later(receiver.idle_timeout_s, self._check_idle)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._receiver.accepted += 1
        self._receiver.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiver.connections.discard(self)
        self._idle_timer.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for run in self._runs:
            run.cancel()

    def pause_writing(self) -> None:
        self._stalled = True

    def resume_writing(self) -> None:
        self._stalled = False

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if not self._begun:
            self._begun = True
            if opening := self._receiver.open():
                self._answer(opening, True)
                return
            if data.startswith(b"PRI * HTTP/2.0"):
                self._http2 = http2.Requests()
        if reading := [run for run in self._runs if run.reads]:
            for run in reading:
                run.resume()
            return
        if self._http2 is not None:
            self._advance_http2(self._http2, data)
            return
        self._requests.feed(data)
        if not self._answering:
            self._advance()
        elif self._requests.overfull:
            self.abort()

    def abort(self) -> None:
        self._transport.abort()

    def _advance_http2(self, requests: http2.Requests, data: bytes) -> None:
        """Serve what has arrived in full; requests do not wait for each other."""
        for found in requests.feed(data):
            if isinstance(found, bytes):
                self._transport.write(found)
                continue
            self._active_at = self._loop.time()
            reply = self._receive(Request("(HTTP/2)", {}, found.body, True))
            if reply.fault is None:
                self._transport.write(http2.answer(reply.status, found.stream))
            else:
                self._answer(reply, True, found.stream)
            if self._deaf:
                return
        if requests.size > MAX_HEAD_BYTES + self._receiver.max_body_bytes:
            self.abort()

    def _advance(self) -> None:
        """Serve what has arrived in full, up to a request whose answer takes time."""
        requests = self._requests
        try:
            while not self._answering and (request := requests.next()) is not None:
                self._active_at = self._loop.time()
                reply = self._receive(request)
                if reply.delay_s:
                    self._answering = True
                    self._timer = self._loop.call_later(
                        reply.delay_s, self._answer_late, reply, request.keep_alive
                    )
                else:
                    self._answer(reply, request.keep_alive)
        except BadRequest as e:
            self._refuse(e)
            return
        if requests.wants_continue:
            requests.wants_continue = False
            self._transport.write(_CONTINUE)

    def _receive(self, request: Request) -> Reply:
        try:
            return self._receiver.receive(request)
        except Exception as e:
            self._loop.call_exception_handler(
                {
                    "message": "a request could not be dealt with",
                    "exception": e,
                    "protocol": self,
                }
            )
            return Reply(500, answer(500, {}, b""))

    def _refuse(self, error: BadRequest) -> None:
        """Answer, and go on reading for a while: closing with bytes unread sends an RST, which
        could overtake the answer (RFC 9112 section 9.6)."""
        headers = {"Connection": "close", **error.headers}
        self._transport.write(answer(error.status, headers, str(error).encode()))
        if not self._transport.can_write_eof():  # TLS
            self._transport.close()
            return
        self._transport.write_eof()
        self._deaf = True
        self._timer = self._loop.call_later(LINGER_S, self._transport.abort)

    def _answer_late(self, reply: Reply, keep_alive: bool) -> None:
        self._answering = False
        self._active_at = self._loop.time()
        self._answer(reply, keep_alive)
        self._advance()

    def _answer(self, reply: Reply, keep_alive: bool, stream: int = 0) -> None:
        self._served += 1
        if reply.fault is None or reply.asked is None:
            self._transport.write(reply.answer)
            if not keep_alive:
                self._answering = True
                self._transport.close()
            return
        fault = find_fault(reply.fault)
        if fault.kind == "http2" and not stream:
            self._transport.write(_WRONG_PROTOCOL)
            self._transport.close()
            return
        self._answering = True
        asked = reply.asked._replace(nth=self._served, stream=stream)
        run = FaultRun(self, fault.script(asked))
        self._runs.add(run)
        run.resume()

    def ended(self, run: FaultRun) -> None:
        """Note that a script is over, and go on with what comes next."""
        self._runs.discard(run)
        self._answering = False
        if self._http2 is None:
            self._loop.call_soon(self._advance)

    def write(self, data: bytes) -> None:
        if not self._stalled and data:
            self._transport.write(data)

    def finish(self, how: Step) -> None:
        """End the connection, or leave it open for ever."""
        if how is Step.RESET:
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0
            )
            self._transport.abort()
        elif how is Step.CLOSE:
            self._transport.close()
        else:
            self._deaf = True

    def _check_idle(self) -> None:
        idle_s = 0.0 if self._answering else self._loop.time() - self._active_at
        left_s = self._receiver.idle_timeout_s - idle_s
        if left_s > 0:
            self._idle_timer = self._loop.call_later(left_s, self._check_idle)
        else:
            self._transport.close()


class FaultRun:
    """A fault's script at work on a connection."""

    def __init__(self, connection: Connection, script: Script) -> None:
        self._connection = connection
        self._script = script
        self._timer: asyncio.TimerHandle | None = None
        #: it waits until something more has come
        self.reads = False

    def resume(self) -> None:
        self.reads = False
        for step in self._script:
            if isinstance(step, bytes):
                self._connection.write(step)
            elif isinstance(step, float):
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(step, self.resume)
                return
            elif step is Step.READ:
                self.reads = True
                return
            else:
                self._connection.finish(step)
                return
        self._connection.ended(self)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
