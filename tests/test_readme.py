"""Whatever the README shows runs as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

ROOT: Final = Path(__file__).parents[1]
README: Final = ROOT.joinpath("README.md").read_text()
#: each fenced block: its language, its text
BLOCKS: Final[list[tuple[str, str]]] = re.findall(
    r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE
)
DEADLINE_S: Final = 120.0
#: what make hands to those that it starts
MAKES: Final = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "LINT", "PYTHON", "ARGS"}


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def commands() -> list[str]:
    return [line for text in blocks("sh") for line in text.splitlines()]


# ---- Python ------------------------------------------------------------------------------------


def test_every_block_is_known() -> None:
    """A block in a language that nobody runs here would rot."""
    assert {language for language, _ in BLOCKS} == {"python", "sh", "text", "yaml"}


def test_fifteen_lines_are_fifteen() -> None:
    """As the heading says, blank ones aside."""
    (example,) = blocks("python")
    assert len([line for line in example.splitlines() if line.strip()]) == 15


def test_the_example_delivers(tmp_path: Path) -> None:
    """It prints the envelope of its event, which it got signed, over HTTP, from another process."""
    (example,) = blocks("python")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", example.replace("9000", str(port))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    event = msgspec.json.decode(done.stdout)
    assert event["type"] == "policy.updated"
    assert event["data"] == {"policy": "rate-limit", "by": "alice"}
    assert '"POST / HTTP/1.1" 204' in done.stderr


# ---- shell -------------------------------------------------------------------------------------


class Collector(BaseHTTPRequestHandler):
    """Keeps what it gets in its server's list."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.headers, body))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.requests = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Shell:
    """A shell in an empty folder, with the command `fluxhook` of this package, into which lines are
    pasted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = folder / "bin" / "fluxhook"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m fluxhook "$@"\n')
        command.chmod(0o755)
        self.process = subprocess.Popen(
            ["sh"],
            cwd=folder,
            env=os.environ | {"PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def paste(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def end(self) -> tuple[int, str]:
        """Return the status with which it ends, and all that was shown."""
        said, _ = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, said

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # the engine in its background too
            self.process.communicate()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.close()


def test_the_fluxmq_file_is_the_one_that_is_tested() -> None:
    """FluxMQ's own example, to the letter."""
    assert blocks("yaml") == [ROOT.joinpath("tests/config/fluxmq.yaml").read_text()]


def test_the_fluxmq_file_and_the_commands_around_it(
    shell: Shell, receiver: ThreadingHTTPServer
) -> None:
    """Both blocks, each pasted as a whole into the same shell: every command succeeds, and the event
    arrives. Only the URL is another one, and is allowed, and the admin API takes a free port."""
    (text,) = blocks("yaml")
    url = f"http://127.0.0.1:{receiver.server_port}/webhook"
    options = "  allow_networks: [127.0.0.0/8]\n  admin: {listen: 127.0.0.1:0}\n"
    text = text.replace("https://example.com/webhook", url)
    text = text.replace("webhook:\n", f"webhook:\n{options}", 1)
    (shell.folder / "webhook.yaml").write_text(text)
    pasted = [block for block in blocks("sh") if block.startswith("fluxhook ")]
    assert len(pasted) == 2
    shell.paste("".join(["set -e\n", *pasted, "kill $!; wait $!\n"]))
    status, said = shell.end()
    assert status == 0, said
    for words in ("fluxhook serves", "analytics", "hooks.example.com"):
        assert words in said
    assert "fluxhook stopped: nothing is pending" in said
    ((headers, body),) = receiver.requests  # type: ignore[attr-defined]
    assert headers["Authorization"] == "Bearer token"
    event = msgspec.json.decode(body)
    assert event["event_type"] == "message.published"
    assert event["data"]["topic"] == "sensors/temperature"


@pytest.mark.parametrize(
    ("target", "calls"), [("demo", "fluxhook demo"), ("test", "pytest"), ("test", "mypy")]
)
def test_the_two_commands(target: str, calls: str) -> None:
    """They take too long to run here: what `make demo` calls is tested in tests/cli, and `make
    test` is what runs this."""
    assert f"make {target}" in commands()
    # what the make that runs this was called with is not for that one
    environ = {name: value for name, value in os.environ.items() if name not in MAKES}
    planned = subprocess.run(
        ["make", "--dry-run", target],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(rf"^\S*/{calls}\b", planned.stdout, re.MULTILINE), planned.stdout


def test_no_command_is_left_out() -> None:
    """`pip install` is what tests/test_packaging.py is about; all others run above."""
    others = [line for line in commands() if not line.startswith("fluxhook ")]
    assert others == ["pip install '.[admin]'", "make demo", "make test"]
