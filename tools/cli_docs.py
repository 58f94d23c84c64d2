"""Writes the generated parts of docs/cli.md: what each command says of itself, and the exit codes.

python tools/cli_docs.py          rewrites them
python tools/cli_docs.py --check  exits 1 if they are out of date
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

import click

from fluxhook.cli.app import COMMANDS, app
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.group import Group

DOC: Final = Path(__file__).parents[1] / "docs/cli.md"
_PART: Final = re.compile(r"(<!-- generated: ([^\n]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(doc: str) -> str:
    """Return the document with every generated part made again."""
    return _PART.sub(lambda m: f"{m[1]}\n{_part(m[2])}\n\n{m[3]}", doc)


def _part(name: str) -> str:
    return exit_codes() if name == "exit-codes" else usage(name)


def commands() -> list[str]:
    """Return every command, and those of commands: `webhook`, `webhook create`, ..."""
    ctx, found = click.Context(app), []
    for name in COMMANDS:
        found.append(name)
        command = app.get_command(ctx, name)
        if isinstance(command, Group):
            found += [f"{name} {below}" for below in command.summaries]
    return found


def usage(name: str) -> str:
    """Return the help of a command, as a code block."""
    ctx = click.Context(app, info_name="fluxhook", **app.context_settings)
    command: click.Command = app
    for word in name.split():
        found = command.get_command(ctx, word) if isinstance(command, Group) else None
        if found is None:
            raise LookupError(f"there is no command {name}")
        command = found
        ctx = click.Context(command, parent=ctx, info_name=word, terminal_width=88)
    return f"```text\n{click.unstyle(command.get_help(ctx)).rstrip()}\n```"


def exit_codes() -> str:
    rows = [f"| {code:d} | `{code.name}` | {code.meaning} |" for code in ExitCode]
    return "\n".join(["| code | name | meaning |", "| --- | --- | --- |", *rows])


def main() -> int:
    old = DOC.read_text()
    new = render(old)
    missing = [name for name in commands() if f"<!-- generated: {name} -->" not in old]
    if "--check" in sys.argv[1:]:
        return int(old != new or bool(missing))
    DOC.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
