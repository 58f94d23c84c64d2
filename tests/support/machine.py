"""What the tests need of the machine, as scripts/bootstrap.py knows it, which also brings it."""

from __future__ import annotations

import runpy
from pathlib import Path

_BOOTSTRAP = runpy.run_path(str(Path(__file__).parents[2] / "scripts/bootstrap.py"))


def unprepared() -> str | None:
    """Return one line about the tools that are missing and the command that brings them, or None."""
    missing = _BOOTSTRAP["missing"]("test")
    if not missing:
        return None
    named = ", ".join(need.what for need in missing)
    return f"the tests need {named}; run: python3 scripts/bootstrap.py test"
