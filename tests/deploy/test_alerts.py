"""The alert rules: Prometheus takes them, each fires when it must, and each says what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import click
import pytest
import yaml

from fluxhook.cli.app import app
from support.prometheus import promtool

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy/prometheus"
RULES: Final = FOLDER / "fluxhook.rules.yaml"
TESTS: Final = FOLDER / "fluxhook.tests.yaml"
GUIDE: Final = ROOT / "docs/alerts.md"


def rules() -> dict[str, dict[str, Any]]:
    """Return the alerts by name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    found = [rule for group in groups for rule in group["rules"]]
    named = {rule["alert"]: rule for rule in found}
    assert len(named) == len(found)
    return named


def unit_tests() -> list[dict[str, Any]]:
    tests: list[dict[str, Any]] = yaml.safe_load(TESTS.read_text())["tests"]
    return tests


def test_prometheus_takes_the_rules() -> None:
    """`promtool check rules`, and the configuration for the compose file."""
    said = promtool("check", "rules", RULES.name, cwd=FOLDER)
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{len(rules())} rules found" in said.stdout


def test_each_alert_fires_when_it_must() -> None:
    """`promtool test rules`: at each time exactly the alerts that are named, and no other."""
    said = promtool("test", "rules", TESTS.name, cwd=FOLDER)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("alert", sorted(rules()))
def test_each_alert_is_tested_both_ways(alert: str) -> None:
    """There is a time at which it fires, and one in the same series at which it does not."""
    own = [
        test["promql_expr_test"]
        for test in unit_tests()
        if any(alert in str(check["exp_samples"]) for check in test["promql_expr_test"])
    ]
    assert any(not check["exp_samples"] for checks in own for check in checks)


def test_what_an_alert_says_can_be_rendered(tmp_path: Path) -> None:
    """Each description names where it is, with a value; promtool shows them where nothing is
    expected."""
    (tmp_path / RULES.name).write_text(RULES.read_text())
    document = yaml.safe_load(TESTS.read_text())
    for test in document["tests"]:
        fired = [check for check in test.pop("promql_expr_test") if check["exp_samples"]]
        test["alert_rule_test"] = [
            {
                "eval_time": check["eval_time"],
                "alertname": re.search(r'"(\w+)"', str(check["exp_samples"]))[1],  # type: ignore[index]
                "exp_alerts": [],
            }
            for check in fired
        ]
    (tmp_path / TESTS.name).write_text(yaml.safe_dump(document))
    said = promtool("test", "rules", TESTS.name, cwd=tmp_path)
    text = " ".join((said.stdout + said.stderr).split())
    shown = re.findall(r'alertname="(\w+)".*?description="(.*?)"', text)
    assert {name for name, _ in shown} == rules().keys(), text[:4000]
    for name, description in shown:
        assert "<" not in description, description  # <error expanding template...>, <no value>
        assert "gw:8090" in description or name == "FluxhookUnreachable", description
        if "{{ $labels.endpoint }}" in rules()[name]["annotations"]["description"]:
            assert "billing" in description, description


def test_each_alert_is_explained() -> None:
    """It has a severity, says what is wrong, and leads to its section, which says where to look and
    what to do; the table of the page names it with the same severity."""
    text = GUIDE.read_text()
    sections = dict(re.findall(r"^## (Fluxhook\w+)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    table = dict(re.findall(r"^\| \[(Fluxhook\w+)\]\(#\w+\) \| (\w+) \|", text, re.M))
    assert [*sections] == [*table] == [*rules()]
    for name, rule in rules().items():
        assert rule["labels"]["severity"] == table[name]
        assert table[name] in ("critical", "warning")
        notes = rule["annotations"]
        assert notes["summary"]
        assert notes["description"]
        assert notes["runbook_url"] == f"docs/alerts.md#{name.lower()}"
        assert "- **Look** at" in sections[name]
        assert "- **Do**" in sections[name]


def test_the_commands_of_the_page_exist() -> None:
    """Each command line of the guide is one of ours, with options that it has."""
    lines = re.findall(r"`(fluxhook [a-z][^`]*)`", " ".join(GUIDE.read_text().split()))
    assert len(lines) > 20
    for line in lines:
        command: Any = app
        words = line.split()[1:]
        while words and isinstance(command, click.Group):
            command = command.get_command(click.Context(command), words.pop(0))
            assert command is not None, line
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, line
