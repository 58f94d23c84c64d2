"""Events of up to `max_event_bytes` reach the store and come back, whatever size rings once had."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxhook import Config, Endpoint
from fluxhook._native import ring
from fluxhook.config.units import Size
from fluxhook.store import State
from fluxhook.worker.reporter import Reporter
from support.scheduler_harness import SchedulerHarness
from support.store_rows import dead_letters

ENDPOINT = Endpoint(name="a", url="https://a.example/", secrets=("s",))
BODY = b'"' + b"x" * (1 << 20) + b'"'
RINGS = "inbox.ring", "outbox.ring"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SchedulerHarness]:
    with SchedulerHarness(tmp_path / "data", ENDPOINT) as harness:
        yield harness


def make_small(path: Path, capacity: int = 1 << 20) -> None:
    ring.create_ring(str(path), 1024, capacity, os.urandom(16))


def own(harness: SchedulerHarness) -> Path:
    return harness.supervisor.datadir.worker(0)


def test_rings_grow_with_max_event_bytes(harness: SchedulerHarness) -> None:
    """A start makes those anew that were made for less, with or without reports in the inbox."""
    harness.first_failure("evt_0", BODY)
    harness.close()
    for name in RINGS:
        make_small(own(harness) / name)
    harness.open()
    assert [ring.geometry(str(own(harness) / name))[1] for name in RINGS] == [16 << 20] * 2
    (delivery,) = harness.sleep_until_due()
    assert delivery.body == BODY


def test_a_ring_with_reports_keeps_its_size(
    harness: SchedulerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing in it is lost. Until a start finds it empty, larger events are refused."""
    harness.close()
    path = own(harness) / "outbox.ring"
    make_small(path)
    harness.reporter = Reporter(
        ring.Producer(str(path)), harness.reporter.counters, 0, harness.supervisor.clock
    )
    harness.reporter.report(harness.fresh("evt_0"), "parked", "paused")
    harness.open()
    assert ring.geometry(str(path))[1] == 1 << 20
    assert harness.supervisor.snapshot.config.max_event_bytes == Size.parse("128KiB")
    assert "max_event_bytes stays at 128KiB until the next start" in caplog.text
    harness.step()
    assert harness.store.pending == {0: 1}
    harness.reopen()
    assert ring.geometry(str(path))[1] == 16 << 20
    assert harness.supervisor.snapshot.config.max_event_bytes == Size.parse("1MiB")


def test_a_reload_does_not_raise_it_beyond_the_rings(harness: SchedulerHarness) -> None:
    """SIGHUP changes the limit as far as what the running workers share allows."""
    for asked, given in (("2MiB", "2MiB"), ("64MiB", "2MiB"), ("1MiB", "1MiB")):
        harness.supervisor.live.load(
            Config(endpoints=(ENDPOINT,), workers=1, max_event_bytes=Size.parse(asked))
        )
        assert harness.supervisor.snapshot.config.max_event_bytes == Size.parse(given)


def test_what_does_not_fit_into_an_inbox_is_a_dead_letter(harness: SchedulerHarness) -> None:
    """One that was stored while the limit was larger; it is there to be replayed under the old one."""
    harness.first_failure("evt_0", BODY)
    small = own(harness) / "small.ring"
    make_small(small)
    inbox = harness.scheduler.retries.inboxes[0]
    harness.scheduler.retries.inboxes[0] = ring.Producer(str(small))
    harness.now_ns += 60_000_000_000
    harness.step()
    (dead,) = dead_letters(harness.store)
    assert dead.cause == "payload_too_large"
    assert "max_event_bytes" in dead.error
    assert harness.store.leased(0) == 0
    harness.scheduler.retries.inboxes[0] = inbox
    assert harness.scheduler.replay([dead.id], harness.now_ns) == 1
    (delivery,) = harness.due()
    assert delivery.body == BODY


def test_what_does_not_fit_into_an_outbox_is_dropped_and_counted(
    harness: SchedulerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """Its ring has no place for it for ever, and no report could bring its body to the store."""
    outbox = harness.reporter.outbox
    small = own(harness) / "small.ring"
    make_small(small)
    reporter = harness.reporter
    reporter.outbox = ring.Producer(str(small))
    delivery = harness.fresh("evt_0", body=BODY)
    reporter.report(delivery, "retry", "server_error", harness.attempt())
    assert not delivery.in_ring
    assert not reporter.stuck
    assert f"1048578 bytes are too many for {small}" in caplog.text
    delivered = harness.fresh("evt_1", body=BODY)
    reporter.report(delivered, "delivered", "delivered", harness.attempt("delivered", 200))
    harness.reporter.outbox = outbox
    for record in ring.Consumer(str(small)).take(9):
        outbox.put((0).to_bytes(4, "little"), record.event, record.body)
    harness.step()
    found = {row.event_id: (row.state, row.cause) for row in harness.store.expired(2**62, 10)}
    assert found["evt_0"] == (State.DROPPED, "payload_too_large")
    assert found["evt_1"] == (State.DELIVERED, "")
