"""`fluxhook status` shows the account, of an engine that runs or not."""

from __future__ import annotations

import io
import re
import signal
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from cli.conftest import CommandSite, Invoke, Start, json
from fluxhook import EndpointStats, Stats
from fluxhook.cli import output, status
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.status_view import status_view
from fluxhook.stats import LastError

NOW_NS = 1_770_292_800_000_000_000

ENDPOINT = {
    "id": 0,
    "name": "shop",
    "url": "https://hooks.example.com/in?***",
    "state": "active",
    "accepted": 1,
    "delivered": 0,
    "dead": 0,
    "dropped": {},
    "pending": 1,
    "refused": 0,
    "failed_attempts": 0,
    "skipped": 0,
    "signature_rejections": 0,
    "size_rejections": 0,
    "latency_ms": None,
}


def test_a_stopped_engine_still_tells_what_it_owes(invoke: Invoke, stopped: Path) -> None:
    invoke("emit", "order.created")
    said = invoke("status")
    assert said.exit_code == ExitCode.OK
    assert said.stdout.startswith(f"○ stopped  {stopped}\n")
    assert said.stdout.splitlines()[2].split() == ["shop", "active", "1", "0", "0", "0", "1"]
    assert "shop: 1 queued" in said.stdout
    assert "s3cret" not in said.output


def test_json_has_the_same_and_totals(invoke: Invoke, stopped: Path) -> None:
    invoke("emit", "order.created")
    said = json(invoke("status", "--json").stdout)
    assert said.keys() >= {"data_dir", "running", "version", "endpoints", "totals"}
    assert said["data_dir"] == str(stopped)
    assert said["running"] is False
    (endpoint,) = said["endpoints"]
    assert endpoint.items() >= ENDPOINT.items()
    assert said["totals"]["accepted"] == said["totals"]["pending"] == 1


