"""The Sender against real endpoints over loopback: those that work, and those that do not.

`receiver` is a process of its own, where each test has a path. `Wire` is an endpoint in the test's
own hands, byte by byte: it answers while the Sender is not looking, which keeps the order certain.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import os
import pty
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import pycurl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fluxhook.config.url import judge_url
from fluxhook.policy.outcome import TransportCause, curl_cause
from fluxhook.receiver import Behaviour, Receiver
from fluxhook.transport import sender as sender_module
from fluxhook.transport import sockets
from fluxhook.transport.messages import Attempt
from fluxhook.transport.sender import AUTHORITIES_TTL_S, Sender
from fluxhook.transport.target import MAX_ANSWER_BYTES, Target
from fluxhook.transport.tls import TlsMaterial
from fluxhook.transport.transfer import RESENT_US
from support.receiver import ReceiverProcess
from support.tls import Authority, Identity, encrypted, self_signed, server_context

#: a test that waits this long has failed
DEADLINE_S = 10.0
BODY = b'{"id":"evt_0123456789abcdef0123","type":"route.matched"}'
HEADERS = [b"Content-Type: application/json", b"Expect:"]


def allow(address: str) -> None:
    """A judge without objections."""


class Result(NamedTuple):
    """What is read of a transfer before it is released."""

    tag: Any
    code: int
    cause: TransportCause | None
    attempt: Attempt
    resent: bool
    denied: str
    new_connections: int
    read: int


class Driver:
    """A Sender and the loop around it."""

    def __init__(
        self, size: int = 64, judge: Callable[[str], str | None] = allow, **kwargs: Any
    ) -> None:
        self.sender = Sender(size, judge, **kwargs)

    def post(self, url: str | Target, **options: Any) -> Result:
        """Send one request and return its result."""
        self.send(url, **options)
        (result,) = self.finish(self.sender.in_flight - 1)
        return result

    def send(
        self,
        url: str | Target,
        *,
        headers: list[bytes] | None = None,
        body: bytes = BODY,
        tag: Any = 0,
        **options: Any,
    ) -> None:
        target = url if isinstance(url, Target) else make_target(url, **options)
        self.sender.send(target, HEADERS + (headers or []), body, tag, time.time_ns())
        self.sender.start()

    def finish(self, until: int = 0) -> list[Result]:
        """Step until no more than `until` requests are under way."""
        results: list[Result] = []
        end = time.monotonic() + DEADLINE_S
        while self.sender.in_flight > until:
            assert time.monotonic() < end, f"{self.sender.in_flight} requests are stuck"
            results += self.step(0.25)
        return results

    def step(self, timeout_s: float = 0.0) -> list[Result]:
        results = []
        for transfer, code, message in self.sender.step(timeout_s):
            cause = (
                curl_cause(code, connected=transfer.connected, message=message) if code else None
            )
            attempt = transfer.attempt(
                transfer.denied_cause if transfer.denied else cause or "", message, 0
            )
            new = transfer.getinfo(pycurl.NUM_CONNECTS)
            read = sum(map(len, transfer.answer))
            results.append(
                Result(
                    transfer.tag,
                    code,
                    cause,
                    attempt,
                    transfer.getinfo(RESENT_US) > 0,
                    transfer.denied,
                    new,
                    read,
                )
            )
            self.sender.release(transfer)
        return results

    def wait(self, ready: Callable[[], bool]) -> None:
        """Step until something has come about."""
        end = time.monotonic() + DEADLINE_S
        while not ready():
            assert time.monotonic() < end
            self.step(0.005)


def make_target(
    url: str, *, timeout_ms: int = 5000, connect_timeout_ms: int = 5000, proxy: str | None = None
) -> Target:
    return Target(url, timeout_ms=timeout_ms, connect_timeout_ms=connect_timeout_ms, proxy=proxy)


class Wire:
    """A listening socket, and the connections taken from it in turn."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.connections: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/hook"

    def accept(self, driver: Driver) -> socket.socket:
        driver.wait(lambda: readable(self.listener))
        connection, _ = self.listener.accept()
        self.connections.append(connection)
        return connection

    def read_request(self, driver: Driver, connection: socket.socket) -> bytes:
        """All of one request with a Content-Length; the driver goes on sending meanwhile."""
        data = b""
        while True:
            driver.wait(lambda: readable(connection))
            data += connection.recv(1 << 20)
            head, end, body = data.partition(b"\r\n\r\n")
            if end:
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                if len(body) == length:
                    return data

    def serve(self, driver: Driver, connection: socket.socket, answer: bytes = b"") -> Result:
        """Answers one request with 204 and waits for the result."""
        self.read_request(driver, connection)
        connection.sendall(answer or b"HTTP/1.1 204 No Content\r\n\r\n")
        (result,) = driver.finish(driver.sender.in_flight - 1)
        return result

    def close(self) -> None:
        for connection in (self.listener, *self.connections):
            connection.close()


@pytest.fixture(scope="module")
def receiver() -> Iterator[ReceiverProcess]:
    with ReceiverProcess() as process:
        yield process


@pytest.fixture
def path(request: pytest.FixtureRequest) -> str:
    """The test's own path at the receiver."""
    return "/" + "".join(c if c.isalnum() else "-" for c in request.node.name)


@pytest.fixture
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.sender.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


@pytest.fixture
def closed_port() -> int:
    """Nothing listens there."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        return int(s.getsockname()[1])


def readable(s: socket.socket) -> bool:
    return bool(select.select([s], [], [], 0)[0])


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# ---- what arrives --------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [b"", b"thanks", b"x" * 5000])
def test_success_with_and_without_a_body(
    driver: Driver, receiver: ReceiverProcess, path: str, answer: bytes
) -> None:
    """A 2xx is a result without a cause; the attempt keeps the answer's first 512 bytes."""
    receiver.behave(Behaviour(status=200 if answer else 204, body=answer), path)
    result = driver.post(receiver.url + path, tag="the tag")
    assert (result.tag, result.code, result.cause) == ("the tag", 0, None)
    assert result.attempt.status == (200 if answer else 204)
    assert result.attempt.answer == answer[:512]
    (got,) = receiver.requests(path)
    assert got.body == BODY


def test_an_answer_is_not_seen_by_the_next_request_on_its_slot(
    driver: Driver, receiver: ReceiverProcess, path: str, closed_port: int
) -> None:
    """A transfer starts clean: no bytes, status or reason of an earlier request."""
    receiver.behave(Behaviour(status=500, body=b"oops"), path)
    assert driver.post(receiver.url + path).attempt.answer == b"oops"
    result = driver.post(f"http://127.0.0.1:{closed_port}/")
    assert (result.attempt.status, result.attempt.answer) == (0, b"")
    receiver.behave(Behaviour(), path)
    result = driver.post(receiver.url + path)
    assert (result.attempt.status, result.attempt.answer, result.denied) == (204, b"", "")
    assert len(driver.sender.transfers) == 1


def test_the_request_is_sent_byte_by_byte_as_given(driver: Driver, wire: Wire) -> None:
    """The caller's header lines as they are, in their order; nothing added but what HTTP needs."""
    headers = [b"X-One: a  b;c=\xc3\xa9", b"x-TWO: t=1,v1=ff", b"X-One: again"]
    driver.send(wire.url, headers=headers)
    request = wire.read_request(driver, connection := wire.accept(driver))
    host = wire.url.split("/")[2]
    version = request.split(b"Fluxhook/")[1].split(b"\r\n")[0]
    assert request == b"\r\n".join(
        [
            b"POST /hook HTTP/1.1",
            b"Host: " + host.encode(),
            b"User-Agent: Fluxhook/" + version,
            b"Accept: */*",
            b"Content-Type: application/json",
            *headers,
            b"Content-Length: %d" % len(BODY),
            b"",
            BODY,
        ]
    )
    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    driver.finish()


