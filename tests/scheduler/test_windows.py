"""Windows of aggregation, with a store and a clock alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxhook import Aggregate, Duration, Endpoint
from fluxhook.scheduler import step_limits
from fluxhook.scheduler.aggregation import Windows
from fluxhook.store import StoreError
from fluxhook.transport.messages import EventHead, Report
from support.scheduler_parts import NOW, Parts, S

LENGTH = 10 * S
AGGREGATE = Aggregate(window=Duration(LENGTH), types=("service.*",), originals=2)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    endpoints = (
        Endpoint(name=name, url="https://a.example/", aggregate=AGGREGATE) for name in "ab"
    )
    with Parts(tmp_path, *endpoints) as parts:
        yield parts


def windows_of(parts: Parts) -> Windows:
    return Windows(parts.store, parts.clock, parts.endpoints, parts.own, parts.datadir.damaged)


def gather(parts: Parts, windows: Windows, n: int = 1, endpoint: int = 0) -> None:
    """One transaction of the reports' part."""
    windows.begin()
    with parts.store.transaction() as transaction:
        for i in range(n):
            head = EventHead(f"evt_{i}", "service.5xx").encode()
            report = Report(0, endpoint, "aggregated", "", head, accepted_ns=NOW)
            windows.gather(transaction, report, b'{"n":%d}' % i, NOW)
        windows.write(transaction)


def notifications(parts: Parts) -> dict[int, int]:
    """Hand out the notifications; return how many events each endpoint learns of."""
    found = {}
    for id in (0, 1):
        for due in parts.store.lease(id, NOW + 2 * LENGTH, 9):
            found[id] = json.loads(due.body)["data"]["count"]
    return found


def test_a_window_becomes_a_delivery_in_its_time(parts: Parts) -> None:
    """And not before; `close` says when that is."""
    windows = windows_of(parts)
    gather(parts, windows, 3)
    assert windows.close(NOW + LENGTH - 1) == (NOW + LENGTH, False)
    assert parts.store.pending[0] == 0
    wake_ns, more = windows.close(NOW + LENGTH)
    assert (wake_ns, more) == (NOW + LENGTH, False)  # it is due at once
    assert windows.close(NOW + LENGTH) == (step_limits.NEVER_NS, False)
    assert notifications(parts) == {0: 3}
    assert parts.store.counters()[0] == {"accepted": 1, "aggregated": 3}
    assert parts.words.stored(0) == 1


def test_what_is_taken_back_was_not_gathered(parts: Parts) -> None:
    """Its reports are applied once more: each event counts once."""
    windows = windows_of(parts)
    gather(parts, windows, 2)
    windows.begin()
    with pytest.raises(RuntimeError), parts.store.transaction() as transaction:
        for _ in range(5):
            head = EventHead("evt", "service.5xx").encode()
            windows.gather(transaction, Report(0, 0, "aggregated", "", head), b"{}", NOW)
        raise RuntimeError
    windows.take_back()
    gather(parts, windows, 5)
    windows.close(NOW + LENGTH)
    assert notifications(parts) == {0: 7}


def test_the_next_scheduler_goes_on_with_it(parts: Parts) -> None:
    """A window that was committed is there; it closes in its length at the latest, by this clock."""
    gather(parts, windows_of(parts), 4)
    windows = windows_of(parts)
    assert windows.open[0].count == 4
    assert windows.open[0].closes_ns <= parts.clock.now_ns() + LENGTH
    windows.close(NOW + LENGTH)
    assert notifications(parts) == {0: 4}


def test_a_window_that_cannot_be_closed_holds_up_no_other(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of ours; a store that fails is none, and keeps both."""
    windows = windows_of(parts)
    for id in (0, 1):
        gather(parts, windows, 1, id)
    create = parts.own.create

    def fails(transaction: object, endpoint_id: int, *more: object) -> object:
        if endpoint_id == 0:
            raise RuntimeError("odd")
        return create(transaction, endpoint_id, *more)  # type: ignore[arg-type]

    def full(*_: object) -> None:
        raise StoreError("full")

    monkeypatch.setattr(parts.own, "create", full)
    with pytest.raises(StoreError):
        windows.close(NOW + LENGTH)
    assert windows.open.keys() == {0, 1}
    monkeypatch.setattr(parts.own, "create", fails)
    windows.close(NOW + LENGTH)
    assert windows.open.keys() == {0}
    assert notifications(parts) == {1: 1}
    wake_ns, _ = windows.close(NOW + LENGTH)
    assert wake_ns == parts.endpoints.left_alone_until_ns(0)
    monkeypatch.undo()
    windows.close(wake_ns)
    assert notifications(parts) == {0: 1}
