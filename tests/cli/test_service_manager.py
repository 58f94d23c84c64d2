"""What systemd hears of an engine (sd_notify(3)), and the unit that it runs it by."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli.conftest import Start, until
from cli.test_serve import ALLOWED, write
from fluxhook.cli.service_manager import EXTENSION_S, ServiceManager

UNIT = Path(__file__).parents[2] / "deploy/systemd/fluxhook.service"


class Systemd:
    """The other end of the socket."""

    def __init__(self, address: str) -> None:
        self.name = address.replace("\0", "@", 1)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)
        self.heard: list[list[str]] = []

    def listen(self) -> list[list[str]]:
        """Return all messages so far, each as its lines."""
        while True:
            try:
                self.heard.append(self._socket.recv(65_536).decode().split("\n"))
            except BlockingIOError:
                return self.heard

    def firsts(self) -> list[str]:
        """Return the first line of each message but for the signs of life."""
        return [first for first, *_ in self.listen() if first != "WATCHDOG=1"]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(str(tmp_path / "notify"))
    yield made
    made.close()


def test_it_hears_of_start_reload_life_and_stop(
    systemd: Systemd, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ready only when the engine serves; after a reload ready again, with the line as it is now; signs
    of life all the time; and more time, while it drains."""
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.name)
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    config = write(tmp_path / "f.yaml", "http://127.0.0.1:1/", shutdown_timeout="3s")
    program = start("serve", "--config", config, "--no-admin", *ALLOWED)
    serving = program.line().rstrip("\n")
    until(lambda: "READY=1" in systemd.firsts(), "ready")
    assert systemd.heard[[h[0] for h in systemd.heard].index("READY=1")][1] == f"STATUS={serving}"
    write(config, "http://127.0.0.1:1/", "name: renamed", shutdown_timeout="3s")
    config.write_text(config.read_text().replace("name: shop\n      ", ""))
    os.kill(program.pid, signal.SIGHUP)
    renewed = f"STATUS={serving.replace('(shop)', '(renamed)')}"
    until(lambda: set(systemd.firsts()) >= {"RELOADING=1", renewed}, "the line is renewed")
    until(lambda: systemd.firsts()[-1:] == ["READY=1"] or systemd.firsts().count("READY=1") == 2)
    (reloading,) = [lines for lines in systemd.heard if lines[0] == "RELOADING=1"]
    assert re.fullmatch(r"MONOTONIC_USEC=\d+", reloading[1])
    seen = len(systemd.heard)
    until(lambda: ["WATCHDOG=1"] in systemd.listen()[seen:], "a sign of life")
    os.kill(program.pid, signal.SIGTERM)
    program.end()
    (stopping,) = [lines for lines in systemd.listen() if lines[0] == "STOPPING=1"]
    assert stopping[1:] == ["STATUS=draining for up to 3 s", "EXTEND_TIMEOUT_USEC=60000000"]


def test_a_long_drain_asks_for_time_again_and_again(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the supervisor's loop turns, however long that is; not before it drains."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    manager = ServiceManager({"NOTIFY_SOCKET": systemd.name})
    manager.turn()
    assert systemd.listen() == []
    manager.stopping(3600.0)
    asked_at = [clock.now]
    for _ in range(3600):
        clock.now += 1.0
        manager.turn()
        if systemd.listen()[len(asked_at) :]:
            asked_at.append(clock.now)
    gaps = [b - a for a, b in itertools.pairwise(asked_at)]
    assert len(gaps) > 100
    assert max(gaps) < EXTENSION_S / 2
    assert {lines[-1] for lines in systemd.heard} == {"EXTEND_TIMEOUT_USEC=60000000"}


@pytest.mark.parametrize("place", ["file", "abstract"])
def test_both_kinds_of_sockets(place: str, tmp_path: Path) -> None:
    """A name that begins with @ is in the abstract namespace. Children do not inherit it."""
    address = str(tmp_path / "s") if place == "file" else f"\0fluxhook-test-{os.getpid()}"
    systemd = Systemd(address)
    environ = {"NOTIFY_SOCKET": systemd.name, "HOME": "/"}
    ServiceManager(environ).ready("serves")
    assert systemd.listen() == [["READY=1", "STATUS=serves"]]
    assert environ == {"HOME": "/"}
    systemd.close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "/no/such/socket"},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
        {"NOTIFY_SOCKET": "/" + "x" * 200},
        {"NOTIFY_SOCKET": "/no/such/socket", "WATCHDOG_USEC": "soon"},
    ],
)
def test_nobody_listens(environ: dict[str, str]) -> None:
    """Nothing raises where there is no service manager, or none that can be spoken to."""
    manager = ServiceManager(environ)
    manager.ready("serves")
    manager.reloading()
    manager.turn()
    manager.stopping(1.0)


def test_a_reload_that_takes_a_while(systemd: Systemd) -> None:
    """Ready again only when it is over: other workers have to leave first, say."""
    manager = ServiceManager({"NOTIFY_SOCKET": systemd.name})
    manager.reloading()
    manager.turn(busy=True)
    assert systemd.firsts() == ["RELOADING=1"]
    manager.turn()
    assert systemd.firsts() == ["RELOADING=1", "READY=1"]


def test_a_watchdog_of_another_process(systemd: Systemd) -> None:
    """WATCHDOG_PID says whose life is asked for; a program that a service starts is not meant."""
    manager = ServiceManager(
        {"NOTIFY_SOCKET": systemd.name, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    )
    manager.turn()
    assert systemd.listen() == []


def test_the_unit_is_hardened_and_sound(tmp_path: Path) -> None:
    """systemd finds no fault with it, and rates its exposure as `OK` at worst."""
    local = tmp_path / "fluxhook.service"
    local.write_text(UNIT.read_text().replace("/opt/fluxhook/bin/fluxhook", "/bin/true"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(local)], capture_output=True, text=True
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(local)],
        capture_output=True,
        text=True,
        env=os.environ | {"LC_ALL": "C.UTF-8", "SYSTEMD_EMOJI": "0"},
    )
    assert rated.returncode == 0, rated.stdout
    assert re.search(r"exposure level for fluxhook.service: 1\.\d OK", rated.stdout)
