"""What holds for every command: help, errors, exit codes, a quick start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tools.cli_docs import commands

import fluxhook
from cli.conftest import Invoke, Start, until
from fluxhook import errors
from fluxhook.cli.app import COMMANDS
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.stats import read_stats

#: one of each kind that asks the admin API
NEW = ("webhook create", "deliveries tail", "dead-letters replay", "events types", "admin", "audit")


def test_help_names_every_command_and_every_exit_code(invoke: Invoke) -> None:
    said = invoke("--help")
    assert said.exit_code == ExitCode.OK
    for name, summary in COMMANDS.items():
        assert name in said.stdout
        assert summary in said.stdout
    for code in ExitCode:
        assert f"{code:d} {code.name}" in said.stdout


@pytest.mark.parametrize("name", commands())
def test_every_command_explains_itself(invoke: Invoke, name: str) -> None:
    said = invoke(*name.split(), "--help")
    assert said.exit_code == ExitCode.OK
    assert said.stdout.startswith(f"Usage: fluxhook {name} ")


@pytest.mark.parametrize("line", ["--help", "--version", "serve --help", "events types --json"])
def test_output_to_a_full_disk_is_one_line(line: str) -> None:
    command = [sys.executable, "-m", "fluxhook.cli", *line.split()]
    with Path("/dev/full").open("wb") as full:
        # Buffered, as it is for users: what was not written is tried once more at the end.
        environ = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environ)
    assert ended.returncode == ExitCode.FAILURE
    assert ended.stderr == "Error: No space left on device\n"


def test_the_version_is_the_package_s(invoke: Invoke) -> None:
    assert invoke("--version").stdout == f"fluxhook {fluxhook.__version__}\n"


@pytest.mark.parametrize(
    ("line", "nearest"),
    [("sttaus", "status"), ("webhook craete", "create"), ("dead-letters reply", "replay")],
)
def test_a_mistyped_command_is_answered_with_the_nearest(
    invoke: Invoke, line: str, nearest: str
) -> None:
    said = invoke(*line.split())
    assert said.exit_code == ExitCode.USAGE
    assert f"did you mean {nearest}?" in said.stderr


@pytest.mark.parametrize(
    ("line", "unwanted"),
    [
        ("--help", "rich asyncio pycurl"),
        ("webhook --help", "rich asyncio pycurl"),
        *((f"{name} --help", "litestar uvicorn nicegui pycurl") for name in NEW),
    ],
)
def test_help_loads_nothing_that_only_commands_need(line: str, unwanted: str) -> None:
    """The tables, the event loop and the engine's processes are imported where they are used."""
    code = (
        f"import sys; sys.argv[1:] = {line.split()}; from fluxhook.cli import main\n"
        "try: main()\n"
        f"finally: print(sorted(set({unwanted.split()}) & sys.modules.keys()))"
    )
    root = str(Path(fluxhook.__file__).parents[1])
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": root}
    )
    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr


@pytest.mark.parametrize("module", ["fluxhook", "fluxhook.cli"])
def test_both_modules_run_as_the_command(module: str) -> None:
    root = str(Path(fluxhook.__file__).parents[1])
    ran = subprocess.run(
        [sys.executable, "-m", module, "--version"],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": root},
    )
    assert ran.stdout.decode() == f"fluxhook {fluxhook.__version__}\n"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ConfigError, ExitCode.CONFIG),
        (errors.EngineNotRunning, ExitCode.NOT_RUNNING),
        (errors.EngineRunning, ExitCode.RUNNING),
        (errors.EventError, ExitCode.REFUSED),
        (errors.PayloadTooLarge, ExitCode.REFUSED),
        (errors.QueueFull, ExitCode.QUEUE_FULL),
        (errors.TooManyPublishers, ExitCode.FAILURE),
        (errors.LayoutError, ExitCode.DAMAGED),
        (errors.UnknownEndpoint, ExitCode.NOT_FOUND),
        (errors.Conflict, ExitCode.CONFLICT),
        (errors.FluxhookError, ExitCode.FAILURE),
    ],
)
def test_every_error_has_its_exit_code(kind: type[errors.FluxhookError], code: ExitCode) -> None:
    assert ExitCode.of(kind.__new__(kind)) == code


def test_an_engine_that_was_never_started_is_one_message_with_the_way_out(invoke: Invoke) -> None:
    for command in ("status", "emit route.matched"):
        said = invoke(*command.split(), "--data-dir", "nowhere")
        assert said.exit_code == ExitCode.NOT_RUNNING
        assert said.stdout == ""
        assert "no fluxhook engine was ever started" in said.stderr
        assert "fluxhook serve" in said.stderr


def test_a_damaged_data_directory_is_one_message(invoke: Invoke, stopped: Path) -> None:
    """A command that needs the file ends; `status` says so beside what the other files tell."""
    (stopped / "words").write_bytes(b"nonsense" * 10_000)
    said = invoke("emit", "route.matched")
    assert said.exit_code == ExitCode.DAMAGED
    assert said.stderr.startswith("Error: ")
    assert "words" in said.stderr
    told = invoke("status")
    assert told.exit_code == ExitCode.OK
    assert "words" in told.output


def test_nobody_hears_of_a_reader_that_left(start: Start, stopped: Path) -> None:
    """As in `fluxhook status --watch | head -1`: silence, and the shell's own code."""
    program = start("status", "--watch", "--json", "--interval", "0.1")
    program.line()
    assert program.process.stdout is not None
    program.process.stdout.close()
    assert program.process.wait(20) == ExitCode.BROKEN_PIPE
    assert program.process.stderr is not None
    assert program.process.stderr.read() == b""
    program.process.stderr.close()


def test_ctrl_c_is_no_traceback(start: Start, stopped: Path) -> None:
    """The lines that were read before it are accounted for."""
    program = start("emit", stdin=subprocess.PIPE)
    assert program.process.stdin is not None
    program.process.stdin.write(b'{"type":"order.created"}\n{"type":"order.created"}\n')
    program.process.stdin.flush()
    rings = stopped / "rings/0"
    until(lambda: (rings / "0.ring").exists(), "the publisher attaches")
    until(lambda: read_stats(stopped).pending == 2, "both are accepted")
    program.signal(signal.SIGINT)
    said = program.end()
    assert said.exit_code == ExitCode.INTERRUPTED
    assert said.stdout == "2 events: 2 deliveries accepted\n"
    assert "Traceback" not in said.stderr
