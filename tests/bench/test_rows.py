"""bench.rows: what is measured, as records."""

from __future__ import annotations

from typing import Literal, get_type_hints

import msgspec
import pytest
from bench.contenders import LABELS, SHARES
from bench.experiments import KINDS
from bench.stage import configuration
from bench.targets import TARGETS

import fluxhook
from bench import rows
from fluxhook.policy.aggregate import gathered


def test_names_are_unique() -> None:
    """`--only` and the targets name a row."""
    names = [row.name for row in rows.ROWS]
    assert len(set(names)) == len(names)


def test_every_row_can_be_measured() -> None:
    """Its experiment is there, and its contenders have a name and a number of requests."""
    for row in rows.ROWS:
        assert row.experiment in KINDS, row.name
        assert set(row.contenders) <= set(LABELS), row.name
        assert set(row.contenders) <= {"engine", "wrk", *SHARES}, row.name


def test_rows_cover_what_was_promised() -> None:
    """Topologies, payloads, answers, durabilities of the project's performance goals."""
    loads = [row.load for row in rows.ROWS]
    topologies = {"1 x 1 x 1", "1 x 2 x 1", "4 x 2 x 4", "1 x 2 x 1000"}
    assert topologies <= {load.topology for load in loads}
    assert {100, 600, 4096, 65_536} <= {load.payload for load in loads}
    assert {load.reply for load in loads} == {"/", "/body", "/flaky", "/one-percent"}
    assert {load.durability.partition(":")[0] for load in loads} == {
        "process",
        "interval",
        "power",
    }
    assert any(load.tls for load in loads)
    assert any(load.slow for load in loads)


def test_events_are_sent_one_by_one() -> None:
    """Rows about the way through the rings measure that way: nothing of theirs is aggregated by
    default. One row is about aggregation, and there every event is."""
    for row in rows.ROWS:
        load = row.load._replace(tls=False)
        for endpoint in configuration(load, ["https://a.example/"] * load.endpoints).endpoints:
            assert bool(gathered(endpoint.aggregate, endpoint.events)) == load.aggregate, row.name
    assert [row.name for row in rows.ROWS if row.load.aggregate] == ["aggregate"]


def test_every_target_names_a_row_that_may_exist() -> None:
    """A target whose row was renamed would be "not measured" for ever."""
    known = {row.name for row in rows.ROWS}
    assert {target.row for target in TARGETS} <= known


class WithoutOption(msgspec.Struct):
    url: str


class WithFlag(msgspec.Struct):
    http2: bool = False


class WithVersion(msgspec.Struct):
    http_version: Literal["1.1", "2"] = "1.1"


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [(WithoutOption, None), (WithFlag, {"http2": True}), (WithVersion, {"http_version": "2"})],
)
def test_http2_is_measured_once_the_engine_can(
    monkeypatch: pytest.MonkeyPatch, endpoint: type, expected: object
) -> None:
    """The row appears with the option of an endpoint, whatever it is called."""
    monkeypatch.setattr(rows, "Endpoint", endpoint)
    assert rows.http2_option() == expected
    assert ("http2" in {row.name for row in rows.rows()}) == (expected is not None)


def test_the_option_fits_this_engine() -> None:
    """The option that is found is accepted by the real endpoint."""
    hints = get_type_hints(fluxhook.Endpoint)
    assert set(rows.http2_option() or {}) <= set(hints)
