"""The trail of changes: who changed what, on the disk before it is made."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fluxhook import Config, Duration, Endpoint
from fluxhook import control as c
from fluxhook.errors import ConfigError, Conflict, FluxhookError, UnknownEndpoint
from fluxhook.store import DeliveryStore, StoreError
from fluxhook.store.audit import ChangeEntry, read_changes
from fluxhook.store.delivery_id import shown_id
from fluxhook.store.rows import EndpointRow
from fluxhook.supervisor.changes import MAX_NAMED
from fluxhook.transport import datadir as d
from support.scheduler_harness import HOUR, SchedulerHarness
from support.stored import endpoint, rows

LAYER = {"url": "https://made.example/?q=hidden", "events": ["*"], "secrets": ["sk_hidden"]}
ME = {"actor": "tester", "via": "api"}


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SchedulerHarness]:
    own = endpoint(disable_on_gone=True)
    with SchedulerHarness(tmp_path / "data", own, endpoint(name="b")) as harness:
        yield harness


def entries(harness: SchedulerHarness) -> list[ChangeEntry]:
    return list(read_changes(harness.path / "audit"))


def last(harness: SchedulerHarness) -> dict[str, Any]:
    """Return the newest entry, without its number and time."""
    entry: dict[str, Any] = msgspec.to_builtins(entries(harness)[-1])
    assert entry.pop("at").endswith("Z")
    del entry["n"]
    return entry


def made(action: str, target: str = "a", **fields: Any) -> dict[str, Any]:
    given = {"endpoint": target, "before": {}, "after": {}, "error": ""} | fields
    return {**ME, "action": action, "target": target, **given}


def dead(harness: SchedulerHarness, n: int) -> list[int]:
    for i in range(n):
        harness.fail(harness.fresh(f"evt_{i:04}"), "dead", "client_error", 404)
    found = rows(harness)
    return [found[f"evt_{i:04}"].id for i in range(n)]


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ---- each change -----------------------------------------------------------------------------


def test_each_change_of_an_endpoint_is_one_entry(harness: SchedulerHarness) -> None:
    """With who asked, and what was there before and after; numbered in their order."""
    url = "https://made.example/?***"
    harness.ask(c.Create({**LAYER, "name": "made", "concurrency": 3}), c.Subscription)
    own = {"url": url, "concurrency": 3, "secrets": ["***"]}
    assert last(harness) == made("webhook.create", "made", after={**own, "events": ["*"]})
    harness.ask(c.Update("made", {"timeout": "7s", "concurrency": None}), c.Subscription)
    usual = harness.endpoint("a").concurrency
    assert last(harness) == made(
        "webhook.update",
        "made",
        before={"timeout": str(harness.endpoint("a").timeout), "concurrency": 3},
        after={"timeout": "7s", "concurrency": usual},
    )
    harness.ask(c.Rotate("made", None, HOUR), c.Rotated)
    assert last(harness) == made(
        "webhook.rotate",
        "made",
        before={"secrets": ["***"]},
        after={"secrets": ["***", "***"], "overlap": "1h"},
    )
    for request, action, before, after in (
        (c.Pause("a"), "webhook.pause", {"paused": False}, {"paused": True}),
        (c.Pause("a"), "webhook.pause", {}, {}),
        (c.Resume("a"), "webhook.resume", {"paused": True}, {"paused": False}),
        (c.Resume("a"), "webhook.resume", {}, {}),
    ):
        harness.ask(request, c.Done)
        assert last(harness) == made(action, before=before, after=after)
    sent = harness.ask(c.Test("b", "order.paid", {"n": 1}), c.TestSent)
    event = {"event_id": sent.event_id, "type": "order.paid"}
    assert last(harness) == made("webhook.test", "b", after=event)
    harness.ask(c.Delete("made"), c.Done)
    gone = {"url": url, "timeout": "7s", "secrets": ["***", "***"], "events": ["*"]}
    assert last(harness) == made("webhook.delete", "made", before=gone)
    assert [entry.n for entry in entries(harness)] == list(range(1, 10))
    assert "hidden" not in (harness.path / "audit" / "changes.jsonl").read_text()


def test_what_is_refused_is_no_entry(harness: SchedulerHarness) -> None:
    """Neither what is not there, nor what cannot be, nor what is not sound."""
    ids = dead(harness, 1)
    harness.ask(c.Pause("b"), c.Done)
    before = entries(harness)
    refused: list[tuple[c.Request, type[FluxhookError]]] = [
        (c.Pause("none"), UnknownEndpoint),
        (c.Delete("a"), Conflict),
        (c.Create({**LAYER, "name": "a"}), Conflict),
        (c.Create({"url": "ftp://x"}), ConfigError),
        (c.Test("b", "order.paid", {}), Conflict),
        (c.Test("a", "No Type", {}), FluxhookError),
        (c.CloseBreaker("b"), Conflict),
        (c.Retry("b", [], c.Walk({"endpoint": "b"})), Conflict),
        (c.RetryDelivery(ids[0]), Conflict),
        (c.Resend(ids[0]), Conflict),
    ]
    for request, error in refused:
        with pytest.raises(error):
            harness.ask(request, c.Done)
    assert harness.ask(c.Replay([4711]), c.Done).count == 0
    assert harness.ask(c.Purge([], c.Walk({})), c.Done).count == 0
    assert entries(harness) == before


def test_many_dead_letters_are_one_entry(harness: SchedulerHarness) -> None:
    """With how many, of which endpoints, the first ids, and what they were chosen by; the steps that
    follow belong to it."""
    ids = dead(harness, 60)
    chosen = {"endpoint": "a", "since_ns": 1_770_292_800_000_000_000}
    harness.ask(c.Purge(ids[:1]), c.Done)
    after = {"event_id": "evt_0000", "type": "route.error"}
    assert last(harness) == made("dead-letters.purge", shown_id(ids[0]), endpoint="a", after=after)
    harness.ask(c.Replay(ids[1:31], c.Walk(chosen, 0, True)), c.Done)
    assert last(harness) == made(
        "dead-letters.replay",
        after={
            "chosen": {"endpoint": "a", "since": "2026-02-05T12:00:00.000Z"},
            "count": 30,
            "endpoints": {"a": 30},
            "ids": list(map(shown_id, ids[1 : 1 + MAX_NAMED])),
            "more": True,
        },
    )
    n = len(entries(harness))
    harness.ask(c.Replay(ids[31:50], c.Walk(chosen, ids[30], True)), c.Done)
    assert len(entries(harness)) == n
    harness.ask(c.Replay([ids[0]], c.Walk(chosen, ids[49], True)), c.Done)  # none is left of it
    harness.ask(c.Replay(ids[49:50], c.Walk(chosen, ids[0], True)), c.Done)
    assert len(entries(harness)) == n
    # A walk that begins in the middle is one of its own, as is that of another kind.
    harness.ask(c.Replay(ids[50:55], c.Walk(chosen, ids[40], False)), c.Done)
    harness.ask(c.Purge(ids[55:60], c.Walk(chosen, ids[49], False)), c.Done)
    assert [entry.after["count"] for entry in entries(harness)[n:]] == [5, 5]


def test_what_the_engine_does_by_itself_is_an_entry(harness: SchedulerHarness) -> None:
    """An endpoint that is disabled, and a former secret that signs no more."""
    harness.fail(harness.fresh("evt_1"), "dead", "gone", 410)
    entry = last(harness)
    reason = entry["after"].pop("disabled")
    engine = {"actor": "engine", "via": "engine"}
    assert entry == made("webhook.disable", before={"disabled": False}) | engine
    assert "410" in reason
    harness.supervisor.live.refresh(0.0, disabled=True)
    harness.ask(c.Resume("a"), c.Done)
    assert last(harness) == made(
        "webhook.resume", before={"disabled": True}, after={"disabled": False}
    )
    harness.ask(c.Create({**LAYER, "name": "made"}), c.Subscription)
    harness.ask(c.Rotate("made", None, 1), c.Rotated)
    harness.supervisor.live.refresh(0.0, disabled=False)
    before, after = {"secrets": ["***", "***"]}, {"secrets": ["***"]}
    expired = made("webhook.secret-expired", "made", before=before, after=after)
    assert last(harness) == expired | engine


def test_a_reload_is_an_entry_of_what_differs(harness: SchedulerHarness) -> None:
    """Also one that changes nothing, and the endpoints that it enables again; one that is refused is
    none."""
    live = harness.supervisor.live
    config = live.subscriptions.config
    live.load(msgspec.structs.replace(config, retention=Duration.parse("48h")))
    reloaded = made("config.reload", "", before={"retention": "24h"}, after={"retention": "48h"})
    assert last(harness) == reloaded | {"actor": "file", "via": "reload"}
    harness.store.disable_endpoint(1, 1, "gone")
    live.load(live.subscriptions.config)
    reload, enable = entries(harness)[-2:]
    assert (reload.action, reload.before, reload.after) == ("config.reload", {}, {})
    assert (enable.action, enable.target, enable.actor) == ("webhook.enable", "b", "file")
    assert (enable.before, enable.after) == ({"disabled": "gone"}, {"disabled": False})
    before = entries(harness)
    too_many = tuple(endpoint(name=f"n{i}") for i in range(config.max_endpoints + 1))
    with pytest.raises(ConfigError):
        live.load(msgspec.structs.replace(config, endpoints=too_many))
    assert entries(harness) == before


def test_a_start_with_another_configuration_is_an_entry(harness: SchedulerHarness) -> None:
    """A start with the same one, or the first, is no change; neither is a pause at run time."""
    harness.ask(c.Create({**LAYER, "name": "made"}), c.Subscription)
    harness.ask(c.Pause("b"), c.Done)
    n = len(entries(harness))
    harness.reopen()
    assert len(entries(harness)) == n == 2
    harness.reopen(endpoint(disable_on_gone=True, concurrency=3))
    entry = last(harness)
    assert (entry["action"], entry["actor"]) == ("config.start", "file")
    assert entry["before"]["endpoints"].keys() == {"a", "b"}
    assert entry["after"]["endpoints"] == {"a": {"concurrency": 3}}
    assert entries(harness)[-1].concerns("b")
    assert not entries(harness)[-1].concerns("made")


# ---- disks that fail, and engines that are killed ---------------------------------------------


def test_a_change_that_cannot_be_recorded_is_not_made(harness: SchedulerHarness) -> None:
    """It is refused with the file's name; with room on the disk it is made."""
    harness.ask(c.Pause("b"), c.Done)
    ids = dead(harness, 2)
    with full_disk():
        for request in (
            c.Pause("a"), c.Resume("b"), c.Create({**LAYER, "name": "made"}), c.CloseBreaker("a"),
            c.Replay(ids), c.Purge(ids), c.Test("a", "order.paid", {}),
        ):  # fmt: skip
            with pytest.raises(StoreError, match=r"changes\.jsonl cannot be written.*not made"):
                harness.ask(request, c.Done)
    assert not harness.endpoint("a").paused
    assert harness.endpoint("b").paused
    assert {row.id for row in rows(harness).values() if row.ended_ns is not None} == set(ids)
    assert [entry.action for entry in entries(harness)] == ["webhook.pause"]
    harness.ask(c.Pause("a"), c.Done)
    assert harness.endpoint("a").paused


