"""The admin process: it announces itself, follows its parent, and says why it cannot start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import select
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from admin.conftest import ALL, DEADLINE_S, TOKENS, config, until
from fluxhook.admin import server
from fluxhook.admin.background import NICENESS
from fluxhook.admin.server import bind
from fluxhook.config.listen_address import parse_listen
from fluxhook.config.schema import Admin, Config
from fluxhook.errors import ConfigError
from fluxhook.supervisor.supervisor import Supervisor
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.snapshot import Snapshot
from support.tls import Authority, encrypted


class Process:
    """`python -m fluxhook.admin`, as the supervisor starts it."""

    def __init__(self, data_dir: Path) -> None:
        self.file = DataDir(data_dir).admin_file
        alive_read, self.alive = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fluxhook.admin", "serve", str(alive_read), str(data_dir)],
            pass_fds=[alive_read],
            stderr=subprocess.PIPE,
        )
        os.close(alive_read)

    def announced(self) -> dict[str, Any]:
        def file() -> dict[str, Any] | None:
            assert self.process.poll() is None, self.end()
            return msgspec.json.decode(self.file.read_bytes()) if self.file.exists() else None

        found: dict[str, Any] = until(file, "admin.json")
        return found

    def let_go(self) -> None:
        """Do what the parent's death does."""
        if self.alive >= 0:
            os.close(self.alive)
            self.alive = -1

    def end(self) -> tuple[int, str]:
        """Wait for the end; return its status, and what it said."""
        _, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, err.decode()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    """Start admin processes over an engine that was stopped."""
    processes: list[Process] = []
    data_dir = tmp_path / "data"

    def start(admin: Admin | None = None, *, raw: Config | None = None) -> Process:
        Supervisor(
            data_dir, config(admin=admin or Admin(listen="127.0.0.1:0", dashboard=False))
        ).close()
        if raw is not None:  # what `check` would refuse
            datadir = DataDir(data_dir)
            msgspec.structs.replace(Snapshot.load(datadir), config=raw).save(datadir)
        processes.append(process := Process(data_dir))
        return process

    yield start
    for process in processes:
        process.let_go()
        if process.process.poll() is None:
            process.process.kill()
        process.process.communicate()


def test_it_announces_itself(started: Any) -> None:
    """admin.json has the URL of the free port and a token of all scopes, for its owner alone."""
    process = started(Admin(listen="127.0.0.1:0", dashboard=False, tokens=TOKENS))
    own = process.announced()
    assert own["pid"] == process.process.pid
    assert os.stat(process.file).st_mode & 0o777 == 0o600
    with httpx.Client(base_url=own["url"]) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/webhooks").status_code == 401
        headers = {"Authorization": f"Bearer {own['token']}"}
        assert client.get("/v1/webhooks", headers=headers).status_code == 200
    assert os.getpriority(os.PRIO_PROCESS, own["pid"]) == NICENESS


@pytest.mark.parametrize("how", ["parent", "word", "SIGTERM"])
def test_it_ends_cleanly(started: Any, how: str) -> None:
    """With its parent, when told to drain, or by SIGTERM; admin.json is gone then."""
    process = started()
    process.announced()
    if how == "parent":
        process.let_go()
    elif how == "word":
        os.write(process.alive, b"d")
    else:
        process.process.terminate()
    status, said = process.end()
    assert status == 0, said
    assert not process.file.exists()
    assert "Traceback" not in said


def test_ctrl_c_is_left_to_the_supervisor(started: Any) -> None:
    """It reaches the whole group; the admin process goes on until its parent says otherwise."""
    process = started()
    own = process.announced()
    process.process.send_signal(2)
    assert httpx.get(f"{own['url']}/healthz").status_code == 200


