"""The parts of the pages that decide something: waterfalls, words, errors."""

from __future__ import annotations

import doctest
from itertools import pairwise
from types import ModuleType

import pytest

from fluxhook.admin.dashboard import words
from fluxhook.admin.dashboard.session.viewer import faults_of
from fluxhook.admin.dashboard.widgets import waterfall
from fluxhook.admin.dashboard.widgets.waterfall import stages
from fluxhook.admin.models import Timings
from fluxhook.admin.problem_details import FieldError, RequestError
from fluxhook.errors import ConfigError, Conflict, FluxhookError, Problem
from fluxhook.policy.outcome import CAUSES, NOT_ATTEMPTED


@pytest.mark.parametrize("module", [waterfall, words])
def test_the_examples_hold(module: ModuleType) -> None:
    """Those in the docstrings."""
    failed, tried = doctest.testmod(module)
    assert (failed, tried > 0) == (0, True)


def test_stages_fill_an_attempt_without_gaps() -> None:
    """Each begins where the one before ended, and the last ends with the attempt."""
    timings = Timings(dns_ms=1.5, connect_ms=2.0, tls_ms=9.0, first_byte_ms=30.0, total_ms=31.0)
    found = stages(timings)
    assert [stage.name for stage in found] == [
        "Name look-up",
        "Connect",
        "TLS",
        "Waiting",
        "Answer",
    ]
    assert found[0].from_ms == 0.0
    assert all(a.to_ms == b.from_ms for a, b in pairwise(found))
    assert found[-1].to_ms == 31.0


def test_an_attempt_without_an_answer_only_waited() -> None:
    """A timeout has no first byte."""
    timings = Timings(dns_ms=None, connect_ms=0.4, tls_ms=None, first_byte_ms=None, total_ms=3000.0)
    assert [stage.name for stage in stages(timings)] == ["Connect", "Waiting"]


def test_every_cause_has_its_sentence() -> None:
    """And an unknown one is shown as it is."""
    for cause in (*CAUSES, *NOT_ATTEMPTED):
        assert words.cause_sentence(cause) != cause
    assert words.cause_sentence("new") == "new"
    assert set(NOT_ATTEMPTED) >= words.HELD_BACK


@pytest.mark.parametrize(
    ("error", "faults"),
    [
        (ConfigError(Problem("url", "is missing", "add it")), [("url", "is missing", "add it")]),
        (
            RequestError("invalid-request", "no", [FieldError("overlap", "is none", "write 1h")]),
            [("overlap", "is none", "write 1h")],
        ),
        (RequestError("insufficient-scope", "Not yours."), [("", "Not yours.", "")]),
        (Conflict("it stands in the file"), [("", "it stands in the file", "")]),
    ],
)
def test_a_form_gets_an_errors_faults(
    error: FluxhookError, faults: list[tuple[str, str, str]]
) -> None:
    """With the fields that they are of; those of none are said at its top."""
    assert faults_of(error) == faults
