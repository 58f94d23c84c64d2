"""conftest.py: CI=true turns what would be left out into failures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LEFT_OUT = """
import pytest

@pytest.mark.skip(reason="too tired")
def test_marked(): pass

def test_called(): pytest.skip("no such tool")

@pytest.fixture
def absent(): pytest.skip("no such fixture")

def test_fixture(absent): pass

@pytest.mark.xfail(reason="known bug")
def test_fails(): assert False

@pytest.mark.xfail(reason="mended by now")
def test_passes(): pass
"""
WHOLE_MODULE = "import pytest; pytest.importorskip('no_such_module')"


def run(folder: Path, ci: str) -> str:
    """Return the output of a test session of its own."""
    conftest = Path(__file__).with_name("conftest.py").read_text()
    for name, text in (
        ("conftest.py", conftest),
        ("test_left_out.py", LEFT_OUT),
        ("test_whole_module.py", WHOLE_MODULE),
    ):
        folder.joinpath(name).write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--rootdir", folder, "--continue-on-collection-errors"],
        cwd=folder,
        # what this session has as plugins takes longer to load than all else
        env=os.environ
        | {
            "CI": ci,
            "PYTHONPATH": str(Path(__file__).parent),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
    ).stdout


def test_ci_allows_no_skip_and_no_xfail(tmp_path: Path) -> None:
    """Each way to leave a test out fails in CI, and the output says why it was left out."""
    output = run(tmp_path, "true")
    assert "3 failed, 3 errors in" in output
    for reason in (
        "Skipped: too tired",
        "Skipped: no such tool",
        "Skipped: no such fixture",
        "Skipped: could not import 'no_such_module'",
        "xfail: known bug",
        "xfail: mended by now",
    ):
        assert f"CI=true allows no skip and no xfail, but: {reason}" in output


def test_elsewhere_they_are_left_out(tmp_path: Path) -> None:
    """A developer's machine may lack what a test needs."""
    assert "4 skipped, 1 xfailed, 1 xpassed in" in run(tmp_path, "")
