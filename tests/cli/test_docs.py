"""docs/cli.md shows what the commands say of themselves."""

from __future__ import annotations

from tools.cli_docs import DOC, commands, render


def test_the_generated_parts_are_up_to_date() -> None:
    """If this fails, run `python tools/cli_docs.py`."""
    doc = DOC.read_text()
    assert render(doc) == doc
    for name in (*commands(), "exit-codes"):
        assert f"<!-- generated: {name} -->" in doc