def test_a_taken_port_is_said(started: Any) -> None:
    """One line with the remedy, status 1, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = started(Admin(listen=f"127.0.0.1:{port}", dashboard=False))
        status, said = process.end()
    assert status == 1
    assert f"127.0.0.1:{port} cannot be listened on" in said
    assert "choose another" in said
    assert "Traceback" not in said
    assert not process.file.exists()


def test_it_does_not_open_to_the_outside_without_a_token(started: Any) -> None:
    """Even where a configuration came by without being checked."""
    process = started(raw=config(admin=Admin(listen="0.0.0.0:0")))
    status, said = process.end()
    assert status == 1
    assert "there is no token" in said
    assert "Traceback" not in said


def test_every_address_is_announced_as_this_machine(started: Any) -> None:
    """`:0` listens everywhere; who reads admin.json is here."""
    process = started(Admin(listen=":0", dashboard=False, tokens=TOKENS))
    own = process.announced()
    assert own["url"].startswith("http://127.0.0.1:")
    headers = {"Authorization": f"Bearer {ALL}", "Host": "hooks.example.com"}
    assert httpx.get(f"{own['url']}/v1/webhooks", headers=headers).status_code == 200


def test_it_speaks_https(started: Any, tmp_path: Path) -> None:
    """With a certificate of its own; one that cannot be used is said."""
    authority = Authority(tmp_path / "ca")
    identity = authority.issue("localhost")
    process = started(
        Admin(listen="localhost:0", cert=identity.cert, key=identity.key, dashboard=False)
    )
    own = process.announced()
    assert own["url"].startswith("https://localhost:")
    context = ssl.create_default_context(cafile=authority.cert)
    assert httpx.get(f"{own['url']}/healthz", verify=context).status_code == 200
    process.let_go()
    assert process.end()[0] == 0
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    process = started(Admin(listen="localhost:0", cert=str(broken), key=str(broken)))
    status, said = process.end()
    assert status == 1
    assert "webhook.admin.cert" in said
    assert "Traceback" not in said


def test_a_certificate_that_was_replaced_is_read_again(started: Any, tmp_path: Path) -> None:
    """By itself, once certificate and key fit; until then the former ones stay in force."""
    authorities = [Authority(tmp_path / name, name) for name in ("one", "two")]
    first, second = (authority.issue("localhost") for authority in authorities)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def answers(authority: Authority) -> bool:
        try:
            context = ssl.create_default_context(cafile=authority.cert)
            return httpx.get(f"{url}/healthz", verify=context).status_code == 200
        except httpx.ConnectError:
            return False

    cert.write_bytes(Path(first.cert).read_bytes())
    key.write_bytes(Path(first.key).read_bytes())
    process = started(Admin(listen="localhost:0", cert=str(cert), key=str(key), dashboard=False))
    url = process.announced()["url"]
    assert answers(authorities[0])
    cert.write_bytes(Path(second.cert).read_bytes())
    assert answers(authorities[0])
    key.write_bytes(Path(second.key).read_bytes())
    end = time.monotonic() + 30
    while not answers(authorities[1]):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert not answers(authorities[0])
    process.let_go()
    status, said = process.end()
    assert status == 0
    assert "Traceback" not in said


def test_an_encrypted_key_is_refused(started: Any, tmp_path: Path) -> None:
    """Nobody is asked for its password; nor is a FIFO waited for."""
    identity = Authority(tmp_path / "ca").issue("localhost")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for key in (encrypted(identity.key), str(fifo)):
        status, said = started(Admin(listen="localhost:0", cert=identity.cert, key=key)).end()
        assert status == 1
        assert "webhook.admin.key" in said


def test_a_directory_without_an_engine_is_said(tmp_path: Path) -> None:
    """There is nothing to administer."""
    process = Process(tmp_path / "nothing")
    try:
        status, said = process.end()
    finally:
        process.let_go()
    assert status == 1
    assert "no fluxhook engine was ever started" in said
    assert "Traceback" not in said


def test_open_connections_do_not_hold_it_up(started: Any) -> None:
    """One that was kept alive, and one that says nothing."""
    process = started()
    own = process.announced()
    host, port = own["url"].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as silent, httpx.Client() as client:
        assert client.get(f"{own['url']}/healthz").status_code == 200
        process.let_go()
        assert process.end()[0] == 0
        readable, _, _ = select.select([silent], [], [], DEADLINE_S)
        assert readable


@pytest.mark.parametrize("text", ["127.0.0.1:0", "localhost:0", "[::1]:0", ":0"])
def test_answers_do_not_wait(text: str) -> None:
    """Nagle's algorithm is off for every connection, or each answer of two writes would take 40 ms."""
    with bind(parse_listen(text)) as listening:
        address = listening.getsockname()[:2]
        with socket.create_connection(address):
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_address_of_another_machine_is_said() -> None:
    """So is a name that leads nowhere."""
    for text in ("192.0.2.1:0", "nowhere.invalid:0"):
        with pytest.raises(ConfigError, match="cannot be listened on"):
            bind(parse_listen(text))


ODD = (
    b"GET /%00 HTTP/1.1",
    b"GET /v1/x%0aERROR%20forged HTTP/1.1",
    b"GET /v1/webhooks/%ff?x=%0a HTTP/1.1",
    b"GET /v1/deliveries?endpoint=%ff%0aERROR HTTP/1.1",
    b"GET /\xff\xfe HTTP/1.1",
    b"GET /" + b"a" * 60_000 + b" HTTP/1.1",
    b"GET /_nicegui/x%0d%0aERROR HTTP/1.1",
    b"GET /_dashboard/..%2f..%2fapp.py HTTP/1.1",
    b"GET http://[::1/x HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"CONNECT a:1 HTTP/1.1",
    b"GET / HTTP/1.1\r\nOrigin: http://[",
    b"GET / HTTP/1.1\r\nOrigin: \xff\xfe",
    b"GET /login HTTP/1.1\r\nCookie: \xff=;=;",
    b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade",
    b"GET /_nicegui_ws/%0a HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13",
    b"PRI * HTTP/2.0",
    b"\x16\x03\x01",
)
#: what a proxy says of who asks, and anybody may
FORGED = b"X-Forwarded-For: 192.0.2.1\r\n"
#: what is sent of a body that breaks off
BROKEN = (b"Content-Length: 1000\r\n\r\ntoken=", b"Transfer-Encoding: chunked\r\n\r\n5\r\nab")


