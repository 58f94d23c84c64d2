"""What a match costs among 10 to 100,000 topic filters, and what it costs to build a Matcher.

    python -m pytest bench/micro/test_topics.py --benchmark-only

A round matches 1,000 events with different topics, so microseconds of a round read as nanoseconds
of one match. Each group is one workload; its rows differ only in the number of filters.
"""

from __future__ import annotations

from typing import Any

import pytest
from bench.filters import EVENT, endpoints
from bench.filters import topics as spread

from fluxhook._native.topics import Matcher

SIZES = (10, 100, 1_000, 10_000, 100_000)
EVENTS = 1_000


def match_all(matcher: Matcher, topics: list[str]) -> None:
    match = matcher.match
    for topic in topics:
        match(EVENT, topic)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.benchmark(group="one filter matches (1,000 events)")
def test_one_match(benchmark: Any, n: int) -> None:
    """Each topic matches exactly one filter; the topics are spread over all of them."""
    matcher = Matcher(endpoints(n))
    topics = spread(n, EVENTS)
    assert {len(matcher.match(EVENT, t)) for t in topics} == {1}
    benchmark(match_all, matcher, topics)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.benchmark(group="no filter matches, five endpoints without filters (1,000 events)")
def test_no_match(benchmark: Any, n: int) -> None:
    """The topics leave the trie at their second level; the prebuilt tuple comes back."""
    matcher = Matcher([*endpoints(n), *((-i, (), ()) for i in range(1, 6))])
    topics = [f"plant/x{i}/line/temperature" for i in range(EVENTS)]
    assert {len(matcher.match(EVENT, t)) for t in topics} == {5}
    benchmark(match_all, matcher, topics)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.benchmark(group="crossing wildcards, eight filters match (1,000 events)")
def test_crossing_wildcards(benchmark: Any, n: int) -> None:
    """Seven-level topics in a trie where `+` and literal branches run side by side."""
    crossing = ("#", "+/#", "+/+/#", "plant/+/#", "+/1/#", "+/1/+/#", "plant/1/+/#", "plant/+/+/#")
    matcher = Matcher([*endpoints(n), *((-i, (), (f,)) for i, f in enumerate(crossing, 1))])
    topics = [f"plant/1/line/cell/{i}/temperature/raw" for i in range(EVENTS)]
    assert {len(matcher.match(EVENT, t)) for t in topics} == {8}
    benchmark(match_all, matcher, topics)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.benchmark(group="all filters match (1 event)")
def test_fan_out(benchmark: Any, n: int) -> None:
    """The cost of a result: every endpoint has the filter `plant/#`."""
    matcher = Matcher([(i, (), ("plant/#",)) for i in range(n)])
    assert len(benchmark(matcher.match, EVENT, "plant/1/temperature")) == n


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.benchmark(group="no topic (1 event)")
def test_without_topic(benchmark: Any, n: int) -> None:
    """Events of a gateway have no topic: only the type is looked up."""
    matcher = Matcher(endpoints(n))
    assert len(benchmark(matcher.match, EVENT)) == n


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.benchmark(group="build")
def test_build(benchmark: Any, n: int) -> None:
    """A change to the subscriptions builds a new Matcher."""
    benchmark(Matcher, endpoints(n))
