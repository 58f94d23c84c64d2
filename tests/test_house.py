"""Files and functions that a newcomer reads from top to bottom, modules that names tell apart, and
tests that leave the inside of a part to it."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parent
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
#: Names with an underscore that are no privates of ours.
NO_PRIVATES: Final = {
    "_native": "the package of compiled modules",
    "_exit": "os",
    "_getframe": "sys",
    "_asdict": "named tuples",
    "_fields": "named tuples",
    "_replace": "named tuples",
}
#: Tests that reach into a part's inside, what they use there, and why. Nothing is to be added here.
REACH_IN: Final = {
    (
        "publisher/test_interruptions.py",
        "_own_locks",
    ): "holds both locks, as no call does, at a fork",
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


# ---- what tests use ----------------------------------------------------------------------------


def private(name: str) -> bool:
    """Return whether a name, or the last part of a dotted one, says that it is a part's own."""
    last = name.rpartition(".")[2]
    return last.startswith("_") and not last.startswith("__") and last not in NO_PRIVATES


def own_names(tree: ast.AST) -> set[str]:
    """Return the names that a file defines: its functions, classes and variables, and the attributes
    that its own classes give to themselves."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                found.add(name)
    return found


def privates(text: str) -> Iterator[tuple[int, str]]:
    """Every place where a test reaches into what is not its own: an attribute, a name that it imports,
    or one that it patches as a text."""
    tree = ast.parse(text)
    own = own_names(tree)
    for node in ast.walk(tree):
        names: list[object]
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                names = []
            case ast.Attribute(attr=name):
                names = [name]
            case ast.ImportFrom():
                names = [alias.name for alias in node.names]
            case ast.Call(func=ast.Name(id="getattr" | "setattr") | ast.Attribute(attr="setattr")):
                names = [one.value for one in node.args[:2] if isinstance(one, ast.Constant)]
            case _:
                continue
        for used in names:
            if isinstance(used, str) and private(used) and used not in own:
                yield node.lineno, used


def test_tests_do_not_reach_into_privates() -> None:
    """A test goes through what a part offers, gives it what the test decides (a clock, a function), or
    uses a name that the part shows. A name that several tests need is no private of its part: it has
    no underscore there, and says what it is."""
    found = {
        (str(path.relative_to(TESTS)), name): line
        for path in sorted(TESTS.rglob("*.py"))
        for line, name in privates(path.read_text())
    }
    assert found.keys() == REACH_IN.keys(), found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.b._c.d", ["_c"]),
        ("from a import _b, c", ["_b"]),
        ("patch.setattr(a, '_b', 1)", ["_b"]),
        ("patch.setattr('a.b._c', 1)", ["a.b._c"]),
        ("setattr(a, '_b', 1); getattr(a, '_c')", ["_b", "_c"]),
        ("class A:\n    def f(self): self._a = self._b\nA()._a", []),
        ("class A:\n    def _f(self): pass\nA()._f()", []),
        ("row._replace(a=1); os._exit(0); from a._native import ring; a.__doc__", []),
    ],
)
def test_privates_are_found(text: str, found: list[str]) -> None:
    """The finder itself."""
    assert [name for _, name in privates(text)] == found
