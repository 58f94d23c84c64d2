"""Other ways to send the same requests, each as its documentation recommends for many of them.

    python -m bench.programs.clients aiohttp --url http://127.0.0.1:8080/ --requests 10000

Same bodies, same headers and an HMAC for each request as bench.programs.bare; `--in-flight` tasks or
threads, each of which sends its next request when the last one is answered; tasks run on uvloop.
Prints one line of JSON; ends with status 3 if the package is not installed.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import http.client
import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from urllib.parse import urlsplit

from bench.programs.bare import KEY, body_template

WARM_UP = 64
NOT_INSTALLED = 3

#: one request: its body and headers in, whether it was answered with a 2xx out
Post = Callable[[bytes, dict[str, str]], Awaitable[bool]]


def requests(numbers: Iterable[int], payload: int) -> Iterator[tuple[bytes, dict[str, str]]]:
    """Yield bodies and their headers, made as they are asked for."""
    template = body_template(payload)
    for number in numbers:
        body = template % number
        second = b"%d" % int(time.time())
        mac = hmac.digest(KEY, second + b"." + body, "sha256").hex()
        yield (
            body,
            {
                "Content-Type": "application/json",
                "User-Agent": "fluxhook-bench",
                "X-FluxGate-Signature": f"t={second.decode()},v1={mac}",
            },
        )


class Tally:
    """Runs a warm-up and the measured part, and counts what failed in either."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.failed = 0
        self._begun_ns = self._cpu_ns = 0

    def begin(self) -> None:
        self._begun_ns, self._cpu_ns = time.perf_counter_ns(), time.process_time_ns()

    def result(self) -> dict[str, float]:
        cpu_ns = time.process_time_ns() - self._cpu_ns
        return {
            "requests": self.options.requests,
            "warm_up": WARM_UP,
            "failed": self.failed,
            "seconds": (time.perf_counter_ns() - self._begun_ns) / 1e9,
            "cpu_us": cpu_ns / 1000 / self.options.requests,
        }

    async def send(self, post: Post) -> dict[str, float]:
        """Send all of it, by as many tasks as may be in flight."""

        async def task(source: Iterator[tuple[bytes, dict[str, str]]]) -> None:
            for body, headers in source:
                self.failed += not await post(body, headers)

        for count in (WARM_UP, self.options.requests):
            source = requests(range(count), self.options.payload)
            self.begin()
            await asyncio.gather(*(task(source) for _ in range(self.options.in_flight)))
        return self.result()


async def use_aiohttp(tally: Tally) -> dict[str, float]:
    import aiohttp

    url = tally.options.url
    connector = aiohttp.TCPConnector(limit=tally.options.in_flight)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def post(body: bytes, headers: dict[str, str]) -> bool:
            async with session.post(url, data=body, headers=headers) as answer:
                await answer.read()
                return answer.ok

        return await tally.send(post)


async def use_httpx(tally: Tally) -> dict[str, float]:
    import httpx

    url = tally.options.url
    limits = httpx.Limits(max_connections=tally.options.in_flight)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as client:

        async def post(body: bytes, headers: dict[str, str]) -> bool:
            return (await client.post(url, content=body, headers=headers)).is_success

        return await tally.send(post)


async def use_pyreqwest(tally: Tally) -> dict[str, float]:
    from pyreqwest.client import ClientBuilder

    url = tally.options.url
    builder = ClientBuilder().no_proxy().http1_only().max_connections(tally.options.in_flight)
    async with builder.build() as client:

        async def post(body: bytes, headers: dict[str, str]) -> bool:
            answer = await client.post(url).headers(headers).body_bytes(body).build().send()
            return bool(200 <= answer.status <= 299)

        return await tally.send(post)


def use_threads(tally: Tally) -> dict[str, float]:
    """Send with http.client, a connection for each thread."""
    parts = urlsplit(tally.options.url)
    host, path = parts.netloc, parts.path

    def run(source: Iterator[tuple[bytes, dict[str, str]]], lock: threading.Lock) -> None:
        connection = http.client.HTTPConnection(host)
        while True:
            with lock:
                request = next(source, None)
            if request is None:
                connection.close()
                return
            connection.request("POST", path, *request)
            answer = connection.getresponse()
            answer.read()
            if not 200 <= answer.status <= 299:
                with lock:
                    tally.failed += 1

    for count in (WARM_UP, tally.options.requests):
        lock = threading.Lock()
        source = requests(range(count), tally.options.payload)
        threads = [
            threading.Thread(target=run, args=(source, lock))
            for _ in range(tally.options.in_flight)
        ]
        tally.begin()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return tally.result()


#: under the module that each of them needs, beside uvloop
ASYNC: dict[str, Callable[[Tally], Awaitable[dict[str, float]]]] = {
    "aiohttp": use_aiohttp,
    "httpx": use_httpx,
    "pyreqwest": use_pyreqwest,
}


async def as_coroutine(result: Awaitable[dict[str, float]]) -> dict[str, float]:
    return await result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.programs.clients", description=__doc__)
    parser.add_argument("client", choices=[*ASYNC, "threads"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--payload", type=int, default=600)
    parser.add_argument("--in-flight", type=int, default=32)
    options = parser.parse_args()
    tally = Tally(options)
    if options.client == "threads":
        result = use_threads(tally)
    else:
        for package in (options.client, "uvloop"):
            try:
                importlib.import_module(package)
            except ImportError:
                print(json.dumps({"missing": package}))
                sys.exit(NOT_INSTALLED)
        import uvloop

        result = uvloop.run(as_coroutine(ASYNC[options.client](tally)))
    print(json.dumps(result), flush=True)
    os._exit(0)  # pyreqwest 0.15 has threads that abort an interpreter which ends in good order


if __name__ == "__main__":
    main()
