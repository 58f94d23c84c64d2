"""The page of metrics: its names, its buckets, and how many series it can have."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fluxhook._native import shared
from fluxhook.admin.metrics import LIMITS_S, OTHER, SERIES, Metrics, cumulative
from fluxhook.endpoint_state import StateName
from fluxhook.policy.outcome import CAUSES, NOT_ATTEMPTED
from fluxhook.stats import EndpointStats, Stats
from fluxhook.transport.datadir import STAGES

BUCKETS = shared.HISTOGRAM_BUCKETS
S = 1_000_000_000
DOC = Path(__file__, "../../../docs/metrics.md").resolve()

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def endpoint(id: int, state: StateName = "active", **figures: Any) -> EndpointStats:
    name = figures.pop("name", f"e{id}")
    return EndpointStats(id=id, name=name, url="https://a.example/", state=state, **figures)


def full(id: int, **figures: Any) -> EndpointStats:
    """One with everything that there can be."""
    every = dict.fromkeys((*NOT_ATTEMPTED, *CAUSES, "unknown"), 1)
    return endpoint(
        id,
        dropped=dict.fromkeys(NOT_ATTEMPTED, 1),
        dead_by_cause=every,
        died_by_cause=every,
        histogram=[1] * BUCKETS,
        stage_histograms={stage: [1] * BUCKETS for stage in STAGES},
        reuse=0.5,
        **figures,
    )


def page(*endpoints: EndpointStats, own_series: int = 500) -> bytes:
    stats = Stats(data_dir="/", running=True, version=1, endpoints=list(endpoints))
    return Metrics(lambda: stats, own_series).page()


def samples(text: bytes) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, "a series stands twice"
            found[key] = sample.value
    return found


def of(found: Samples, name: str, **labels: str) -> float:
    return found[f"fluxhook_{name}", frozenset(labels.items())]


def own(found: Samples) -> int:
    return sum(name.startswith("fluxhook_") for name, _ in found)


@pytest.mark.parametrize("own_series", [500, 1, 0])
def test_promtool_finds_nothing_to_complain_of(own_series: int) -> None:
    """Neither in what is written nor in how it is named, with labels, with `other` and without any."""
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=page(full(0), full(1, state="failing"), own_series=own_series),
        capture_output=True,
    )
    complaints = [
        line
        for line in (checked.stdout + checked.stderr).decode().splitlines()
        if "fluxhook_" in line
    ]
    assert (checked.returncode, complaints) == (0, [])


def test_deaths_by_cause() -> None:
    """The counter has all that ever died, the gauge what is dead now."""
    found = samples(
        page(endpoint(0, dead=1, dead_by_cause={"tls": 1}, died_by_cause={"tls": 3, "dns": 2}))
    )
    assert of(found, "dead_total", endpoint="e0", cause="tls") == 3
    assert of(found, "dead_total", endpoint="e0", cause="dns") == 2
    assert of(found, "dead_letters", endpoint="e0") == 1


@pytest.mark.parametrize("state", [state for state in get_args(StateName) if state != "removed"])
def test_states(state: StateName) -> None:
    """Each state that there is has a series, and one of them is 1."""
    found = samples(page(endpoint(0, state)))
    shown = {
        dict(labels)["state"]: n for (name, labels), n in found.items() if "state" in dict(labels)
    }
    assert {name for name, n in shown.items() if n} == {state}
    assert shown.keys() == {name for name in get_args(StateName) if name != "removed"}


def test_held_and_late() -> None:
    """An endpoint that cannot be built is held, whatever its state is besides."""
    found = samples(
        page(
            endpoint(0, "paused", misconfigured_reason="no key"),
            endpoint(1, past_due_ns=1_500_000_000),
        )
    )
    assert [of(found, "held", endpoint=name) for name in ("e0", "e1")] == [1, 0]
    assert [of(found, "past_due_seconds", endpoint=name) for name in ("e0", "e1")] == [0, 1.5]
    assert of(found, "misconfigured_endpoints") == 1


def test_round_limits() -> None:
    """From 5 ms to 60 s. What a limit divides is divided evenly; what lies on one side of it is not."""
    limits = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000)
    histogram = [0] * BUCKETS
    at = next(i for i in range(BUCKETS) if shared.bucket_limit_us(i) >= 5000)
    begins, ends = shared.bucket_limit_us(at - 1), shared.bucket_limit_us(at)
    histogram[at - 1], histogram[at], histogram[-1] = 7, 1000, 2
    found = samples(page(endpoint(0, histogram=histogram)))
    shown = {
        float(dict(labels)["le"]): n
        for (name, labels), n in found.items()
        if name == "fluxhook_delivery_duration_seconds_bucket"
    }
    assert [round(le * 1000) for le in shown if le < 1e9] == list(limits)
    assert shown[0.005] == 7 + int(1000 * (5000 - begins) / (ends - begins))
    assert shown[0.01] == shown[60.0] == 1007
    assert shown[float("inf")] == 1009


@pytest.mark.parametrize("first", range(BUCKETS))
def test_buckets_only_grow(first: int) -> None:
    """Along the limits, and with each attempt more: a bucket's count is never less than it was."""
    histogram, before = [0] * BUCKETS, [0.0] * (len(LIMITS_S) + 1)
    for n in range(1, 20):
        histogram[first] += 1
        histogram[first // 2] += 1
        now = [count for _, count in cumulative([histogram], LIMITS_S)[0]]
        assert now == sorted(now)
        assert all(a <= b for a, b in zip(before, now, strict=True))
        assert now[-1] == 2 * n
        before = now


def test_the_number_of_series_is_bounded() -> None:
    """By the option, however many endpoints there are and whatever happened to them."""
    for count, groups in ((1, 1), (3, 3), (4, 4), (50, 4)):
        found = samples(page(*map(full, range(count)), own_series=3))
        assert own(found) - own(samples(page())) <= SERIES * groups
        assert own(found) <= SERIES * 4 + 20


def test_beyond_the_bound_they_are_added_up() -> None:
    """Counters and counts are sums, times the worst, states how many are in each."""
    found = samples(
        page(
            endpoint(0, delivered=1),
            endpoint(
                1, "failing", delivered=10, queued=3, past_due_ns=10**9, died_by_cause={"tls": 1}
            ),
            endpoint(
                2,
                "failing",
                delivered=100,
                queued=4,
                past_due_ns=9 * 10**9,
                died_by_cause={"tls": 2},
            ),
            endpoint(3, "removed", delivered=1000, died_by_cause={"gone": 5}),
            own_series=1,
        )
    )
    assert of(found, "deliveries_total", endpoint="e0", outcome="delivered") == 1
    assert of(found, "deliveries_total", endpoint=OTHER, outcome="delivered") == 1110
    assert of(found, "dead_total", endpoint=OTHER, cause="tls") == 3
    assert of(found, "dead_total", endpoint=OTHER, cause="gone") == 5
    assert of(found, "pending", endpoint=OTHER, where="ring") == 7
    assert of(found, "past_due_seconds", endpoint=OTHER) == 9
    assert of(found, "endpoint_state", endpoint=OTHER, state="failing") == 2


def test_a_removal_takes_nothing_from_what_is_added_up() -> None:
    """Counters never go down, and nobody moves in or out: an id does not change."""

    def delivered(*endpoints: EndpointStats) -> float:
        found = samples(page(*endpoints, own_series=2))
        return of(found, "deliveries_total", endpoint=OTHER, outcome="delivered")

    others = endpoint(2, delivered=5), endpoint(3, delivered=6)
    assert delivered(endpoint(0), endpoint(1), *others) == 11
    assert delivered(endpoint(0, "removed"), endpoint(1), *others) == 11
    removed = endpoint(3, "removed", delivered=6)
    assert delivered(endpoint(0), endpoint(1), others[0], removed) == 11


def test_an_endpoint_that_is_called_other() -> None:
    """It is added up with the others: no series stands twice."""
    found = samples(
        page(endpoint(0, name=OTHER, delivered=1), endpoint(1, delivered=2), own_series=1)
    )
    assert of(found, "deliveries_total", endpoint=OTHER, outcome="delivered") == 3


def test_without_the_label() -> None:
    """With 0 no series names an endpoint, and each is a sum over all."""
    text = page(
        endpoint(0, delivered=1, reuse=1.0),
        endpoint(1, "open", delivered=3, reuse=0.0),
        own_series=0,
    )
    assert b"endpoint=" not in text
    found = samples(text)
    assert of(found, "deliveries_total", outcome="delivered") == 4
    assert of(found, "endpoint_state", state="open") == 1
    assert of(found, "connection_reuse_ratio") == 0.25


def test_each_metric_is_documented() -> None:
    """With its type, its labels and its help text; the page names no other."""
    row = re.compile(r"^\| `(fluxhook_\w+)` \| (\w+) \| [^|]+ \|([^|]*)\| (.+) \|$", re.M)
    documented = {name: (kind, text) for name, kind, _, text in row.findall(DOC.read_text())}
    labels = {name: set(said.split(", ")) for name, _, said, _ in row.findall(DOC.read_text())}
    families = [
        family
        for family in text_string_to_metric_families(page(full(0)).decode())
        if family.name.startswith("fluxhook_")
    ]
    suffix = {"counter": "_total"}
    assert documented == {
        family.name + suffix.get(family.type, ""): (family.type, family.documentation)
        for family in families
    }
    for family in families:
        used = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = family.name + suffix.get(family.type, "")
        assert not used or {label.strip() for label in labels[name]} == used, name
    assert f"at most {SERIES} series" in DOC.read_text()
