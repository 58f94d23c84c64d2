"""nginx as a receiver that is not ours: HTTP/2 over TLS, and over TCP from the first byte.

It answers every POST with 204 and writes down on which connection it came.
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
        program = find_program("nginx", "nginx-light")
        self._process = subprocess.Popen(
            [program, "-p", str(self._path), "-c", "nginx.conf", "-e", "stderr"]
        )
        deadline = time.monotonic() + 10
        while not _accepts(ports[0]):
            assert self._process.poll() is None, "nginx has ended"
            assert time.monotonic() < deadline, "nginx does not listen"

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
