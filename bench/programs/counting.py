"""A receiver that looks into the bodies and counts the events in them, and the ids that differ.

    python -m bench.programs.counting PORT ADDRESS... [--slow] [--certificate PEM]

`--slow`: an answer takes 50 to 150 ms. Each line on its standard input is answered with the counts, as
a line of JSON.
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
#: an event's own; the benchmark's data has no field of this name
_ID = re.compile(rb'"(?:event_)?id":"([^"]+)"')


class Counts:
    def __init__(self) -> None:
        self.events = 0
        self.ids: set[bytes] = set()
        self.random = random.Random(1)

    def line(self) -> str:
        return json.dumps({"events": self.events, "distinct": len(self.ids)})


class Connection(asyncio.Protocol):
    """HTTP/1.1 without pipelining, as far as a POST with a length needs it."""

    def __init__(self, counts: Counts, loop: asyncio.AbstractEventLoop, slow: bool) -> None:
        self._counts, self._loop, self._slow = counts, loop, slow
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
        found = _ID.findall(self._buffer, end)
        self._counts.events += len(found)
        self._counts.ids.update(found)
        self._buffer = b""
        if not self._slow:
            self._answer()
            return
        delay_s = self._counts.random.uniform(MIN_DELAY_S, MAX_DELAY_S)
        self._loop.call_later(delay_s, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER)


async def serve(port: int, addresses: list[str], slow: bool, certificate: str | None) -> None:
    loop = asyncio.get_running_loop()
    counts = Counts()
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, Path(certificate).with_suffix(".key"))
    await loop.create_server(
        lambda: Connection(counts, loop, slow), addresses, port, ssl=context, backlog=4096
    )
    print(counts.line(), flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(counts.line(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.programs.counting", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--certificate")
    options = parser.parse_args()
    with suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(serve(options.port, options.addresses, options.slow, options.certificate))


if __name__ == "__main__":
    main()
