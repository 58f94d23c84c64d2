from __future__ import annotations

from pathlib import Path

import pytest

from fluxhook.policy.clock import Clock
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.worker import reporter as module
from fluxhook.worker.reporter import Reporter
from native.conftest import stepped
from native.rings import RingFiles, pack
from native.stepped import Stepped

__all__ = ["stepped"]

CLOCK = EngineClock(Clock())


class TestFailingDisk:
    """Under `durability: power` the outbox is synced before a delivery leaves its ring."""

    def test_reports_wait(
        self,
        tmp_path: Path,
        stepped: Stepped,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """In their order, each put once, and said in one line; what they report stays in its ring."""
        monkeypatch.setattr(module, "SYNC_BACKOFF_S", 0.0)
        rig = RingFiles(tmp_path, native=stepped.native)
        producer, _ = rig.publisher()
        for _ in range(3):
            producer.put(pack(1), b"head", b"body")
        consumer, _, counters = rig.worker()
        outbox = stepped.native.ring.Producer(rig.outbox_path, sync=True)
        reporter = Reporter(outbox, counters, 0, CLOCK)
        first, second, third = consumer.take(3)
        stepped.fail_syncs(3)
        assert reporter.report(first, "parked", "paused") == 0
        assert reporter.report(second, "parked", "paused") == 1
        assert reporter.stuck
        reporter.flush()
        reporter.flush()
        assert reporter.stuck
        assert stepped.native.ring.unsettled(rig.path) == {1: 3}
        assert outbox.tail == 1
        reporter.flush()
        assert not reporter.stuck
        assert reporter.report(third, "parked", "paused") == 2
        assert consumer.empty
        assert len(rig.scheduler().take(9)) == 3
        assert [r.message.partition(": ")[0] for r in caplog.records if r.levelname == "ERROR"] == [
            f"{rig.outbox_path} cannot be synced"
        ]

    def test_the_next_try_takes_its_time(self, tmp_path: Path, stepped: Stepped) -> None:
        """A worker's loop does not write a whole ring again in each round."""
        rig = RingFiles(tmp_path, native=stepped.native)
        producer, _ = rig.publisher()
        producer.put(pack(1), b"head", b"body")
        consumer, _, counters = rig.worker()
        reporter = Reporter(
            stepped.native.ring.Producer(rig.outbox_path, sync=True), counters, 0, CLOCK
        )
        stepped.fail_syncs(1)
        reporter.report(consumer.take(1)[0], "parked", "paused")
        reporter.flush()
        assert reporter.stuck
