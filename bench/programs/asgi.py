"""A host program: an ASGI application on uvicorn that answers a request with a little JSON.

    python -m bench.programs.asgi [DATA_DIR]

With a data directory it emits an event for each request, as a gateway would. It prints its port as a
line of JSON, and ends on SIGTERM.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import uvicorn

from bench.programs.host import event_type
from fluxhook import Publisher, connect

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

HEADERS = [(b"content-type", b"application/json")]


class Application:
    def __init__(self, publisher: Publisher | None) -> None:
        self._publisher = publisher
        self._count = 0

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self._count += 1
        order = {"order": f"o_{self._count:08d}", "path": scope["path"], "status_code": 200}
        body = json.dumps(order).encode()
        await send({"type": "http.response.start", "status": 200, "headers": self._headers(body)})
        if self._publisher is not None:  # between the two, so that the client waits for it
            self._publisher.emit(event_type(0), order)
        await send({"type": "http.response.body", "body": body})

    def _headers(self, body: bytes) -> list[tuple[bytes, bytes]]:
        return [*HEADERS, (b"content-length", b"%d" % len(body))]


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
