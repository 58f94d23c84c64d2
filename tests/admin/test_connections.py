"""Connections that say nothing, or too much, or read nothing, in a real server with short deadlines."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from admin.conftest import DEADLINE_S, until
from fluxhook.admin import connections as module
from fluxhook.admin import server as server_module
from fluxhook.admin.connections import Connections
from support.tls import Authority

LIMIT = 20
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


class Served:
    """A server in a thread. `/held` answers when it is let go, `/large` with more than sockets take."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.connections = Connections(LIMIT)
        self.held = 0
        self._go = asyncio.Event()
        config = uvicorn.Config(
            self._app,
            http=self.connections.protocol,  # type: ignore[arg-type]
            lifespan="off",
            interface="asgi3",
            log_config=None,
        )
        config.load()
        config.ssl = tls
        self._server = uvicorn.Server(config)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = self._listening.getsockname()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Served:
        self._thread.start()
        until(lambda: self._server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._go.set)
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(DEADLINE_S)
        self._listening.close()
        assert not self._thread.is_alive()

    def let_go(self) -> None:
        self._loop.call_soon_threadsafe(self._go.set)

    def connect(self, *sent: bytes) -> socket.socket:
        made = socket.create_connection(self.address, timeout=DEADLINE_S)
        for piece in sent:
            made.sendall(piece)
        return made

    def answers(self) -> bool:
        return httpx.get(f"http://127.0.0.1:{self.address[1]}/", timeout=DEADLINE_S).text == "here"

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=server_module.make_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        sweeping = asyncio.create_task(self.connections.keep_sweeping())
        await self._server.serve(sockets=[self._listening])
        sweeping.cancel()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        body = b"here"
        if scope["path"] == "/held":
            self.held += 1
            await self._go.wait()
        if scope["path"] == "/large":
            body = bytes(1 << 24)
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        for i in range(0, len(body), 1 << 16):
            part = body[i : i + (1 << 16)]
            more = i + len(part) < len(body)
            await send({"type": "http.response.body", "body": part, "more_body": more})


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(module, "SWEEP_S", 0.02)
    with Served() as served:
        yield served


def ended(connection: socket.socket) -> bytes:
    """Return what came before the end."""
    said = b""
    try:
        while piece := connection.recv(65_536):
            said += piece
    except ConnectionResetError:
        pass
    return said


def test_half_sent_heads_keep_nobody_out(served: Served) -> None:
    """Three times as many as there may be: each new one is taken, and the oldest of these give way."""
    with ExitStack() as open_ones:
        many = [open_ones.enter_context(served.connect(HEAD)) for _ in range(3 * LIMIT)]
        for _ in range(3):
            assert served.answers()
        assert ended(many[0]) == b""
        assert len(served.connections) <= LIMIT
        many[-1].sendall(b"\r\n")
        assert many[-1].recv(15) == b"HTTP/1.1 200 OK"


