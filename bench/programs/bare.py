"""The reference: the shortest pycurl loop that sends the same requests, and nothing else.

    python -m bench.programs.bare --url http://127.0.0.1:8080/ --requests 100000

Same libcurl options, headers and HMAC as the engine's worker, but no ring, no queue, no settling, no
breaker, no counters: what is left is what HTTP costs through pycurl. It is one loop on purpose, with
every name a local one. The engine's worker is measured against it, side by side in one run.

Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import select
import socket
import sys
import time

import pycurl

KEY = b"k" * 32
#: RFC 2104: the key, padded to the block, under the inner and the outer mask
INNER = bytes(byte ^ 0x36 for byte in KEY.ljust(64, b"\0"))
OUTER = bytes(byte ^ 0x5C for byte in KEY.ljust(64, b"\0"))


def body_template(payload: int) -> bytes:
    """Return a `%` template of an envelope that is `payload` bytes long once a number is filled in."""
    template = (
        b'{"id":"evt_%%020x","type":"bench.e0000","timestamp":"2024-05-14T09:32:11Z",'
        b'"gateway_node":"bench","data":{"text":"%b"}}'
    )
    return template % (b"x" * max(0, payload - len(template % b"" % 0)))


class BareLoop:
    """One multi handle, `in_flight` easy handles, one epoll."""

    def __init__(
        self, urls: list[str], in_flight: int, ca: str | None = None, http2: bool = False
    ) -> None:
        self.multi = pycurl.CurlMulti()
        self.multi.setopt(pycurl.M_MAXCONNECTS, 4 * in_flight + 64)
        self.multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self.epoll = select.epoll()
        self.registered: dict[int, int] = {}
        self.busy: set[int] = set()
        self.handles = [self._handle(urls[n % len(urls)], ca, http2) for n in range(in_flight)]

    def _handle(self, url: str, ca: str | None, http2: bool) -> tuple[pycurl.Curl, list[bytes]]:
        curl: pycurl.Curl = pycurl.Curl()
        answer: list[bytes] = []
        if ca:
            curl.setopt(pycurl.CAINFO, ca)
        for option, value in (
            (pycurl.URL, url),
            (pycurl.POST, 1),
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROXY, ""),
            (pycurl.NOPROXY, ""),
            (pycurl.USERAGENT, "fluxhook-bench"),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (
                pycurl.HTTP_VERSION,
                pycurl.CURL_HTTP_VERSION_2TLS if http2 else pycurl.CURL_HTTP_VERSION_1_1,
            ),
            (pycurl.PIPEWAIT, int(http2)),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.TIMEOUT_MS, 3000),
            (pycurl.CONNECTTIMEOUT_MS, 3000),
            (pycurl.MAXFILESIZE, 65_536),
            (pycurl.OPENSOCKETFUNCTION, self._open_socket),
            (pycurl.WRITEFUNCTION, answer.append),
        ):
            curl.setopt(option, value)
        return curl, answer

    def _open_socket(self, purpose: int, address: tuple[int, int, int, object]) -> int:
        family, kind, protocol = address[:3]
        fd = socket.socket(family, kind, protocol).detach()
        self.registered.pop(fd, None)
        return fd

    def _on_socket(self, what: int, fd: int, multi: object, data: object) -> None:
        # A connection that is kept alive stays registered for reading: no epoll_ctl a request.
        if what == pycurl.POLL_REMOVE:
            self.busy.discard(fd)
            if self.registered.get(fd) != pycurl.POLL_IN:
                self._watch(what, fd)
        else:
            self.busy.add(fd)
            if self.registered.get(fd) != what:
                self._watch(what, fd)

    def _watch(self, what: int, fd: int) -> None:
        if self.registered.pop(fd, 0):
            self.epoll.unregister(fd)
        if what != pycurl.POLL_REMOVE:
            reads = select.EPOLLIN if what & pycurl.POLL_IN else 0
            writes = select.EPOLLOUT if what & pycurl.POLL_OUT else 0
            self.epoll.register(fd, reads | writes)
            self.registered[fd] = what

    def run(self, requests: int, payload: int) -> int:
        """Send that many requests; return how many were not answered with a 2xx."""
        template = body_template(payload)
        transfers = {
            curl: (curl, curl.setopt, curl.getinfo, answer) for curl, answer in self.handles
        }
        idle = list(transfers.values())
        in_flight = len(idle)
        multi, busy, sha256, now = self.multi, self.busy, hashlib.sha256, time.time
        add, remove, act = multi.add_handle, multi.remove_handle, multi.socket_action
        poll, timer, read = self.epoll.poll, multi.timeout, multi.info_read
        headers_option, body_option, status_info, timeout_event = (
            pycurl.HTTPHEADER,
            pycurl.POSTFIELDS,
            pycurl.RESPONSE_CODE,
            pycurl.SOCKET_TIMEOUT,
        )
        content_type, expect = b"Content-Type: application/json", b"Expect:"
        sent = done = failed = 0
        while done < requests:
            running = in_flight
            if idle and sent < requests:
                second = b"%d" % int(now())
                inner = INNER + second + b"."
                signature = b"X-FluxGate-Signature: t=" + second + b",v1="
                while idle and sent < requests:
                    transfer = idle.pop()
                    body = template % sent
                    sent += 1
                    mac = sha256(OUTER + sha256(inner + body).digest()).hexdigest().encode()
                    transfer[1](headers_option, [content_type, expect, signature + mac])
                    transfer[1](body_option, body)
                    add(transfer[0])
                running = act(timeout_event, 0)[1]
            # Fewer running than in flight: an answer came inside socket_action and waits already.
            wait_ms = timer() if running >= in_flight - len(idle) else 0
            events = poll(1.0 if wait_ms < 0 else wait_ms / 1000, 1024)
            for fd, event in events:
                if fd in busy:
                    act(fd, 1 if event == 1 else event & 1 | event >> 1 & 2 | (event & 24 and 4))
                else:
                    self._watch(pycurl.POLL_REMOVE, fd)  # the peer closed an idle connection
            if not events and wait_ms:
                act(timeout_event, 0)
            left = 1
            while left:
                left, good, bad = read()
                for curl in good:
                    transfer = transfers[curl]
                    failed += not 200 <= transfer[2](status_info) <= 299
                    remove(curl)
                    if transfer[3]:
                        transfer[3].clear()
                    idle.append(transfer)
                for curl, _, _ in bad:
                    failed += 1
                    remove(curl)
                    idle.append(transfers[curl])
                done += len(good) + len(bad)
        return failed

    def close(self) -> None:
        self.multi.close()
        for curl, _ in self.handles:
            curl.close()
        self.epoll.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.programs.bare", description=__doc__)
    parser.add_argument("--url", required=True, action="append", help="handles take them in turn")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--payload", type=int, default=600)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--ca", help="PEM file of the authority that signed the receiver")
    parser.add_argument("--http2", action="store_true")
    options = parser.parse_args()
    loop = BareLoop(options.url, options.in_flight, options.ca, options.http2)
    warm_up = max(1000, 2 * options.in_flight)  # connections, caches
    failed = loop.run(warm_up, options.payload)
    begun_ns, cpu_ns = time.perf_counter_ns(), time.process_time_ns()
    failed += loop.run(options.requests, options.payload)
    cpu_ns = time.process_time_ns() - cpu_ns
    seconds = (time.perf_counter_ns() - begun_ns) / 1e9
    loop.close()
    json.dump(
        {
            "requests": options.requests,
            "warm_up": warm_up,
            "failed": failed,
            "seconds": seconds,
            "cpu_us": cpu_ns / 1000 / options.requests,
        },
        sys.stdout,
    )
    print()


if __name__ == "__main__":
    main()
