"""scripts/interpreters.py: which Pythons CI tests with."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest
from packaging.specifiers import SpecifierSet

from scripts import interpreters

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        ([], []),
        ([("python3", "3.10.1")], []),
        ([("python3", "3.12.1"), ("/a", "3.12.9")], ["python3"]),
        ([("python3", "3.12.1"), ("/a", "3.13.0"), ("/b", "3.11.2")], ["/b", "/a"]),
        ([("python3", "3.11.2"), ("/a", "3.99.0"), ("/c", "3.12.0")], ["python3", "/c"]),
    ],
)
def test_the_oldest_and_the_newest(found: list[tuple[str, str]], chosen: list[str]) -> None:
    """Of those that are supported; of several the first; one if there is no other."""
    picked = interpreters.choose(found, ["3.11", "3.12", "3.13"])
    assert [command for command, _ in picked] == chosen


def test_the_supported_ones_are_those_of_the_package() -> None:
    """The oldest is that of `requires-python`, and this one is among them."""
    supported = interpreters.supported()
    assert PROJECT["requires-python"] == f">={supported[0]}"
    assert all(version in SpecifierSet(PROJECT["requires-python"]) for version in supported)
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in supported


def test_what_cannot_run_is_passed_over(tmp_path: Path) -> None:
    """A shim that leads nowhere, a file that is no program, and what is not there."""
    shim = tmp_path / "python3"
    shim.write_text("#!/bin/sh\necho 'pyenv: version is not installed' >&2\nexit 127\n")
    assert interpreters.version_of(str(shim)) is None
    shim.chmod(0o755)
    assert interpreters.version_of(str(shim)) is None
    assert interpreters.version_of(str(tmp_path / "nothing")) is None
    assert interpreters.version_of(sys.executable) == sys.version.split()[0]


def test_pythons_of_pyenv_and_uv_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever these are told to keep them."""
    for name in ("pyenv/versions/3.13.0", "uv/cpython-3.12"):
        folder = tmp_path / name / "bin"
        folder.mkdir(parents=True)
        folder.joinpath("python3").touch()
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "uv"))
    found = list(interpreters.candidates())
    assert found[0] == "python3"
    assert found[-2:] == [
        str(tmp_path / "pyenv/versions/3.13.0/bin/python3"),
        str(tmp_path / "uv/cpython-3.12/bin/python3"),
    ]
