"""`fluxhook wait` and `emit --wait`: until an engine is ready, and no longer."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import CommandSite, Invoke, Start
from cli.test_api_client import Fake
from cli.test_api_client import fake as fake
from cli.test_serve import ALLOWED, write
from fluxhook import Config, Engine
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.stats import is_running, read_stats
from fluxhook.transport.datadir import DataDir


def test_a_directory_that_is_not_there_yet(start: Start, tmp_path: Path) -> None:
    """Both begin before the engine does, and end once it serves, API included, as it says itself."""
    waiting = start("wait")
    emitting = start("emit", "order.created", "--wait")
    config = write(tmp_path / "f.yaml", "https://hooks.example.com/in")
    begun = time.monotonic()
    engine = start("serve", "--config", config, "--admin", "127.0.0.1:0", *ALLOWED)
    line = engine.line()
    took_s = time.monotonic() - begun
    assert line.startswith(f"fluxhook serves: pid {engine.pid}, 1 worker, 1 endpoint (shop), ")
    assert "admin API at http://127.0.0.1:" in line
    assert read_stats(tmp_path / "fluxhook-data").serving == 1
    assert took_s < 30  # on an idle machine it is below 2
    ended = waiting.end()
    assert (ended.exit_code, ended.stdout) == (ExitCode.OK, "ready: fluxhook-data\n")
    assert "1 event: 1 delivery accepted" in emitting.end().stdout
    engine.signal(signal.SIGTERM)
    assert engine.end().exit_code == ExitCode.OK


def test_an_engine_without_an_api(invoke: Invoke, tmp_path: Path) -> None:
    """It is ready when a worker serves; one that has stopped is not."""
    with Engine(Config(workers=1), tmp_path / "fluxhook-data"):
        assert invoke("wait").exit_code == ExitCode.OK
    said = invoke("wait", "--timeout", "0")
    assert said.exit_code == ExitCode.NOT_RUNNING
    assert "no engine was ready within 0 s: no engine runs on" in said.stderr
    assert "`fluxhook serve -c FILE`" in said.stderr


def test_by_url(site: CommandSite, invoke: Invoke) -> None:
    """It needs no token; and a port at which nobody listens is waited for in vain."""
    said = invoke("wait", "--api", site.admin.url)
    assert (said.exit_code, said.stdout) == (ExitCode.OK, f"ready: {site.admin.url}\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    before = time.monotonic()
    said = invoke("wait", "--api", url, "--timeout", "0.3")
    assert 0.3 <= time.monotonic() - before < 10
    assert said.exit_code == ExitCode.UNREACHABLE
    assert "nobody listens there" in said.stderr


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("engine-not-running", ExitCode.NOT_RUNNING),
        ("engine-unavailable", ExitCode.UNREACHABLE),
        ("store-failing", ExitCode.UNREACHABLE),
    ],
)
def test_an_api_that_is_not_ready(invoke: Invoke, fake: Fake, kind: str, code: ExitCode) -> None:
    """The exit code follows from what it lacks."""
    fake.problem(503, kind, "what it lacks")
    said = invoke("wait", "--api", fake.url, "--timeout", "0")
    assert said.exit_code == code
    assert "what it lacks" in said.stderr


def test_what_time_does_not_mend_ends_it_at_once(invoke: Invoke, stopped: Path) -> None:
    """A damaged file of the engine's, say."""
    lock = DataDir(stopped).engine_lock
    (stopped / "admin.json").write_text("[]")
    held = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert is_running(DataDir(stopped))
        before = time.monotonic()
        said = invoke("wait", "--timeout", "30")
    finally:
        os.close(held)
    assert time.monotonic() - before < 10
    assert said.exit_code == ExitCode.FAILURE
    assert "admin.json is damaged" in said.stderr


def test_ctrl_c(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """130, and not a word."""

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupted)
    for command in (("wait",), ("emit", "order.created", "--wait")):
        said = invoke(*command)
        assert (said.exit_code, said.output) == (ExitCode.INTERRUPTED, "")


@pytest.mark.parametrize("seconds", ["nan", "inf", "-inf", "-1", "soon"])
@pytest.mark.parametrize(
    "command",
    [
        ("wait", "--timeout"),
        ("status", "--interval"),
        ("deliveries", "tail", "--interval"),
        ("webhook", "test", "x", "--wait"),
        ("demo", "--seconds"),
        ("bench", "--seconds"),
        ("listen", "--delay"),
        ("listen", "--fail-rate"),
    ],
)
def test_a_number_of_seconds_is_one(invoke: Invoke, command: tuple[str, ...], seconds: str) -> None:
    """Said of the option, before anything begins: a comparison with `nan` refuses nothing."""
    said: Any = invoke(*command, seconds)
    assert said.exit_code == ExitCode.USAGE
    assert command[-1] in said.stderr