@pytest.mark.parametrize(
    "body", [b"", b"\0", b"a\0b\r\n\r\n\0", bytes(range(256)) * 4096, b"x" * 3_000_000]
)
def test_body_bytes_are_exact(
    driver: Driver, receiver: ReceiverProcess, path: str, body: bytes
) -> None:
    """NUL, line ends, 1 MiB of all bytes, an empty body; and no 100-continue is asked for."""
    assert driver.post(receiver.url + path, body=body).attempt.status == 204
    (got,) = receiver.requests(path)
    assert got.body == body
    assert got.headers["content-length"] == str(len(body))
    assert "expect" not in got.headers
    assert "transfer-encoding" not in got.headers


def test_the_body_that_was_queued_is_the_body_that_is_sent(
    driver: Driver, receiver: ReceiverProcess, path: str
) -> None:
    """Each of many requests at once carries its own body."""
    bodies = [b'{"id":"evt_%d"}' % i for i in range(16)]
    for body in bodies:
        driver.send(receiver.url + path, body=body)
    del body
    assert all(r.attempt.status == 204 for r in driver.finish())
    assert sorted(r.body for r in receiver.requests(path)) == sorted(bodies)


def test_a_redirect_is_not_followed(driver: Driver, receiver: ReceiverProcess, path: str) -> None:
    """The 3xx is the result, and where it points to nothing arrives."""
    elsewhere = path + "-elsewhere"
    headers = {"Location": receiver.url + elsewhere}
    for status in (301, 302, 303, 307, 308):
        receiver.behave(Behaviour(status=status, headers=headers), path)
        result = driver.post(receiver.url + path)
        assert (result.code, result.attempt.status) == (0, status)
        assert not result.resent
    assert len(receiver.requests(path)) == 5
    assert receiver.requests(elsewhere) == []


# ---- connections ---------------------------------------------------------------------------


def test_connections_are_reused(driver: Driver, receiver: ReceiverProcess, path: str) -> None:
    """400 requests, 8 at a time, need no more than 8 connections; no child inherits one."""
    before = receiver.state().accepted
    target = make_target(receiver.url + path)
    for i in range(400):
        driver.send(target, tag=i)
        if driver.sender.in_flight == 8:
            assert all(r.attempt.status == 204 for r in driver.finish(until=7))
    assert all(r.attempt.status == 204 for r in driver.finish())
    assert driver.sender.connections <= 8
    assert receiver.state().accepted - before == driver.sender.connections
    assert not any(map(os.get_inheritable, driver.sender.sockets.registered))


def test_connections_that_the_receiver_closes_are_replaced(
    driver: Driver, receiver: ReceiverProcess, path: str
) -> None:
    """`Connection: close` on each answer: descriptor numbers come back at once, and each new
    connection is watched like the first; no descriptor stays behind."""
    receiver.behave(Behaviour(headers={"Connection": "close"}), path)
    target = make_target(receiver.url + path)
    driver.post(receiver.url + path)
    before = descriptors()
    for _ in range(50):
        for _ in range(4):
            driver.send(target)
        assert [r.attempt.status for r in driver.finish()] == [204] * 4
    assert descriptors() == before
    assert driver.sender.connections == 201


@pytest.mark.parametrize("noticed", [True, False])
def test_an_idle_connection_that_the_peer_closed_is_not_used_again(
    driver: Driver, wire: Wire, noticed: bool
) -> None:
    """The next request arrives exactly once, on a new connection, whether the loop saw the end of
    the old one or not."""
    driver.send(wire.url)
    first = wire.accept(driver)
    wire.serve(driver, first)
    watched = dict(driver.sender.sockets.registered)
    first.close()
    if noticed:
        driver.wait(lambda: driver.sender.sockets.registered != watched)
    driver.send(wire.url)
    assert wire.serve(driver, wire.accept(driver)).attempt.status == 204
    assert driver.sender.connections == 2
    assert not readable(wire.listener)


UNASKED = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
REFUSED = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("seen_by", ["a step", "the next start"])
def test_an_answer_that_nobody_asked_for_is_not_that_to_the_next_request(
    driver: Driver, wire: Wire, seen_by: str
) -> None:
    """The connection that brought it is shut down, also where the loop last looked before it came;
    the next request goes over another one and gets its own answer."""
    driver.send(wire.url)
    first = wire.accept(driver)
    wire.serve(driver, first)
    first.sendall(UNASKED)
    if seen_by == "a step":
        driver.wait(lambda: readable(first))
        assert first.recv(1) == b""
    driver.send(wire.url)
    assert wire.serve(driver, wire.accept(driver), REFUSED).attempt.status == 503
    driver.send(wire.url)
    assert wire.serve(driver, wire.connections[1], REFUSED).attempt.status == 503
    assert driver.sender.connections == 2
    assert not readable(wire.listener)


def test_a_kept_connection_is_watched_whatever_it_was_watched_for_before(
    driver: Driver, wire: Wire
) -> None:
    """After a request so large that libcurl had to wait for room, for input alone."""
    driver.send(wire.url, body=b"x" * 8_000_000)
    first = wire.accept(driver)
    wire.serve(driver, first)
    assert set(driver.sender.sockets.registered.values()) == {pycurl.POLL_IN}
    first.sendall(UNASKED)
    driver.wait(lambda: readable(first))


def test_after_a_failure_requests_open_connections_until_one_has_brought_an_answer(
    driver: Driver, wire: Wire
) -> None:
    """Connections that are kept from before are not tried: they may be as dead. Those that are idle
    when a request times out are closed."""
    target = make_target(wire.url, timeout_ms=100)
    for _ in range(3):
        driver.send(target)
    kept = [wire.accept(driver) for _ in range(3)]
    for connection in kept:
        wire.serve(driver, connection)
    driver.send(target)  # over one of them
    (result,) = driver.finish()
    assert (result.cause, result.new_connections) == ("timeout", 0)
    for connection in kept:
        driver.wait(lambda: readable(connection))  # noqa: B023 (called at once)
    driver.send(target)  # over a new one, which hangs too
    wire.accept(driver)
    (result,) = driver.finish()
    assert (result.cause, result.new_connections) == ("timeout", 1)
    driver.send(target)
    good = wire.accept(driver)
    assert wire.serve(driver, good, REFUSED).attempt.status == 503
    driver.send(target)
    assert wire.serve(driver, good).attempt.status == 204
    assert driver.sender.connections == 5


def test_another_target_keeps_its_connections_when_one_fails(
    driver: Driver, wire: Wire, receiver: ReceiverProcess, path: str
) -> None:
    driver.post(receiver.url + path)
    driver.send(wire.url)
    wire.accept(driver).close()
    assert driver.finish()[0].cause == "reset"
    assert driver.post(receiver.url + path).new_connections == 0


