"""The receivers: nginx, which is fast and counts, and a socket that notes when a first byte arrives."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

START_TIMEOUT_S = 10.0
CONFIGURATION = Path(__file__).resolve().parent.parent / "nginx.conf"


class Nginx:
    """One nginx process on a free port of as many loopback addresses as there are endpoints, below a
    directory of its own."""

    def __init__(self, directory: Path, hosts: int = 1) -> None:
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"  # not in every user's PATH
        program = shutil.which("nginx", path=path)
        if program is None:
            sys.exit("bench: nginx is missing; on Debian: apt-get install nginx-light")
        version = subprocess.run([program, "-v"], capture_output=True, text=True).stderr
        self.version = version.rpartition(":")[2].strip()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        addresses = [f"{_address(n)}:{port}" for n in range(hosts)]
        self.urls = [f"http://{address}" for address in addresses]
        self._recovered = directory / "recovered"
        self._own_requests = 0
        configuration = directory / "nginx.conf"
        listens = [f"listen {address} backlog=4096;\n" for address in addresses]
        (directory / "listen.conf").write_text("".join(listens))
        shutil.copy(CONFIGURATION, configuration)
        self._process = subprocess.Popen(
            [program, "-p", str(directory), "-c", str(configuration)], cwd=directory
        )
        self.pid = self._process.pid
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.requests()
                return
            except (urllib.error.URLError, ConnectionError):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    sys.exit("bench: nginx does not start; what it said stands above")
                time.sleep(0.02)

    def requests(self) -> int:
        """How many requests it has had, those that ask for this aside (ngx_http_stub_status)."""
        with urllib.request.urlopen(f"{self.urls[0]}/status", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        self._own_requests += 1
        return int(lines[2].split()[2]) - self._own_requests

    def recover(self, recovered: bool) -> None:
        """Whether /flaky answers 204 from now on, instead of 503."""
        if recovered:
            self._recovered.touch()
        else:
            self._recovered.unlink(missing_ok=True)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _address(n: int) -> str:
    """Each endpoint has a host of its own, as they have in life: libcurl searches the connections
    to one host one by one."""
    return f"127.{n // 62_500}.{n // 250 % 250}.{n % 250 + 1}"


class FirstByte:
    """A receiver in this process, for one connection at a time."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(START_TIMEOUT_S)
        self._connection: socket.socket | None = None
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def time_ns(self, cause: Callable[[], object]) -> int:
        """The time from before `cause` is called until the first byte of the request is here."""
        begun_ns = time.perf_counter_ns()
        cause()
        request = self._receive()
        elapsed_ns = time.perf_counter_ns() - begun_ns
        while not _whole(request):
            request += self._receive()
        assert self._connection is not None
        self._connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        return elapsed_ns

    def _receive(self) -> bytes:
        while True:
            if self._connection is None:
                self._connection, _ = self._listener.accept()
                self._connection.settimeout(START_TIMEOUT_S)
                self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if received := self._connection.recv(65_536):
                return received
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        self._listener.close()
        if self._connection is not None:
            self._connection.close()


def _whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    if not end:
        return False
    length = next(
        int(line.partition(b":")[2])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    return len(body) >= length
