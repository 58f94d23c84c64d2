"""What is found while a configuration is read: problems that refuse it, notices that do not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final, NamedTuple, ParamSpec

from fluxhook.errors import MAX_PROBLEMS, ConfigError, Problem

__all__ = ["Findings", "Notice"]

P = ParamSpec("P")

#: characters of a path that are shown: part of it may be a name that the operator wrote, of any length.
#: That of a header may have 256.
MAX_PATH: Final = 320
#: steps of a path that are told apart: fields of fields, of which there are fewer
MAX_STEPS: Final = 8
#: near misses that are looked for, each of which takes a millisecond; arbitrary
MAX_HINTS: Final = 10


class Notice(NamedTuple):
    """Something the operator should know that does not stop the engine."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class Findings:
    """Collects problems and notices, each once: up to MAX_PROBLEMS of both, and counts the others.

    `locate` turns the path of a value into the path where the operator wrote it.
    """

    def __init__(self, locate: Callable[[str], str] = str) -> None:
        self.problems: dict[Problem, None] = {}
        self._notices: dict[Notice, None] = {}
        #: those that were found beyond the ones that are kept
        self._more_problems: set[int] = set()
        self._more_notices: set[int] = set()
        self._hints = 0
        self.locate = locate
        self._marked: set[str] = set()

    def problem(self, path: str, message: str, remedy: str) -> None:
        path = self._located(path)
        problem = Problem(path, message, remedy)
        if len(self.problems) < MAX_PROBLEMS:
            self.problems[problem] = None
        elif problem not in self.problems:
            self._more_problems.add(hash(problem))
        ends = (i for i, c in enumerate(path) if c in ".[")
        self._marked.update(path[:end] for end in islice(ends, MAX_STEPS))
        self._marked.add(path)

    def notice(self, path: str, message: str) -> None:
        notice = Notice(self._located(path), message)
        if len(self._notices) < MAX_PROBLEMS:
            self._notices[notice] = None
        elif notice not in self._notices:
            self._more_notices.add(hash(notice))

    def hint(self, find: Callable[P, str], *args: P.args, **kwargs: P.kwargs) -> str:
        """Return what a function finds that looks for near misses; nothing after MAX_HINTS of them."""
        self._hints += 1
        return find(*args, **kwargs) if self._hints <= MAX_HINTS else ""

    @property
    def notices(self) -> list[Notice]:
        """The notices, and the number of those that are not among them."""
        more = len(self._more_notices)
        last = [Notice("", f"and {more:,d} more notices")] if more else []
        return [*self._notices, *last]

    @property
    def more(self) -> int:
        """The number of problems that are not in `problems`."""
        return len(self._more_problems)

    def sound(self, *paths: str) -> bool:
        """Return whether no problem stands at or under any of the paths.

        A rule about several values asks this first: one fault is then one problem.
        """
        return self._marked.isdisjoint(map(self._located, paths))

    def _located(self, path: str) -> str:
        path = self.locate(path)
        return path if len(path) <= MAX_PATH else f"{path[: MAX_PATH - 3]}..."

    def raise_problems(self) -> None:
        """Raise one ConfigError with the problems, if there is one."""
        if self.problems:
            raise ConfigError(list(self.problems), self.more)
