"""A receiver of deliveries: `fluxhook listen`, the demo's endpoints, and the faults of the tests.

HTTP/1.1 (RFC 9112) as far as a webhook needs it, on one asyncio loop: POST, keep-alive, pipelining,
bodies with Content-Length or chunked. What it answers, a `Behaviour` says, which may change at run
time and may differ by path; it can fail in most of the ways in which real endpoints, and proxies before
them, do (`fluxhook.faults`). Of HTTP/2 without TLS it reads what it takes to fail there: the requests'
bodies, not their fields.

    request line and fields -> _Requests -> signature -> decompression -> Behaviour -> on_delivery
    -> answer or fault
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from random import Random
from ssl import SSLContext
from typing import Final, NamedTuple, cast

import msgspec

from fluxhook import http2
from fluxhook.config.schema import SignatureProfile
from fluxhook.errors import SignatureError
from fluxhook.faults import Asked, Kind, Script, Step, find_fault
from fluxhook.policy.compression import BadEncoding, decompress
from fluxhook.policy.signature import HEADERS, public_key, symmetric_key
from fluxhook.verify import verify

__all__ = ["Behaviour", "Received", "Receiver"]

#: Arbitrary: several times what servers take (nginx: 4 x 8 KiB); senders of webhooks need 1 KiB.
MAX_HEAD_BYTES: Final = 65_536
#: a chunk's size and its extensions
MAX_CHUNK_LINE_BYTES: Final = 1_024
#: how long a refused request is read on: long enough for its sender to take the answer
LINGER_S: Final = 2.0


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the receiver does with a request whose signature is good.

    A request fails if it is among the `fail_first`, by chance at `fail_rate`, or because its body, once
    decompressed, is over `fail_over` bytes or has `fail_on` in it; where none of these is set and a
    `fault` is, every request does. It is then answered with `fail_status`, or suffers the fault.
    Counting begins anew when a behaviour is set, and chance repeats itself for equal `seed`.

        Behaviour(fail_first=2, retry_after="1")  # 503, 503, 204, 204, ...
        Behaviour(status=302, headers={"Location": "https://example.com/"})
        Behaviour(fault="hang")
    """

    status: int = 204
    #: of answers that are HTTP, failing ones too
    headers: dict[str, str] = {}
    body: bytes = b""
    #: before the answer, plus up to `jitter_s`
    delay_s: float = 0.0
    jitter_s: float = 0.0
    fail_first: int = 0
    fail_rate: float = 0.0
    fail_over: int | None = None
    fail_on: bytes | None = None
    fail_status: int = 503
    #: the Retry-After of failing answers: seconds or an HTTP-date
    retry_after: str | None = None
    #: one of `fluxhook.faults.FAULTS`
    fault: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.fault is not None:
            find_fault(self.fault)
        for status in (self.status, self.fail_status):
            if not 200 <= status <= 599:
                raise ValueError(f"{status} is not a final status (200 to 599)")
        if not 0.0 <= self.fail_rate <= 1.0:
            raise ValueError(f"fail_rate is {self.fail_rate}, not in 0 to 1")
        if self.delay_s < 0 or self.jitter_s < 0:
            raise ValueError("delay_s and jitter_s cannot be negative")


class Received(NamedTuple):
    """A request as it arrived, and what becomes of it."""

    #: the request target: path and query
    path: str
    #: names in lower case; what was sent in several lines is joined by ", "
    headers: dict[str, str]
    body: bytes
    #: None: no secret to verify it with
    verified: bool | None
    at_ns: int
    #: of the answer; 0 where the fault leaves none
    status: int
    #: why the signature or the body was refused, or the fault
    reason: str = ""
    #: the body as it arrived, if it was compressed
    encoded: bytes | None = None


