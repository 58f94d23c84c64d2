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
from support.scheduler_harness import Desk

ENDPOINT = Endpoint(name="a", url="https://a.example/", secrets=("s",))
BODY = b'"' + b"x" * (1 << 20) + b'"'
RINGS = "inbox.ring", "outbox.ring"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk(tmp_path / "data", ENDPOINT) as desk:
        yield desk


def make_small(path: Path, capacity: int = 1 << 20) -> None:
    ring.create_ring(str(path), 1024, capacity, os.urandom(16))


def own(desk: Desk) -> Path:
    return desk.supervisor.datadir.worker(0)


def test_rings_grow_with_max_event_bytes(desk: Desk) -> None:
    """A start makes those anew that were made for less, with or without reports in the inbox."""
    desk.first_failure("evt_0", BODY)
    desk.close()
    for name in RINGS:
        make_small(own(desk) / name)
    desk.open()
    assert [ring.geometry(str(own(desk) / name))[1] for name in RINGS] == [16 << 20] * 2
    (delivery,) = desk.sleep_until_due()
    assert delivery.body == BODY


def test_a_ring_with_reports_keeps_its_size(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing in it is lost. Until a start finds it empty, larger events are refused."""
    desk.close()
    path = own(desk) / "outbox.ring"
    make_small(path)
    desk.reporter = Reporter(
        ring.Producer(str(path)), desk.reporter._counters, 0, desk.supervisor._clock
    )
    desk.reporter.report(desk.fresh("evt_0"), "parked", "paused")
    desk.open()
    assert ring.geometry(str(path))[1] == 1 << 20
    assert desk.supervisor.snapshot.config.max_event_bytes == Size.parse("128KiB")
    assert "max_event_bytes stays at 128KiB until the next start" in caplog.text
    desk.step()
    assert desk.store.pending == {0: 1}
    desk.reopen()
    assert ring.geometry(str(path))[1] == 16 << 20
    assert desk.supervisor.snapshot.config.max_event_bytes == Size.parse("1MiB")


def test_a_reload_does_not_raise_it_beyond_the_rings(desk: Desk) -> None:
    """SIGHUP changes the limit as far as what the running workers share allows."""
    for asked, given in (("2MiB", "2MiB"), ("64MiB", "2MiB"), ("1MiB", "1MiB")):
        desk.supervisor.publish(
            Config(endpoints=(ENDPOINT,), workers=1, max_event_bytes=Size.parse(asked))
        )
        assert desk.supervisor.snapshot.config.max_event_bytes == Size.parse(given)


def test_what_does_not_fit_into_an_inbox_is_a_dead_letter(desk: Desk) -> None:
    """One that was stored while the limit was larger; it is there to be replayed under the old one."""
    desk.first_failure("evt_0", BODY)
    small = own(desk) / "small.ring"
    make_small(small)
    inbox = desk.keeper._inboxes[0]
    desk.keeper._inboxes[0] = ring.Producer(str(small))
    desk.now_ns += 60_000_000_000
    desk.step()
    (dead,) = desk.store.dead_letters()
    assert dead.cause == "payload_too_large"
    assert "max_event_bytes" in dead.error
    assert desk.store.leased(0) == 0
    desk.keeper._inboxes[0] = inbox
    assert desk.keeper.replay([dead.id], desk.now_ns) == 1
    (delivery,) = desk.due()
    assert delivery.body == BODY


def test_what_does_not_fit_into_an_outbox_is_dropped_and_counted(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """Its ring has no place for it for ever, and no report could bring its body to the store."""
    outbox = desk.reporter.outbox
    small = own(desk) / "small.ring"
    make_small(small)
    reporter = desk.reporter
    reporter.outbox = ring.Producer(str(small))
    delivery = desk.fresh("evt_0", body=BODY)
    reporter.report(delivery, "retry", "server_error", desk.attempt())
    assert not delivery.in_ring
    assert not reporter.stuck
    assert f"1048578 bytes are too many for {small}" in caplog.text
    delivered = desk.fresh("evt_1", body=BODY)
    reporter.report(delivered, "delivered", "delivered", desk.attempt("delivered", 200))
    desk.reporter.outbox = outbox
    for record in ring.Consumer(str(small)).take(9):
        outbox.put((0).to_bytes(4, "little"), record.event, record.body)
    desk.step()
    found = {row.event_id: (row.state, row.cause) for row in desk.store.expired(2**62, 10)}
    assert found["evt_0"] == (State.DROPPED, "payload_too_large")
    assert found["evt_1"] == (State.DELIVERED, "")