def test_what_libcurl_sends_again_by_itself_shows(driver: Driver, wire: Wire) -> None:
    """A kept-alive connection ends after the request was read and before an answer: libcurl sends
    the request again on a new connection, the receiver sees it twice, and `resent` says so."""
    driver.send(wire.url)
    first = wire.accept(driver)
    assert not wire.serve(driver, first).resent
    driver.send(wire.url)
    one = wire.read_request(driver, first)
    first.close()
    second = wire.accept(driver)
    assert wire.read_request(driver, second) == one
    second.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    (result,) = driver.finish()
    assert (result.code, result.attempt.status, result.resent) == (0, 204, True)
    driver.send(wire.url)
    assert not wire.serve(driver, second).resent


def test_a_request_is_sent_at_most_six_times_in_one_attempt(
    driver: Driver, receiver: ReceiverProcess, path: str
) -> None:
    """A pool full of connections that end unanswered: libcurl gives up after five more tries. The
    result is one failed attempt, marked as resent, whether or not a new connection was opened."""
    target = make_target(receiver.url + path)
    for _ in range(10):
        driver.send(target)
    driver.finish()
    receiver.behave(Behaviour(fault="close"), path)
    result = driver.post(receiver.url + path)
    assert (result.cause, result.attempt.status, result.resent) == ("reset", 0, True)
    assert result.new_connections == 0
    assert len(receiver.requests(path)) == 16


# ---- faults --------------------------------------------------------------------------------


def test_a_closed_port_is_refused(driver: Driver, closed_port: int) -> None:
    """No connection, no status, no denial, and no time of a stage that never came."""
    result = driver.post(f"http://127.0.0.1:{closed_port}/")
    assert (result.cause, result.attempt.status, result.denied) == ("refused", 0, "")
    assert (result.attempt.connect_us, result.attempt.first_byte_us) == (0, 0)
    assert result.attempt.error


def test_a_name_that_does_not_resolve(driver: Driver) -> None:
    """The resolver says so at once: a label is over 63 bytes."""
    assert driver.post(f"http://{'x' * 64}.invalid/").cause == "dns"


def test_bytes_of_a_receiver_in_an_error_are_text(driver: Driver, wire: Wire) -> None:
    """libcurl's message about a bad HTTP/2 field quotes it; the attempt's error can be encoded."""

    driver.send(http2_target(wire))
    connection = Http2(driver, wire.accept(driver))
    # HPACK: a literal field, not indexed
    connection.answer(connection.read_request(), b"\x00\x07:status\x03\xff\xfe!")
    (result,) = driver.finish()
    assert (result.cause, result.attempt.status) == ("protocol", 0)
    assert "\ufffd" in result.attempt.error
    result.attempt.error.encode()


