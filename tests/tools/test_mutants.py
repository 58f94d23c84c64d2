"""`make mutants`: what it changes, and that a survivor ends it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tools.mutant_tests import Baseline
from tools.mutants import read_equivalent
from tools.mutated import exchange, loaded_functions
from tools.mutations import NO_OP, RAN, Mutation, mutations, note_statements, words_of

ROOT = Path(__file__).parents[2]

SOURCE = '''
"""What it is for."""
from typing import Final, Literal

State = Literal["sending", "dead", "dropped"]
#: a table
NAMES: Final = {404: "dead", 413: "sending"}

def f(self, a: int, u: float = 0.5) -> str:
    """What it does."""
    if a < 3 and not self.done:
        self.count += 1
        self.report(a, cause="none")
        log.error("%d is too few", a)
        raise ValueError("too few")
    return "dropped"
'''


def names(source: str) -> set[str]:
    return {m.name for m in mutations(source, words_of([source]))}


@pytest.mark.parametrize(
    "name",
    [
        "NAMES: 404 -> no entry",
        "NAMES: 413 -> 414",
        "NAMES: 'dead' -> 'sending'",
        "f: 0.5 -> 1.5",
        "f: a < 3 -> a <= 3",
        "f: a < 3 -> a >= 3",
        "f: a < 3 and (not self.done) -> True, always",
        "f: a < 3 and (not self.done) -> a < 3",
        "f: a < 3 and (not self.done) -> a < 3 or not self.done",
        "f: not self.done -> self.done",
        "f: self.count += 1 -> self.count -= 1",
        "f: self.count += 1 -> nothing",
        "f: self.report(a, cause='none') -> nothing",
        "f: cause='none' -> not given",
        "f: log.error('%d is too few', a) -> nothing",
        "f: raise ValueError('too few') -> nothing",
        "f: 'dropped' -> 'dead'",
    ],
)
def test_what_changes(name: str) -> None:
    """A comparison, a condition, a constant, an entry, a statement, a word for another of its set."""
    assert name in names(SOURCE)


@pytest.mark.parametrize("text", ["What it", "too few?", "Literal", "int ->", "__all__"])
def test_what_is_left_alone(text: str) -> None:
    """No docstring, no message, no annotation, no alias of a type."""
    assert not [name for name in names(SOURCE) if text in name.partition(": ")[2]]


def test_each_mutant_is_another_program() -> None:
    """With a name of its own, and one difference to the module; the no-op has none."""
    found = mutations(SOURCE, words_of([SOURCE]))
    assert len({m.name for m in found}) == len(found)
    programs = [ast.dump(m.apply(SOURCE)) for m in (NO_OP, *found)]
    assert programs[0] == ast.dump(ast.parse(SOURCE))
    assert programs[0] not in programs[1:]
    for mutant in found:
        compile(mutant.apply(SOURCE), "f.py", "exec")


#: a table that a function makes, a default, a branch, and functions in a class and in a function
COUNTED = """
def triple(n: int) -> int:
    return 3 * n

TABLE = {n: triple(n) for n in (1, 2)}

class Counter:
    step = 5

    @property
    def two(self) -> int:
        return 2

    def count(self, n: int, more: int = 7) -> int:
        if n < 0:
            return -1
        def add(m: int) -> int:
            return n + m
        return add(more) + self.two
