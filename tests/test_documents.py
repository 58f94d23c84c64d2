"""What the pages name exists: files, headings, tests. Everything that promises something names a test.

Whether a test holds what a sentence says is for its reader. This holds that there is one to read.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest
from tools.layers import LAYER_OF

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "engine" / "fluxhook"
#: all pages but bench/RESULTS.md, which a run writes
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob(".github/**/*.md"),
        *(ROOT / folder / "README.md" for folder in ("bench", "changelog.d")),
    ]
)
NODE = re.compile(r"(tests/[\w./]+\.py)((?:::\w+)+)")


@functools.cache
def nodes_of(path: str) -> frozenset[str]:
    """Return the node ids of a test file, without the file."""

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


#: what looks like a file of ours: with a suffix of sources, or in one of the folders
SOURCE = re.compile(
    r"(?<![\w/.<-])((?:[\w-]+/)*[\w-]+\.(?:py|pyi|pyx|h|c|go|md|sql|js|css|conf))\b"
)
FOLDERS = (
    "engine|tests|docs|bench|deploy|tools|scripts|_native|requirements|\\.github|changelog\\.d"
)
BELOW = re.compile(rf"(?<![\w/.-])((?:{FOLDERS})/[\w./-]*\w)")
QUOTED = re.compile(r"`(?!application/)([a-z_]+/[\w./-]+)`")
#: an example of a name, and files and packages of others
OTHERS = {"retry-after-dates.md", "broker/events/events.go", "encoding/json"}


def named_paths(text: str) -> set[str]:
    """Return every path that a page names, links and addresses aside."""
    text = re.sub(r"\[[^\]]*\]\([^)\s]+\)|https?://\S+", "", text)
    return {path for form in (SOURCE, BELOW, QUOTED) for path in form.findall(text)} - OTHERS


def exists(path: str, page: Path) -> bool:
    """Return whether a path is there: from the top, in the package, or beside the page that names
    it."""
    return any((root / path).exists() for root in (ROOT, PACKAGE, page.parent))


each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


@each_page
def test_every_file_that_is_named_exists(page: Path) -> None:
    """A file that is moved takes the sentence along."""
    assert [path for path in named_paths(page.read_text()) if not exists(path, page)] == []


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    """Files exist, and so do the headings that a link names."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in anchors, target


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see `worker/gone.py`", {"worker/gone.py"}),
        ("run tools/gone.py now", {"tools/gone.py"}),
        ("`gone.py`: what it was", {"gone.py"}),
        ("its folder `tests/gone`", {"tests/gone"}),
        ("`application/json` at https://a.example/docs/x.py", set()),
    ],
)
def test_a_path_is_noticed(text: str, found: set[str]) -> None:
    """The check itself."""
    assert named_paths(text) == found
    assert not any(exists(path, ROOT / "README.md") for path in found)


# ---- three walks -------------------------------------------------------------------------------


def walks() -> dict[str, list[list[list[str]]]]:
    """Return the walks of docs/architecture.md: for each its processes, and for each of these the
    files of each step."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    text = text.partition("\n### Three walks\n")[2].partition("\n## ")[0]
    found: dict[str, list[list[list[str]]]] = {}
    for walk in text.split("\n#### ")[1:]:
        title, _, rest = walk.partition("\n")
        processes = found[title] = []
        for number, step in re.findall(r"^(\d+)\. (.*?):", rest, re.MULTILINE):
            if number == "1":
                processes.append([])
            processes[-1].append(re.findall(r"`([^`]+)`", step))
    return found


def layer(path: str) -> int:
    """Return the layer of a file that a walk names."""
    return LAYER_OF[path.split("/")[0].removesuffix(".py")]


def test_there_are_three_walks() -> None:
    """Of an emit, of a failure, and of a change; each step has a file that is there."""
    assert list(walks()) == [
        "An `emit`",
        "A failure until its retry is delivered",
        "A `PATCH` of a webhook",
    ]
    page = ROOT / "docs" / "architecture.md"
    for processes in walks().values():
        assert len(processes) >= 2
        for steps in processes:
            assert all(steps)
            assert [path for step in steps for path in step if not exists(path, page)] == []


def test_no_walk_goes_back_up() -> None:
    """Within a process each step is on the layer of the step before or below it, as calls are."""
    for title, processes in walks().items():
        for steps in processes:
            layers = [layer(path) for step in steps for path in step]
            assert layers == sorted(layers, reverse=True), (title, steps)


# ---- tests that are named ----------------------------------------------------------------------


@each_page
def test_every_test_that_is_named_exists(page: Path) -> None:
    """With its file, its class and its name: a test that is renamed takes the sentence along."""
    named = NODE.findall(page.read_text())
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
