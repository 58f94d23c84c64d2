"""`fluxhook demo` ends by itself, and its account is honest."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from cli.conftest import Start, json
from fluxhook import EndpointStats, Stats
from fluxhook.cli.demo_account import judge
from fluxhook.cli.demo_load import HANGING, HEALTHY, NAMES, RECOVERING, DemoLoad
from fluxhook.cli.demo_receiver import Report, percentiles
from fluxhook.cli.exit_codes import ExitCode


def test_the_demo_accounts_for_every_event(start: Start) -> None:
    program = start("demo", "--seconds", 3, "--rate", 300, "--burst", 1000, "--json")
    out, _ = program.process.communicate(timeout=60)
    assert program.process.returncode == ExitCode.OK
    said = json(out)
    assert said["ok"] is True
    accounts = {account["endpoint"]: account for account in said["endpoints"]}
    assert tuple(accounts) == NAMES
    for a in accounts.values():
        assert a["accepted"] == a["delivered"] + a["dead"] + a["dropped"] + a["pending"]
        assert a["emitted"] == a["accepted"] > 0
        assert a["bad_signatures"] == 0
    assert accounts[HEALTHY]["emitted"] == said["events"] == accounts[HEALTHY]["received"]
    assert accounts[RECOVERING]["received"] == accounts[RECOVERING]["delivered"]
    assert accounts[RECOVERING]["failed_attempts"] > 0
    assert accounts[HANGING]["delivered"] == 0
    assert accounts[HANGING]["pending"] > 0
    assert said["burst_events"] == 1000
    assert said["burst_deliveries_per_s"] > 0
    for figures in (said["emit_us"], *said["delivery_ms"].values()):
        assert figures.keys() == {"p50", "p95", "p99"}
        assert 0 < figures["p50"] <= figures["p95"] <= figures["p99"]


class _Emitted(DemoLoad):
    """Ten for everybody."""

    def __init__(self) -> None:
        self.expected = Counter(dict.fromkeys(NAMES, 10))
        self.calls_ns = [1000] * 10


def outcome(**changes: Any) -> Any:
    """The judgement on ten events, all well but for the changes to the first endpoint."""
    report = Report(requests=10, accepted_events=changes.pop("received", 10))
    report.bad_signatures = changes.pop("bad_signatures", 0)
    figures: dict[str, Any] = {"accepted": 10, "delivered": 10}
    endpoints = [
        EndpointStats(id=i, name=name, url="", state="active", **figures)
        for i, name in enumerate(NAMES)
    ]
    endpoints[0] = EndpointStats(
        id=0, name=HEALTHY, url="", state="active", **{**figures, **changes}
    )
    well = Report(requests=10, accepted_events=10)
    stats = Stats(data_dir="", running=False, version=1, endpoints=endpoints)
    return judge(1.0, _Emitted(), stats, {HEALTHY: report, RECOVERING: well, HANGING: well})


def test_all_is_well_when_the_three_counts_agree() -> None:
    assert outcome().ok


@pytest.mark.parametrize(
    "changes",
    [
        {"delivered": 9},
        {"accepted": 9, "delivered": 9},
        {"accepted": 11, "delivered": 11},
        {"queued": 1},
        {"received": 9},
        {"received": 9, "delivered": 9, "dead": 1},
        {"bad_signatures": 1},
    ],
)
def test_one_count_that_disagrees_is_a_fault(changes: dict[str, int]) -> None:
    result = outcome(**changes)
    assert not result.ok
    assert result.endpoints[0].faults
    assert not result.endpoints[1].faults


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentiles([]) == {}
    assert percentiles([7]) == {"p50": 7, "p95": 7, "p99": 7}
    assert percentiles(range(100, 0, -1)) == {"p50": 50, "p95": 95, "p99": 99}
