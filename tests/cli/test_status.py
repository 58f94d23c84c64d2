"""`fluxhook status` shows the account, of an engine that runs or not."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from cli.conftest import Invoke, Start, json
from fluxhook import EndpointStats, Stats
from fluxhook.cli import status
from fluxhook.cli.exit_codes import ExitCode

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
                pending=many,
                refused=many,
                failed_attempts=many,
                skipped=many,
                signature_rejections=many,
                size_rejections=many,
                latency_ms={"p50": 0.0123, "p95": 12.3456, "p99": 1234.5},
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
    monkeypatch.setenv("COLUMNS", str(columns))
    said = invoke("status").stdout
    assert "…" not in said
    # 4 columns (dropped is one more) and 6 notes of each endpoint, and the totals of these columns
    assert said.count("12,345,678") == 3 * (4 + 6)
    assert said.count("37,037,034") == 4
    assert said.count("0.0123/12.3/1,234") == 3
    assert "[bold]b[/bold]" in said
    assert "\x1b" not in said
    assert "1 dropped (expired)" in said


def test_watching_ends_with_ctrl_c(start: Start, stopped: Path) -> None:
    program = start("status", "--watch", "--json", "--interval", "0.1")
    assert json(program.line()) == json(program.line())
    program.signal(signal.SIGINT)
    assert program.end().exit_code == ExitCode.OK
