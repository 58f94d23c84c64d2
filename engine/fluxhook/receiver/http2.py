"""As much of HTTP/2 (RFC 9113) as it takes to be a receiver that fails at it: frames, and requests
whose fields are not read, for they are compressed. No I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = [
    "END_HEADERS",
    "END_STREAM",
    "GOAWAY",
    "HEADERS",
    "PREFACE",
    "PUSH_PROMISE",
    "RST_STREAM",
    "Request",
    "Requests",
    "answer",
    "field",
    "frame",
]

#: section 3.4: how a client begins
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: section 6
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE = (
    0,
    1,
    3,
    4,
    5,
    6,
    7,
    8,
)
END_STREAM, END_HEADERS, ACK, PADDED = 1, 4, 1, 8


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame (section 4.1)."""
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def field(name: bytes, value: bytes) -> bytes:
    """Return a literal field, not indexed, not compressed (RFC 7541 section 6.2.2)."""
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


def answer(status: int, stream: int, fields: bytes = b"") -> bytes:
    """Return an answer without a body."""
    block = field(b":status", b"%d" % status) + fields
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, block)


class Request(NamedTuple):
    """One that has arrived in full."""

    stream: int
    body: bytes


class Requests:
    """Bytes in; requests, and bytes that have to be sent, out."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._bodies: dict[int, bytearray] = {}

    @property
    def size(self) -> int:
        """The number of bytes that are kept, of requests that are not complete."""
        return len(self._buffer) + sum(map(len, self._bodies.values()))

    def feed(self, data: bytes) -> Iterator[Request | bytes]:
        """Yield what has become complete. The first bytes are the preface."""
        buffer = self._buffer
        buffer += data
        if buffer.startswith(PREFACE):
            del buffer[: len(PREFACE)]
            yield frame(SETTINGS, 0, 0)
        while len(buffer) >= 9:
            size = int.from_bytes(buffer[:3], "big")
            if len(buffer) < 9 + size:
                return
            kind, flags, stream = buffer[3], buffer[4], int.from_bytes(buffer[5:9], "big")
            payload = bytes(buffer[9 : 9 + size])
            del buffer[: 9 + size]
            yield from self._read(kind, flags, stream, payload)

    def _read(
        self, kind: int, flags: int, stream: int, payload: bytes
    ) -> Iterator[Request | bytes]:
        if kind in (SETTINGS, PING) and not flags & ACK:
            yield frame(kind, ACK, 0, payload if kind == PING else b"")
        elif kind == HEADERS:
            self._bodies[stream] = bytearray()
        elif kind == DATA:
            self._bodies.setdefault(stream, bytearray()).extend(payload)
            if payload:  # as much may be sent again, on the connection and on the stream
                more = struct.pack("!I", len(payload))
                yield frame(WINDOW_UPDATE, 0, 0, more) + frame(WINDOW_UPDATE, 0, stream, more)
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            yield Request(stream, bytes(self._bodies.pop(stream, b"")))
