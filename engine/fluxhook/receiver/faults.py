"""What a receiver, or a proxy before it, can do wrong: a library of behaviours.

A fault is a script: what is written, what is waited for, how the connection ends. No I/O is in it; the
receiver runs it. `about` is the sentence that `fluxhook listen --behave help` prints.

    http     befalls an HTTP/1.1 request; what it writes is the answer
    http2    befalls an HTTP/2 request (without TLS); what it writes are frames
    proxy    befalls what is asked of a proxy: CONNECT, or a request with a whole URL
    opening  befalls a connection as its first bytes come, whatever they are
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Final, Literal, NamedTuple

from fluxhook.receiver import http2

__all__ = ["FAULTS", "Asked", "Fault", "Kind", "Script", "Step", "find_fault"]

Kind = Literal["http", "http2", "proxy", "opening"]


class Step(Enum):
    """What a script can do beside writing bytes and waiting seconds."""

    #: go on when something more has come
    READ = auto()
    #: end the connection; with an RST
    CLOSE = auto()
    RESET = auto()
    #: keep the connection open, and never do anything on it again
    HANG = auto()


Script = Iterator[bytes | float | Step]


class Asked(NamedTuple):
    """The request that a fault befalls, and what would be answered."""

    #: of those on its connection, from 1
    nth: int
    #: the whole answer to a request that succeeds
    good: bytes
    #: the status line and the fields of one that fails, without the empty line; and its status
    head: bytes
    status: int
    #: HTTP/2's
    stream: int = 0


class Fault(NamedTuple):
    """A behaviour. `answers`: whether an answer with a status comes, the failing or the good one."""

    about: str
    script: Callable[[Asked], Script]
    kind: Kind = "http"
    answers: Literal["", "fail", "good"] = ""


#: every behaviour, by name
FAULTS: Final[dict[str, Fault]] = {}


def find_fault(name: str) -> Fault:
    """Return the fault of a name. Raise ValueError, which names what there is."""
    fault = FAULTS.get(name)
    if fault is None:
        raise ValueError(f"there is no behaviour {name!r}; there are {', '.join(FAULTS)}")
    return fault


_Make = Callable[[Asked], Script]


def _fault(
    about: str, kind: Kind = "http", answers: Literal["", "fail", "good"] = ""
) -> Callable[[_Make], _Make]:
    """Add a script to the library, under its own name."""

    def add(script: _Make) -> _Make:
        FAULTS[script.__name__.strip("_")] = Fault(about, script, kind, answers)
        return script

    return add


#: after how many seconds comes what nobody asked for: long enough to be a packet of its own
LATER_S: Final = 0.05
#: what is written at a time where it never ends, and the pause in seconds
_ENDLESS: Final = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
_BROOK_S, _DRIP_S = 0.001, 0.05


class _Part(Enum):
    """Stands in a script for what depends on the request: `Asked.head`, `Asked.good`."""

    HEAD = auto()
    GOOD = auto()


HEAD, GOOD = _Part.HEAD, _Part.GOOD


def _add(
    name: str,
    about: str,
    *parts: bytes | float | Step | _Part,
    kind: Kind = "http",
    answers: Literal["", "fail", "good"] = "",
) -> None:
    """Add a script that is the same for each request."""

    def script(asked: Asked) -> Script:
        for part in parts:
            if isinstance(part, _Part):
                yield asked.head if part is HEAD else asked.good
            else:
                yield part

    FAULTS[name] = Fault(about, script, kind, answers)


_CLOSE, _RESET, _HANG, _READ = Step.CLOSE, Step.RESET, Step.HANG, Step.READ


# ---- timing, and how connections end -------------------------------------------------------

_add("hang", "Never answers; the connection stays open.", _HANG)
_add("reset", "Tears the connection down with an RST.", _RESET)
_add("close", "Closes the connection without an answer.", _CLOSE)


@_fault("Sends the first line of the answer a byte at a time, without an end.")
def _slow_head(asked: Asked) -> Script:
    yield b"HTTP/1.1 200 "
    while True:
        yield b"x"
        yield _DRIP_S


# ---- heads ---------------------------------------------------------------------------------

_add("garbage", "Answers with bytes that are no HTTP.", b"\x16\x03 no HTTP here\n", _CLOSE)
_add(
    "big_header",
    "Answers with a field of 1 MiB.",
    *(HEAD, b"X-Big: " + b"x" * 1_048_576 + b"\r\n\r\n", _CLOSE),
    answers="fail",
)


@_fault("Closes the connection within the head of the answer, before its first line has ended.")
def _partial_head(asked: Asked) -> Script:
    yield asked.head[:12]
    yield _CLOSE


_add(
    "many_headers",
    "Answers with 100,000 fields.",
    *(HEAD, b"X-Many: 1\r\n" * 100_000, b"\r\n", _CLOSE),
    answers="fail",
)
_add("status_99", "Answers with the status 99.", b"HTTP/1.1 099 Low\r\n\r\n", _CLOSE)
_add("status_999", "Answers with the status 999.", b"HTTP/1.1 999 High\r\n\r\n", _CLOSE)
_add("http_9", "Answers with HTTP/9.9.", b"HTTP/9.9 200 OK\r\n\r\n", _CLOSE)
_add(
    "nul_in_field",
    "Answers with a field that holds a NUL.",
    *(HEAD, b"X-Nul: a\0b\r\nContent-Length: 0\r\n\r\n", _CLOSE),
)
_add(
    "no_colon",
    "Answers with a line in the head that is no field.",
    *(HEAD, b"no field at all\r\nContent-Length: 0\r\n\r\n"),
    answers="fail",
)
_add(
    "foreign_bytes",
    "Answers with bytes that are no UTF-8 in reason, field and body.",
    *(
        b"HTTP/1.1 503 caf\xe9 \xff\r\nX-\xe9: \xf0\x9f\x98\r\n",
        b"Content-Length: 4\r\n\r\n\xff\xfe\xe9\0",
    ),
    answers="fail",
)
_add(
    "interim_answers",
    "Sends three interim answers (103) before the real one.",
    *(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3, GOOD),
    answers="good",
)


@_fault("Sends interim answers (103) without an end.")
def _endless_interim(asked: Asked) -> Script:
    while True:
        yield b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        yield _DRIP_S


_add(
    "switching",
    "Answers 101 to a request that asked for no other protocol, and waits.",
    *(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", _HANG),
)

# ---- framing and bodies --------------------------------------------------------------------

_add(
    "partial_body",
    "Closes the connection within the body of the answer.",
    *(HEAD, b"Content-Length: 1000\r\n\r\ntorn", _CLOSE),
    answers="fail",
)


@_fault("Sends a body without an end, 64 MB a second.", answers="fail")
def _endless(asked: Asked) -> Script:
    yield asked.head + b"Transfer-Encoding: chunked\r\n\r\n"
    while True:
        yield _ENDLESS
        yield _BROOK_S


@_fault("Sends a body without an end, 20 bytes a second.", answers="fail")
def _slow_body(asked: Asked) -> Script:
    yield asked.head + b"Transfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"1\r\nx\r\n"
        yield _DRIP_S


_add(
    "no_length",
    "Sends a body that ends with the connection.",
    *(HEAD, b"\r\nuntil the end", _CLOSE),
    answers="fail",
)
_add(
    "two_lengths",
    "Answers with two Content-Length fields that differ.",
    *(HEAD, b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
    answers="fail",
)
_add(
    "huge_length",
    "Answers with a Content-Length beyond 64 bits.",
    *(HEAD, b"Content-Length: 99999999999999999999999\r\n\r\nabc"),
    answers="fail",
)
_add(
    "bad_chunk",
    "Answers with a chunk whose size is no number.",
    *(HEAD, b"Transfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n"),
    answers="fail",
)
_add(
    "excess_body",
    "Sends more than its Content-Length says.",
    *(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more",),
    answers="good",
)
_add(
    "excess_chunk",
    "Sends more after the last chunk, in the same packet.",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 503 Busy\r\n\r\n",
    answers="good",
)
_add(
    "body_on_204",
    "Sends a body after a 204, which has none.",
    *(b"HTTP/1.1 204 No Content\r\n\r\n{}",),
    answers="good",
)

# ---- connections that are kept -------------------------------------------------------------

_add("second_answer", "Sends the answer twice, in one packet.", GOOD, GOOD, answers="good")
_add(
    "unasked_answer",
    "Answers, and a moment later again, though nothing was asked.",
    *(GOOD, LATER_S, GOOD),
    answers="good",
)
_add(
    "unasked_408",
    "Answers, and a moment later says 408 (Request Timeout) on the idle connection.",
    *(GOOD, LATER_S, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"),
    answers="good",
)
_add(
    "stray_crlf",
    "Answers, and a moment later sends a line end.",
    GOOD,
    LATER_S,
    b"\r\n",
    answers="good",
)
_add(
    "late_continue",
    "Answers, and a moment later says 100 (Continue).",
    *(GOOD, LATER_S, b"HTTP/1.1 100 Continue\r\n\r\n"),
    answers="good",
)
_add("idle_close", "Answers, and a moment later closes.", GOOD, LATER_S, _CLOSE, answers="good")
_add("idle_reset", "Answers, and a moment later resets.", GOOD, LATER_S, _RESET, answers="good")


@_fault("Answers the first request of a connection, and never another one on it.", answers="good")
def _dead_after_first(asked: Asked) -> Script:
    yield asked.good if asked.nth == 1 else _HANG


@_fault("Answers the first request of a connection, and closes at the second.", answers="good")
def _close_at_second(asked: Asked) -> Script:
    yield asked.good if asked.nth == 1 else _CLOSE


# ---- HTTP/2 (RFC 9113) ---------------------------------------------------------------------


def _add_h2(name: str, about: str, make: Callable[[Asked], bytes], *then: float | Step) -> None:
    def script(asked: Asked) -> Script:
        yield make(asked)
        yield from then

    FAULTS[f"h2_{name}"] = Fault(about, script, "http2")


def _h2_head(asked: Asked, block: bytes, *, ends: bool = True) -> bytes:
    flags = http2.END_HEADERS | (http2.END_STREAM if ends else 0)
    return http2.frame(http2.HEADERS, flags, asked.stream, block)


_add_h2(
    "bad_status",
    "Answers with a status of bytes that are no number.",
    lambda a: http2.answer(200, a.stream).replace(b"200", b"\xff\xfe!"),
)
_add_h2(
    "bad_value",
    "Answers with a field value that holds a control character.",
    lambda a: http2.answer(a.status, a.stream, http2.field(b"x-a", b"caf\xe9\x01")),
)
_add_h2(
    "bad_name",
    "Answers with a field name in upper case.",
    lambda a: http2.answer(a.status, a.stream, http2.field(b"X-\xe9", b"1")),
)
_add_h2(
    "bad_interim",
    "Sends an interim answer with a field that is refused, then ends the stream with an error.",
    lambda a: (
        _h2_head(a, http2.field(b":status", b"103") + http2.field(b"x-a", b"\xe9\1"), ends=False)
        + http2.frame(http2.RST_STREAM, 0, a.stream, struct.pack("!I", 2))
    ),
)
_add_h2(
    "bad_hpack",
    "Answers with a head that cannot be decompressed.",
    lambda a: _h2_head(a, b"\xff\xff\xff\xff\xff\xff"),
)
_add_h2(
    "reset_stream",
    "Ends the stream with an error (INTERNAL_ERROR).",
    lambda a: http2.frame(http2.RST_STREAM, 0, a.stream, struct.pack("!I", 2)),
)
_add_h2(
    "goaway",
    "Says GOAWAY and closes, without an answer.",
    lambda a: http2.frame(http2.GOAWAY, 0, 0, struct.pack("!II", 0x7FFFFFFF, 2)),
    LATER_S,
    _CLOSE,
)
_add_h2("close", "Closes the HTTP/2 connection without an answer.", lambda a: b"", _CLOSE)
_add_h2("http1", "Answers an HTTP/2 request in HTTP/1.1.", lambda a: a.good, _CLOSE)
_add_h2(
    "big_frame", "Sends a frame of 16 MiB less one.", lambda a: b"\xff\xff\xff\0\0\0\0\0\1x", _HANG
)
_add_h2(
    "push",
    "Promises what nobody asked for.",
    lambda a: http2.frame(
        http2.PUSH_PROMISE, http2.END_HEADERS, a.stream, struct.pack("!I", 2) + b"\x88"
    ),
    _HANG,
)
_add_h2(
    "foreign_stream",
    "Answers on a stream that was never opened.",
    lambda a: http2.answer(200, a.stream + 100),
    _HANG,
)


@_fault("Answers the first HTTP/2 request of a connection, and is silent from then on.", "http2")
def _h2_dead_after_first(asked: Asked) -> Script:
    yield http2.answer(200, asked.stream) if asked.nth == 1 else _HANG


# ---- proxies -------------------------------------------------------------------------------

_TUNNEL: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"

_add(
    "proxy_refuse",
    "As a proxy, answers with the failing status itself.",
    *(HEAD, b"Content-Length: 0\r\n\r\n"),
    kind="proxy",
    answers="fail",
)
_add(
    "proxy_garbage",
    "As a proxy, answers with bytes that are no HTTP.",
    b"no\r\n\r\n",
    _CLOSE,
    kind="proxy",
)
_add("proxy_close", "As a proxy, closes without an answer.", _CLOSE, kind="proxy")
_add("proxy_hang", "As a proxy, never answers.", _HANG, kind="proxy")
_add("tunnel_close", "Opens a tunnel and closes it.", _TUNNEL, _READ, _CLOSE, kind="proxy")
_add("tunnel_hang", "Opens a tunnel in which nothing comes.", _TUNNEL, _HANG, kind="proxy")
_add(
    "tunnel_garbage",
    "Opens a tunnel to something that speaks no TLS.",
    *(_TUNNEL, _READ, b"220 ready\r\n", _CLOSE),
    kind="proxy",
)

# ---- openings: TLS, SOCKS ------------------------------------------------------------------

_add("open_close", "Closes each connection as it begins.", _CLOSE, kind="opening")
_add(
    "tls_garbage",
    "Answers a TLS handshake in plain text.",
    b"220 ready\r\n",
    _CLOSE,
    kind="opening",
)
_add(
    "tls_alert",
    "Refuses a TLS handshake with an alert.",
    *(b"\x15\x03\x03\x00\x02\x02\x28", _CLOSE),
    kind="opening",
)
_add("tls_hang", "Never answers a TLS handshake.", _HANG, kind="opening")
_add(
    "socks_refuse",
    "As a SOCKS proxy, refuses.",
    b"\5\0",
    _READ,
    b"\5\5\0\1" + b"\0" * 6,
    _CLOSE,
    kind="opening",
)
_add(
    "socks_auth",
    "As a SOCKS proxy, wants another kind of login.",
    b"\5\xff",
    _CLOSE,
    kind="opening",
)
_add(
    "socks_garbage",
    "As a SOCKS proxy, speaks HTTP.",
    b"HTTP/1.1 400 No\r\n\r\n",
    _CLOSE,
    kind="opening",
)