class Http2:
    """The receiver's end of an HTTP/2 connection without TLS (RFC 9113), frame by frame."""

    HEADERS, SETTINGS, PING = 1, 4, 6
    END_STREAM, END_HEADERS, ACK = 1, 4, 1
    #: HPACK: the static table's entry 9, `:status: 204`
    NO_CONTENT = b"\x89"

    def __init__(self, driver: Driver, connection: socket.socket) -> None:
        self._driver, self._connection = driver, connection
        self._buffer = b""
        self.send(self.SETTINGS, 0, 0)
        self._read(24)  # the preface

    def send(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
        self._connection.sendall(head + payload)

    def read_request(self) -> int:
        """The stream of the next request that is complete; SETTINGS are acknowledged."""
        while True:
            head = self._read(9)
            self._read(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind == self.SETTINGS and not flags & self.ACK:
                self.send(self.SETTINGS, self.ACK, 0)
            elif kind in (0, self.HEADERS) and flags & self.END_STREAM:
                return stream

    def answer(self, stream: int, fields: bytes = NO_CONTENT) -> None:
        self.send(self.HEADERS, self.END_STREAM | self.END_HEADERS, stream, fields)

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._driver.wait(lambda: readable(self._connection))
            self._buffer += self._connection.recv(65_536)
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


def http2_target(wire: Wire, timeout_ms: int = 5000) -> Target:
    return Target(wire.url, timeout_ms=timeout_ms, connect_timeout_ms=5000, http2=True)


def test_an_http2_connection_on_which_nothing_came_in_the_whole_time_is_not_used_again(
    driver: Driver, wire: Wire
) -> None:
    """The request that timed out ends it; the next one goes over a new connection, which is kept."""
    target = http2_target(wire, timeout_ms=200)
    driver.send(target)
    dead = Http2(driver, wire.accept(driver))
    dead.answer(dead.read_request())
    driver.finish()
    time.sleep(0.02)  # more than a tick of the clock that says when something last came
    driver.send(target)
    dead.read_request()
    (result,) = driver.finish()
    assert (result.cause, result.new_connections) == ("timeout", 0)
    for _ in range(2):
        driver.send(target)
        if len(wire.connections) == 1:
            live = Http2(driver, wire.accept(driver))
        live.answer(live.read_request())
        (result,) = driver.finish()
        assert result.attempt.status == 204
    assert driver.sender.connections == 2


def test_an_http2_connection_on_which_something_came_lives_on(driver: Driver, wire: Wire) -> None:
    """One request times out while another waits on the same connection, and a frame arrives: the other
    gets its answer there. The next one opens a connection all the same."""
    slow, quick = http2_target(wire), http2_target(wire, timeout_ms=300)
    driver.send(slow, tag="slow")
    shared = Http2(driver, wire.accept(driver))
    waiting = shared.read_request()
    driver.send(quick, tag="quick")
    shared.read_request()
    time.sleep(0.1)
    shared.send(Http2.PING, 0, 0, b"12345678")
    (result,) = driver.finish(until=1)
    assert (result.tag, result.cause) == ("quick", "timeout")
    shared.answer(waiting)
    (result,) = driver.finish()
    assert (result.tag, result.attempt.status) == ("slow", 204)
    driver.send(quick)
    another = Http2(driver, wire.accept(driver))
    another.answer(another.read_request())
    assert driver.finish()[0].attempt.status == 204


def test_what_http2_says_on_an_idle_connection_does_not_cost_it(driver: Driver, wire: Wire) -> None:
    """PING and SETTINGS are answered when the connection is next used."""
    target = http2_target(wire)
    driver.send(target)
    shared = Http2(driver, wire.accept(driver))
    shared.answer(shared.read_request())
    driver.finish()
    shared.send(Http2.PING, 0, 0, b"12345678")
    shared.send(Http2.SETTINGS, 0, 0)
    driver.step(0.05)
    driver.send(target)
    shared.answer(shared.read_request())
    assert driver.finish()[0].attempt.status == 204
    assert driver.sender.connections == 1


def test_a_hanging_receiver_ends_in_a_timeout(
    driver: Driver, receiver: ReceiverProcess, path: str
) -> None:
    """After the whole time allowed, and not much later."""
    receiver.behave(Behaviour(fault="hang"), path)
    result = driver.post(receiver.url + path, timeout_ms=100)
    assert (result.cause, result.attempt.status) == ("timeout", 0)
    assert 95_000 <= result.attempt.total_us < 3_000_000


def test_timeouts_run_while_another_descriptor_is_always_ready(
    driver: Driver, receiver: ReceiverProcess, path: str
) -> None:
    """A doorbell that nobody quiets wakes every step; the hanging request ends all the same."""
    receiver.behave(Behaviour(fault="hang"), path)
    bell = os.eventfd(1)
    driver.sender.watch(bell)
    try:
        result = driver.post(receiver.url + path, timeout_ms=50)
        assert result.cause == "timeout"
        assert driver.sender.fired == [bell]
    finally:
        os.close(bell)


def test_a_connection_that_does_not_come_about(driver: Driver) -> None:
    """A full accept queue: the SYN is dropped, and the cause is the connect timeout's."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):  # one more than the queue takes: Linux rounds up by one
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        result = driver.post(url, connect_timeout_ms=50)
        assert (result.cause, result.attempt.connect_us) == ("connect_timeout", 0)


def test_a_body_that_drips_ends_at_the_total_timeout(
    driver: Driver, receiver: ReceiverProcess, path: str
) -> None:
    """Bytes that keep coming do not extend the time; the status counts, as it had arrived."""
    receiver.behave(Behaviour(fault="slow_body", fail_status=200), path)
    result = driver.post(receiver.url + path, timeout_ms=150)
    assert (result.cause, result.attempt.status) == ("timeout", 200)
    assert result.attempt.answer
    assert result.attempt.total_us < 3_000_000


def test_an_endless_body_is_cut_at_the_cap(
    driver: Driver, receiver: ReceiverProcess, path: str
) -> None:
    """Little more than the cap is read, and a hundred of them cost no memory."""
    receiver.behave(Behaviour(fault="endless", fail_status=200), path)
    target = make_target(receiver.url + path)

    for _ in range(10):
        driver.send(target)
    results = driver.finish()
    before = resident_bytes()
    for _ in range(90):
        driver.send(target)
        results += driver.finish()
    assert {(r.cause, r.attempt.status) for r in results} == {("response_too_large", 200)}
    assert max(r.read for r in results) <= MAX_ANSWER_BYTES
    assert resident_bytes() - before < 4_000_000


def test_hanging_requests_do_not_slow_another_endpoint(
    receiver: ReceiverProcess, path: str
) -> None:
    """200 requests that hang, and 500 that do not: those take the CPU that they take alone."""
    driver = Driver(256)
    hanging = make_target(receiver.url + path + "-hanging", timeout_ms=100_000)
    healthy = make_target(receiver.url + path)
    receiver.behave(Behaviour(fault="hang"), path + "-hanging")

    def send_all() -> float:
        started = time.process_time()
        under_way = driver.sender.in_flight
        for i in range(500):
            driver.send(healthy, tag=i)
            if driver.sender.in_flight == under_way + 8:
                driver.finish(until=under_way + 7)
        driver.finish(until=under_way)
        return time.process_time() - started

    alone_s = min(send_all(), send_all())
    for _ in range(200):
        driver.send(hanging)
    among_hanging_s = min(send_all(), send_all())
    assert driver.sender.in_flight == 200
    assert among_hanging_s < 4 * alone_s + 1.0
    driver.sender.close()


# ---- measurements --------------------------------------------------------------------------


def test_timings_are_in_order_and_plausible(
    driver: Driver, receiver: ReceiverProcess, path: str
) -> None:
    """Name, connection, first byte, end; the receiver's delay is part of the wait for the first
    byte; on a connection that is reused, connecting takes no time."""
    receiver.behave(Behaviour(status=200, body=b"x", delay_s=0.05), path)
    before = time.time_ns()
    a = driver.post(receiver.url + path).attempt
    assert before <= a.started_ns <= time.time_ns()
    assert 0 < a.dns_us <= a.connect_us <= a.first_byte_us <= a.total_us
    assert a.first_byte_us >= 50_000
    assert a.tls_us == 0
    b = driver.post(receiver.url + path).attempt
    assert (b.dns_us, b.connect_us) == (0, 0)
    assert 50_000 <= b.first_byte_us <= b.total_us


def test_retry_after_is_seconds_or_a_date(
    driver: Driver, receiver: ReceiverProcess, path: str
) -> None:
    """RFC 9110 section 10.2.3; None where there is none or it makes no sense."""
    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    long_ago = email.utils.formatdate(0, usegmt=True)
    # libcurl counts from time(2), which may be a tick, and so a second, behind the clock of time.time
    for value, lowest, highest in [("7", 7, 7), (in_a_minute, 50, 61)]:
        receiver.behave(Behaviour(fail_first=1, retry_after=value), path)
        wait_s = driver.post(receiver.url + path).attempt.retry_after_s
        assert wait_s is not None
        assert lowest <= wait_s <= highest
    for unread in (None, "soon", "-5", long_ago):
        receiver.behave(Behaviour(fail_first=1, retry_after=unread), path)
        assert driver.post(receiver.url + path).attempt.retry_after_s is None


def test_retry_after_is_read_beyond_libcurls_bounds(
    driver: Driver, receiver: ReceiverProcess, path: str
) -> None:
    """The head is read if a target has not answered well yet, or may ask for long waits; and again
    after a failure. The heads of others are not read, and libcurl's word counts."""
    asks = Behaviour(status=429, headers={"Retry-After": "86400"})
    usual = make_target(receiver.url + path)
    patient = Target(
        receiver.url + path, timeout_ms=5000, connect_timeout_ms=5000, max_retry_after_s=90_000
    )

    def asked(target: Target) -> int | None:
        driver.send(target)
        (result,) = driver.finish()
        return result.attempt.retry_after_s

    receiver.behave(asks, path)
    assert (asked(patient), asked(usual)) == (86_400, 86_400)
    for target in (patient, usual):
        driver.sender.heed(target, False)
    assert (asked(patient), asked(usual)) == (86_400, 21_600)
    driver.sender.heed(usual, True)
    receiver.behave(Behaviour(status=429, headers={"Retry-After": "9" * 30}), path)
    assert (asked(patient), asked(usual)) == (2**53 - 1, 2**53 - 1)
    receiver.behave(None, path)
    assert (asked(patient), asked(usual)) == (None, None)


def test_wait_s_says_how_long_a_step_would_wait(
    driver: Driver, receiver: ReceiverProcess, path: str
) -> None:
    """Nothing under way: as long as asked. Otherwise until libcurl's next timer at most, and not at
    all if a result waits already."""
    assert driver.sender.wait_s(9.0) == 9.0
    receiver.behave(Behaviour(fault="hang"), path)
    driver.send(receiver.url + path, timeout_ms=200)
    driver.step()
    assert driver.sender.wait_s(9.0) <= 0.2
    driver.finish()
    denying = Driver(judge=lambda address: "no")
    denying.send(receiver.url)
    assert denying.sender.wait_s(9.0) == 0.0
    denying.sender.close()


# ---- TLS -----------------------------------------------------------------------------------


class Certificates(NamedTuple):
    ours: Authority
    others: Authority
    served: dict[str, Identity]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("tls")
    ours = Authority(directory / "ours")
    others = Authority(directory / "others", "Another CA")
    served = {
        "good": ours.issue("good"),
        "expired": ours.issue("expired", end="20210101000000Z"),
        "not_yet": ours.issue("not-yet", start="20980101000000Z"),
        "wrong_host": ours.issue("wrong-host", san="DNS:elsewhere.test,IP:127.0.0.2"),
        "self_signed": self_signed(directory, "self-signed"),
        "unknown_ca": others.issue("unknown"),
    }
    return Certificates(ours, others, served)


class TlsEndpoint:
    """A receiver with one certificate, and the paths that were asked for."""

    def __init__(self, identity: Identity, client_ca: str | None = None) -> None:
        self.paths: list[str] = []
        self.receiver = Receiver(
            ssl=server_context(identity, client_ca),
            on_delivery=lambda received: self.paths.append(received.path),
        )

    @property
    def url(self) -> str:
        return self.receiver.url


@pytest.fixture(scope="module")
def tls_endpoints(certificates: Certificates) -> Iterator[dict[str, TlsEndpoint]]:
    """In a thread with a loop of its own."""
    endpoints = {name: TlsEndpoint(identity) for name, identity in certificates.served.items()}
    endpoints["mutual"] = TlsEndpoint(certificates.served["good"], certificates.others.cert)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # of handshakes that fail, as they should
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    for endpoint in endpoints.values():
        asyncio.run_coroutine_threadsafe(endpoint.receiver.start(), loop).result(DEADLINE_S)
    yield endpoints
    for endpoint in endpoints.values():
        asyncio.run_coroutine_threadsafe(endpoint.receiver.stop(), loop).result(DEADLINE_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def tls_driver() -> Iterator[Callable[..., Driver]]:
    drivers: list[Driver] = []

    def make(**files: str) -> Driver:
        contents = {name: Path(file).read_bytes() for name, file in files.items()}
        drivers.append(Driver(tls=TlsMaterial(**contents)))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.sender.close()


def test_a_good_certificate_is_accepted(
    certificates: Certificates,
    tls_endpoints: dict[str, TlsEndpoint],
    tls_driver: Callable[..., Driver],
) -> None:
    """With the authority that signed it; the handshake has its place among the timings; the second
    request needs none."""
    driver = tls_driver(ca=certificates.ours.cert)
    a = driver.post(tls_endpoints["good"].url + "/good").attempt
    assert a.status == 204
    assert a.connect_us <= a.tls_us <= a.first_byte_us
    b = driver.post(tls_endpoints["good"].url + "/good").attempt
    assert (b.status, b.tls_us) == (204, 0)
    assert driver.sender.connections == 1


class TlsWire(threading.Thread):
    """Answers the first request twice, in two TLS records that arrive together, and refuses each later
    one: on the first connection only once there is another."""

    def __init__(self, identity: Identity) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listener.getsockname()[1]}/"
        self._context = server_context(identity)
        self.start()

    def run(self) -> None:
        raw, _ = self.listener.accept()
        with self._context.wrap_socket(raw, server_side=True) as first:
            first.recv(1 << 16)
            first.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            first.sendall(UNASKED)
            first.sendall(UNASKED)
            first.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
            raw, _ = self.listener.accept()
            with self._context.wrap_socket(raw, server_side=True) as second:
                while second.recv(1 << 16):
                    second.sendall(REFUSED)


def test_an_answer_that_libcurl_has_read_ahead_is_not_that_to_the_next_request(
    certificates: Certificates, tls_driver: Callable[..., Driver]
) -> None:
    """Over TLS it has left the socket when the next request is made. The request ends at once and
    goes out again over another connection, where it gets its own answer."""
    wire = TlsWire(certificates.served["good"])
    driver = tls_driver(ca=certificates.ours.cert)
    target = make_target(wire.url)
    assert driver.post(target).attempt.status == 200
    idle_until = time.monotonic() + 0.1  # the kernel counts the silence in milliseconds
    while time.monotonic() < idle_until:
        driver.step(0.01)
    assert [driver.post(target).attempt.status for _ in range(2)] == [503, 503]
    assert driver.sender.connections == 2
    wire.listener.close()


@pytest.mark.parametrize(
    ("sent_ms", "arrived_ms", "silent"), [(0, 100, True), (100, 100, False), (0, 2, False)]
)
def test_a_kernels_clock_that_stood_still_makes_no_answer_an_old_one(
    monkeypatch: pytest.MonkeyPatch, sent_ms: int, arrived_ms: int, silent: bool
) -> None:
    """Both times are of one clock: an answer never arrives before its request is sent."""
    monkeypatch.setattr(sockets, "last_data_ms", lambda _: (sent_ms, arrived_ms))
    ours, theirs = socket.socketpair()
    transfer: Any = SimpleNamespace(getinfo=lambda _: ours.fileno())
    with ours, theirs:
        assert sockets.retire_if_silent(transfer, time.monotonic_ns()) is silent


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("expired", "expired"),
        ("not_yet", "not yet valid"),
        ("wrong_host", "127.0.0.1"),
        ("self_signed", "self-signed"),
        ("unknown_ca", "issuer"),
    ],
)
def test_a_bad_certificate_is_refused(
    certificates: Certificates,
    tls_endpoints: dict[str, TlsEndpoint],
    tls_driver: Callable[..., Driver],
    name: str,
    words: str,
) -> None:
    """The cause is `tls`, the error says what is wrong, and no request was sent."""
    driver = tls_driver(ca=certificates.ours.cert)
    result = driver.post(f"{tls_endpoints[name].url}/{name}")
    assert (result.cause, result.attempt.status) == ("tls", 0)
    assert words in result.attempt.error
    assert tls_endpoints[name].paths == []


