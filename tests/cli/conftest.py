"""The command line as a user has it: in this process where that is enough, else as a program."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

import fluxhook
from fluxhook import Config, Duration, Endpoint, Size
from fluxhook.cli.app import app
from fluxhook.runtime.supervisor import Supervisor
from support.receiver import ReceiverProcess

#: far above what a step takes, even on a machine that does much else
DEADLINE_S = 20.0

Invoke = Callable[..., Result]


def json(text: str | bytes) -> Any:
    return msgspec.json.decode(text)


def until(condition: Callable[[], Any], what: str = "it") -> Any:
    """The condition's value once it is true; AssertionError at the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {DEADLINE_S} s"
        time.sleep(0.01)
    return value


class Program:
    """`fluxhook ...` in a process of its own. It is killed if the test leaves it running."""

    def __init__(
        self,
        arguments: tuple[object, ...],
        directory: Path,
        stdin: int,
        environ: dict[str, str],
    ) -> None:
        roots = str(Path(fluxhook.__file__).parents[1])
        # Nothing of the outside may decide what a test sees.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FLUXHOOK")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fluxhook", *map(str, arguments)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # `select` must not miss what a buffer holds
            cwd=directory,
            env={**inherited, **environ, "PYTHONPATH": roots},
        )
        self.pid = self.process.pid

    def line(self) -> str:
        """The next line of its output."""
        stdout = self.process.stdout
        assert stdout is not None
        readable, _, _ = select.select([stdout], [], [], DEADLINE_S)
        assert readable, "it says nothing"
        line = stdout.readline().decode()
        assert line, f"it ended: {self.end().stderr}"
        return line

    def hear(self, words: str) -> str:
        """What it says on standard error, up to the words."""
        stderr = self.process.stderr
        assert stderr is not None
        said = ""
        while words not in said:
            readable, _, _ = select.select([stderr], [], [], DEADLINE_S)
            assert readable, f"it only says {said!r}"
            line = stderr.readline().decode()
            assert line, f"it ended, and only said {said!r}"
            said += line
        return said

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, stdin: bytes | None = None) -> Result:
        """Waits for its end; what it has said since."""
        out, err = self.process.communicate(stdin, timeout=DEADLINE_S)
        return Result(
            runner=CliRunner(),
            stdout_bytes=out,
            stderr_bytes=err,
            output_bytes=out + err,
            return_value=None,
            exit_code=self.process.returncode,
            exception=None,
        )


Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts programs in the test's folder."""
    programs: list[Program] = []

    def start(
        *arguments: object, stdin: int = subprocess.DEVNULL, environ: dict[str, str] | None = None
    ) -> Program:
        programs.append(program := Program(arguments, tmp_path, stdin, environ or {}))
        return program

    yield start
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
        program.process.communicate()


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs a command in this process, in the test's folder."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FLUXHOOK")]:
        monkeypatch.delenv(name)

    def invoke(*arguments: object, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(
            app, [*map(str, arguments)], input=stdin, prog_name="fluxhook", catch_exceptions=False
        )

    return invoke


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The data directory of an engine that was started and stopped; it had one endpoint, for sensors'
    messages and the host's own `order.*`, and a queue of 20."""
    data_dir = tmp_path / "fluxhook-data"
    endpoint = Endpoint(
        name="shop",
        url="https://hooks.example.com/in?token=s3cret",
        signature="none",
        events=("message.published", "order.*"),
        topic_filters=("sensors/#",),
    )
    config = Config(
        endpoints=(endpoint,),
        workers=1,
        queue_size=20,
        block_timeout=Duration.parse("50ms"),
        ring_bytes=Size.parse("1MiB"),
        max_event_bytes=Size.parse("64KiB"),
        max_endpoints=8,
    )
    Supervisor(data_dir, config).close()
    return data_dir


@pytest.fixture
def receiver() -> Iterator[ReceiverProcess]:
    with ReceiverProcess() as receiver:
        yield receiver