class Receiver:
    """Listens on `host`; port 0 takes a free one. Lives on one event loop.

    With `secrets` each request is verified by the signature `profile`, and refused with 401 if that
    fails. A compressed body is decompressed after that, and refused if it is damaged or would become
    larger than `max_body_bytes`. `on_delivery` is called for each complete POST before its answer goes
    out, refused and failing ones included; where it raises, the answer is 500. `paths` has behaviours
    for paths (without query) that differ from `behaviour`. A connection is closed after
    `idle_timeout_s` without a request.

    Raises ConfigError for an unusable secret, ValueError for a profile that signs nothing; `start`
    raises OSError where it cannot listen.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        secrets: Sequence[str] = (),
        profile: SignatureProfile = "fluxgate",
        behaviour: Behaviour = Behaviour(),  # noqa: B008 (frozen)
        paths: Mapping[str, Behaviour] | None = None,
        on_delivery: Callable[[Received], object] | None = None,
        ssl: SSLContext | None = None,
        max_body_bytes: int = 16 * 1024 * 1024,
        idle_timeout_s: float = 75.0,  # nginx: keepalive_timeout
    ) -> None:
        if secrets and profile not in HEADERS:
            raise ValueError(f"the profile {profile!r} has no signature to verify")
        for secret in secrets:
            if profile == "standard" and secret.startswith("whpk_"):
                public_key(secret, "secret")
            else:
                symmetric_key(profile, secret, "secret")
        self.host = host
        self.port = port
        self.max_body_bytes = max_body_bytes
        self.idle_timeout_s = idle_timeout_s
        #: connections accepted since the start
        self.accepted = 0
        self.connections: set[_Connection] = set()
        self._secrets = tuple(secrets)
        self._profile = profile
        self._on_delivery = on_delivery
        self._ssl = ssl
        self._scripts: dict[str, _Script] = {}
        self._server: asyncio.Server | None = None
        self.behave(behaviour)
        for path, special in (paths or {}).items():
            self.behave(special, path)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._ssl else 'http'}://{host}:{self.port}"

    def behave(self, behaviour: Behaviour | None, path: str | None = None) -> None:
        """Changes the behaviour from the next request on: of one path, or of all that have none of
        their own. None: the path has none of its own any more."""
        if path is None:
            self._default = _Script(behaviour or Behaviour())
        elif behaviour is None:
            self._scripts.pop(path, None)
        else:
            self._scripts[path] = _Script(behaviour)

    async def start(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self), self.host, self.port, ssl=self._ssl, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stops listening and drops every connection."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self.connections):
            connection.abort()
        await self._server.wait_closed()
        self._server = None

    def open(self) -> _Reply | None:
        """Decides about a connection whose first bytes have come: None unless it fails at once."""
        if self._kind != "opening":
            return None
        reply = self._default.next(b"")
        if reply.fault is None:
            return None
        if self._on_delivery is not None:
            self._on_delivery(Received("", {}, b"", None, time.time_ns(), 0, reply.fault))
        return reply

    @property
    def is_proxy(self) -> bool:
        """Whether CONNECT is served: by a fault that is a proxy's."""
        return self._kind == "proxy"

    @property
    def _kind(self) -> Kind | None:
        """The kind of the fault that befalls requests whatever their path."""
        fault = self._default.behaviour.fault
        return None if fault is None else find_fault(fault).kind

    def receive(self, request: _Request) -> _Reply:
        """Decides about one request, and tells `on_delivery`."""
        script = self._default
        if self._scripts:
            script = self._scripts.get(request.target.partition("?")[0], script)
        verified, reason, reply = None, "", None
        if self._secrets:
            try:
                verify(request.body, request.headers, self._secrets, profile=self._profile)
                verified = True
            except SignatureError as e:
                verified, reason, reply = False, str(e), _UNAUTHORIZED
        body, encoded = request.body, None
        if reply is None and (encoding := request.headers.get("content-encoding")):
            try:
                body, encoded = decompress(body, encoding, self.max_body_bytes), body
            except BadEncoding as e:
                reason, reply = str(e), _Reply(e.status, _answer(e.status, {}, b""))
        if reply is None:
            reply = script.next(body)
            reason = reply.fault or ""
        if self._on_delivery is not None:
            self._on_delivery(
                Received(
                    request.target,
                    request.headers,
                    body,
                    verified,
                    time.time_ns(),
                    reply.status,
                    reason,
                    encoded,
                )
            )
        return reply


