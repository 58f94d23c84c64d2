"""The contributor's door: what CONTRIBUTING.md, the hooks and the templates say is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MAKEFILE = ROOT.joinpath("Makefile").read_text()
PAGES = ["CONTRIBUTING.md", "AGENTS.md", "README.md"]


def recipe(target: str) -> str:
    """Return the commands of a target."""
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)*)", MAKEFILE, re.MULTILINE)
    assert found, f"make has no target {target}"
    return found[1]


@pytest.mark.parametrize("page", PAGES)
def test_every_target_that_is_named_exists(page: str) -> None:
    """`make lint` and the like, in text and in blocks."""
    text = ROOT.joinpath(page).read_text()
    targets = set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE))
    assert targets
    for target in targets:
        assert recipe(target), target


def test_hooks_run_what_make_lint_runs() -> None:
    """With the tools of .venv: nothing is downloaded, and a commit that passes them passes CI."""
    config = yaml.safe_load(ROOT.joinpath(".pre-commit-config.yaml").read_text())
    lint = recipe("lint")
    for repo in config["repos"]:
        assert repo["repo"] == "local"
        for hook in repo["hooks"]:
            assert hook["language"] == "system"
            command = hook["entry"].removeprefix(".venv/bin/").removesuffix(" --fix")
            assert f"$(BIN)/{command}" in lint, hook["id"]


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_templates_of_issues_have_a_name(name: str) -> None:
    """GitHub leaves out a template whose head it cannot read."""
    text = ROOT.joinpath(".github", "ISSUE_TEMPLATE", f"{name}.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["name"]
    assert head["about"]
