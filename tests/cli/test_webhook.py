"""`fluxhook webhook`: a webhook's whole life, at a running engine."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fluxhook
from cli.conftest import CommandSite, Invoke, json, until
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.receiver import Behaviour

DOCUMENTED = (
    "webhook create --type route.error --url https://hooks.example.com/fg "
    "--secret sk_live_9x8m2p --timeout 3s"
)


def test_the_line_of_the_documents_works_as_printed(site: CommandSite) -> None:
    said = site.run(*DOCUMENTED.split())
    assert said.exit_code == ExitCode.OK, said.output
    assert said.stdout.startswith("✓ hooks.example.com was created\n")
    assert "sk_live_9x8m2p" not in said.output
    (endpoint,) = (e for e in site.snapshot().config.endpoints if e.name == "hooks.example.com")
    assert endpoint.url == "https://hooks.example.com/fg"
    assert endpoint.events == ("route.error",)
    assert endpoint.secrets == ("sk_live_9x8m2p",)
    assert str(endpoint.timeout) == "3s"


def test_a_subscription_to_nothing_is_pointed_out(site: CommandSite) -> None:
    """The notice comes when it is created, and when it is shown: nobody waits in silence for events
    that never come."""
    common = ("--name", "mistyped", "--url", "https://example.com/", "--secret", "sk")
    said = site.run("webhook", "create", "--type", "route", *common)
    assert said.exit_code == ExitCode.OK, said.output
    for output in (said.stderr, site.run("webhook", "show", "mistyped").stderr):
        assert "no known event type matches 'route' (did you mean route.*?)" in output
    site.run("webhook", "delete", "mistyped", "--yes")


def test_every_option_becomes_its_field(site: CommandSite) -> None:
    made = site.json(
        "webhook", "create", "--name", "full", "--url", "https://example.com/", "--type", "a.*",
        "--type", "b.c", "--secret", "sk_full", "--timeout", "4s", "--topic-filter", "x/#",
        "--where", "n >= 5", "--sample", "0.5", "--threshold", "100/s", "--header", "X-Team: a: b",
        "--signature", "stripe", "--envelope", "cloudevents", "--max-attempts", "2",
        "--retry-schedule", "15s, 2m", "--concurrency", "7", "--rate-limit", "9/s",
        "--max-payload", "64KiB", "--ttl", "1h", "--ordered", "--order-key", "id",
        "--aggregate-window", "10s", "--aggregate-type", "a.b", "--disable-after", "24h",
        "--disable-on-gone",
        "--record", "all", "--paused", "--set", "circuit_breaker.failure_threshold=10",
        "--set", "retry.jitter=0.5", "--set", "on_head_failure=park",
    )  # fmt: skip
    expected: dict[str, Any] = {
        "name": "full",
        "source": "api",
        "state": "paused",
        "url": "https://example.com/",
        "events": ["a.*", "b.c"],
        "topic_filters": ["x/#"],
        "where": ["n >= 5"],
        "sample": 0.5,
        "threshold": "100/s",
        "headers": {"X-Team": "***"},
        "secrets": ["***"],
        "signature": "stripe",
        "envelope": "cloudevents",
        "timeout": "4s",
        "concurrency": 7,
        "rate_limit": "9/s",
        "ttl": "1h",
        "ordered": True,
        "order_key": "id",
        "on_head_failure": "park",
        "disable_on_gone": True,
        "disable_after": "24h",
        "record": "all",
        "paused": True,
    }
    assert {name: made[name] for name in expected} == expected
    assert made["retry"]["schedule"] == ["15s", "2m"]
    assert (made["retry"]["max_attempts"], made["retry"]["jitter"]) == (2, 0.5)
    assert made["aggregate"].items() >= {"window": "10s", "types": ["a.b"]}.items()
    assert made["circuit_breaker"]["failure_threshold"] == 10
    assert made["max_payload"] in ("64KiB", 65536)
    (endpoint,) = (e for e in site.snapshot().config.endpoints if e.name == "full")
    assert endpoint.headers == {"X-Team": "a: b"}


def test_every_problem_is_listed_with_its_option(site: CommandSite) -> None:
    """Field, value, remedy; and nothing was created."""
    said = site.run(
        "webhook", "create", "--name", "bad", "--type", "rout..e", "--url", "ftp://x",
        "--timeout", "3", "--max-attempts", "0", "--set", "retry.foo=1",
    )  # fmt: skip
    assert said.exit_code == ExitCode.CONFIG
    for words in (
        "events[0] (--type)",
        "'rout..e'",
        "url (--url)",
        "timeout (--timeout)",
        "'3' has no unit",
        '→ write one such as "250ms"',
        "retry.max_attempts (--max-attempts)",
        "retry.foo",
    ):
        assert words in said.stderr
    assert "bad" not in [webhook["name"] for webhook in site.lines("webhook", "list")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--url https://x", "--type"),
        ("--type a.b", "--url"),
        ("--type a.b --url https://x --secret s --generate-secret", "not both"),
        ("--type a.b --url https://x --secret s --secret-file -", "not both"),
        ("--type a.b --url https://x --secret-file /dev/null", "is empty"),
        ("--type a.b --url https://x --header hidden", "NAME: VALUE"),
        ("--type a.b --url https://x --set x", "KEY=JSON"),
        ("--type a.b --url https://x --set a..b=1", "KEY=JSON"),
        ("--type a.b --url https://x --set retry=1 --set retry.jitter=1", "as a whole"),
        ("--type a.b --url https://x --signature foo", "fluxgate"),
    ],
)
def test_a_wrong_line_is_refused_before_anything_is_asked(
    invoke: Invoke, options: str, words: str
) -> None:
    said = invoke("webhook", "create", *options.split())
    assert said.exit_code == ExitCode.USAGE
    assert words in said.stderr
    assert "hidden" not in said.stderr


def test_a_generated_secret_is_shown_once(site: CommandSite) -> None:
    said = site.run(
        "webhook", "create", "--type", "a.b", "--url", "https://example.com/", "--name", "made",
        "--generate-secret",
    )  # fmt: skip
    secret = site.secrets("made")[0]
    assert secret in said.stdout
    assert "shown only now" in said.stderr
    for command in (("list",), ("show", "made"), ("update", "made", "--timeout", "4s")):
        assert secret not in site.run("webhook", *command).output


def test_a_secret_comes_from_a_file_or_standard_input(site: CommandSite, tmp_path: Path) -> None:
    """Without the end of its line."""
    file = tmp_path / "secret"
    file.write_text("sk from a file\n")
    rest = ("--type", "a.b", "--url", "https://example.com/", "--secret-file")
    assert site.run("webhook", "create", "--name", "f", *rest, file).exit_code == 0
    assert (
        site.run("webhook", "create", "--name", "i", *rest, "-", stdin="sk_in\r\n").exit_code == 0
    )
    assert site.secrets("f") == ["sk from a file"]
    assert site.secrets("i") == ["sk_in"]


def test_list_and_show_hide_what_must_not_be_shown(site: CommandSite) -> None:
    listed, shown = site.run("webhook", "list").output, site.run("webhook", "show", "filed").output
    assert "filed" in listed
    assert "file" in shown
    for secret in ("hidden-in-query", "hidden-in-header", "sk_hidden_secret"):
        assert secret not in listed + shown
    assert "headers.Authorization" in shown


def test_update_changes_what_is_given_and_nothing_else(site: CommandSite) -> None:
    site.create("changed", "--threshold", "5/s", "--header", "X-A: 1")
    made = site.json("webhook", "update", "changed", "--timeout", "9s", "--header", "X-B: 2",
                     "--unset", "threshold")  # fmt: skip
    assert (made["timeout"], made["threshold"]) == ("9s", None)
    assert made["headers"].keys() == {"X-A", "X-B"}
    assert made["events"] == ["changed.*"]
    assert site.json("webhook", "update", "changed", "--unset", "headers.X-A")["headers"] == {
        "X-B": "***"
    }
    said = site.run("webhook", "update", "changed")
    assert said.exit_code == ExitCode.USAGE


def test_an_update_that_moves_a_webhook_says_what_is_hidden_anew(site: CommandSite) -> None:
    """The error names the option of each value; the secret may come from standard input."""
    site.create("moved", "--header", "X-A: 1", "--signature", "fluxgate", "--secret", "sk_1")
    elsewhere = ("webhook", "update", "moved", "--url", "https://elsewhere.example/")
    said = site.run(*elsewhere)
    assert said.exit_code == ExitCode.CONFIG
    for option in ("headers.X-A (--header)", "secret (--secret)"):
        assert option in said.stderr
    more = ("--header", "X-A: 2", "--secret-file", "-")
    assert site.run(*elsewhere, *more, stdin="sk_2\n").exit_code == ExitCode.OK
    assert site.secrets("moved") == ["sk_2"]


def test_pause_and_resume(site: CommandSite) -> None:
    site.create("paused")
    assert site.run("webhook", "pause", "paused").stdout == "paused is paused\n"
    assert site.json("webhook", "show", "paused")["state"] == "paused"
    said = site.run("webhook", "test", "paused")
    assert said.exit_code == ExitCode.CONFLICT
    assert "resume it first" in said.stderr
    assert site.run("webhook", "resume", "paused").stdout == "paused is active\n"


def test_a_webhook_of_the_file_is_the_file_s(site: CommandSite) -> None:
    for command in (("delete", "filed", "--yes"), ("update", "filed", "--timeout", "1s")):
        said = site.run("webhook", *command)
        assert said.exit_code == ExitCode.CONFLICT
        assert "configuration file" in said.stderr


def test_an_unknown_one_is_not_found(site: CommandSite) -> None:
    for command in (("show",), ("pause",), ("test",), ("delete", "--yes"), ("rotate-secret",)):
        said = site.run("webhook", *command, "nobody")
        assert said.exit_code == ExitCode.NOT_FOUND
        assert "'nobody'" in said.stderr
        assert "`fluxhook webhook list`" in said.stderr


def test_a_rotation_leaves_both_secrets_signing(site: CommandSite) -> None:
    """A generated one is printed once, one's own never."""
    site.create("turning", "--signature", "fluxgate", "--secret", "sk_first")
    said = site.run("webhook", "rotate-secret", "turning", "--overlap", "2h")
    new, old = site.secrets("turning")
    assert old == "sk_first"
    assert new in said.stdout
    assert "the former one signs until 20" in said.stdout
    said = site.run("webhook", "rotate-secret", "turning", "--secret", "sk_own", "--overlap", "0s")
    assert site.secrets("turning") == ["sk_own"]
    assert "sk_own" not in said.output
    said = site.run("webhook", "rotate-secret", "turning", "--overlap", "long")
    assert said.exit_code == ExitCode.USAGE
    assert "overlap (--overlap)" in said.stderr


