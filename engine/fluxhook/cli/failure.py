"""An error that knows how its command ends."""

from __future__ import annotations

from collections.abc import Iterable

from fluxhook.cli.exit_codes import ExitCode
from fluxhook.errors import FluxhookError, Problem

__all__ = ["Failure"]


class Failure(FluxhookError):
    """What went wrong, each fault of what was given, what to do about it, and the exit code."""

    def __init__(
        self,
        message: str,
        code: ExitCode = ExitCode.FAILURE,
        *,
        problems: Iterable[Problem] = (),
        remedy: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.problems = list(problems)
        self.remedy = remedy
