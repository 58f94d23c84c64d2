"""docs/debugging.md is true: its commands, run one after the other, say what it shows."""

from __future__ import annotations

import difflib
import getpass
import re
import shlex
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from cli.conftest import Invoke, Program, Start

PAGE: Final = Path(__file__).parents[2] / "docs" / "debugging.md"
DEADLINE_S: Final = 30.0
#: what a page cannot know
LIKE: Final = [
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"\b(dlv|evt)_[0-9a-f]+"), r"\1"),
    (re.compile(r"(?<= )/\S*(?:fluxhook-data|/lib/fluxhook)"), "FOLDER"),
    (re.compile(r" (after|within) \d+ ms.*"), ""),
    (re.compile(r"\d+(\.\d+)?"), "N"),
    (re.compile(r"\s+"), " "),
]
BAR: Final = re.compile(r"^[·░▒▓█ ]+$")


class Step:
    """A command of the page and what it shows, or what a program before it has said."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.shown: list[str] = []


def steps() -> Iterator[Step]:
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.M | re.S):
        step = None
        for line in block.splitlines():
            if line.startswith("$ "):
                if step is not None:
                    yield step
                step = Step(line[2:])
            else:
                step = step or Step("")
                step.shown.append(line)
        assert step is not None
        yield step


def like(text: str, user: str) -> list[str]:
    """Return the lines without what differs from run to run."""
    lines = []
    for line in text.splitlines():
        if BAR.match(line):
            continue
        for form, name in LIKE:
            line = form.sub(name, line)
        lines.append(line.replace(f" {user} ", " root ").strip())
    return lines


def matches(said: list[str], shown: list[str]) -> bool:
    """Return whether these are the lines; `...` stands for any number of them."""
    parts = re.split(r"(?:^|\n)\.\.\.(?:\n|$)", "\n".join(shown))
    pattern = r"(?:\n|.)*".join(rf"\n?{re.escape(part)}\n?" for part in parts)
    return re.fullmatch(pattern, "\n".join(said)) is not None


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_the_guide_s_commands_say_what_it_shows(
    invoke: Invoke, start: Start, tmp_path: Path, port: int
) -> None:
    """A command that reads is asked until it says so: the engine needs a moment for what it tells of.
    Ids are those that the engine gave; ports and times are left out."""
    (config,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    (tmp_path / "webhook.yaml").write_text(config.replace(":9000", f":{port}"))
    user, ids, programs = getpass.getuser(), dict[str, str](), list[Program]()

    def said_by(command: str) -> str:
        result = invoke(*shlex.split(command)[1:])
        return result.stdout + result.stderr

    for step in steps():
        command = re.sub(r"dlv_\w+", lambda found: ids[found[0]], step.command)
        if not command:
            assert programs
            text = programs[-1].end().output
            assert matches(like(text, user), like("\n".join(step.shown), user)), text
        elif command.endswith(" &"):
            words = shlex.split(command)[1:-1]
            words += ["--admin", "127.0.0.1:0"] if words[0] == "serve" else ["--port", str(port)]
            programs.append(start(*words))
            if words[0] == "listen":
                assert "listening" in programs[-1].line()
        else:
            wanted = like("\n".join(step.shown).replace(":9000", f":{port}"), user)
            until = time.monotonic() + DEADLINE_S
            text = said_by(command)
            reads = re.search(r" (list|show|status|audit|check|types)\b", command)
            while not matches(like(text, user), wanted):
                differ = difflib.unified_diff(wanted, like(text, user), "page", "said")
                may_change = reads and time.monotonic() < until
                assert may_change, "\n".join([command, *differ])
                time.sleep(0.05)
                text = said_by(command)
            shown_ids = re.findall(r"\bdlv_\w+", "\n".join(step.shown))
            ids.update(zip(shown_ids, re.findall(r"\bdlv_\w+", text), strict=False))
