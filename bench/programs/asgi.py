"""A host program: an ASGI application on uvicorn that answers a request with a little JSON.

    python -m bench.programs.asgi [DATA_DIR]

With a data directory it emits an event for each request, as a gateway would. /report answers with the
time that requests took in here, in microseconds, since it was last asked. It prints its port as a line
of JSON, and ends on SIGTERM.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from array import array
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import uvicorn

from bench.measure import percentile
from bench.programs.host import event_type
from fluxhook import Publisher, connect

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

SHARES = (0.5, 0.99, 0.999)
HEADERS = [(b"content-type", b"application/json")]


class Application:
    def __init__(self, publisher: Publisher | None) -> None:
        self._publisher = publisher
        self._count = 0
        self._took_ns = array("q")

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        begun_ns = time.perf_counter_ns()
        if scope["path"] == "/report":
            await self._answer(send, json.dumps(self._report()).encode())
            return
        self._count += 1
        order = {"order": f"o_{self._count:08d}", "path": scope["path"], "status_code": 200}
        if self._publisher is not None:  # before the answer, so that the client waits for it
            self._publisher.emit(event_type(0), order)
        await self._answer(send, json.dumps(order).encode())
        self._took_ns.append(time.perf_counter_ns() - begun_ns)

    async def _answer(self, send: Send, body: bytes) -> None:
        headers = [*HEADERS, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _report(self) -> dict[str, float]:
        ordered = sorted(self._took_ns)
        self._took_ns = array("q")
        if not ordered:
            return {}
        return {f"inside.p{share * 100:g}": percentile(ordered, share) / 1000 for share in SHARES}


def main() -> None:
    publisher = connect(sys.argv[1]) if len(sys.argv) > 1 else None
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    options = uvicorn.Config(
        Application(publisher), log_level="error", access_log=False, lifespan="off"
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(options).run(sockets=[listener])
    if publisher is not None:
        publisher.close()


if __name__ == "__main__":
    main()
