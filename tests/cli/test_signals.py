"""What signals do to the command: Ctrl-C ends every one with 130, and without a traceback."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

import fluxhook
from cli.conftest import DEADLINE_S, CommandSite, Start
from cli.test_serve import ALLOWED, shop, write
from fluxhook import Config, Endpoint, cli
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.supervisor.supervisor import Supervisor


class Terminal:
    """A terminal of 80 columns and 24 lines in which the command runs."""

    def __init__(self, *arguments: object, directory: Path) -> None:
        self._own, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.said = ""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FLUXHOOK")}
        root = str(Path(fluxhook.__file__).parents[1])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fluxhook", *map(str, arguments)],
            stdin=theirs, stdout=theirs, stderr=theirs, cwd=directory, start_new_session=True,
            env=inherited | {"PYTHONPATH": root, "TERM": "xterm"},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(theirs)

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while words not in self.said:
            assert time.monotonic() < deadline, self.said
            self._read(0.1)

    def end(self, keys: str) -> int:
        """Type until the command ends; return its status. (Once may not be enough: what comes before
        readline waits for a key wakes it no more.)"""
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.said
            os.write(self._own, keys.encode())
            for _ in range(20):
                self._read(0.05)
                if self.process.poll() is not None:
                    break
        self._read(0.0)
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._own)

    def _read(self, wait_s: float) -> None:
        readable, _, _ = select.select([self._own], [], [], wait_s)
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            if readable:
                self.said += os.read(self._own, 65_536).decode(errors="replace")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[type[Terminal]]:
    opened: list[Terminal] = []

    class Opened(Terminal):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=tmp_path)
            opened.append(self)

    yield Opened
    for one in opened:
        one.close()


def test_ctrl_c_at_a_question(site: CommandSite, terminal: type[Terminal]) -> None:
    """Nothing is done; to answer no is another status."""
    site.dead_letter("asked", 1)
    command = ("dead-letters", "purge", "--endpoint", "asked", "--data-dir", site.data_dir)
    for answer, status in (("\x03", ExitCode.INTERRUPTED), ("n\n", ExitCode.FAILURE)):
        asking = terminal(*command)  # type: ignore[call-arg]
        asking.wait_for("[y/N]")
        assert asking.end(answer) == status
        assert "Traceback" not in asking.said
    assert len(site.lines("dead-letters", "list", "--endpoint", "asked")) == 1


def test_ctrl_c_while_watching_on_a_terminal(tmp_path: Path, terminal: type[Terminal]) -> None:
    """The last look stays on the screen that was there before; of what does not fit it is said how
    much that is."""
    names = [f"endpoint-{i}" for i in range(40)]
    endpoints = (Endpoint(name=n, url="https://a.example/", signature="none") for n in names)
    config = Config(endpoints=tuple(endpoints), workers=1, max_endpoints=64)
    Supervisor(tmp_path / "fluxhook-data", config).close()
    watching = terminal("status", "--watch", "--interval", "0.1")  # type: ignore[call-arg]
    watching.wait_for("endpoints more")
    shown = watching.said
    assert "endpoint-39" not in shown
    assert watching.end("\x03") == ExitCode.INTERRUPTED
    assert "endpoint-39" in watching.said.removeprefix(shown)
    assert "Traceback" not in watching.said


def test_ctrl_c_ends_an_engine_as_sigterm_does_but_for_the_status(
    start: Start, tmp_path: Path
) -> None:
    """It drains; a script learns that somebody interrupted it."""
    config = write(tmp_path / "f.yaml", "http://127.0.0.1:9/")
    for number, status in (
        (signal.SIGINT, ExitCode.INTERRUPTED),
        (signal.SIGTERM, ExitCode.OK),
    ):
        engine = start("serve", "--config", config, "--no-admin", *ALLOWED)
        engine.line()
        engine.signal(number)
        said = engine.end()
        assert said.exit_code == status
        assert said.stdout == "fluxhook stopped: nothing is pending\n"
        assert "Traceback" not in said.stderr
    assert shop(tmp_path / "fluxhook-data").pending == 0


@pytest.mark.parametrize("command", ["demo", "bench"])
def test_ctrl_c_ends_what_starts_an_engine_of_its_own(start: Start, command: str) -> None:
    program = start(command, "--seconds", "60")
    if command == "demo":
        program.line()
    else:
        program.hear("emitting")
    program.signal(signal.SIGINT)
    said = program.end()
    assert said.exit_code == ExitCode.INTERRUPTED
    assert "Traceback" not in said.output


def test_ctrl_c_before_a_command_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is imported, or its options are read, of which click makes status 1."""

    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == ExitCode.INTERRUPTED
    monkeypatch.undo()
    monkeypatch.setattr("click.Group.make_context", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == ExitCode.INTERRUPTED


def test_the_first_process_of_a_container_can_be_told_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel gives it no signal for which it has no handler: so it has one before all else."""
    former = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(cli, "run", lambda: os.kill(_own_pid(), signal.SIGTERM))
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
    finally:
        signal.signal(signal.SIGTERM, former)


def _own_pid() -> int:
    return int(os.readlink("/proc/self"))
