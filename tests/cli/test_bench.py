"""`fluxhook bench` measures what it says, and notices what is lost."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cli.conftest import Invoke, Start, json
from fluxhook import EngineError
from fluxhook.cli import bench, bench_load
from fluxhook.cli.bench_load import configuration, measure
from fluxhook.cli.bench_receiver import BenchReceiver, Report, event_id
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.engine import Engine
from fluxhook.receiver import Behaviour
from support.receiver import ReceiverProcess


def test_it_accounts_for_every_event(invoke: Invoke) -> None:
    """Against its own receiver: what was accepted arrived, once, and every figure is there."""
    done = invoke("bench", "--seconds", 0.5, "--endpoints", 3, "--payload", 1000, "--json")
    assert done.exit_code == ExitCode.OK, done.stderr
    said = json(done.stdout)
    assert said["accepted"] == said["delivered"] > 100
    assert (said["lost"], said["duplicates"], said["dead"], said["dropped"]) == (0, 0, 0, 0)
    assert (said["endpoints"], said["payload_bytes"]) == (3, 1000)
    assert said["workers"] >= 1
    assert said["seconds"] >= 0.5
    assert said["events_per_s"] > 0
    assert said["emit_cpu_us"] > 0
    assert said["engine_cpu_us"] > 0
    assert 0 < said["latency_ms"]["p50"] <= said["latency_ms"]["p99"]


def test_a_receiver_of_ones_own(invoke: Invoke, receiver: ReceiverProcess) -> None:
    """Its figures are the engine's own; a private address has to be allowed, as anywhere."""
    options = ("bench", "--seconds", 0.5, "--workers", 1, "--url", f"{receiver.url}/mine")
    refused = invoke(*options)
    assert refused.exit_code == ExitCode.CONFIG
    assert "allow_networks" in refused.stderr
    done = invoke(*options, "--allow-network", "127.0.0.0/8")
    assert done.exit_code == ExitCode.OK, done.stderr
    assert "1 worker, 1 endpoint, 256 bytes of data" in done.stdout
    assert "(of requests, under the load)" in done.stdout
    assert receiver.total("/mine") > 0


def test_a_receiver_that_refuses(
    invoke: Invoke, receiver: ReceiverProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that failed is still pending when the time is over: not delivered, and not lost."""
    receiver.behave(Behaviour(status=503), "/mine")
    monkeypatch.setattr(bench_load, "SETTLE_S", 0.1)
    done = invoke(
        *("bench", "--seconds", 0.5, "--workers", 1, "--url", f"{receiver.url}/mine"),
        *("--allow-network", "127.0.0.0/8", "--json"),
    )
    said = json(done.stdout)
    assert done.exit_code == ExitCode.OK
    assert (said["delivered"], said["lost"], said["latency_ms"]) == (0, 0, {})
    assert said["engine_cpu_us"] is None
    assert said["pending"] == said["accepted"] > 0


def test_ctrl_c_leaves_nothing_running(start: Start) -> None:
    """The status is that of an interrupted command, and the receiver has ended with it."""
    program = start("bench", "--seconds", 60, "--workers", 1)
    assert program.process.stderr is not None
    assert b"emitting" in program.process.stderr.readline()
    program.process.send_signal(signal.SIGINT)
    program.process.communicate(timeout=30)
    assert program.process.returncode == ExitCode.INTERRUPTED


@pytest.fixture
def own_receiver() -> Iterator[BenchReceiver]:
    made = BenchReceiver()
    yield made
    made.close()


def test_a_receiver_that_ended_is_said_so(own_receiver: BenchReceiver) -> None:
    """An error of ours, not a broken pipe, which would stand for the command's own output."""
    own_receiver.process.kill()
    own_receiver.process.wait()
    with pytest.raises(EngineError, match="ended before its time"):
        own_receiver.report()


def post(connection: socket.socket, *bodies: bytes) -> None:
    for body in bodies:
        connection.sendall(b"POST / HTTP/1.1\r\ncontent-Length: %d\r\n\r\n%b" % (len(body), body))


def test_the_receiver_counts_events_not_requests(own_receiver: BenchReceiver) -> None:
    """An event that comes twice is one; requests may come in pieces and together."""
    port = int(own_receiver.url.split(":")[2].strip("/"))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nben")
        connection.sendall(b"ch-0- " + b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nbench-5- ")
        post(connection, b"bench-0- ", event_id(2, timed=True).encode(), b"no event")
        answers = b""
        while answers.count(b"200 OK") < 5:
            answers += connection.recv(4096)
    report = own_receiver.report()
    assert (report.requests, report.events) == (5, 3)
    (latency_ms,) = report.latencies_ms
    assert 0 < latency_ms < 60_000


def test_what_the_receiver_did_not_get_is_lost(own_receiver: BenchReceiver, tmp_path: Any) -> None:
    """The engine's word is not enough."""

    def report() -> Report:
        found = own_receiver.report()
        found.events -= 2
        return found

    with Engine(configuration(own_receiver.url, 1, 1, bench.LOOPBACK), tmp_path) as engine:
        result = measure(engine, 0.5, 1, 10, cast(Any, SimpleNamespace(report=report)))
    assert result.delivered == result.accepted
    assert result.lost == 2
