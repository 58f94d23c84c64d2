"""scripts/changelog.py: fragments become entries of CHANGELOG.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts.changelog import ROOT, collect, faults, fragments, main

CHANGELOG = """# Changelog

## 0.2.0 (unreleased)

Faster.

- An entry.

## 0.1.0

- The first one.
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Make a repository with a changelog and two fragments."""
    tmp_path.joinpath("CHANGELOG.md").write_text(CHANGELOG)
    folder = tmp_path / "changelog.d"
    folder.mkdir()
    folder.joinpath("README.md").write_text("# Changelog fragments\n")
    folder.joinpath("b-second.md").write_text("The second\nsentence.\n")
    folder.joinpath("a-first.md").write_text("The first sentence.\n")
    return tmp_path


def test_a_release_takes_all_fragments_in(clone: Path) -> None:
    """Each is an entry at the end of the version's section, in the order of the names; the files go,
    and the README stays."""
    assert main(["0.2.0"], clone) == 0
    assert clone.joinpath("CHANGELOG.md").read_text() == CHANGELOG.replace(
        "- An entry.\n", "- An entry.\n- The first sentence.\n- The second sentence.\n"
    )
    assert [path.name for path in (clone / "changelog.d").iterdir()] == ["README.md"]


def test_a_new_version_gets_a_heading(clone: Path) -> None:
    """Above all others."""
    assert main(["0.3.0"], clone) == 0
    text = clone.joinpath("CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n\n## 0.3.0\n\n- The first sentence.\n- The second")
    assert text.endswith(CHANGELOG.removeprefix("# Changelog\n"))


def test_the_last_section_and_an_empty_one_take_entries() -> None:
    """A section ends at the next heading or at the end of the file; one without entries gets its
    first."""
    text = "# Changelog\n\n## 0.1.0\n"
    once = collect(text, "0.1.0", ["One."])
    assert once == "# Changelog\n\n## 0.1.0\n\n- One.\n"
    assert collect(once, "0.1.0", ["Two."]) == "# Changelog\n\n## 0.1.0\n\n- One.\n- Two.\n"


def test_long_entries_are_wrapped() -> None:
    """As the file is: 115 columns, and what follows is indented below the text of the bullet."""
    lines = collect("# Changelog\n", "1.0.0", ["word " * 60]).splitlines()
    assert max(map(len, lines)) <= 115
    assert [line[:2] for line in lines if "word" in line] == ["- ", "  ", "  "]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("Retry.md", "Text.", "lower case"),
        ("retry after.md", "Text.", "lower case"),
        ("retry.txt", "Text.", "lower case"),
        ("retry.md", " \n", "empty"),
        ("retry.md", "- Text.", "bullet"),
        ("retry.md", "## Added\n\nText.", "heading"),
        ("retry.md", "Text.\n\nMore.", "two files"),
    ],
)
def test_what_is_no_entry_is_refused(
    clone: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, says: str
) -> None:
    """With the file's name and what to do; nothing is written and nothing removed."""
    clone.joinpath("changelog.d", name).write_text(text)
    assert main(["--check"], clone) == main(["0.2.0"], clone) == 1
    assert f"changelog.d/{name}: " in (said := capsys.readouterr().err)
    assert says in said
    assert clone.joinpath("CHANGELOG.md").read_text() == CHANGELOG
    assert len(fragments(clone)) == 3


@pytest.mark.parametrize("arguments", [[], ["next"], ["0.2.0", "0.3.0"]])
def test_a_release_needs_its_version(
    clone: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """Otherwise fragments would end up below a heading that nobody meant."""
    assert main(arguments, clone) == 2
    assert "such as 0.2.0" in capsys.readouterr().err
    assert len(fragments(clone)) == 2


def test_the_fragments_that_are_here_are_entries() -> None:
    """Those of this repository."""
    assert faults(fragments(ROOT)) == []
