"""The scheduler under a clock that the test moves: the whole life of a failing event, in no time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fluxhook import Endpoint
from fluxhook.store import DeliveryStore, DeliveryTransaction, StoreError
from fluxhook.store.audit import AuditTrail, read_audit
from fluxhook.transport.messages import DueHead, EventHead
from support.scheduler_harness import HOUR, S, SchedulerHarness
from support.store_rows import dead_letters, deliveries

FAILED = "webhook.delivery.failed"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SchedulerHarness]:
    secrets = ("sk_live_9x8m2p",)
    ops = Endpoint(
        name="ops",
        url="https://hooks.example.com/",
        secrets=secrets,
        events=("route.*",),
        disable_on_gone=True,
    )
    log = Endpoint(
        name="log",
        url="https://log.example.com/",
        secrets=secrets,
        events=("webhook.delivery.failed", "webhook.endpoint.disabled"),
    )
    with SchedulerHarness(tmp_path / "data", ops, log) as harness:
        yield harness


def test_the_life_of_a_failing_event_over_25_hours(
    harness: SchedulerHarness, tmp_path: Path
) -> None:
    """Attempts at 15s, 2m, 10m and 1h after the first failure, within jitter; then
    `webhook.delivery.failed` and a dead letter; 24 hours later an audit line, and it is gone."""
    begun_ns = harness.now_ns
    harness.first_failure("evt_a")
    seen = []
    while True:
        (delivery,) = harness.sleep_until_due()
        seen.append((harness.now_ns - begun_ns) / S)
        assert delivery.body == b"{}"
        harness.fail(delivery)
        if len(seen) == 4:
            break
    for at, scheduled in zip(seen, (15, 120, 600, 3600), strict=True):
        assert 0.9 * scheduled - 0.1 <= at <= scheduled + 0.1

    store = harness.store
    (dead,) = dead_letters(store)
    assert (dead.event_id, dead.attempts, dead.cause) == ("evt_a", 5, "server_error")
    (notice,) = harness.emitted(FAILED)
    assert notice == {
        "endpoint": "ops",
        "event_id": "evt_a",
        "event_type": "route.error",
        "attempts": 5,
        "cause": "server_error",
        "error": "no",
    }

    died_ns = harness.now_ns
    harness.now_ns = died_ns + 24 * HOUR - S
    harness.step()
    assert len(dead_letters(store)) == 1
    harness.now_ns = died_ns + 24 * HOUR + 2 * S
    harness.step()
    assert dead_letters(store) == deliveries(store) == []
    (entry,) = read_audit(tmp_path / "data" / "audit")
    assert (entry.endpoint, entry.event_id, entry.attempts) == ("ops", "evt_a", 5)
    died = {"dead.server_error": 0, "died.server_error": 1}
    assert store.counters()[0] == {"dropped.purged": 1} | died
    assert harness.now_ns - begun_ns < 26 * HOUR


def test_a_delivered_event_leaves_no_audit_line(harness: SchedulerHarness, tmp_path: Path) -> None:
    """It is purged too, but nothing failed."""
    harness.first_failure("evt_a")
    (delivery,) = harness.sleep_until_due()
    harness.reporter.report(delivery, "delivered", "delivered")
    harness.step()
    harness.now_ns += 25 * HOUR
    harness.step()
    assert deliveries(harness.store) == []
    assert list(read_audit(tmp_path / "data" / "audit")) == []
    assert harness.emitted(FAILED) == []


def test_what_is_held_back_for_longer_than_the_retention_is_given_up(
    harness: SchedulerHarness,
) -> None:
    """An event behind a breaker that never closes has failed too."""
    delivery = harness.fresh("evt_a")
    far = harness.now_ns + 1000 * HOUR
    harness.reporter.report(delivery, "parked", "breaker_open", not_before_ns=far)
    harness.step()
    harness.now_ns += 25 * HOUR
    harness.step()
    (dead,) = dead_letters(harness.store)
    assert dead.cause == "retention"
    (notice,) = harness.emitted(FAILED)
    assert notice["cause"] == "retention"


def test_the_failure_of_a_notice_makes_no_notice(harness: SchedulerHarness) -> None:
    """Otherwise an endpoint that is down would hear of it for ever."""
    delivery = harness.fresh("evt_a")
    delivery.event = EventHead("evt_a", "webhook.delivery.failed").encode()
    harness.fail(delivery, "dead")
    assert len(dead_letters(harness.store)) == 1
    assert harness.emitted(FAILED) == []


def test_the_trail_rotates_and_survives_a_torn_line(tmp_path: Path) -> None:
    """`audit_files` files of `audit_bytes` are kept; what a crash tore or damaged is passed over."""
    from fluxhook.store.audit import AuditEntry

    def entry(n: int) -> AuditEntry:
        texts = dict.fromkeys(
            ("at", "action", "endpoint", "type", "accepted_at", "ended_at", "cause", "error"), "x"
        )
        return AuditEntry(event_id=f"n{n}", attempts=1, **texts)

    folder = tmp_path / "audit"
    trail = AuditTrail(folder, max_bytes=1000, files=3)
    for n in range(100):
        trail.append([entry(n)])
    assert len(list(folder.iterdir())) == 3
    kept = [e.event_id for e in read_audit(folder)]
    assert kept == [f"n{n}" for n in range(100 - len(kept), 100)]
    assert all(path.stat().st_size <= 1000 for path in folder.iterdir())
    with (folder / "audit.jsonl").open("ab") as file:
        file.write(b'{"at": "\xff"}\n{"at": ' + b"[" * 9000 + b"]" * 9000 + b"}\n")
        file.write(b'{"at": "torn')
    trail.append([entry(100)])
    assert [e.event_id for e in read_audit(folder)][-2:] == ["n99", "n100"]


def test_reports_survive_a_store_that_cannot_be_read(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports that were taken from the outbox and not applied are taken again, all of them and once."""
    harness.first_failure("evt_a")
    (delivery,) = harness.sleep_until_due()
    harness.reporter.report(harness.fresh("evt_b"), "parked", "paused")
    harness.reporter.report(delivery, "retry", "server_error", harness.attempt())
    harness.reporter.report(harness.fresh("evt_c"), "parked", "paused")
    harness.store.leases.out.clear()  # so that the row has to be read

    def fails(delivery_id: int) -> None:
        raise StoreError("input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(harness.store, "delivery", fails)
        for _ in range(3):
            harness.step()
            harness.now_ns += S
        assert len(deliveries(harness.store)) == 1
    harness.step()
    rows = {row.event_id: row for row in deliveries(harness.store)}
    assert rows.keys() == {"evt_a", "evt_b", "evt_c"}
    assert rows["evt_a"].attempts == 2
    assert harness.store.pending[0] == 3


def test_reports_survive_a_full_disk(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is released before it is committed; a 410 among it disables as soon as that can be
    written, and loses nothing of what came with it."""
    harness.reporter.report(harness.fresh("evt_a"), "dead", "gone", harness.attempt("gone", 410))
    harness.reporter.report(harness.fresh("evt_b"), "parked", "paused")

    def full(*_: object) -> None:
        raise StoreError("the disk is full")

    for method in ("write", "disable_endpoint"):
        with monkeypatch.context() as patched:
            patched.setattr(
                DeliveryStore if method == "disable_endpoint" else DeliveryTransaction, method, full
            )
            harness.step()
            harness.now_ns += S
    assert harness.store.endpoints()[0].disabled_ns is None
    assert not harness.scheduler.take_disabled()
    harness.step()
    assert harness.scheduler.take_disabled()
    assert harness.store.endpoints()[0].disabled_ns == harness.now_ns
    assert {row.event_id for row in deliveries(harness.store)} == {"evt_a", "evt_b"}
    assert len(harness.emitted("webhook.endpoint.disabled")) == 1


def test_a_disk_that_stays_full_is_reported_once(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried twice a second; a line says that it begins to fail, and one that it works again."""

    def full(*_: object) -> None:
        raise StoreError("the disk is full")

    harness.reporter.report(harness.fresh("evt_a"), "parked", "paused")
    with caplog.at_level(logging.INFO, "fluxhook"), monkeypatch.context() as patched:
        patched.setattr(DeliveryTransaction, "write", full)
        for _ in range(5):
            harness.step()
            harness.now_ns += S
        (line,) = caplog.messages
        assert line.endswith("nothing is released until it can: the disk is full")
        patched.undo()
        harness.step()
    assert caplog.messages[1:] == ["the store can be written again"]
    assert len(deliveries(harness.store)) == 1


def test_a_report_that_cannot_be_read_stops_nobody(harness: SchedulerHarness) -> None:
    """Its bytes are kept, and what comes behind it is applied."""
    target = (0).to_bytes(4, "little")
    harness.reporter.outbox.put(target, b"\xc1 of another version", b"its body")
    harness.first_failure("evt_behind")
    assert [row.event_id for row in deliveries(harness.store)] == ["evt_behind"]
    kept = sorted((harness.path / "damaged").iterdir())
    assert [path.suffix for path in kept] == [".body", ".report"]
    assert [path.read_bytes() for path in kept] == [b"its body", b"\xc1 of another version"]


@pytest.mark.parametrize(
    ("cause", "status", "fresh"),
    [("timeout", 0, True), ("reset", 0, True), ("server_error", 503, False)],
)
def test_what_got_no_answer_is_to_go_over_a_new_connection(
    harness: SchedulerHarness, cause: str, status: int, fresh: bool
) -> None:
    """Whichever worker is to make the next attempt: its connections may be as dead."""
    harness.fail(harness.fresh("evt_a"), cause=cause, status=status)
    (delivery,) = harness.sleep_until_due()
    assert msgspec.msgpack.decode(delivery.event, type=DueHead).fresh == fresh


def test_nothing_is_erased_without_a_line(harness: SchedulerHarness, tmp_path: Path) -> None:
    """A full audit folder keeps the failed events in the store, and slows nothing else: deliveries are
    applied and handed out as ever. Once there is room each has its line."""
    for n in range(600):
        harness.reporter.report(harness.fresh(f"evt_{n}"), "dead", "client_error")
    harness.step()
    folder = tmp_path / "data" / "audit"
    (folder / "audit.jsonl").mkdir(parents=True)
    harness.now_ns += 25 * HOUR
    harness.step()
    assert len(deliveries(harness.store, limit=1000)) == 600
    for n in range(3):
        harness.reporter.report(harness.fresh(f"evt_new_{n}"), "parked", "paused")
        assert [delivery.attempts for delivery in harness.due()] == [0]
        harness.now_ns += S // 4
    dead = [row.id for row in dead_letters(harness.store, limit=1000)]
    with pytest.raises(StoreError, match=r"audit\.jsonl cannot be written"):
        harness.scheduler.purge(dead[:5], harness.now_ns)
    assert len(dead_letters(harness.store, limit=1000)) == 600
    (folder / "audit.jsonl").rmdir()
    harness.now_ns += S
    harness.step()
    lines = [entry.event_id for entry in read_audit(folder)]
    assert sorted(lines) == sorted(f"evt_{n}" for n in range(600))
    assert dead_letters(harness.store) == []
