"""The parts of the pages that decide something: forms, waterfalls, words."""

from __future__ import annotations

import doctest
from itertools import pairwise
from types import ModuleType

import pytest

from fluxhook.admin.dashboard import waterfall, words
from fluxhook.admin.dashboard.pages.create import layer_of
from fluxhook.admin.dashboard.waterfall import stages
from fluxhook.admin.models import Timings
from fluxhook.policy.outcome import CAUSES, NOT_ATTEMPTED


@pytest.mark.parametrize("module", [waterfall, words])
def test_the_examples_hold(module: ModuleType) -> None:
    """Those in the docstrings."""
    failed, tried = doctest.testmod(module)
    assert (failed, tried > 0) == (0, True)


def test_a_form_becomes_an_endpoint_as_the_file_writes_it() -> None:
    """Empty fields are left out, lists are split, and without a secret one is generated."""
    typed = {
        "url": "https://hooks.example.com/fg",
        "events": "route.*, service.5xx\tcircuit.broken",
        "name": "",
        "signature": "fluxgate",
        "secret": "",
        "retry.schedule": "15s, 2m",
        "retry.max_attempts": "3",
        "concurrency": "8",
        "where": "status_code >= 500\n\n path prefix /api \n",
        "record": "yes",
        "ordered": "yes",
    }
    assert layer_of(typed) == {
        "url": "https://hooks.example.com/fg",
        "events": ["route.*", "service.5xx", "circuit.broken"],
        "signature": "fluxgate",
        "retry": {"schedule": ["15s", "2m"], "max_attempts": 3},
        "concurrency": 8,
        "where": ["status_code >= 500", "path prefix /api"],
        "record": "all",
        "ordered": True,
        "generate_secret": True,
    }


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ({"secret": "sk_live_9x8m2p"}, {"secret": "sk_live_9x8m2p"}),
        ({"signature": "none"}, {"signature": "none"}),
        (
            {"signature": "none", "concurrency": "many"},
            {"concurrency": "many", "signature": "none"},
        ),
    ],
)
def test_what_was_typed_is_not_judged_here(
    typed: dict[str, str], expected: dict[str, object]
) -> None:
    """Missing and wrong values are the engine's to name."""
    assert layer_of(typed) == {"url": "", "events": [], **expected}


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