def test_strangers_leave_no_traceback(started: Any) -> None:
    """Odd paths, heads and origins, and bodies that break off, with and without a token: an answer or
    the end of the connection, no traceback, and no line in the log but of failed tokens, with the
    address that they came from."""
    process = started(Admin(listen="127.0.0.1:0", tokens=TOKENS))
    own = process.announced()
    address = ("127.0.0.1", int(own["url"].rpartition(":")[2]))

    def ask(sent: bytes, whole: bool = True) -> None:
        with socket.create_connection(address, timeout=DEADLINE_S) as connection:
            connection.sendall(sent)
            if whole:
                assert not connection.recv(65_536).startswith(b"HTTP/1.1 500")

    for head in ODD:
        ask(head + b"\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    bearer = f"Authorization: Bearer {ALL}\r\n".encode()
    for path in (b"/login", b"/logout", b"/v1/events", b"/v1/webhooks", b"/_nicegui_ws/socket.io/"):
        for body in BROKEN:
            for who in (b"", bearer, b"Authorization: Bearer wrong\r\n"):
                media = b"Content-Type: application/json\r\n"
                head = b"POST " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n" + FORGED
                ask(head + who + media + body, whole=False)
    assert httpx.get(f"{own['url']}/healthz").status_code == 200
    process.let_go()
    status, said = process.end()
    assert status == 0
    lines = said.splitlines()
    assert "the admin API listens on" in lines.pop(0)
    assert all("a token that is not known came from 127.0.0.1" in line for line in lines), said


def test_half_sent_heads_shut_nobody_out(started: Any) -> None:
    """More of them than there may be connections."""
    process = started()
    host, port = process.announced()["url"].removeprefix("http://").split(":")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        with contextlib.ExitStack() as held:
            for _ in range(1060):
                one = held.enter_context(socket.create_connection((host, int(port))))
                one.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
            for path in ("/healthz", "/v1/webhooks"):
                answer = httpx.get(f"http://{host}:{port}{path}", timeout=DEADLINE_S)
                assert answer.status_code == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_tls_handshake_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it has ended uvicorn knows nothing of a connection."""
    monkeypatch.setattr(server, "HANDSHAKE_S", 0.2)
    identity = Authority(tmp_path / "ca").issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.cert, identity.key)

    async def silent() -> bytes:
        loop = asyncio.get_running_loop()
        with bind(parse_listen("127.0.0.1:0")) as bound:
            listening = await loop.create_server(asyncio.Protocol, sock=bound, ssl=context)
            reader, writer = await asyncio.open_connection(*bound.getsockname())
            async with asyncio.timeout(DEADLINE_S / 2):
                said = await reader.read()
            writer.close()
            listening.close()
        return said

    with asyncio.Runner(loop_factory=server.make_loop) as runner:
        assert runner.run(silent()) == b""


@pytest.mark.parametrize(("trusted", "named"), [((), "127.0.0.1"), (("127.0.0.1",), "203.0.113.9")])
def test_who_asks_is_said_by_a_trusted_proxy_alone(
    started: Any, trusted: tuple[str, ...], named: str
) -> None:
    """Otherwise it is the one that has connected, whatever a header says."""
    admin = Admin(listen="127.0.0.1:0", dashboard=False, tokens=TOKENS, trusted_proxies=trusted)
    process = started(admin)
    forged = {"Authorization": "Bearer x", "X-Forwarded-For": "198.51.100.1, 203.0.113.9"}
    url = process.announced()["url"]
    assert httpx.get(f"{url}/v1/webhooks", headers=forged).status_code == 401
    process.let_go()
    _, said = process.end()
    assert f"a token that is not known came from {named}" in said


@pytest.mark.parametrize(
    "error", [ImportError("no such package"), RuntimeError("odd"), KeyError(1)]
)
def test_a_dashboard_that_cannot_be_made_leaves_the_api_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """Whatever is wrong with it, one line says so."""

    def fail(_: object) -> None:
        raise error

    class App:
        def mount(self, app: object) -> None:
            raise AssertionError("nothing is there to be mounted")

    monkeypatch.setattr("fluxhook.admin.dashboard.create_dashboard", fail)
    server.mount_dashboard(App())  # type: ignore[arg-type]
    assert "the API serves without it" in caplog.text
    assert type(error).__name__ in caplog.text
