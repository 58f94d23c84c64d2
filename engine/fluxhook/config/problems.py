"""What is found while a configuration is read: problems that refuse it, notices that do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fluxhook.errors import ConfigError, Problem

__all__ = ["Findings", "Notice"]


class Notice(NamedTuple):
    """Something the operator should know that does not stop the engine."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class Findings:
    """Collects problems and notices, each once.

    `locate` turns the path of a value into the path where the operator wrote it.
    """

    def __init__(self, locate: Callable[[str], str] = str) -> None:
        self.problems: dict[Problem, None] = {}
        self.notices: dict[Notice, None] = {}
        self.locate = locate
        self._marked: set[str] = set()

    def problem(self, path: str, message: str, remedy: str) -> None:
        path = self.locate(path)
        self.problems[Problem(path, message, remedy)] = None
        for end in (i for i, c in enumerate(path) if c in ".["):
            self._marked.add(path[:end])
        self._marked.add(path)

    def notice(self, path: str, message: str) -> None:
        self.notices[Notice(self.locate(path), message)] = None

    def sound(self, *paths: str) -> bool:
        """Whether no problem stands at or under any of the paths.

        A rule about several values asks this first: one fault is then one problem.
        """
        return self._marked.isdisjoint(map(self.locate, paths))

    def raise_problems(self) -> None:
        """Raises one ConfigError with every problem, if there is one."""
        if self.problems:
            raise ConfigError(list(self.problems))
