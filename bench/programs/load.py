"""A load generator: requests at times drawn beforehand, or as fast as they are answered.

    python -m bench.programs.load --port 8000 --requests 5000 --rate 1500
    python -m bench.programs.load --port 8000 --requests 5000 --rate 0

With a rate it is an open loop: gaps are exponential (a Poisson process, the same one each time), and
a latency counts from the moment at which a request was due, so that a server that stands still is
charged for all who would have come meanwhile (Tene, "How NOT to Measure Latency"). Prints one line
of JSON, times in microseconds.
"""

from __future__ import annotations

import argparse
import json
import random
import select
import socket
import sys
import time
from collections import deque

from bench.measure import percentile
from fluxhook.admin.background import give_way

HEAD = "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: fluxhook-bench\r\n"
CONNECTIONS = 32
SHARES = (0.5, 0.9, 0.95, 0.99, 0.999)
STALL_S = 20.0


def due_times(requests: int, rate: float) -> list[float]:
    """Return the seconds from the start at which each request is due; all 0 without a rate."""
    if not rate:
        return [0.0] * requests
    gaps, now, times = random.Random(1), 0.0, []
    for _ in range(requests):
        now += gaps.expovariate(rate)
        times.append(now)
    return times


def get() -> bytes:
    return (HEAD.format(method="GET", path="/orders/1") + "\r\n").encode()


def post(path: str, body: str, token: str) -> bytes:
    head = HEAD.format(method="POST", path=path) + f"Authorization: Bearer {token}\r\n"
    lines = f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n\r\n"
    return (head + lines + body).encode()


class Generator:
    def __init__(self, port: int, request: bytes) -> None:
        self._request = request
        self._idle = deque(
            socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)
        )
        for connection in self._idle:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
        self._answers: dict[socket.socket, bytes] = {}

    def run(self, due: list[float], open_loop: bool) -> list[float]:
        """Return the seconds that each request took, in the order of the answers."""
        latencies: list[float] = []
        begun_at: dict[socket.socket, float] = {}
        waiting = deque(due)
        start, clock = time.perf_counter(), time.perf_counter
        while waiting or begun_at:
            now = clock() - start
            while waiting and self._idle and waiting[0] <= now:
                connection = self._idle.popleft()
                wanted = waiting.popleft()
                begun_at[connection] = wanted if open_loop else clock() - start
                connection.sendall(self._request)
            timeout_s = STALL_S
            if waiting and self._idle:
                timeout_s = max(0.0, waiting[0] - (clock() - start))
            # select and not epoll: its timeout is as fine as the clock
            ready, _, _ = select.select(list(begun_at), [], [], timeout_s)
            now = clock() - start
            for connection in ready:
                if self._answered(connection):
                    latencies.append(now - begun_at.pop(connection))
                    self._idle.append(connection)
            if not ready and timeout_s == STALL_S:
                sys.exit("bench: the application does not answer any more")
        return latencies

    def _answered(self, connection: socket.socket) -> bool:
        received = connection.recv(65_536)
        answer = self._answers.pop(connection, b"") + received
        if not received or not b"HTTP/1.1 2".startswith(answer[:10]):
            sys.exit(f"bench: the application answered {answer[:100]!r}")
        if answer.endswith(b"}"):
            return True
        self._answers[connection] = answer
        return False

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.programs.load", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: saturated")
    parser.add_argument("--post", metavar="PATH", help="POST there instead")
    parser.add_argument("--body", default="")
    parser.add_argument("--token", default="")
    parser.add_argument("--background", action="store_true", help="give way to other processes")
    options = parser.parse_args()
    if options.background:
        give_way()
    request = post(options.post, options.body, options.token) if options.post else get()
    generator = Generator(options.port, request)
    generator.run([0.0] * 200, open_loop=False)  # connections, caches
    begun = time.perf_counter()
    latencies = generator.run(due_times(options.requests, options.rate), options.rate > 0)
    seconds = time.perf_counter() - begun
    generator.close()
    ordered = sorted(latencies)
    result = {f"p{share * 100:g}": percentile(ordered, share) * 1e6 for share in SHARES}
    print(json.dumps({"rate": len(ordered) / seconds, "requests": 200 + len(ordered)} | result))


if __name__ == "__main__":
    main()
