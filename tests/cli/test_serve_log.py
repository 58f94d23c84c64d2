"""The log of `fluxhook serve`: formats, levels, and what a reload changes."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Invoke, Start
from cli.test_serve import ALLOWED, write
from fluxhook.receiver import Behaviour
from support.receiver import ReceiverProcess

JSON: dict[str, tuple[tuple[str, ...], dict[str, str], dict[str, Any]]] = {
    "option": (("--log-format", "json"), {}, {}),
    "variable": ((), {"FLUXHOOK_LOG_FORMAT": "json"}, {}),
    "file": ((), {}, {"log": "{format: json}"}),
    "option over file": (("--log-format", "json"), {}, {"log": "{format: text}"}),
}


@pytest.mark.parametrize(("options", "environ", "of_file"), JSON.values(), ids=JSON)
def test_json_is_an_option_of_all_processes(
    start: Start,
    invoke: Invoke,
    tmp_path: Path,
    receiver: ReceiverProcess,
    options: tuple[str, ...],
    environ: dict[str, str],
    of_file: dict[str, Any],
) -> None:
    """By flag, variable or file. Notices of the command itself are texts."""
    receiver.behave(Behaviour(status=503))
    config = write(tmp_path / "f.yaml", receiver.url, **of_file)
    engine = start("serve", "-c", config, "--no-admin", *ALLOWED, *options, environ=environ)
    engine.line()
    invoke("emit", "order.created")
    said = engine.hear('"event": "first_failure"')
    found = [json.loads(line) for line in said.splitlines() if not line.startswith("Notice: ")]
    failure = found[-1]
    assert (failure["endpoint"], failure["cause"]) == ("shop", "server_error")
    assert (failure["level"], failure["logger"]) == ("warning", "fluxhook.endpoint")


def test_a_reload_says_what_it_changes_and_no_value(start: Start, tmp_path: Path) -> None:
    """Names of endpoints and of options."""
    config = write(tmp_path / "f.yaml", "http://127.0.0.1:9/", "secret: sk_secret_one")
    engine = start("serve", "-c", config, "--no-admin", *ALLOWED)
    engine.line()
    write(config, "http://127.0.0.1:9/other", "secret: sk_secret_two", queue_size=77)
    engine.signal(signal.SIGHUP)
    said = engine.hear("configuration reloaded").splitlines()[-1]
    assert 'changed="shop: url, secrets"' in said
    assert "options=queue_size" in said
    assert "sk_secret" not in said


def test_a_level_hides_what_is_below_it(start: Start, tmp_path: Path) -> None:
    """With `--log-level error` a start and its end say nothing."""
    config = write(tmp_path / "f.yaml", "http://127.0.0.1:9/")
    engine = start("serve", "-c", config, "--no-admin", *ALLOWED, "--log-level", "error")
    engine.line()
    engine.signal(signal.SIGTERM)
    lines = engine.end().stderr.splitlines()
    assert [line for line in lines if "fluxhook supervisor:" in line] == []


@pytest.mark.parametrize("option", [("--log-format", "xml"), ("--log-level", "loud")])
def test_a_wrong_value_is_refused_with_those_that_are_right(
    invoke: Invoke, tmp_path: Path, option: tuple[str, str]
) -> None:
    """As every option of the command line."""
    said = invoke("serve", "-c", tmp_path / "f.yaml", *option)
    assert said.exit_code == 2
    assert option[1] in said.stderr
