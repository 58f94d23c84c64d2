"""requirements/*.txt: what development and CI install, to the byte."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from scripts import interpreters

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())
EXTRAS: Final = PROJECT["project"]["optional-dependencies"]
LOCKS: Final = ("demo", "dev", "engine")


def entries(name: str) -> list[tuple[Requirement, list[str]]]:
    """Each requirement of a lock with its hashes."""
    text = ROOT.joinpath(f"requirements/{name}.txt").read_text()
    lines = text.replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        if line.strip() and not line.lstrip().startswith("#"):
            written, *hashes = line.split(" --hash=")
            found.append((Requirement(written), [one.strip() for one in hashes]))
    return found


def wanted(name: str) -> list[Requirement]:
    """Return what pyproject.toml asks for: users' ranges."""
    asked = [*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"]]
    extras = {"demo": [], "dev": ["test"], "engine": ["admin", "ed25519", "zstd"]}[name]
    while extras:
        for text in EXTRAS[extras.pop()]:
            requirement = Requirement(text)
            if requirement.name == "fluxhook":
                extras += requirement.extras
            else:
                asked.append(text)
    return [Requirement(text) for text in asked]


def pinned(name: str, python: str) -> dict[NormalizedName, Version]:
    """The versions that a Python gets."""
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    versions = {}
    for requirement, _ in entries(name):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (specifier,) = requirement.specifier
            assert specifier.operator == "=="
            versions[canonicalize_name(requirement.name)] = Version(specifier.version)
    return versions


@pytest.mark.parametrize("python", interpreters.supported())
@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_is_within_the_ranges(name: str, python: str) -> None:
    """For every Python that is supported. If this fails: make lock."""
    versions = pinned(name, python)
    for requirement in wanted(name):
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: {version}; make lock"


@pytest.mark.parametrize("name", LOCKS)
def test_each_package_is_known_by_its_hashes(name: str) -> None:
    """Whatever index they come from; none is written down."""
    for requirement, hashes in entries(name):
        assert hashes, requirement
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in hashes), requirement
        assert requirement.url is None
    text = ROOT.joinpath(f"requirements/{name}.txt").read_text()
    assert "://" not in text
    assert {word for word in text.split() if word.startswith("--")} == {
        word for word in text.split() if word.startswith("--hash=sha256:")
    }


def test_the_demo_has_no_other_versions() -> None:
    """The lock of development holds that of the demo, so one environment serves both."""
    for python in interpreters.supported():
        demo, dev = pinned("demo", python), pinned("dev", python)
        assert demo.items() <= dev.items()
        assert len(demo) < 20 < len(dev)