def test_an_authority_of_ones_own_is_not_known_without_configuration(
    tls_endpoints: dict[str, TlsEndpoint], driver: Driver
) -> None:
    """The system's authorities hold by default, and ours is none of them."""
    assert driver.post(tls_endpoints["good"].url + "/default").cause == "tls"
    assert "/default" not in tls_endpoints["good"].paths


def test_the_systems_authorities_are_read_again(
    certificates: Certificates,
    tls_endpoints: dict[str, TlsEndpoint],
    driver: Driver,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """An update of the system replaces the file; libcurl would hold on to the former one for a day."""
    monkeypatch.setattr(sender_module, "AUTHORITIES_TTL_S", 0)
    file = tmp_path / "authorities.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    file.write_bytes(Path(certificates.ours.cert).read_bytes())
    assert driver.post(tls_endpoints["unknown_ca"].url + "/before").cause == "tls"
    file.write_bytes(Path(certificates.others.cert).read_bytes())
    assert driver.post(tls_endpoints["unknown_ca"].url + "/after").attempt.status == 204
    assert 0 < AUTHORITIES_TTL_S < 60
    tls_endpoints["unknown_ca"].paths.clear()


def test_client_certificates(
    certificates: Certificates,
    tls_endpoints: dict[str, TlsEndpoint],
    tls_driver: Callable[..., Driver],
) -> None:
    """If the receiver demands one, the right one passes, and none or a stranger's does not."""
    url = tls_endpoints["mutual"].url + "/mutual"
    ours, others = certificates.ours, certificates.others
    cert, key = others.issue("client", san="DNS:client.test")
    assert tls_driver(ca=ours.cert, cert=cert, key=key).post(url).attempt.status == 204
    assert tls_driver(ca=ours.cert).post(url).attempt.status == 0
    cert, key = ours.issue("stranger", san="DNS:client.test")
    assert tls_driver(ca=ours.cert, cert=cert, key=key).post(url).attempt.status == 0
    assert tls_endpoints["mutual"].paths == ["/mutual"]


@pytest.mark.parametrize("key", ["foreign", "encrypted", "garbage"])
def test_a_bad_client_key_is_a_tls_failure(
    certificates: Certificates,
    tls_endpoints: dict[str, TlsEndpoint],
    tls_driver: Callable[..., Driver],
    key: str,
) -> None:
    """The attempt fails at once, and says that it is the key."""
    cert, own_key = certificates.others.issue(key, san="DNS:client.test")
    keys = {
        "foreign": certificates.others.issue("another").key,
        "encrypted": encrypted(own_key),
        "garbage": cert,
    }
    driver = tls_driver(ca=certificates.ours.cert, cert=cert, key=keys[key])
    result = driver.post(tls_endpoints["mutual"].url + "/bad-key")
    assert result.cause == "tls"
    assert "private key" in result.attempt.error
    assert "/bad-key" not in tls_endpoints["mutual"].paths


_SEND_FROM_A_TERMINAL = """
import fcntl, sys, termios, time
from pathlib import Path
from fluxhook.transport.sender import Sender
from fluxhook.transport.target import Target
from fluxhook.transport.tls import TlsMaterial

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
open("/dev/tty").close()
url, *files = sys.argv[1:]
sender = Sender(1, lambda address: None, TlsMaterial(*(Path(file).read_bytes() for file in files)))
target = Target(url, timeout_ms=20000, connect_timeout_ms=20000)
sender.send(target, [], b"{}", None, time.time_ns())
sender.start()
while sender.in_flight:
    for _, _, message in sender.step(1.0):
        print(message)
"""


@pytest.mark.parametrize("form", ["ec", "pkcs8"])
def test_no_terminal_is_asked_for_a_password(
    certificates: Certificates, tls_endpoints: dict[str, TlsEndpoint], form: Literal["ec", "pkcs8"]
) -> None:
    """OpenSSL would ask the process's terminal, and wait: the attempt fails without a question."""
    cert, key = certificates.others.issue(form, san="DNS:client.test")
    files = (certificates.ours.cert, cert, encrypted(key, form))
    master, slave = pty.openpty()
    with open(master, "rb"), open(slave, "rb") as terminal:
        done = subprocess.run(
            [sys.executable, "-c", _SEND_FROM_A_TERMINAL, tls_endpoints["mutual"].url, *files],
            stdin=terminal,
            capture_output=True,
            text=True,
            start_new_session=True,
            timeout=DEADLINE_S,
            check=True,
        )
        assert "private key" in done.stdout
        assert not select.select([master], [], [], 0)[0], "something was written to the terminal"


# ---- URLs ----------------------------------------------------------------------------------


class Echo:
    """Tells what stood in the request line."""

    def __init__(self, driver: Driver, wire: Wire) -> None:
        self._driver, self._wire = driver, wire
        self._connection: socket.socket | None = None

    def arrived(self, url: str, proxy: str | None = None) -> str:
        self._driver.send(make_target(url, proxy=proxy))
        if self._connection is None:
            self._connection = self._wire.accept(self._driver)
        data = self._wire.read_request(self._driver, self._connection)
        self._connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        self._driver.finish()
        return data.split(b" ", 2)[1].decode()


@pytest.fixture
def echo(driver: Driver, wire: Wire) -> Echo:
    return Echo(driver, wire)


#: what a path and a query may be made of (RFC 3986 section 3.3), and what libcurl would change in them
_PARTS = st.sampled_from([*"aZ09-._~!$&'()*+,;=:@/[]", "..", "%2f", "%2E", "%00", "%c3%A4", "%7e"])
_TEXTS = st.lists(_PARTS, max_size=12).map("".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(_TEXTS, st.none() | _TEXTS)
@example("hooks/../v1/%2e%2e/a%2fb", None)
@example("/a/.//../", "?/../%2f?")
@example("", "")
def test_a_url_is_sent_as_it_is_written(echo: Echo, wire: Wire, path: str, query: str) -> None:
    """Whatever the configuration takes: no dots are taken out, no escapes are changed. A transfer that
    had such a URL before sends the next one as well."""
    origin = wire.url.removesuffix("/hook")
    written = f"/{path}" + ("" if query is None else f"?{query}")
    assert judge_url(origin + written) is None
    assert echo.arrived(origin + written) == written
    assert echo.arrived(f"{origin}/plain") == "/plain"


@pytest.mark.parametrize(
    ("written", "sent"), [("", "/"), ("?a=%2f", "/?a=%2f"), ("?a/../b", "/?a/../b")]
)
def test_a_url_without_a_path_has_the_root(echo: Echo, wire: Wire, written: str, sent: str) -> None:
    """RFC 9110 section 4.2.3: the same resource."""
    assert echo.arrived(wire.url.removesuffix("/hook") + written) == sent


def test_a_url_is_sent_as_it_is_written_through_a_proxy(echo: Echo, wire: Wire) -> None:
    """Which gets all of it (RFC 9112 section 3.2.2)."""
    for path in ("/a%2fb/../c", "/plain"):
        url = f"http://endpoint.invalid{path}"
        assert echo.arrived(url, proxy=wire.url.removesuffix("/hook")) == url


# ---- proxies -------------------------------------------------------------------------------


@pytest.fixture
def proxies_in_environment(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")


@pytest.mark.usefixtures("proxies_in_environment")
def test_a_proxy_of_the_environment_is_ignored(
    driver: Driver, receiver: ReceiverProcess, path: str
) -> None:
    """The request goes straight to the endpoint."""
    assert driver.post(receiver.url + path).attempt.status == 204
    assert len(receiver.requests(path)) == 1


@pytest.mark.usefixtures("proxies_in_environment")
def test_a_proxy_of_the_endpoint_is_used(
    driver: Driver, receiver: ReceiverProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever NO_PROXY in the environment says; the next endpoint on the same transfer has none."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("NO_PROXY", "*")
    url = "http://endpoint.invalid/through-a-proxy"
    assert driver.post(url, proxy=receiver.url).attempt.status == 204
    assert len(receiver.requests(url)) == 1  # the form that a proxy gets
    assert driver.post(receiver.url + "/without-a-proxy").attempt.status == 204
    assert len(receiver.requests("/without-a-proxy")) == 1
    assert len(driver.sender.transfers) == 1


def through_proxy(driver: Driver, wire: Wire, url: str, *said: bytes) -> Attempt:
    """An attempt through a proxy that says these in turn, each after something came, then closes."""
    proxy = wire.url.removesuffix("/hook")
    transfer = driver.sender.send(make_target(url, proxy=proxy), HEADERS, BODY, 0, time.time_ns())
    driver.sender.start()
    connection = wire.accept(driver)
    for answer in said:
        driver.wait(lambda: readable(connection))
        connection.recv(65_536)
        connection.sendall(answer)
    connection.close()
    while driver.sender.in_flight:
        for _, code, message in driver.sender.step(0.25):
            status, cause, message = transfer.failure(code, message)
            attempt = transfer.attempt(cause or "", message, 0, status)
            driver.sender.release(transfer)
    return attempt


@pytest.mark.parametrize("status", [302, 401, 403, 407, 410, 429, 502, 503])
def test_a_proxy_that_refuses_to_connect_is_the_cause(
    driver: Driver, wire: Wire, status: int
) -> None:
    """Its status and its Retry-After are not the receiver's."""
    refusal = b"HTTP/1.1 %d No\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n" % status
    attempt = through_proxy(driver, wire, "https://127.0.0.1:9/", refusal)
    assert (attempt.cause, attempt.status, attempt.retry_after_s) == ("proxy", 0, None)
    assert str(status) in attempt.error


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ([b"\x16\x03 no HTTP\r\n\r\n"], "proxy"),
        ([b""], "proxy"),
        ([b"HTTP/1.1 200 OK\r\n\r\n", b"no TLS at all\r\n\r\n"], "tls"),
        ([b"HTTP/1.1 200 OK\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x28"], "tls"),
        ([b"HTTP/1.1 200 OK\r\n\r\n", b""], "tls"),
    ],
)
def test_beyond_the_tunnel_a_failure_is_the_receivers(
    driver: Driver, wire: Wire, said: list[bytes], cause: str
) -> None:
    """An end without an answer to CONNECT is the proxy's failure, what comes after it the
    receiver's."""
    assert through_proxy(driver, wire, "https://127.0.0.1:9/", *said).cause == cause


@pytest.mark.parametrize(
    ("head", "cause"),
    [
        (b"407 No", "proxy"),
        (b"502 No", "proxy"),
        (b"502 No\r\nVia: 1.1 proxy", ""),
        (b"403 No\r\nProxy-Status: edge, ours; error=http_request_denied", "proxy"),
        (b"403 No", ""),
        (b"410 No", ""),
        (b"503 No", ""),
    ],
)
def test_what_a_proxy_answers_where_it_forwards(
    driver: Driver, wire: Wire, head: bytes, cause: str
) -> None:
    """Its own answers are its own where it says so; the others count as the receiver's."""
    answer = b"HTTP/1.1 " + head + b"\r\nContent-Length: 0\r\n\r\n"
    attempt = through_proxy(driver, wire, "http://endpoint.invalid/", answer)
    assert attempt.cause == cause
    assert attempt.status == (0 if cause else int(head[:3]))


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
@pytest.mark.parametrize("url", ["http://endpoint.invalid/", "https://127.0.0.1:9/"])
def test_a_proxy_that_is_not_there_is_the_cause(
    driver: Driver, closed_port: int, scheme: str, url: str
) -> None:
    target = make_target(url, proxy=f"{scheme}://127.0.0.1:{closed_port}")
    transfer = driver.sender.send(target, HEADERS, BODY, 0, time.time_ns())
    driver.sender.start()
    while driver.sender.in_flight:
        for _, code, message in driver.sender.step(0.25):
            assert transfer.failure(code, message) == (0, "proxy", message)


# ---- egress --------------------------------------------------------------------------------


def test_a_denied_address_gets_no_packet(receiver: ReceiverProcess, path: str) -> None:
    """The judge is asked before the socket opens; the transfer says what it said; nothing connects."""
    asked: list[str] = []

    def judge(address: str) -> str:
        asked.append(address)
        return "127.0.0.1 is loopback"

    driver = Driver(judge=judge)
    before = receiver.state().accepted
    result = driver.post(receiver.url + path)
    assert asked == ["127.0.0.1"]
    assert (result.attempt.status, result.denied) == (0, "127.0.0.1 is loopback")
    assert (result.attempt.cause, result.attempt.error) == ("egress_denied", result.denied)
    assert receiver.state().accepted == before
    assert driver.sender.connections == 0
    driver.sender.close()


def resolving(url: str, *addresses: str) -> Target:
    """A target whose name has these addresses, in this order."""
    target = make_target(url)
    name, port = url.split("/")[2].split(":")
    target.options += ((pycurl.RESOLVE, [f"{name}:{port}:{','.join(addresses)}"]),)
    return target


def test_one_allowed_address_of_a_name_is_enough(receiver: ReceiverProcess, path: str) -> None:
    """A denied one before it leaves no trace in the result."""
    driver = Driver(judge=lambda a: "no" if a == "127.0.0.2" else None)
    receiver.behave(Behaviour(status=500), path)
    driver.send(resolving(f"http://two.test:{receiver.port}{path}", "127.0.0.2", "127.0.0.1"))
    (result,) = driver.finish()
    assert (result.attempt.status, result.denied, result.attempt.error) == (500, "", "")
    driver.sender.close()


def test_an_allowed_address_that_fails_is_the_cause_and_not_the_denied_one(
    closed_port: int,
) -> None:
    """An address that was tried and failed says more than one that was not tried."""
    driver = Driver(judge=lambda a: "no" if a == "127.0.0.2" else None)
    for addresses in (("127.0.0.1", "127.0.0.2"), ("127.0.0.2", "127.0.0.1")):
        driver.send(resolving(f"http://two.test:{closed_port}/", *addresses))
        (result,) = driver.finish()
        assert (result.cause, result.denied) == ("refused", "")
    driver.sender.close()


def private(address: str) -> str | None:
    """The judge of these tests: the proxy's own address is allowed."""
    return None if address in ("127.0.0.1", "192.0.2.7") else f"{address} is private"


def proxied(receiver: ReceiverProcess, url: str, *addresses: str) -> Target:
    """A target behind a proxy, for which the receiver stands, whose name has these addresses here."""
    target = make_target(url, proxy=receiver.url)
    name = url.split("/")[2].partition(":")[0]
    if addresses:
        target.options += ((pycurl.RESOLVE, [f"{name}:80:{','.join(addresses)}"]),)
    return target


@pytest.mark.parametrize(
    "addresses", [("10.0.0.1",), ("192.0.2.7", "10.0.0.1"), ("10.0.0.1", "192.0.2.7"), ("fd00::1",)]
)
@pytest.mark.parametrize(
    "url", ["http://two.test/x", "http://two.test:8080/x", "https://two.test/x"]
)
def test_a_name_behind_a_proxy_is_judged_too(
    receiver: ReceiverProcess, url: str, addresses: list[str]
) -> None:
    """One address that may not be reached is enough: the proxy could take it. It hears nothing."""
    driver = Driver(judge=private)
    before = receiver.state().accepted
    for _ in range(2):
        driver.send(proxied(receiver, url, *addresses))
        (result,) = driver.finish()
        assert result.attempt.cause == "egress_denied"
        assert "is private" in result.denied
    assert (receiver.state().accepted, driver.sender.connections) == (before, 0)
    driver.sender.close()


def test_a_public_name_behind_a_proxy_is_looked_up_once(receiver: ReceiverProcess) -> None:
    """Then requests go to the proxy, over the connection that is kept; when the rules have changed it
    is judged anew."""
    denied: list[str] = []
    asked: list[str] = []

    def judge(address: str) -> str | None:
        asked.append(address)
        return "no" if address in denied else None

    driver = Driver(judge=judge)
    target = proxied(receiver, "http://public.test/looked-up", "192.0.2.7", "192.0.2.8")
    for n in range(3):
        driver.send(target, tag=n)
        (result,) = driver.finish()
        assert (result.attempt.status, result.tag, result.denied) == (204, n, "")
    assert sorted(asked) == ["127.0.0.1", "192.0.2.7", "192.0.2.8"]
    assert driver.sender.connections == 1
    assert len(receiver.requests("http://public.test/looked-up")) == 3
    denied.append("192.0.2.8")
    driver.sender.rejudge()
    driver.send(target)
    assert driver.finish()[0].denied == "no"
    denied.clear()
    driver.sender.rejudge()
    driver.send(target)
    assert driver.finish()[0].attempt.status == 204
    driver.sender.close()


def test_a_name_that_is_unknown_here_is_the_proxys(receiver: ReceiverProcess) -> None:
    """It may know names that we do not; what it reaches is for its own rules."""
    driver = Driver(judge=private)
    url = "http://nowhere.invalid/the-proxys"
    for _ in range(2):
        driver.send(proxied(receiver, url))
        assert driver.finish()[0].attempt.status == 204
    assert len(receiver.requests(url)) == 2
    driver.sender.close()


def test_a_lookup_sends_nothing_on_a_connection_that_is_there(
    receiver: ReceiverProcess, path: str
) -> None:
    """Not even where another endpoint reaches the same host without a proxy."""
    driver = Driver(judge=lambda address: None)
    direct = resolving(f"http://both.test:{receiver.port}{path}", "127.0.0.1")
    driver.send(direct)
    assert driver.finish()[0].attempt.status == 204
    target = make_target(f"http://both.test:{receiver.port}{path}", proxy=receiver.url)
    driver.send(target)
    assert driver.finish()[0].attempt.status == 204
    assert len(receiver.requests(path)) == 1
    assert len(receiver.requests(f"http://both.test:{receiver.port}{path}")) == 1
    driver.sender.close()


def test_a_denial_is_not_seen_by_the_next_request_on_its_slot(
    receiver: ReceiverProcess, path: str
) -> None:
    """Not even if that opens no socket."""
    driver = Driver(judge=lambda a: "no" if a == "127.0.0.2" else None)
    assert driver.post(receiver.url + path).denied == ""
    assert driver.post("http://127.0.0.2/").denied == "no"
    result = driver.post(receiver.url + path)
    assert (result.new_connections, result.denied) == (0, "")
    driver.sender.close()


def test_connections_kept_alive_are_judged_anew_when_the_rules_have_changed(
    receiver: ReceiverProcess, wire: Wire, path: str
) -> None:
    """After `rejudge` a connection made under the old rules carries no request of the new ones,
    whichever transfer it is for; and once they allow it again, requests arrive."""
    verdict: list[str | None] = [None]
    driver = Driver(judge=lambda address: verdict[0])
    for _ in range(4):
        driver.send(receiver.url + path)
    driver.finish()
    driver.send(wire.url)  # takes one of the four transfers, and is sent before the change
    wire.read_request(driver, wire.accept(driver))
    verdict[0] = "forbidden now"
    driver.sender.rejudge()
    for _ in range(4):  # takes the others and a new one
        driver.send(receiver.url + path)
    results = driver.finish(until=1)
    assert [r.denied for r in results] == ["forbidden now"] * 4
    assert {(r.attempt.status, r.new_connections) for r in results} == {(0, 0)}
    assert len(receiver.requests(path)) == 4
    verdict[0] = None
    assert driver.post(receiver.url + path).attempt.status == 204
    driver.sender.close()


# ---- descriptors, threads, ends ------------------------------------------------------------


@pytest.fixture
def limit_descriptors() -> Iterator[Callable[[int], None]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda soft: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_descriptors_above_1024_work(
    receiver: ReceiverProcess, path: str, limit_descriptors: Callable[[int], None]
) -> None:
    """select() ends there; epoll does not. The limit may even rise after the Sender was made."""
    limit_descriptors(1024)
    driver = Driver()
    limit_descriptors(3000)
    low = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        for _ in range(32):
            driver.send(receiver.url + path)
        assert [r.attempt.status for r in driver.finish()] == [204] * 32
        assert max(driver.sender.sockets.registered) > 1024
    finally:
        driver.sender.close()
        for fd in low:
            os.close(fd)


def test_without_a_free_descriptor_an_attempt_fails_for_our_own_reason(
    driver: Driver, receiver: ReceiverProcess, path: str, limit_descriptors: Callable[[int], None]
) -> None:
    """Not the endpoint's fault; and when there is one again, all is well."""
    driver.post(receiver.url + path)
    limit_descriptors(max(map(int, os.listdir("/proc/self/fd"))))
    spare = []
    with contextlib.suppress(OSError):
        while True:
            spare.append(os.open("/dev/null", os.O_RDONLY))
    result = driver.post("http://127.0.0.2/")
    for fd in spare:
        os.close(fd)
    assert result.attempt.cause == "internal"
    assert "Too many open files" in result.attempt.error
    assert driver.post(receiver.url + path).attempt.status == 204


def test_closing_leaves_nothing_behind(receiver: ReceiverProcess, path: str) -> None:
    """Requests under way, one of them resolving a name, idle connections: close() ends all of it.
    No descriptor, no thread, no warning (warnings are errors here)."""
    receiver.behave(Behaviour(fault="hang"), path + "-hanging")
    before = descriptors(), len(os.listdir("/proc/self/task")), threading.active_count()
    for _ in range(3):
        driver = Driver()
        for _ in range(8):
            driver.send(receiver.url + path)
        driver.finish()
        for _ in range(5):
            driver.send(receiver.url + path + "-hanging")
        driver.send(f"http://localhost:{receiver.port}{path}-hanging")
        driver.step()
        assert len(driver.sender.tags()) == 6
        driver.sender.close()
    assert (descriptors(), len(os.listdir("/proc/self/task")), threading.active_count()) == before


def test_in_flight_is_what_was_sent_and_is_not_finished(
    receiver: ReceiverProcess, path: str
) -> None:
    """It grows with each request up to the size, and shrinks with each result."""
    driver = Driver(4)
    for sent in (1, 2, 3, 4):
        driver.send(receiver.url + path)
        assert (driver.sender.in_flight, driver.sender.size) == (sent, 4)
    driver.finish()
    assert driver.sender.in_flight == 0
    assert driver.sender.tags() == []
    driver.sender.close()


def test_old_addresses_are_refused_once_a_second(
    receiver: ReceiverProcess, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most requests take what the DNS cache has. The first in a second asks anew for what is too old,
    and after a pause all do until one of them has ended."""
    monkeypatch.setattr(sender_module, "DNS_TTL_S", 0)
    driver = Driver()
    target = make_target(f"http://localhost:{receiver.port}{path}")
    second = 1_000_000_000

    def post(*times_ns: int) -> list[bool]:
        """Return whether each took a cached address."""
        said: list[list[str]] = []
        for time_ns in times_ns:
            lines: list[str] = []
            said.append(lines)
            transfer = driver.sender.send(target, [], BODY, None, time_ns)
            transfer.curl.setopt(pycurl.FORBID_REUSE, 1)
            transfer.curl.setopt(pycurl.VERBOSE, 1)
            transfer.curl.setopt(
                pycurl.DEBUGFUNCTION,
                lambda kind, text, lines=lines: lines.append(text.decode("latin-1")),
            )
        driver.sender.start()
        driver.finish()
        return [any("found in DNS cache" in line for line in lines) for lines in said]

    start = 100 * second
    assert post(start, start) == [False, False]
    # What asks anew removes what is too old, so nothing is left at first.
    assert sorted(post(start + 1, start + 2)) == [False, True]
    assert post(start + 3, start + second - 1) == [True, True]
    assert post(start + second, start + second) == [False, True]
    assert post(start + 10 * second, start + 10 * second) == [False, False]
    assert post(start) == [False]  # a clock that was set back
    driver.sender.close()


def test_stages_are_of_what_happened(receiver: ReceiverProcess, path: str) -> None:
    """A new connection has them all but TLS; one that was there already only the wait."""
    driver = Driver()
    target = make_target(receiver.url + path)
    found = []
    for _ in range(2):
        driver.sender.send(target, HEADERS, BODY, None, time.time_ns())
        driver.sender.start()
        while driver.sender.in_flight:
            for transfer, _, _ in driver.sender.step(0.25):
                found.append((transfer.opened, transfer.stages()))
                driver.sender.release(transfer)
    (opened, new), (opened_again, kept) = found
    assert (opened, opened_again) == (True, False)
    assert new.connect_us > 0
    assert new.first_byte_us > 0
    assert new.tls_us == 0
    assert kept[:3] == (0, 0, 0)
    assert kept.first_byte_us > 0
    driver.sender.close()
