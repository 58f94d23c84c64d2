"""HTTP/1.1 requests out of bytes. No I/O (compare h11)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

__all__ = ["MAX_HEAD_BYTES", "BadRequest", "Request", "Requests"]

#: Arbitrary: several times what servers take (nginx: 4 x 8 KiB); senders of webhooks need 1 KiB.
MAX_HEAD_BYTES: Final = 65_536
#: a chunk's size and its extensions
MAX_CHUNK_LINE_BYTES: Final = 1_024


class Request(NamedTuple):
    target: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


class BadRequest(Exception):
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


class Requests:
    """Bytes in, requests out."""

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

    def next(self) -> Request | None:
        """Return the next request, once it is complete. Raises BadRequest."""
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
        return Request(head.target, head.headers, body, head.keep_alive)

    def _take(self, length: int) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < length:
            return None
        taken = bytes(buffer[:length])
        del buffer[:length]
        return taken

    def _take_until(self, end: bytes, limit: int, status: int = 400) -> bytes | None:
        """Take what stands before `end`, and that too; return the first."""
        at = self._buffer.find(end, self._searched)
        if max(at, len(self._buffer) if at < 0 else 0) > limit:
            raise BadRequest(f"over {limit} bytes before the end of the line or head", status)
        if at < 0:
            self._searched = max(0, len(self._buffer) - len(end) + 1)
            return None
        self._searched = 0
        taken = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return taken

    def _take_chunked(self) -> bytes | None:
        """Read chunks (RFC 9112 section 7.1); what is complete moves from the buffer to the chunks."""
        while True:
            size = self._chunk_size
            if size is None:
                line = self._take_until(b"\r\n", MAX_CHUNK_LINE_BYTES)
                if line is None:
                    return None
                if not (match := _CHUNK_LINE.fullmatch(line)):
                    raise BadRequest("a chunk's size is malformed")
                self._chunk_size = int(match[1], 16)
                if len(self._chunks) + self._chunk_size > self._max_body:
                    raise _too_large(self._max_body)
            elif size > 0:
                chunk = self._take(size + 2)
                if chunk is None:
                    return None
                if not chunk.endswith(b"\r\n"):
                    raise BadRequest("a chunk is longer than its size")
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
        """Parse a `head`, which ends before its empty line. What could be read in two ways is
        refused, so that no body is ever taken for a request (RFC 9112 section 11.2)."""
        if head.replace(b"\r\n", b"").translate(None, _FIELD_BYTES):
            raise BadRequest("the head holds a control character")
        first, *lines = head.decode("latin-1").split("\r\n")
        request = _REQUEST_LINE.fullmatch(first)
        if request is None:
            raise BadRequest("the request line is malformed")
        method, target, minor = request.groups()
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not _FIELD_NAME.fullmatch(name):
                raise BadRequest("a header field is malformed")
            name, value = name.lower(), value.strip(" \t")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if method not in methods:
            raise BadRequest("only POST is served", 405, {"Allow": "POST"})
        if minor == "1" and ("host" not in headers or "," in headers["host"]):
            raise BadRequest("there is not one Host field")
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
    """Return the length by RFC 9112 section 6.3: None for a chunked body."""
    text = headers.get("content-length")
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if text is not None or minor == "0":
            raise BadRequest("Transfer-Encoding stands beside Content-Length, or in HTTP/1.0")
        if coding.lower() != "chunked":
            raise BadRequest("the only Transfer-Encoding served is chunked", 501)
        return None
    if text is None:
        return 0
    if not _CONTENT_LENGTH.fullmatch(text):
        raise BadRequest("Content-Length is not one number")
    if int(text) > max_body_bytes:
        raise _too_large(max_body_bytes)
    return int(text)


def _too_large(max_body_bytes: int) -> BadRequest:
    return BadRequest(f"the body is over {max_body_bytes} bytes", 413)