def test_half_done_handshakes_keep_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection counts from when it is accepted, so those whose TLS never comes about give way too,
    and one that failed or ended counts no more."""
    monkeypatch.setattr(server_module, "HANDSHAKE_S", 10 * DEADLINE_S)
    authority = Authority(tmp_path / "ca")
    identity = authority.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.cert, identity.key)
    with Served(context) as served, ExitStack() as open_ones:
        url = f"https://127.0.0.1:{served.address[1]}/"
        trusting = ssl.create_default_context(cafile=authority.cert)
        many = [open_ones.enter_context(served.connect()) for _ in range(3 * LIMIT)]
        assert ended(many[0]) == b""
        assert httpx.get(url, verify=trusting, timeout=DEADLINE_S).text == "here"
        assert len(served.connections) <= LIMIT
        many[-1].sendall(HEAD)  # which is no TLS
        ended(many[-1])
        for one in many:
            one.close()
        until(lambda: len(served.connections) == 0)


def test_what_is_under_way_does_not_give_way(served: Served) -> None:
    """Requests that are being answered are, whatever comes meanwhile."""
    with ExitStack() as open_ones:
        request = b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n"
        held = [open_ones.enter_context(served.connect(request)) for _ in range(LIMIT // 2)]
        until(lambda: served.held == len(held))
        for _ in range(2 * LIMIT):
            open_ones.enter_context(served.connect(HEAD))
        assert served.answers()
        served.let_go()
        for one in held:
            assert one.recv(15) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("sent", [b"", HEAD, b"\r\n", b"G"])
def test_a_head_has_a_deadline(
    served: Served, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """However little of it came, and though more of it comes: 408, and the end."""
    monkeypatch.setattr(module, "HEAD_S", 0.2)
    with served.connect(sent) as slow:
        assert ended(slow).startswith(b"HTTP/1.1 408 ")
    with served.connect(HEAD) as dripping:
        dripping.settimeout(0.02)
        said = b""
        while not said:
            dripping.sendall(b"x")
            try:
                said = dripping.recv(100)
            except TimeoutError:
                continue
        assert said.startswith(b"HTTP/1.1 408 ")


def test_so_has_the_next_one(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a connection that is kept alive; so has a body that nobody wanted."""
    monkeypatch.setattr(module, "HEAD_S", 0.3)
    with served.connect(HEAD + b"\r\n") as kept:
        while b"here" not in kept.recv(65_536):
            pass
        kept.sendall(HEAD)
        assert ended(kept).startswith(b"HTTP/1.1 408 ")
    with served.connect(HEAD.replace(b"GET", b"POST") + b"Content-Length: 1000\r\n\r\nx") as unread:
        assert unread.recv(15) == b"HTTP/1.1 200 OK"
        unread.sendall(b"y")
        assert b"HTTP/1.1 408 " in ended(unread)


def test_a_head_has_a_size(served: Served) -> None:
    """431 beyond MAX_HEAD, whether its end ever comes or not."""
    with served.connect(HEAD) as long:
        line = b"X: " + b"a" * 65_000 + b"\r\n"
        said = b""
        try:
            for _ in range(20):
                long.sendall(line)
            said = ended(long)
        except (BrokenPipeError, ConnectionResetError):
            said = b"HTTP/1.1 431 "  # closed while more was sent
        assert said == b"" or said.startswith(b"HTTP/1.1 431 ")
    assert served.answers()


def test_who_does_not_read_is_left(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """His connection is closed with what is unsent, in the midst of an answer and after it."""
    monkeypatch.setattr(module, "MAX_WRITE_S", 0.2)
    monkeypatch.setattr(module, "MAX_CLOSE_S", 0.2)
    request = b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with served.connect(request):
        until(lambda: len(served.connections) == 1)
        until(lambda: len(served.connections) == 0)
    assert served.answers()


def test_who_reads_slowly_is_not(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as something goes through."""
    monkeypatch.setattr(module, "MAX_WRITE_S", 5.0)
    monkeypatch.setattr(module, "MAX_CLOSE_S", 5.0)
    with served.connect(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as slow:
        assert len(ended(slow)) > 1 << 24


def test_whoever_has_most_gives_way_first() -> None:
    """An address that opens many keeps another's few alone."""

    class Fake:
        def __init__(self, peer: str, waits: bool = True) -> None:
            self.peer, self.waits, self.aborted = peer, waits, False

        def abort(self) -> None:
            connections.remove(self)  # type: ignore[arg-type]
            self.aborted = True

    connections = Connections(5)
    modest, busy = Fake("192.0.2.1"), Fake("192.0.2.9", waits=False)
    greedy = [Fake("192.0.2.9") for _ in range(6)]
    for one in (modest, busy, *greedy):
        connections.add(one)  # type: ignore[arg-type]
    assert [one.aborted for one in greedy] == [True, True, True, False, False, False]
    assert not modest.aborted
    assert not busy.aborted
    assert len(connections) == 5