def test_delete_asks_first(site: CommandSite) -> None:
    """Without a terminal it wants --yes."""
    site.create("gone")
    said = site.run("webhook", "delete", "gone")
    assert said.exit_code == ExitCode.USAGE
    assert "--yes" in said.stderr
    assert answered(site, "n") == ExitCode.FAILURE
    assert "gone" in [webhook["name"] for webhook in site.lines("webhook", "list")]
    assert answered(site, "y") == ExitCode.OK
    assert "gone" not in [webhook["name"] for webhook in site.lines("webhook", "list")]


def answered(site: CommandSite, answer: str) -> int:
    """Delete at a terminal where this is typed; return the exit code."""
    master, slave = pty.openpty()
    roots = str(Path(fluxhook.__file__).parents[1])
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "fluxhook",
            "webhook",
            "delete",
            "gone",
            "--data-dir",
            site.data_dir,
        ],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": roots},
    )
    os.write(master, f"{answer}\n".encode())
    _, said = process.communicate(timeout=20)
    os.close(master)
    os.close(slave)
    assert b"Delete gone (http://127.0.0.1" in said
    return process.returncode


def test_a_test_event_that_arrives(site: CommandSite) -> None:
    """It is told with status and timings, whatever the webhook subscribes to."""
    site.create("probe")
    said = site.run("webhook", "test", "probe", "--data", '{"n": 1}')
    assert said.exit_code == ExitCode.OK, said.output
    assert said.stdout.startswith("✓ delivered to probe\n")
    assert "204" in said.stdout
    assert "first byte" in said.stdout
    (request,) = site.receiver.requests("/probe")
    assert json(request.body)["type"] == "webhook.test"
    assert json(request.body)["data"] == {"n": 1}
    detail = site.json("webhook", "test", "probe", "--type", "order.created")
    assert (detail["state"], detail["type"]) == ("delivered", "order.created")


