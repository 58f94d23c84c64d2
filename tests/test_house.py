"""Files and functions that a newcomer reads from top to bottom, and modules that names tell apart."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

PACKAGE: Final = Path(__file__).parents[1] / "engine" / "fluxhook"
MODULES: Final = sorted(PACKAGE.rglob("*.py"))

MAX_LINES: Final = 600
MAX_FUNCTION_LINES: Final = 60

#: Modules of one name that are about one thing: its store, its page, its route, its command.
ONE_MEANING: Final = {
    "app": "an application as a whole",
    "audit": "the audit trail",
    "changes": "changes of an engine while it runs",
    "check": "whether a configuration can be used",
    "create": "a new subscription",
    "dead_letters": "dead letters",
    "deliveries": "deliveries",
    "delivery": "a delivery",
    "endpoints": "endpoints",
    "event_types": "event types",
    "history": "the figures of the last hour",
    "list": "a command that lists",
    "retries": "deliveries that are tried again",
    "retry": "another attempt",
    "show": "a command that shows one",
}
#: Modules of one name that mean different things. Nothing is to be added here.
TO_RENAME: Final[frozenset[str]] = frozenset()
#: Files and functions that are too long. Nothing is to be added here.
TO_DIVIDE: Final[frozenset[str]] = frozenset()


def named(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def long_functions(text: str) -> Iterator[tuple[str, int]]:
    """Every function, methods and inner ones too, that has more lines than it may."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield node.name, lines


def test_a_file_is_read_from_top_to_bottom() -> None:
    """No file has more than MAX_LINES."""
    found = {named(path): len(path.read_text().splitlines()) for path in MODULES}
    long = {name: lines for name, lines in found.items() if lines > MAX_LINES}
    assert long.keys() == {name for name in TO_DIVIDE if name.endswith(".py")}, long


def test_a_function_fits_on_a_screen() -> None:
    """No function has more than MAX_FUNCTION_LINES; ruff sees to their complexity (pyproject.toml)."""
    found = {
        f"{named(path)}:{name}": lines
        for path in MODULES
        for name, lines in long_functions(path.read_text())
    }
    assert found.keys() == {name for name in TO_DIVIDE if not name.endswith(".py")}, found


def test_one_name_means_one_thing() -> None:
    """Two modules have one name only where they are about one thing."""
    paths: defaultdict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        if not path.stem.startswith("__"):
            paths[path.stem].append(named(path))
    shared = {name: where for name, where in paths.items() if len(where) > 1}
    assert shared.keys() == ONE_MEANING.keys() | TO_RENAME, shared


@pytest.mark.parametrize(("lines", "found"), [(58, []), (59, [("inner", 61)])])
def test_long_functions_are_found(lines: int, found: list[tuple[str, int]]) -> None:
    """The finder itself: methods and inner functions too."""
    body = "        pass\n" * lines
    text = f"class A:\n    async def inner(\n        self):\n{body}"
    assert list(long_functions(text)) == found