class _Reply(NamedTuple):
    """What goes back: `answer` after `delay_s`, then the fault. `status` 0: `answer` has none."""

    status: int
    answer: bytes
    fault: str | None = None
    delay_s: float = 0.0
    #: what the fault's script is told
    asked: Asked | None = None


class _Script:
    """A behaviour at work: its answers ready to be sent, and how far it has come."""

    def __init__(self, behaviour: Behaviour) -> None:
        b = behaviour
        self._success = _Reply(b.status, _answer(b.status, b.headers, b.body))
        self._failure = _failure(b, self._success)
        self.behaviour = b
        picks = (
            bool(b.fail_first or b.fail_rate) or b.fail_over is not None or b.fail_on is not None
        )
        self._always = b.fault is not None and not picks
        self._steady = not (picks or b.delay_s or b.jitter_s)
        self._seen = 0
        self._random = Random(b.seed)

    def next(self, request: bytes) -> _Reply:
        """The reply to the next request, which has this body."""
        b = self.behaviour
        if self._steady:
            return self._failure if self._always else self._success
        self._seen += 1
        fails = (
            self._always
            or self._seen <= b.fail_first
            or (b.fail_rate > 0 and self._random.random() < b.fail_rate)
            or (b.fail_over is not None and len(request) > b.fail_over)
            or (b.fail_on is not None and b.fail_on in request)
        )
        reply = self._failure if fails else self._success
        if b.delay_s or b.jitter_s:
            reply = reply._replace(delay_s=b.delay_s + b.jitter_s * self._random.random())
        return reply


def _failure(b: Behaviour, success: _Reply) -> _Reply:
    headers = b.headers if b.retry_after is None else {**b.headers, "Retry-After": b.retry_after}
    if b.fault is None:
        return _Reply(b.fail_status, _answer(b.fail_status, headers, b.body))
    asked = Asked(0, success.answer, _head(b.fail_status, headers), b.fail_status)
    status = {"": 0, "fail": b.fail_status, "good": b.status}[find_fault(b.fault).answers]
    return _Reply(status, b"", b.fault, asked=asked)


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    if any(character in line for line in lines for character in "\r\n\0"):
        raise ValueError("a header of the answer holds CR, LF or NUL")
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


