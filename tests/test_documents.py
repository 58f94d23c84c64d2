"""The documents name tests; these exist, and everything that promises something names one.

Whether a test holds what a sentence says is for its reader. This holds that there is one to read.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
NODE = re.compile(r"(tests/[\w./]+\.py)((?:::\w+)+)")


@functools.cache
def nodes_of(path: str) -> frozenset[str]:
    """The node ids of a test file, without the file."""

    def found(body: list[ast.stmt], around: str) -> list[str]:
        names = []
        for node in body:
            if isinstance(node, ast.ClassDef):
                names += found(node.body, f"{around}::{node.name}")
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                names.append(f"{around}::{node.name}")
            elif isinstance(node, ast.Assign):  # a state machine's `TestRing = Machine.TestCase`
                names += [f"{around}::{n.id}" for n in node.targets if isinstance(n, ast.Name)]
        return names

    file = ROOT / path
    return frozenset(found(ast.parse(file.read_text()).body, "")) if file.exists() else frozenset()


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_that_is_named_exists(path: Path) -> None:
    """With its file, its class and its name: a test that is renamed takes the sentence along."""
    named = NODE.findall(path.read_text())
    assert [f"{file}{names}" for file, names in named if names not in nodes_of(file)] == []


def rows() -> list[tuple[str, str, str]]:
    lines = (ROOT / "docs" / "documents.md").read_text().splitlines()
    table = [re.split(r" *\| *", line[2:]) for line in lines if line.startswith("| ")]
    return [(said, held, here) for said, held, here, _ in table if said != "the document"]


def test_every_sentence_of_the_two_documents_is_held() -> None:
    """By a test, or it says why there is nothing to hold; and none is left out later."""
    for sentence, held, here in rows():
        assert NODE.search(held) or here.startswith("Nothing to hold"), sentence
    assert len(rows()) == 67


def test_every_promise_names_the_tests_that_hold_it() -> None:
    """Each paragraph, item and row of docs/guarantees.md, but for those that say where one ends. A file
    alone is no test: nobody could say which of its assertions is meant."""
    text = (ROOT / "docs" / "guarantees.md").read_text()
    parts = re.split(r"\n(?=- |\| )|\n\n", text)
    assert [
        part
        for part in parts[2:]
        if not NODE.search(part)
        and not part.startswith(("#", "    ", "It ends", "| who is killed", "|---"))
    ] == []
    assert re.findall(r"`tests/[\w/]+\.py`", text) == []


def test_a_name_that_is_none_is_noticed() -> None:
    """The check itself."""
    assert "::test_every_test_that_is_named_exists" in nodes_of("tests/test_documents.py")
    assert "::test_that_is_not_there" not in nodes_of("tests/test_documents.py")
    assert "::TestReplayGuard::test_a_request_is_accepted_once" in nodes_of("tests/test_verify.py")
    assert not nodes_of("tests/no_such_file.py")