def test_a_test_event_that_does_not_arrive(site: CommandSite) -> None:
    """The output says why, and when it is tried again; it has an exit code of its own."""
    site.receiver.behave(Behaviour(status=503, body=b"no room"), "/refusing")
    site.create("refusing", "--retry-schedule", "1h")
    said = site.run("webhook", "test", "refusing")
    assert said.exit_code == ExitCode.NOT_DELIVERED
    assert "✗ not delivered to refusing: server_error" in said.stdout
    assert "answer: no room" in said.stdout
    assert "the next attempt is due at" in said.stdout


def test_a_test_event_without_an_outcome_in_time(site: CommandSite) -> None:
    site.receiver.behave(Behaviour(fault="hang"), "/hanging")
    site.create("hanging", "--timeout", "20s")
    said = site.run("webhook", "test", "hanging", "--wait", "0.1")
    assert said.exit_code == ExitCode.NOT_DELIVERED
    assert "no attempt within 0.1 s" in said.stdout
    assert "fluxhook deliveries show dlv_" in said.stdout


def test_bad_data_of_a_test_event_is_refused(site: CommandSite) -> None:
    assert site.run("webhook", "test", "filed", "--data", "[1]").exit_code == ExitCode.USAGE
    assert site.run("webhook", "test", "filed", "--type", "A B").exit_code == ExitCode.REFUSED


def test_events_reach_a_webhook_once_it_is_created(site: CommandSite) -> None:
    site.create("reached")
    assert site.engine.emit("reached.now", {}) == 1
    until(lambda: site.receiver.distinct("/reached") == 1, "the event arrives")
