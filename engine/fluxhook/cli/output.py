"""What all commands write with: consoles, JSON, numbers, and texts that came from elsewhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NoReturn, TextIO, TypeVar, cast

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fluxhook.cli.failure import Failure
from fluxhook.config.findings import Notice
from fluxhook.errors import ConfigError, FluxhookError

__all__ = [
    "at_most",
    "err",
    "facts",
    "number",
    "out",
    "plural",
    "print_error",
    "print_json",
    "print_lines",
    "print_notice",
    "print_remedy",
    "safe",
    "table",
]

T = TypeVar("T")

#: of output that no terminal shows: no line of ours is as long, so that none is cut or folded
PIPE_WIDTH: Final = 100_000
_FILLED: Final = re.compile(" +(?=\n)")


class _Unfilled:
    """A stream without the blanks up to the width of a table's last column."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(_FILLED.sub("", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Console(Console):
    """Text is printed as it is: event types and messages may hold brackets and colons."""

    def __init__(self, *, stderr: bool) -> None:
        stream = sys.stderr if stderr else sys.stdout
        shown = stream.isatty()
        super().__init__(
            file=stream if shown else cast(TextIO, _Unfilled(stream)),
            width=None if shown else PIPE_WIDTH,
            markup=False,
            highlight=False,
            emoji=False,
        )

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def out() -> Console:
    """Return the console for results."""
    return _Console(stderr=False)


def err() -> Console:
    """Return the console for notices, progress and errors."""
    return _Console(stderr=True)


def print_json(value: Any) -> None:
    """Print one JSON document: indented on a terminal, on one line elsewhere."""
    text = msgspec.json.encode(value)
    if sys.stdout.isatty():
        text = msgspec.json.format(text, indent=2)
    click.echo(text)


def print_notice(notice: Notice | str) -> None:
    console = err()
    console.print("Notice: ", style="bold yellow", end="")
    console.print(safe(str(notice)), soft_wrap=True)


def print_error(error: FluxhookError | str) -> None:
    """Print the message, every problem of what was given, and the remedy."""
    console = err()
    console.print("Error: ", style="bold red", end="")
    if isinstance(error, ConfigError):
        count = len(error.problems) + error.more
        console.print(f"the configuration has {plural(count, 'problem')}")
    else:
        console.print("\n".join(map(safe, str(error).splitlines())), soft_wrap=True)
    for problem in error.problems if isinstance(error, (ConfigError, Failure)) else ():
        console.print(f"  {safe(problem.path)}", style="bold", soft_wrap=True)
        console.print(f"    {safe(problem.message)}", soft_wrap=True)
        if problem.remedy:
            console.print(f"    → {safe(problem.remedy)}", style="green", soft_wrap=True)
    if isinstance(error, ConfigError) and error.more:
        console.print(f"  and {number(error.more)} more")
    if isinstance(error, Failure) and error.remedy:
        print_remedy(error.remedy)


def print_remedy(remedy: str) -> None:
    err().print(f"  → {safe(remedy)}", style="green", soft_wrap=True)


def print_lines(values: Iterable[Any]) -> None:
    """Print JSON lines: each value on one."""
    for value in values:
        click.echo(msgspec.json.encode(value))


def table(*columns: str, right: Collection[str] = ()) -> Table:
    """Return a table whose cells fold; what stands in `right` are its columns of numbers."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold", justify="right" if column in right else "left")
    return made


def facts(values: Mapping[str, str | Text]) -> Table:
    """Return a name and a value on each line; empty values are left out."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in values.items():
        if value:
            grid.add_row(f"  {name}", value if isinstance(value, Text) else safe(value, 4000))
    return grid


def at_most(rows: list[T], limit: int | None) -> list[T]:
    """Return the first of a list's rows, of which one more was asked for; say if there is more."""
    if limit is None or len(rows) <= limit:
        return rows
    err().print(f"there are more than these {number(limit)}; --limit shows more", style="dim")
    return rows[:limit]


def number(n: float) -> str:
    return f"{n:,.0f}"


def plural(n: int, noun: str, many: str = "") -> str:
    """Return a text such as `1 event`, `1,234 events`."""
    return f"{n:,d} {noun if n == 1 else many or noun + 's'}"


def safe(text: str, limit: int = 1000) -> str:
    """Return a text of foreign origin on one line: what could steer a terminal is spelled out."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
