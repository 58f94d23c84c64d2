"""The receivers: nginx, which is fast and counts; one that looks into the bodies; and a socket that
notes when a first byte arrives."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, cast

from bench.machine import ROOT
from bench.rows import Load

START_TIMEOUT_S = 10.0
#: socket(7); the socket module has no name for it
SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("@ll")
CONFIGURATION = Path(__file__).with_name("nginx.conf")


class Missing(Exception):
    """A program that the benchmark cannot do without. The text names the Debian package."""


class Receiver(Protocol):
    """What a stage wants to know of the other side."""

    @property
    def pid(self) -> int: ...
    def urls(self, load: Load) -> list[str]: ...
    def requests(self) -> int: ...


def address(n: int) -> str:
    """Return an endpoint's address. Each has a host of its own, as they have in life: libcurl
    searches the connections to one host one by one."""
    return f"127.{n // 62_500}.{n // 250 % 250}.{n % 250 + 1}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((address(0), 0))
        port: int = probe.getsockname()[1]
        return port


def find_program(name: str, package: str) -> str:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"  # not in every user's PATH
    program = shutil.which(name, path=path)
    if program is None:
        raise Missing(f"{name} is missing; on Debian: apt-get install {package}")
    return program


def make_certificate(directory: Path) -> Path:
    """Make a throw-away certificate for `address(0)`, receiver.pem beside receiver.key; its own CA."""
    command = ["req", "-x509", "-days", "2", "-nodes"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-subj", "/CN=fluxhook-bench", "-addext", f"subjectAltName=IP:{address(0)}"]
    command += ["-keyout", "receiver.key", "-out", "receiver.pem"]
    subprocess.run(
        [find_program("openssl", "openssl"), *command],
        cwd=directory,
        check=True,
        capture_output=True,
    )
    return directory / "receiver.pem"


class Child:
    """A process that ends with the block."""

    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Program(Child):
    """A module of bench.programs that answers each line of JSON with one, the first without being
    asked."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._name = module
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"bench.programs.{module}", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.greeting = self.hear()

    def tell(self, **command: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.close()
            sys.exit(f"bench: the program {self._name} ended; what it said stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, **command: object) -> dict[str, Any]:
        self.tell(**command)
        return self.hear()


class Nginx(Child):
    """One nginx process on free ports of as many loopback addresses as there are endpoints, below a
    directory of its own."""

    def __init__(self, directory: Path, hosts: int = 1) -> None:
        program = find_program("nginx", "nginx-light")
        version = subprocess.run([program, "-v"], capture_output=True, text=True).stderr
        self.version = version.rpartition(":")[2].strip()
        self.certificate = make_certificate(directory)
        port, self._tls_port = free_port(), free_port()
        self._addresses = [f"{address(n)}:{port}" for n in range(hosts)]
        self._recovered = directory / "recovered"
        self._own_requests = 0
        listens = [f"listen {each} backlog=4096;\n" for each in self._addresses]
        listens.append(f"listen {address(0)}:{self._tls_port} ssl http2 backlog=4096;\n")
        (directory / "listen.conf").write_text("".join(listens))
        configuration = directory / "nginx.conf"
        shutil.copy(CONFIGURATION, configuration)
        self.process = subprocess.Popen(
            [program, "-p", str(directory), "-c", str(configuration)], cwd=directory, text=True
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.requests()
                return
            except (urllib.error.URLError, ConnectionError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    sys.exit("bench: nginx does not start; what it said stands above")
                time.sleep(0.02)

    def urls(self, load: Load) -> list[str]:
        if load.tls:
            return [f"https://{address(0)}:{self._tls_port}{load.reply}"] * load.endpoints
        return [f"http://{host}{load.reply}" for host in self._addresses[: load.endpoints]]

    def requests(self) -> int:
        """Return how many requests it has had, those that ask for this aside (ngx_http_stub_status)."""
        with urllib.request.urlopen(f"http://{self._addresses[0]}/status", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        self._own_requests += 1
        return int(lines[2].split()[2]) - self._own_requests

    def recover(self, recovered: bool) -> None:
        """Say whether /flaky answers 204 from now on, instead of 503."""
        if recovered:
            self._recovered.touch()
        else:
            self._recovered.unlink(missing_ok=True)


class CountingReceiver(Program):
    """bench.programs.counting: looks into the bodies; with `slow` each answer takes its time."""

    def __init__(self, hosts: int, *, slow: bool = False, certificate: Path | None = None) -> None:
        self._port = free_port()
        self._scheme = "https" if certificate else "http"
        super().__init__(
            "counting",
            str(self._port),
            *[address(n) for n in range(hosts)],
            *(["--slow"] if slow else []),
            *(["--certificate", str(certificate)] if certificate else []),
        )

    def urls(self, load: Load) -> list[str]:
        return [f"{self._scheme}://{address(n)}:{self._port}/" for n in range(load.endpoints)]

    def requests(self) -> int:
        """Return the events that came, each time that they came; as many as requests, but for
        batches."""
        return int(self.ask()["events"])

    def distinct(self) -> int:
        """Return the ids that came at least once."""
        return int(self.ask()["distinct"])


class Delay(NamedTuple):
    """How long a request's first byte took, in nanoseconds: until the system had it (by its own mark
    on the packet, SO_TIMESTAMPNS), and until this program had it, which the system has to wake."""

    arrived_ns: int
    read_ns: int


class FirstByte:
    """A receiver in this process, for one request at a time, over whichever connection it comes: a
    worker that was kept from reading the last answer sends the next request over another one."""

    def __init__(self) -> None:
        self._listener = socket.create_server((address(0), 0))
        self._listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)  # connections inherit it
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self.url = f"http://{address(0)}:{self._listener.getsockname()[1]}"

    def delay(self, cause: Callable[[], object]) -> Delay:
        """Return the time from before `cause` is called until the first byte of the request is here."""
        begun_ns = time.time_ns()  # the clock of the system's marks
        cause()
        connection, request, arrived_ns = self._first()
        delay = Delay(arrived_ns - begun_ns, time.time_ns() - begun_ns)
        while not _whole(request):
            more = connection.recv(65_536)
            assert more, "the connection was closed within a request"
            request += more
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        return delay

    def _first(self) -> tuple[socket.socket, bytes, int]:
        """Return the connection that a request comes over, the first bytes of that, and when they
        arrived."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            for key, _ in self._selector.select(START_TIMEOUT_S):
                if key.fileobj is self._listener:
                    connection, _ = self._listener.accept()
                    connection.settimeout(START_TIMEOUT_S)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._selector.register(connection, selectors.EVENT_READ)
                    continue
                connection = cast(socket.socket, key.fileobj)
                received, notes, _, _ = connection.recvmsg(65_536, socket.CMSG_SPACE(TIMESPEC.size))
                if received:
                    [(_, _, mark)] = notes
                    seconds, ns = TIMESPEC.unpack(mark)
                    return connection, received, seconds * 1_000_000_000 + ns
                self._selector.unregister(connection)
                connection.close()
        raise TimeoutError("no request comes")

    def close(self) -> None:
        for key in list(self._selector.get_map().values()):
            cast(socket.socket, key.fileobj).close()
        self._selector.close()


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