def _answer(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    if status in (204, 304):  # these end with the head (RFC 9112 section 6.3)
        return _head(status, headers) + b"\r\n"
    return _head(status, headers) + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


_UNAUTHORIZED: Final = _Reply(401, _answer(401, {}, b""))
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
#: SO_LINGER on, for 0 seconds: close() sends RST (socket(7))
_LINGER_0: Final = struct.pack("ii", 1, 0)
_WRONG_PROTOCOL: Final = _answer(
    505, {"Connection": "close"}, b"this behaviour is of another protocol"
)


class _Connection(asyncio.Protocol):
    """One connection: requests in their order, each answered before the next is looked at."""

    _transport: asyncio.Transport

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._requests = _Requests(receiver.max_body_bytes, connects=receiver.is_proxy)
        self._loop = asyncio.get_running_loop()
        #: an answer is due, at a later time or never
        self._answering = False
        #: the peer reads too slowly for more to be written
        self._stalled = False
        #: what arrives is thrown away
        self._deaf = False
        self._active_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._runs: set[_Run] = set()
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
        """Serves what has arrived in full; requests do not wait for each other."""
        for found in requests.feed(data):
            if isinstance(found, bytes):
                self._transport.write(found)
                continue
            self._active_at = self._loop.time()
            reply = self._receive(_Request("(HTTP/2)", {}, found.body, True))
            if reply.fault is None:
                self._transport.write(http2.answer(reply.status, found.stream))
            else:
                self._answer(reply, True, found.stream)
            if self._deaf:
                return
        if requests.size > MAX_HEAD_BYTES + self._receiver.max_body_bytes:
            self.abort()

    def _advance(self) -> None:
        """Serves what has arrived in full, up to a request whose answer takes time."""
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
        except _BadRequest as e:
            self._refuse(e)
            return
        if requests.wants_continue:
            requests.wants_continue = False
            self._transport.write(_CONTINUE)

    def _receive(self, request: _Request) -> _Reply:
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
            return _Reply(500, _answer(500, {}, b""))

    def _refuse(self, error: _BadRequest) -> None:
        """Answers, and goes on reading for a while: closing with bytes unread sends an RST, which
        could overtake the answer (RFC 9112 section 9.6)."""
        headers = {"Connection": "close", **error.headers}
        self._transport.write(_answer(error.status, headers, str(error).encode()))
        if not self._transport.can_write_eof():  # TLS
            self._transport.close()
            return
        self._transport.write_eof()
        self._deaf = True
        self._timer = self._loop.call_later(LINGER_S, self._transport.abort)

    def _answer_late(self, reply: _Reply, keep_alive: bool) -> None:
        self._answering = False
        self._active_at = self._loop.time()
        self._answer(reply, keep_alive)
        self._advance()

    def _answer(self, reply: _Reply, keep_alive: bool, stream: int = 0) -> None:
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
        run = _Run(self, fault.script(asked))
        self._runs.add(run)
        run.resume()

    def ended(self, run: _Run) -> None:
        """A script is over, and the connection goes on with what comes next."""
        self._runs.discard(run)
        self._answering = False
        if self._http2 is None:
            self._loop.call_soon(self._advance)

    def write(self, data: bytes) -> None:
        if not self._stalled and data:
            self._transport.write(data)

    def finish(self, how: Step) -> None:
        """Ends the connection, or leaves it open for ever."""
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


class _Run:
    """A fault's script at work on a connection."""

    def __init__(self, connection: _Connection, script: Script) -> None:
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


# ---- requests ------------------------------------------------------------------------------


class _Request(NamedTuple):
    target: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


class _BadRequest(Exception):
    """What arrived is not a request that can be served; the connection ends."""

    def __init__(self, message: str, status: int = 400, headers: dict[str, str] | None = None):
        self.status = status
        self.headers = headers or {}
        super().__init__(message)


#: RFC 9112 section 3; the target's forms are not told apart
_REQUEST_LINE: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/1\.([01])")
#: RFC 9110 section 5.1
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: RFC 9110 section 5.5: what a field may hold
_FIELD_BYTES: Final = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
_CONTENT_LENGTH: Final = re.compile(r"[0-9]{1,18}")
#: RFC 9112 section 7.1; extensions are ignored
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[\t -~\x80-\xff]*)?")