def test_what_nobody_asked_for_waits_for_the_disk_not_the_other_way_round(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload is in force at once, and its entry follows, before those of later changes."""
    live, trail = harness.supervisor.live, harness.supervisor.change_log
    fails = [True]
    append = trail.trail.append

    def appending(lines: Any) -> None:
        if fails[0]:
            raise StoreError("the disk is full")
        append(lines)

    monkeypatch.setattr(trail.trail, "append", appending)
    live.load(msgspec.structs.replace(live.subscriptions.config, retention=Duration.parse("48h")))
    assert str(harness.supervisor.snapshot.config.retention) == "48h"
    trail.flush()
    assert entries(harness) == []
    fails[0] = False
    harness.ask(c.Pause("a"), c.Done)
    assert [(entry.n, entry.action) for entry in entries(harness)] == [
        (1, "config.reload"), (2, "webhook.pause"),
    ]  # fmt: skip
    trail.flush()
    assert len(entries(harness)) == 2


def test_a_change_that_fails_after_its_entry_says_so(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second entry has the error."""

    def failing(*_: object) -> None:
        raise StoreError("the store is read-only")

    monkeypatch.setattr(harness.store, "pause_endpoint", failing)
    with pytest.raises(StoreError):
        harness.ask(c.Pause("a"), c.Done)
    assert [entry.error for entry in entries(harness)] == ["", "the store is read-only"]
    assert last(harness) == made("webhook.pause", error="the store is read-only")


class Killed(BaseException):
    """The end of the process."""


def test_an_engine_that_is_killed_has_the_entry_before_the_change(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a change without an entry, wherever it is killed: before the entry nothing is changed."""

    def killed(*_: object, **__: object) -> None:
        raise Killed

    for name, recorded in (("append", 0), ("pause_endpoint", 1)):
        place = harness.store if recorded else harness.supervisor.change_log.trail
        with monkeypatch.context() as patched:
            patched.setattr(place, name, killed)
            with pytest.raises(Killed):
                harness.ask(c.Pause("a"), c.Done)
        assert len(entries(harness)) == recorded
        harness.reopen()
        assert not harness.endpoint("a").paused
    harness.ask(c.Pause("a"), c.Done)
    assert [entry.n for entry in entries(harness)] == [1, 2]


def test_the_files_rotate_and_the_numbers_go_on(tmp_path: Path) -> None:
    """Over restarts too; the trail of what was erased is another one."""
    with SchedulerHarness(
        tmp_path / "data", endpoint(), audit_files=3, audit_bytes=Config().audit_bytes
    ) as harness:
        trail = harness.supervisor.change_log.trail
        trail.max_bytes = 2000
        for _ in range(40):
            harness.ask(c.Pause("a"), c.Done)
        assert {path.name for path in (harness.path / "audit").iterdir()} == {
            "changes.jsonl", "changes.1.jsonl", "changes.2.jsonl",
        }  # fmt: skip
        numbers = [entry.n for entry in entries(harness)]
        assert numbers == list(range(numbers[0], 41))
        harness.reopen()
        harness.ask(c.Resume("a"), c.Done)
        assert entries(harness)[-1].n == 41


def test_a_torn_line_is_passed_over(harness: SchedulerHarness) -> None:
    """After a power loss; the next entry begins a line of its own."""
    harness.ask(c.Pause("a"), c.Done)
    path = harness.path / "audit" / "changes.jsonl"
    path.write_bytes(path.read_bytes() + b'{"n": 2, "at": "20')
    harness.reopen()
    harness.ask(c.Resume("a"), c.Done)
    assert [(entry.n, entry.action) for entry in entries(harness)] == [
        (1, "webhook.pause"), (2, "webhook.resume"),
    ]  # fmt: skip
    assert json.loads(path.read_bytes().splitlines()[-1])["n"] == 2


# ---- who asks ----------------------------------------------------------------------------------


def test_who_does_not_say_is_the_user_who_has_connected(harness: SchedulerHarness) -> None:
    """As the kernel says; a request by itself, as other versions send it, too."""

    def ask(control: c.Control) -> None:
        thread = threading.Thread(target=control.pause, args=("a",))
        thread.start()
        while thread.is_alive():
            harness.supervisor.listener.step()

    me = pwd.getpwuid(os.getuid()).pw_name
    ask(c.Control(harness.path))
    assert (last(harness)["actor"], last(harness)["via"]) == (me, "embedding")
    ask(c.Control(harness.path, origin=c.Origin("alice", "cli")))
    assert (last(harness)["actor"], last(harness)["via"]) == ("alice", "cli")


def test_former_endpoints_have_their_names(harness: SchedulerHarness) -> None:
    """Dead letters of an endpoint that is gone are told by its name, not by a number."""
    ids = dead(harness, 1)
    harness.reopen(endpoint(name="b"))
    harness.ask(c.Purge(ids), c.Done)
    assert last(harness)["endpoint"] == "a"


def test_the_entry_of_many_does_not_cost_a_look_at_every_endpoint_for_each(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step holds the scheduler up for no longer where there are thousands of them."""
    ids = dead(harness, 5)
    harness.reopen(endpoint(name="b"))

    def read(store: DeliveryStore) -> list[EndpointRow]:
        raise AssertionError("the store is asked for every endpoint")

    monkeypatch.setattr(DeliveryStore, "endpoints", read)
    harness.ask(c.Replay(ids), c.Done)
    assert last(harness)["after"]["endpoints"] == {"a": 5}


def test_a_data_directory_of_before_has_no_changes(tmp_path: Path) -> None:
    """Nothing is made up of what it cannot tell."""
    with SchedulerHarness(tmp_path / "data", Endpoint(name="a", url="https://a.example/",
                                                      signature="none")) as harness:  # fmt: skip
        assert entries(harness) == []
        assert not (d.DataDir(harness.path).audit / "changes.jsonl").exists()
