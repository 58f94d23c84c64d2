"""The metrics of outages: what cannot be written now, and how often a worker was replaced."""

from __future__ import annotations

from pathlib import Path

from fluxhook import Endpoint, Size
from fluxhook.stats import read_stats
from support.scheduler_harness import SchedulerHarness

ANY = Endpoint(name="any", url="http://192.0.2.1/", signature="none")


def test_all_that_cannot_be_written_is_in_the_statistics(tmp_path: Path) -> None:
    """From the turn of the supervisor in which it fails until the one in which it works; an engine that
    starts begins without any."""
    with SchedulerHarness(tmp_path / "data", ANY, ring_bytes=Size(2**20)) as harness:
        supervisor, scheduler = harness.supervisor, harness.scheduler

        def outages() -> dict[str, bool]:
            supervisor.publish_outages()
            return read_stats(harness.path).outages

        assert outages() == {"store": False, "sync": False, "audit": False}
        scheduler.outage.failed("no room")
        assert outages() == {"store": True, "sync": False, "audit": False}
        scheduler.retention.purge_fails = True
        scheduler.outage.worked()
        assert outages() == {"store": False, "sync": False, "audit": True}
        harness.reopen()
        supervisor, scheduler = harness.supervisor, harness.scheduler
        assert not any(outages().values())
        supervisor.words.count_restart()
        assert read_stats(harness.path).worker_restarts == 1
