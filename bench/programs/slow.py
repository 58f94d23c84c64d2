"""A receiver that takes 50 to 150 ms for an answer, and counts the ids that it has seen.

    python -m bench.programs.slow PORT ADDRESS... [--certificate PEM]

Each line on its standard input is answered with its counts as a line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import ssl
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

MIN_DELAY_S, MAX_DELAY_S = 0.05, 0.15
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
#: the first id in the body is that of the event
_ID = re.compile(rb'"(?:event_)?id":"([^"]+)"')


class Counts:
    def __init__(self) -> None:
        self.requests = 0
        self.ids: set[bytes] = set()
        self.random = random.Random(1)

    def line(self) -> str:
        return json.dumps({"requests": self.requests, "distinct": len(self.ids)})


class Connection(asyncio.Protocol):
    """HTTP/1.1 without pipelining, as far as a POST with a length needs it."""

    def __init__(self, counts: Counts, loop: asyncio.AbstractEventLoop) -> None:
        self._counts, self._loop = counts, loop
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._buffer, 0, end)
        if length is None or len(self._buffer) < end + 4 + int(length[1]):
            return
        self._counts.requests += 1
        if found := _ID.search(self._buffer, end):
            self._counts.ids.add(found[1])
        self._buffer = b""
        delay_s = self._counts.random.uniform(MIN_DELAY_S, MAX_DELAY_S)
        self._loop.call_later(delay_s, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER)


async def serve(port: int, addresses: list[str], certificate: str | None) -> None:
    loop = asyncio.get_running_loop()
    counts = Counts()
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, Path(certificate).with_suffix(".key"))
    await loop.create_server(
        lambda: Connection(counts, loop), addresses, port, ssl=context, backlog=4096
    )
    print(counts.line(), flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(counts.line(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.programs.slow", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--certificate")
    options = parser.parse_args()
    with suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(serve(options.port, options.addresses, options.certificate))


if __name__ == "__main__":
    main()
