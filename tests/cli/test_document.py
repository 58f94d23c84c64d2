"""FluxGate's documentation, followed word by word: its command, its event, its signature, its host."""

from __future__ import annotations

import http.server
import queue
import shlex
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import stripe

from cli.conftest import Start, json, until
from support.tls import Authority, server_context

#: as the documentation prints it, but for the program's name
COMMAND = (
    "webhook create --type route.error --url https://hooks.example.com/fg "
    "--secret sk_live_9x8m2p --timeout 3s"
)
#: the `data` of the documentation's example
DATA = (
    '{"request_id": "req_7h3k9m2p", "path": "/api/v2/inventory", "status_code": 503, '
    '"upstream_service": "stock-manager", "latency_ms": 2450}'
)


class Request(NamedTuple):
    host: str
    path: str
    signature: str
    body: bytes


class Internet(NamedTuple):
    """What leads to hooks.example.com: a proxy, and the authority that vouches for the host."""

    proxy: str
    ca: str
    requests: queue.Queue[Request]


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    """A receiver with a certificate for hooks.example.com, and a proxy that leads there."""
    authority = Authority(tmp_path / "ca")
    identity = authority.issue("hooks", san="DNS:hooks.example.com")
    requests: queue.Queue[Request] = queue.Queue()

    class Hooks(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            signature = self.headers["X-FluxGate-Signature"]
            requests.put(Request(self.headers["Host"], self.path, signature, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Tunnel(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            method, target, _ = self.rfile.readline().split()
            while self.rfile.readline().strip():
                pass
            assert (method, target) == (b"CONNECT", b"hooks.example.com:443")
            with socket.create_connection(("127.0.0.1", hooks.server_port)) as beyond:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=copy, args=(beyond, self.request), daemon=True)
                back.start()
                copy(self.request, beyond)
                back.join()

    with ExitStack() as stack:
        hooks = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hooks))
        hooks.daemon_threads = True
        hooks.socket = server_context(identity).wrap_socket(hooks.socket, server_side=True)
        proxy = stack.enter_context(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnel))
        proxy.daemon_threads = True
        for server in (hooks, proxy):
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            stack.callback(server.shutdown)
        yield Internet(f"http://127.0.0.1:{proxy.server_address[1]}", authority.cert, requests)


def copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:  # either end has gone
        pass


def test_the_documents_own_line(start: Start, tmp_path: Path, internet: Internet) -> None:
    """`webhook create` as printed; the event that follows reaches hooks.example.com over TLS, and a
    verifier that is not ours accepts its signature."""
    (tmp_path / "gateway.yaml").write_text(
        f"""
        webhook:
          preset: fluxgate
          gateway_node: us-east-1-prod-04
          workers: 1
          allow_networks: [127.0.0.0/8]
          defaults: {{proxy: "{internet.proxy}", tls: {{ca: "{internet.ca}"}}}}
        """
    )
    engine = start("serve", "--config", "gateway.yaml", "--admin", "127.0.0.1:0")
    assert engine.line().startswith("fluxhook serves")
    until((tmp_path / "fluxhook-data" / "admin.json").exists, "the admin API")

    created = start(*shlex.split(COMMAND)).end()
    assert created.exit_code == 0, created.stderr
    assert "hooks.example.com" in created.stdout
    assert "sk_live_9x8m2p" not in created.stdout + created.stderr
    emitted = start("emit", "route.error", "--data", DATA).end()
    assert emitted.exit_code == 0, emitted.stderr

    request = internet.requests.get(timeout=20)
    assert (request.host, request.path) == ("hooks.example.com", "/fg")
    # The scheme is Stripe's: t=<unix>,v1=<HMAC-SHA256 of "<t>.<body>">.
    assert stripe.WebhookSignature.verify_header(
        request.body.decode(), request.signature, "sk_live_9x8m2p", tolerance=300
    )
    envelope = json(request.body)
    assert list(envelope) == ["id", "type", "timestamp", "gateway_node", "data"]
    assert envelope["type"] == "route.error"
    assert envelope["gateway_node"] == "us-east-1-prod-04"
    assert envelope["data"] == json(DATA)
    assert internet.requests.empty()
