"""Where the lines of one of the engine's own processes go, and in which format."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Final, Literal

from fluxhook.logs.formats import JsonFormatter, TextFormatter

__all__ = ["Format", "Level", "begin", "choose", "line_formatter"]

Format = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]

_role: str = ""
_handler: logging.Handler | None = None


def begin(role: str, handler: logging.Handler | None = None) -> None:
    """Begin to log, on standard error unless another handler is given. Nothing is done where somebody
    else has set up `logging`."""
    global _role, _handler
    root: Final = logging.getLogger()
    if root.handlers:
        return
    _role = role
    _handler = handler or logging.StreamHandler(sys.stderr)
    root.addHandler(_handler)
    choose("text", "info")


def choose(format: Format, level: Level) -> None:
    """Write in this format from now on, and lines of this level and above; without effect in a process
    that did not `begin`."""
    if _handler is None:
        return
    logging.getLogger().setLevel(level.upper())
    _handler.setFormatter(line_formatter(_role, format))


def line_formatter(role: str, format: Format) -> logging.Formatter:
    """Return the formatter for lines on standard error."""
    kind = JsonFormatter if format == "json" else TextFormatter
    return kind(role, priorities=_in_journal(os.environ, 2))


def _in_journal(environ: Mapping[str, str], fd: int) -> bool:
    """Return whether a descriptor is the journal's (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