class _Requests:
    """Bytes in, requests out. No I/O (compare h11)."""

    def __init__(self, max_body_bytes: int, *, connects: bool = False) -> None:
        #: the sender holds the body back until it is told to continue (RFC 9110 section 10.1.1)
        self.wants_continue = False
        self._max_body = max_body_bytes
        self._methods = ("POST", "CONNECT") if connects else ("POST",)
        self._buffer = bytearray()
        self._searched = 0
        self._head: _Head | None = None
        #: of a chunked body: what has arrived, and the size of the chunk that comes next
        self._chunks = bytearray()
        self._chunk_size: int | None = None

    @property
    def overfull(self) -> bool:
        """More has arrived than one request can have."""
        return len(self._buffer) > MAX_HEAD_BYTES + self._max_body

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> _Request | None:
        """The next request, once it is complete. Raises _BadRequest."""
        head = self._head
        if head is None:
            text = self._take_until(b"\r\n\r\n", MAX_HEAD_BYTES, 431)
            if text is None:
                return None
            head = self._head = _Head.parse(text, self._max_body, self._methods)
            self.wants_continue = head.expects_continue
        body = self._take_chunked() if head.length is None else self._take(head.length)
        if body is None:
            return None
        self._head = None
        self.wants_continue = False
        return _Request(head.target, head.headers, body, head.keep_alive)

    def _take(self, length: int) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < length:
            return None
        taken = bytes(buffer[:length])
        del buffer[:length]
        return taken

    def _take_until(self, end: bytes, limit: int, status: int = 400) -> bytes | None:
        """What stands before `end`, which is taken too."""
        at = self._buffer.find(end, self._searched)
        if max(at, len(self._buffer) if at < 0 else 0) > limit:
            raise _BadRequest(f"over {limit} bytes before the end of the line or head", status)
        if at < 0:
            self._searched = max(0, len(self._buffer) - len(end) + 1)
            return None
        self._searched = 0
        taken = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return taken

    def _take_chunked(self) -> bytes | None:
        """RFC 9112 section 7.1; what is complete moves from the buffer to the chunks."""
        while True:
            size = self._chunk_size
            if size is None:
                line = self._take_until(b"\r\n", MAX_CHUNK_LINE_BYTES)
                if line is None:
                    return None
                if not (match := _CHUNK_LINE.fullmatch(line)):
                    raise _BadRequest("a chunk's size is malformed")
                self._chunk_size = int(match[1], 16)
                if len(self._chunks) + self._chunk_size > self._max_body:
                    raise _too_large(self._max_body)
            elif size > 0:
                chunk = self._take(size + 2)
                if chunk is None:
                    return None
                if not chunk.endswith(b"\r\n"):
                    raise _BadRequest("a chunk is longer than its size")
                self._chunks += chunk[:-2]
                self._chunk_size = None
            else:  # trailers, which nobody needs, up to an empty line
                line = self._take_until(b"\r\n", MAX_HEAD_BYTES, 431)
                if line is None:
                    return None
                if not line:
                    body = bytes(self._chunks)
                    self._chunks.clear()
                    self._chunk_size = None
                    return body


class _Head(NamedTuple):
    """A request line and its fields, and what they say about the body."""

    target: str
    headers: dict[str, str]
    #: None: chunked
    length: int | None
    keep_alive: bool
    expects_continue: bool

    @classmethod
    def parse(cls, head: bytes, max_body_bytes: int, methods: Sequence[str] = ("POST",)) -> _Head:
        """`head` ends before its empty line. What could be read in two ways is refused, so that no
        body is ever taken for a request (RFC 9112 section 11.2)."""
        if head.replace(b"\r\n", b"").translate(None, _FIELD_BYTES):
            raise _BadRequest("the head holds a control character")
        first, *lines = head.decode("latin-1").split("\r\n")
        request = _REQUEST_LINE.fullmatch(first)
        if request is None:
            raise _BadRequest("the request line is malformed")
        method, target, minor = request.groups()
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not _FIELD_NAME.fullmatch(name):
                raise _BadRequest("a header field is malformed")
            name, value = name.lower(), value.strip(" \t")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if method not in methods:
            raise _BadRequest("only POST is served", 405, {"Allow": "POST"})
        if minor == "1" and ("host" not in headers or "," in headers["host"]):
            raise _BadRequest("there is not one Host field")
        connection = headers.get("connection", "").lower()
        return cls(
            target,
            headers,
            _body_length(headers, minor, max_body_bytes),
            # HTTP/1.0 has no persistent connections by itself.
            minor == "1" and "close" not in connection,
            minor == "1" and headers.get("expect", "").lower() == "100-continue",
        )


def _body_length(headers: Mapping[str, str], minor: str, max_body_bytes: int) -> int | None:
    """RFC 9112 section 6.3: None for a chunked body."""
    text = headers.get("content-length")
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if text is not None or minor == "0":
            raise _BadRequest("Transfer-Encoding stands beside Content-Length, or in HTTP/1.0")
        if coding.lower() != "chunked":
            raise _BadRequest("the only Transfer-Encoding served is chunked", 501)
        return None
    if text is None:
        return 0
    if not _CONTENT_LENGTH.fullmatch(text):
        raise _BadRequest("Content-Length is not one number")
    if int(text) > max_body_bytes:
        raise _too_large(max_body_bytes)
    return int(text)


def _too_large(max_body_bytes: int) -> _BadRequest:
    return _BadRequest(f"the body is over {max_body_bytes} bytes", 413)