"""


def counted(name: str) -> Mutation:
    (found,) = (m for m in mutations(COUNTED, words_of([])) if m.name == name)
    return found


@pytest.mark.parametrize(
    ("name", "function", "statement"),
    [
        ("TABLE: 1 -> 2", None, 5),
        ("Counter: 5 -> 6", None, 8),
        ("Counter.count: 7 -> 8", None, 14),
        ("triple: 3 -> 4", ("triple", 2), 3),
        ("Counter.two: 2 -> 3", ("Counter.two", 10), 12),
        ("Counter.count: n < 0 -> n <= 0", ("Counter.count", 14), 15),
        ("Counter.count: return -1 -> nothing", ("Counter.count", 14), 16),
        ("Counter.count.add: n + m -> n - m", ("Counter.count", 14), 18),
    ],
)
def test_where_a_change_is(name: str, function: tuple[str, int] | None, statement: int) -> None:
    """In a function, as its code object says it, with decorators; or in what counts while a module is
    loaded: a table, a class, a default."""
    assert (counted(name).function, counted(name).statement) == (function, statement)


def test_statements_are_noted_as_they_run() -> None:
    """Each in a function, before it runs; nothing else of the module is another."""
    tree = ast.parse(COUNTED)
    note_statements(tree, "a")
    ran: list[str] = []
    module: dict[str, Any] = {RAN: ran.append}
    exec(compile(tree, "a.py", "exec"), module)
    assert ran == ["a:3", "a:3"]
    ran.clear()
    assert module["Counter"]().count(1) == 10
    assert ran == ["a:15", "a:17", "a:19", "a:18", "a:12"]


def test_a_mutant_meets_the_tests_that_run_its_statement() -> None:
    """No others, and all where it counts while a module is loaded; only tests in its module's files."""
    said = {
        "fault": "",
        "modules": [],
        "seconds": {"own.py::negative": 1, "own.py::positive": 1, "other.py::positive": 1},
        "ran": {
            "own.py::negative": ["a:15", "a:16"],
            "own.py::positive": ["a:15", "a:17", "a:19"],
            "other.py::positive": ["a:15", "a:17"],
        },
        "ran_while_loading": ["a:3"],
    }
    baseline = Baseline(json.dumps(said))

    def tests(name: str) -> list[str]:
        return baseline.tests_of("a", counted(name), ["own.py"])

    assert tests("Counter.count: return -1 -> nothing") == ["own.py::negative"]
    assert tests("Counter.count: n < 0 -> n <= 0") == ["own.py::negative", "own.py::positive"]
    assert tests("Counter.two: 2 -> 3") == []
    for name in ("triple: 3 -> 4", "TABLE: 1 -> 2"):
        assert tests(name) == ["own.py::negative", "own.py::positive"]


def results(module: dict[str, Any]) -> list[object]:
    found: list[object] = [module["triple"](4)]
    for n in (-1, 0, 1):
        try:
            found.append(module["Counter"]().count(n))
        except TypeError as error:
            found.append(str(error))
    return found


def test_a_function_gets_other_code_where_it_is(tmp_path: Path) -> None:
    """A mutant's code does what the module does when it is loaded with that change; the no-op's does
    what it did."""
    path = tmp_path / "counted.py"
    for mutant in [NO_OP, *(m for m in mutations(COUNTED, words_of([])) if m.function)]:
        path.write_text(COUNTED)
        here: dict[str, Any] = {"__name__": "here"}
        exec(compile(COUNTED, str(path), "exec"), here)
        exchange(loaded_functions([path]), path, mutant)
        changed: dict[str, Any] = {"__name__": "changed"}
        exec(compile(mutant.apply(COUNTED), "changed.py", "exec"), changed)
        assert results(here) == results(changed), mutant.name
        assert (results(here) == [12, -1, 9, 10]) == (mutant is NO_OP), mutant.name


def test_every_equivalent_mutant_has_its_reason() -> None:
    """A paragraph of the list is a reason and what it is for."""
    text = "# It does\n# the same.\npolicy.a f: 1 -> 2\npolicy.a g: 1 -> 2\n"
    assert read_equivalent(text) == {
        ("policy.a", "f: 1 -> 2"): "It does the same.",
        ("policy.a", "g: 1 -> 2"): "It does the same.",
    }
    for wrong in ("policy.a f: 1 -> 2\n", text + "\n# Again.\npolicy.a f: 1 -> 2\n"):
        with pytest.raises(ValueError, match=r"for: policy\.a f"):
            read_equivalent(wrong)


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--no-op"], 1)])
def test_a_survivor_ends_the_run(options: list[str], code: int, tmp_path: Path) -> None:
    """A short run over one module: its tests notice every mutant, and nothing notices the one that
    changes nothing."""
    command = [sys.executable, "tools/mutants.py", "policy.table", *options, "--results"]
    run = subprocess.run(
        [*command, str(tmp_path / "results.json")], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == code, run.stdout + run.stderr
    assert ("no-op" in run.stdout) == (code == 1)
    assert "policy.table" in run.stdout
