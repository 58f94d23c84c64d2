"""The endpoints of the snapshot, and what is noted of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxhook import Endpoint
from fluxhook.scheduler.endpoints import FAULT_BACKOFF_NS, blocks
from support.scheduler_parts import NOW, Parts

NAMES = ("a", "b")


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    with Parts(
        tmp_path, *(Endpoint(name=name, url="https://a.example/") for name in NAMES)
    ) as parts:
        yield parts


def test_a_disabled_one_is_none(parts: Parts) -> None:
    """It keeps its name and its id."""
    parts.configure(disabled=frozenset({"b"}))
    assert parts.endpoints.get(0) is not None
    assert parts.endpoints.get(1) is None
    assert [parts.endpoints.is_disabled(id) for id in (0, 1, 2)] == [False, True, False]
    assert [parts.endpoints.name(id) for id in (0, 1, 2)] == ["a", "b", "2"]


def test_workers_see_what_is_stored(parts: Parts) -> None:
    """Of those that are named, as the store counts it."""
    parts.add(2)
    parts.add(3, endpoint=1)
    parts.endpoints.publish_stored([0])
    assert [parts.words.stored(id) for id in (0, 1)] == [2, 0]
    parts.endpoints.publish_stored({0, 1})
    assert [parts.words.stored(id) for id in (0, 1)] == [2, 3]


def test_a_fault_is_that_of_one_endpoint(parts: Parts) -> None:
    """It is counted, and the others go on."""
    parts.endpoints.fault(1, RuntimeError("odd"), NOW)
    assert parts.endpoints.left_alone_until_ns(0) == 0
    assert parts.endpoints.left_alone_until_ns(1) == NOW + FAULT_BACKOFF_NS
    assert parts.store.counters() == {1: {"faults": 1}}


@pytest.mark.parametrize(
    ("ordered", "on_head_failure", "expected"),
    [(True, "block", True), (True, "park", False), (False, "block", False)],
)
def test_what_blocks(ordered: bool, on_head_failure: str, expected: bool) -> None:
    """An order that goes on past a failing delivery holds up nobody."""
    options = {"ordered": ordered, "on_head_failure": on_head_failure}
    assert blocks(Endpoint(name="a", url="https://a.example/", **options)) is expected  # type: ignore[arg-type]
