"""nginx as a receiver that is not ours: HTTP/2 over TLS, and over TCP from the first byte; and as what
stands before the admin API.

The receiver answers every POST with 204 and writes down on which connection it came.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from bench.receiver import find_program

from support.tls import Identity, self_signed

_CONFIG = """
master_process off;
daemon off;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    log_format seen "$connection $server_protocol $status $request_length";
    access_log access.log seen;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    keepalive_requests {per_connection};
    server {{
        listen 127.0.0.1:{h2c} http2;
        listen 127.0.0.1:{h2} ssl http2;
        listen 127.0.0.1:{tls} ssl;
        location / {{ return 204; }}
    }}
}}
"""

_PROXY = """
master_process off;
daemon off;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {shipped}
}}
"""
_SHIPPED = Path(__file__).parents[2] / "deploy/nginx/fluxhook.conf"


class Seen(NamedTuple):
    """The requests that arrived: by their protocol, and by the connection they came on."""

    protocols: Counter[str]
    connections: Counter[str]


class Nginx:
    """A context manager. `tls` is an HTTPS port without HTTP/2. A connection is closed after
    `per_connection` requests."""

    def __init__(self, *, per_connection: int = 1_000_000) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="nginx-")
        self._path = Path(self._temporary.name)
        identity: Identity = self_signed(self._path, "receiver")
        self.ca = identity.cert
        ports = _free_ports(3)
        self.h2c, self.h2, self.tls = (
            f"{scheme}://127.0.0.1:{port}/"
            for scheme, port in zip(("http", "https", "https"), ports, strict=True)
        )
        (self._path / "nginx.conf").write_text(
            _CONFIG.format(
                cert=identity.cert,
                key=identity.key,
                h2c=ports[0],
                h2=ports[1],
                tls=ports[2],
                per_connection=per_connection,
            )
        )
        self._process = _start(self._path, ports[0])

    def __enter__(self) -> Nginx:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._temporary.cleanup()

    def seen(self) -> Seen:
        """Return what was answered so far; a line is written after its answer."""
        lines = [line.split() for line in (self._path / "access.log").read_text().splitlines()]
        assert {status for _, _, status, _ in lines} <= {"204"}
        return Seen(
            Counter(protocol for _, protocol, _, _ in lines),
            Counter(connection for connection, _, _, _ in lines),
        )


class Proxy:
    """deploy/nginx/fluxhook.conf before the admin API at `upstream` (`host:port`), on a free port and
    with a certificate of its own. `strip`: it takes the path off, as `proxy_pass` with a path does."""

    def __init__(self, upstream: str, *, strip: bool = False) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="nginx-")
        path = Path(self._temporary.name)
        identity = self_signed(path, "proxy")
        (port,) = _free_ports(1)
        self.ca = identity.cert
        self.url = f"https://127.0.0.1:{port}/hooks"
        shipped = _SHIPPED.read_text()
        for written, own in (
            ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
            ("/etc/nginx/tls/hooks.example.com.pem", str(identity.cert)),
            ("/etc/nginx/tls/hooks.example.com.key", str(identity.key)),
            ("http://127.0.0.1:8090;", f"http://{upstream}{'/' if strip else ''};"),
        ):
            assert written in shipped, written
            shipped = shipped.replace(written, own)
        (path / "nginx.conf").write_text(_PROXY.format(shipped=shipped))
        self._process = _start(path, port)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._temporary.cleanup()


def _start(path: Path, port: int) -> subprocess.Popen[bytes]:
    """Start nginx with the `nginx.conf` of a folder; return once it listens."""
    program = find_program("nginx", "nginx-light")
    process = subprocess.Popen([program, "-p", str(path), "-c", "nginx.conf", "-e", "stderr"])
    deadline = time.monotonic() + 10
    while not _accepts(port):
        assert process.poll() is None, "nginx has ended"
        assert time.monotonic() < deadline, "nginx does not listen"
    return process


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
