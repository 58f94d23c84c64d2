"""`make mutants`: what it changes, and that a survivor ends it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from tools.mutants import read_equivalent
from tools.mutations import NO_OP, mutations, words_of

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
