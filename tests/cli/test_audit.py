"""`fluxhook audit`."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from cli.conftest import CommandSite
from fluxhook.cli.app import app
from fluxhook.store.audit import AuditEntry, AuditTrail


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
