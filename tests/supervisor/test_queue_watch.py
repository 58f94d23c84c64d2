"""A full queue is said, in sums."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import pytest

from fluxhook import Endpoint, QueueFull
from fluxhook.publisher.publisher import Publisher
from support.scheduler_harness import SchedulerHarness

SLOW = Endpoint(name="slow", url="http://127.0.0.1:9/", signature="none")


@pytest.mark.parametrize(("policy", "what"), [("oldest", "dropped"), ("newest", "refused")])
def test_what_a_full_queue_drops_is_said_once_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, policy: str, what: str
) -> None:
    """With the policy, the endpoint and the number; what was dropped before the start is no news."""

    def drop(n: int) -> None:
        with Publisher(tmp_path / "data") as publisher, contextlib.suppress(QueueFull):
            for _ in range(n):
                publisher.emit("order.paid", {})

    options = {"drop_policy": policy, "queue_size": 10}
    with SchedulerHarness(tmp_path / "data", SLOW, **options) as harness:
        drop(15)
        harness.reopen()
        watch, snapshot = harness.supervisor.queue_watch, harness.supervisor.snapshot
        with caplog.at_level(logging.WARNING, "fluxhook"):
            caplog.clear()
            watch.look(snapshot, 1e6)
            drop(7)
            for seconds in (10, 20, 30):
                watch.look(snapshot, 1e6 + seconds)
            drop(3)
            for seconds in (40, 50, 60, 79):
                watch.look(snapshot, 1e6 + seconds)
            assert len(caplog.records) == 1
            for seconds in (90, 100):
                watch.look(snapshot, 1e6 + seconds)
    first, second = [vars(record)["fields"] for record in caplog.records]
    assert first == {
        "event": "queue_full",
        "endpoint": "slow",
        "policy": policy,
        "count": 7,
        "what": what,
    }
    assert second["count"] == 3
