"""`fluxhook audit`."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from cli.conftest import CommandSite
from fluxhook.cli.app import app
from fluxhook.store.audit import AuditEntry, AuditTrail, ChangeEntry


def entry(n: int, endpoint: str) -> AuditEntry:
    return AuditEntry(
        at="2026-11-21T00:00:00.000Z",
        action="purged",
        endpoint=endpoint,
        event_id=f"evt_{n}",
        type="route.error",
        accepted_at="2026-11-20T00:00:00.000Z",
        ended_at="2026-11-20T01:00:00.000Z",
        attempts=5,
        cause="server_error",
        error="",
    )


def run(path: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["audit", "--data-dir", str(path), *arguments])
    return result.exit_code, result.output


def test_entries_are_shown_and_chosen(tmp_path: Path) -> None:
    """All of them, an endpoint's, an event's, the newest; as a table or as JSON lines."""
    (tmp_path / "config.json").write_text("{}")
    trail = AuditTrail(tmp_path / "audit", max_bytes=10_000, files=2)
    trail.append([entry(1, "a"), entry(2, "b"), entry(3, "a")])
    code, text = run(tmp_path)
    assert code == 0
    assert "3 entries" in text
    for options, ids in (
        ((), ["evt_1", "evt_2", "evt_3"]),
        (("--endpoint", "a"), ["evt_1", "evt_3"]),
        (("--event", "evt_2"), ["evt_2"]),
        (("--last", "1"), ["evt_3"]),
    ):
        code, text = run(tmp_path, "--json", *options)
        assert [json.loads(line)["event_id"] for line in text.splitlines()] == ids


def test_no_entries_and_no_engine(tmp_path: Path) -> None:
    """Nothing given up is good news; no engine at all is an error of its own."""
    assert run(tmp_path)[0] == 4
    (tmp_path / "config.json").write_text("{}")
    assert run(tmp_path) == (0, "Nothing was given up and erased.\n")


def test_through_the_api_it_shows_the_same(site: CommandSite) -> None:
    """In the same order, over pages."""
    site.dead_letter("audited", 3)
    site.run("dead-letters", "purge", "--endpoint", "audited", "--yes")
    remote = ("--api", site.admin.url, "--token", site.admin.token)
    here = site.lines("audit", "--endpoint", "audited")
    assert len(here) == 3
    assert site.lines("audit", "--endpoint", "audited", *remote) == here
    newest = site.lines("audit", "--endpoint", "audited", "--last", "2", *remote)
    assert newest == here[1:]
    event = here[0]["event_id"]
    assert site.lines("audit", "--event", event, *remote) == here[:1]
    assert "3 entries" in site.run("audit", "--endpoint", "audited", *remote).stdout


# ---- changes -----------------------------------------------------------------------------------


def change(n: int, endpoint: str, actor: str = "operators", **fields: Any) -> ChangeEntry:
    return ChangeEntry(
        n=n,
        at=f"2026-11-21T00:00:0{n}.000Z",
        actor=actor,
        via="api",
        action="webhook.update",
        target=endpoint,
        endpoint=endpoint,
        **fields,
    )


def test_changes_are_shown_and_chosen(tmp_path: Path) -> None:
    """By endpoint, actor and time; what differs on one line, whatever it holds."""
    (tmp_path / "config.json").write_text("{}")
    trail = AuditTrail(tmp_path / "audit", max_bytes=10_000, files=2, name="changes")
    trail.append(
        [
            change(1, "a", before={"timeout": "3s"}, after={"timeout": "5s"}),
            change(2, "b", "alice", after={"endpoints": {"a": 2}}),
            change(3, "c", error="the disk\x1b[31m is full"),
        ]
    )
    code, text = run(tmp_path, "--changes")
    assert code == 0
    assert "3 entries" in text
    assert "\x1b" not in text
    joined = " ".join(text.split())
    assert "timeout: 3s -> 5s" in joined
    for options, numbers in (
        ((), [1, 2, 3]),
        (("--endpoint", "a"), [1, 2]),
        (("--actor", "alice"), [2]),
        (("--since", "2026-11-21T00:00:02Z"), [2, 3]),
        (("--limit", "1"), [3]),
        (("-n", "2", "--actor", "operators"), [1, 3]),
    ):
        code, text = run(tmp_path, "--changes", "--json", *options)
        assert [json.loads(line)["n"] for line in text.splitlines()] == numbers, options
    assert run(tmp_path, "--changes", "--event", "evt_1")[0] == 2
    assert run(tmp_path, "--actor", "alice")[0] == 2
    code, text = run(tmp_path, "--changes", "--since", "yesterday")
    assert code == 2
    assert "'yesterday' is not a time" in text


def test_no_changes(tmp_path: Path) -> None:
    """As of a data directory of before there was such a trail."""
    (tmp_path / "config.json").write_text("{}")
    assert run(tmp_path, "--changes") == (0, "Nothing was changed.\n")
    assert run(tmp_path, "--changes", "--json") == (0, "")


def test_changes_of_the_command_line_have_the_user(site: CommandSite) -> None:
    """As the kernel says, on the engine's host; through the API it shows the same."""
    site.create("kept")
    site.run("webhook", "pause", "kept")
    here = site.lines("audit", "--changes", "--endpoint", "kept")
    assert [one["action"] for one in here] == ["webhook.create", "webhook.pause"]
    me = pwd.getpwuid(os.getuid()).pw_name
    assert {(one["actor"], one["via"]) for one in here} == {(me, "cli")}
    remote = ("--api", site.admin.url, "--token", site.admin.token)
    assert site.lines("audit", "--changes", "--endpoint", "kept", *remote) == here
    newest = site.lines("audit", "--changes", "--endpoint", "kept", "--last", "1", *remote)
    assert newest == here[1:]
    assert site.lines("audit", "--changes", "--actor", "nobody-else", *remote) == []