@pytest.mark.parametrize(
    ("running", "serving", "code"),
    [(True, 0, ExitCode.NOT_RUNNING), (True, 1, ExitCode.OK), (False, None, ExitCode.OK)],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_an_engine_of_which_no_worker_serves_is_told_by_the_exit_status(
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
    running: bool,
    serving: int | None,
    code: ExitCode,
    options: tuple[str, ...],
) -> None:
    """4, after what there is to show; an engine that was stopped is asked about on purpose."""
    stats = Stats(data_dir="/d", running=running, version=1, endpoints=[], serving=serving)
    monkeypatch.setattr(status, "read_stats", lambda _: stats)
    said = invoke("status", *options)
    assert said.exit_code == code
    assert "/d" in said.stdout


def busy() -> Stats:
    """Everything that can be, at its widest."""
    many = 12_345_678
    return Stats(
        data_dir="/var/lib/fluxhook",
        running=True,
        version=3,
        endpoints=[
            EndpointStats(
                id=i,
                name=name,
                url="https://example.com/",
                state="half-open",
                accepted=many,
                delivered=many,
                dead=many,
                dropped={"oldest": many, "expired": 1},
                aggregated=many,
                queued=many - 1,
                stored=1,
                refused=many,
                failed_attempts=many,
                skipped=many,
                signature_rejections=many,
                size_rejections=many,
                latency_ms={"p50": 0.0123, "p95": 12.3456, "p99": 1234.5},
                next_retry_ns=NOW_NS + 90_900_000_000,
                failing_since_ns=NOW_NS - 7_300_000_000_000,
                last_error=LastError(NOW_NS - 5_000_000_000, "timeout", "no [answer]\x1b"),
            )
            for i, name in enumerate(("a" * 60, "\x1b[31mred", "[bold]b[/bold]"))
        ],
    )


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_no_figure_is_ever_cut(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """A name folds, a number does not, and nothing in a name is taken for an order."""
    monkeypatch.setattr(status, "read_stats", lambda _: busy())
    monkeypatch.setattr(output, "PIPE_WIDTH", columns)
    said = invoke("status").stdout
    assert "…" not in said
    # 4 columns (dropped is one more) and 7 notes of each endpoint, and the totals of these columns
    assert said.count("12,345,678") == 3 * (4 + 7)
    assert said.count("37,037,034") == 4
    assert said.count("0.0123/12.3/1,234") == 3
    assert " ".join(said.split()).count("50 %") == 3
    assert "[bold]b[/bold]" in said
    assert "\x1b" not in said
    assert "1 dropped (expired)" in said


def test_what_waits_and_what_failed_is_said_below_the_table(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "read_stats", lambda _: busy())
    monkeypatch.setattr("time.time_ns", lambda: NOW_NS)
    said = invoke("status").stdout
    for words in (
        "12,345,677 queued, 1 stored",
        "next retry in 1 m",
        "12,345,678 aggregated into notifications",
        "nothing but failure for 2 h",
        "last error 5 s ago (timeout: no [answer]\\x1b)",
    ):
        assert said.count(words) == 3, words


def test_a_success_rate_is_never_rounded_up_to_all(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = EndpointStats(
        id=0, name="a", url="", state="disabled", delivered=99_999, failed_attempts=1,
        disabled_reason="410 Gone",
    )  # fmt: skip
    stats = Stats(data_dir="/d", running=True, version=1, endpoints=[one])
    monkeypatch.setattr(status, "read_stats", lambda _: stats)
    said = invoke("status").stdout
    assert "99.9 %" in said
    assert "a: disabled: 410 Gone" in said


def test_through_the_api_it_shows_the_same(site: CommandSite) -> None:
    """The table is that of the data directory; JSON is the API's own."""
    site.dead_letter("shown", 2)
    site.run("webhook", "delete", "shown", "--yes")
    site.dead_letter("owing", 2)
    remote = ("--api", site.admin.url, "--token", site.admin.token)
    here, there = site.run("status").stdout, site.run("status", *remote).stdout
    assert there.startswith(f"● running  {site.admin.url}\n")
    (row,) = (line.split() for line in there.splitlines() if line.startswith("owing "))
    assert row in [line.split() for line in here.splitlines()]
    assert "last error" in there
    said = json(site.run("status", "--json", *remote).stdout)
    assert said.keys() == {
        "at",
        "running",
        "serving",
        "version",
        "webhooks",
        "totals",
        "processes",
    }
    assert said["totals"]["dead"] == 4


def test_an_endpoint_whose_events_die(site: CommandSite) -> None:
    """State, causes and the share of the events that were delivered stand in the status, in its JSON,
    in the list of webhooks, and in a single one; the numbers are the same."""
    site.dead_letter("dying", 3)
    here = json(site.run("status", "--json").stdout)["endpoints"]
    remote = ("--api", site.admin.url, "--token", site.admin.token)
    there = json(site.run("status", "--json", *remote).stdout)["webhooks"]
    for found in (here, there, site.lines("webhook", "list")):
        (one,) = (e for e in found if e["name"] == "dying")
        assert (one["state"], one["dead"], one["dead_cause"]) == ("failing", 3, "server_error")
        assert (one["dead_by_cause"], one["event_success_rate"]) == ({"server_error": 3}, 0.0)
    assert "dying: dead: server_error 3, " in site.run("status").stdout
    rows = [line.split() for line in site.run("webhook", "list").stdout.splitlines()]
    (row,) = (row for row in rows if row[0] == "dying")
    assert row[2:7] == ["failing", "3", "server_error", "0", "%"]
    said = " ".join(site.run("webhook", "show", "dying").stdout.split())
    assert "state failing dead 3 dead cause server_error 3 event success rate 0 %" in said


def test_watching_ends_with_ctrl_c(start: Start, stopped: Path) -> None:
    program = start("status", "--watch", "--json", "--interval", "0.1")
    assert json(program.line()) == json(program.line())
    program.signal(signal.SIGINT)
    ended = program.end()
    assert (ended.exit_code, ended.stderr) == (ExitCode.INTERRUPTED, "")


def shown(stats: Stats, width: int, **options: Any) -> list[str]:
    """Return the lines of a terminal of that width."""
    console = Console(width=width, file=io.StringIO())
    view = status_view(stats, width, **options)
    return ["".join(part.text for part in line) for line in console.render_lines(view)]


def many(n: int) -> Stats:
    """An engine with endpoints of which every third has a dead letter, and the last is disabled."""
    states = ["active"] * (n - 1) + ["disabled"]
    return Stats(
        data_dir="/var/lib/fluxhook",
        running=True,
        version=1,
        endpoints=[
            EndpointStats(
                id=i, name=f"endpoint-{i}", url="", state=cast(Any, state), accepted=10,
                delivered=10, dead=i if i % 3 == 0 else 0,
                last_error=LastError(NOW_NS, "timeout", "no answer within 5 s") if i % 3 == 0 else None,
            )
            for i, state in enumerate(states)
        ],
    )  # fmt: skip


@pytest.mark.parametrize("n", [1, 6, 19, 20, 21, 40, 500])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 40), (80, 10)])
def test_watching_fits_the_screen(n: int, width: int, height: int) -> None:
    """No line is cut off below: what does not fit is counted, and those in trouble are shown."""
    lines = shown(many(n), width, height=height)
    assert len(lines) <= height
    rows = [line.split()[0] for line in lines if re.match(r"endpoint-\d+ ", line)]
    if len(rows) == n:
        assert not any("more" in line for line in lines)
        return
    assert f"and {n - len(rows)} endpoint" in " ".join(lines)
    assert rows[0] == f"endpoint-{n - 1}"
    dead = [i for i in range(n - 2, -1, -1) if i % 3 == 0 and i]
    assert rows[1:] == [f"endpoint-{i}" for i in dead[: len(rows) - 1]] or len(dead) < len(rows)
    assert any(line.startswith("endpoint-") and "last error" in line for line in lines)


def test_the_widest_fit_too() -> None:
    """Numbers of eight digits, long names and every note, at 80 columns."""
    assert len(shown(busy(), 80, height=24)) <= 24


def test_a_limit_shows_those_in_most_trouble(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "read_stats", lambda _: many(9))
    said = invoke("status", "--limit", 2).stdout.splitlines()
    assert [line.split()[0] for line in said[2:4]] == ["endpoint-8", "endpoint-6"]
    assert "and 7 endpoints more" in said
