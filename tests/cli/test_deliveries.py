"""`fluxhook deliveries`: what became of events."""

from __future__ import annotations

import signal

import pytest

from cli.conftest import CommandSite, Start, json, until
from fluxhook.cli import output
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.receiver import Behaviour


def test_list_filters_and_counts(site: CommandSite) -> None:
    """By webhook, type, state, cause, event and time; the newest first, and no more than asked for."""
    site.dead_letter("listed", 3)
    rows = site.lines("deliveries", "list", "--endpoint", "listed")
    ids = [row["id"] for row in rows]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 3
    for options, found in (
        (("--type", "listed.happened"), 3),
        (("--type", "listed.other"), 0),
        (("--state", "dead"), 3),
        (("--state", "waiting"), 0),
        (("--cause", "server_error"), 3),
        (("--cause", "timeout"), 0),
        (("--event", rows[0]["event_id"]), 1),
        (("--since", "1h"), 3),
        (("--until", "1h"), 0),
        (("--last", "2"), 2),
    ):
        listed = site.lines("deliveries", "list", "--endpoint", "listed", *options)
        assert len(listed) == found, options
    said = site.run("deliveries", "list", "--endpoint", "listed")
    assert all(id in said.stdout for id in ids)
    assert "server_error" in said.stdout


@pytest.mark.parametrize("columns", [80, 120, 180])
def test_a_list_is_readable_on_every_terminal(
    site: CommandSite, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """No id, time or word of it is broken."""
    monkeypatch.setattr(output, "PIPE_WIDTH", columns)
    name = f"wide_{columns}"
    site.dead_letter(name, 1)
    for command in ("deliveries", "dead-letters"):
        (row,) = site.lines(command, "list", "--endpoint", name)
        said = site.run(command, "list", "--endpoint", name).stdout
        at = row["ended_at" if command == "dead-letters" else "accepted_at"]
        for word in (row["id"], at, name, f"{name}.happened", "server_error"):
            assert word in said.split() or f"{word}," in said.split(), word
        assert max(map(len, said.splitlines())) <= columns


def test_a_bad_filter_is_refused_with_its_remedy(site: CommandSite) -> None:
    said = site.run("deliveries", "list", "--since", "yesterday")
    assert said.exit_code == ExitCode.USAGE
    assert "'yesterday' is not a time" in said.stderr
    assert '"15m"' in said.stderr
    assert site.run("deliveries", "list", "--state", "lost").exit_code == ExitCode.USAGE
    assert site.run("deliveries", "list", "--endpoint", "x").exit_code == ExitCode.NOT_FOUND


def test_show_has_attempts_timings_request_and_answer(site: CommandSite) -> None:
    """And no secret, even if the receiver sends it back."""
    site.receiver.behave(
        Behaviour(status=503, body=b"echo sk_hidden_secret"), "/filed?token=hidden-in-query"
    )
    site.receiver.behave(Behaviour(status=503, body=b"echo sk_hidden_secret"), "/filed")
    said = site.run("webhook", "test", "filed")
    assert said.exit_code == ExitCode.NOT_DELIVERED
    (row,) = site.lines("deliveries", "list", "--endpoint", "filed", "--last", "1")
    shown = site.run("deliveries", "show", row["id"]).stdout
    for words in (
        row["id"],
        row["event_id"],
        "✗ 1  20",
        "503  server_error",
        "first byte",
        "█ total",
        "answer: echo ***",
        f"POST {site.receiver.url}/filed?***",
        "Authorization: ***",
        "v1=***",
        '"type":"webhook.test"',
    ):
        assert words in shown, words
    for secret in ("sk_hidden_secret", "hidden-in-query", "hidden-in-header"):
        assert secret not in shown + said.output
    detail = site.json("deliveries", "show", row["id"])
    assert detail["history"][0]["status"] == 503


def test_an_unknown_delivery_is_not_found(site: CommandSite) -> None:
    for id in ("dlv_0000000000000001", "nonsense", "../webhooks"):
        assert site.run("deliveries", "show", id).exit_code == ExitCode.NOT_FOUND


def test_tail_follows_what_comes_and_changes(site: CommandSite, start: Start) -> None:
    """Ctrl-C ends it, with its status and without a word."""
    site.dead_letter("followed", 3)
    program = start(
        "deliveries", "tail", "--endpoint", "followed", "--last", "2", "--interval", "0.1",
        "--data-dir", site.data_dir, "--json",
    )  # fmt: skip
    begun = [json(program.line()) for _ in range(2)]
    assert begun[0]["id"] < begun[1]["id"]
    site.engine.emit("followed.again", {})
    while (row := json(program.line()))["state"] != "dead":
        assert row["type"] == "followed.again"
    assert row["type"] == "followed.again"
    program.signal(signal.SIGINT)
    ended = program.end()
    assert (ended.exit_code, ended.stdout, ended.stderr) == (ExitCode.INTERRUPTED, "", "")


def test_tail_prints_a_line_for_each(site: CommandSite, start: Start) -> None:
    site.create("lines", "--record", "all")
    site.engine.emit("lines.one", {})
    until(lambda: site.lines("deliveries", "list", "--endpoint", "lines"), "the store has it")
    program = start("deliveries", "tail", "--endpoint", "lines", "--data-dir", site.data_dir)
    line = program.line()
    assert "delivered  lines  lines.one  1 attempt\n" in line


def test_show_names_the_trace(site: CommandSite) -> None:
    """Of a delivery whose event belongs to one."""
    context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    site.receiver.behave(Behaviour(status=503), "/spanned")
    site.create("spanned")
    site.engine.emit("spanned.x", {}, traceparent=context, tracestate="rojo=1")
    (row,) = until(lambda: site.lines("deliveries", "list", "--endpoint", "spanned"))
    assert row["traceparent"] == context
    said = site.run("deliveries", "show", row["id"]).stdout
    assert context in said
    assert "rojo=1" in said
