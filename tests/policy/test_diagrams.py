"""docs/policies.md shows what the code runs on."""

from __future__ import annotations

from tools.diagrams import DOC, PARTS, render


def test_the_generated_parts_are_up_to_date() -> None:
    """If this fails, run `python tools/diagrams.py`."""
    doc = DOC.read_text()
    assert render(doc) == doc
    assert all(f"<!-- generated: {name} -->" in doc for name in PARTS)
