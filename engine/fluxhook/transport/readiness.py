"""What a process says, once, to the one that started it: that it serves, or why it cannot.

It is one JSON text in a pipe whose writing end nobody else has, so a process that ends without a word
is noticed too.
"""

from __future__ import annotations

import contextlib
import os
import select
import time

import msgspec

from fluxhook import errors
from fluxhook.errors import ConfigError, EngineError, FluxhookError, Problem
from fluxhook.transport.files import write_all

__all__ = ["hear", "tell"]


class _Report(msgspec.Struct, omit_defaults=True):
    """`error` is the name of an error of `fluxhook.errors`; empty: it serves."""

    error: str = ""
    message: str = ""
    problems: list[Problem] = []
    more: int = 0


def tell(fd: int, error: FluxhookError | None = None) -> None:
    """Report that this process serves, or the error for which it does not, and close the descriptor."""
    report = _Report()
    if error is not None:
        kinds = (kind.__name__ for kind in type(error).__mro__ if hasattr(errors, kind.__name__))
        report = _Report(next(kinds), str(error))
        if isinstance(error, ConfigError):
            report.problems, report.more = error.problems, error.more
    with contextlib.suppress(BrokenPipeError):
        write_all(fd, msgspec.json.encode(report))
    os.close(fd)


def hear(fd: int, timeout_s: float) -> FluxhookError | bool:
    """Return True if the process serves, its error if it cannot, False if it ended without a word.

    Raises TimeoutError if it does nothing of that in time.
    """
    said = _read_to_end(fd, timeout_s)
    if not said:
        return False
    report = msgspec.json.decode(said, type=_Report)
    if not report.error:
        return True
    if report.problems:
        return ConfigError(report.problems, report.more)
    kind: type[FluxhookError] = getattr(errors, report.error, EngineError)
    return kind(report.message)


def _read_to_end(fd: int, timeout_s: float) -> bytes:
    deadline = time.monotonic() + timeout_s
    poll = select.poll()  # select(2) knows no descriptor above 1023, and a host may have many
    poll.register(fd, select.POLLIN)
    said = b""
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        chunk = os.read(fd, 65536)
        if not chunk:
            return said
        said += chunk
    raise TimeoutError
