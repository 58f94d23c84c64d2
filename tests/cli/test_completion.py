"""`fluxhook completion`, and what a shell is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.conftest import Invoke
from fluxhook.cli.app import COMMANDS, app
from fluxhook.cli.exit_codes import ExitCode


def completed(line: str) -> list[str]:
    """Return what bash is told for the last word of a line."""
    words = line.split(" ")
    environ = {
        "_FLUXHOOK_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "FLUXHOOK_DATA_DIR": None,
    }
    said = CliRunner().invoke(app, [], env=environ, prog_name="fluxhook", catch_exceptions=False)
    return [each.partition(",")[2] for each in said.stdout.splitlines() if each]


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("bash", "complete -o nosort -F"),
        ("zsh", "#compdef fluxhook"),
        ("fish", "complete --no-files"),
    ],
)
def test_each_shell_gets_its_script(invoke: Invoke, shell: str, words: str) -> None:
    said = invoke("completion", shell)
    assert said.exit_code == ExitCode.OK
    assert words in said.stdout
    assert "_FLUXHOOK_COMPLETE" in said.stdout


def test_another_shell_is_refused(invoke: Invoke) -> None:
    said = invoke("completion", "tcsh")
    assert said.exit_code == ExitCode.USAGE
    assert "'bash', 'zsh', 'fish'" in said.stderr


def test_commands_and_options_are_completed() -> None:
    assert completed("fluxhook ") == list(COMMANDS)
    assert completed("fluxhook dead-letters re") == ["replay"]
    assert "--generate-secret" in completed("fluxhook webhook create --gen")


def test_event_types_and_namespaces_are_completed() -> None:
    assert completed("fluxhook webhook create --type route.e") == ["route.error"]
    assert "route.*" in completed("fluxhook webhook create --type route")


@pytest.mark.parametrize(
    "line", ["webhook show", "webhook test", "deliveries list --endpoint", "audit --endpoint"]
)
def test_names_of_webhooks_are_completed(stopped: Path, line: str) -> None:
    """From the data directory; where there is none, nothing is said."""
    *commands, last = line.split(" ")
    if not last.startswith("-"):
        commands, last = [*commands, last], ""
    for directory, names in ((stopped, ["shop"]), ("nowhere", [])):
        words = ["fluxhook", *commands, "--data-dir", directory, last, "sh"]
        assert completed(" ".join(str(word) for word in words if word)) == names
