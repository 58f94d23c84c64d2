"""Endpoints that come, change and go at run time: what the supervisor keeps, and what it refuses.

The requests go to the supervisor itself; that they get there is test_control.py's matter.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fluxhook import Config, Duration, Endpoint
from fluxhook import control as c
from fluxhook.errors import ConfigError, Conflict, UnknownEndpoint
from fluxhook.stats import read_stats
from fluxhook.store import DeliveryStore, State, StoreError
from fluxhook.transport import datadir as d
from fluxhook.transport.snapshot import Snapshot
from support.scheduler_harness import HOUR, S, SchedulerHarness
from support.store_rows import dead_letters, deliveries

LAYER = {"url": "https://a.example/", "events": ["*"], "secrets": ["sk_1"]}
FILE = Endpoint(name="file", url="https://file.example/", secrets=("sk_f",))


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SchedulerHarness]:
    with SchedulerHarness(tmp_path / "data", FILE) as harness:
        yield harness


def create(harness: SchedulerHarness, name: str = "a", **options: Any) -> c.Subscription:
    layer = {k: v for k, v in {"name": name, **LAYER, **options}.items() if v is not None}
    return harness.ask(c.Create(layer), c.Subscription)


def names(harness: SchedulerHarness) -> list[str]:
    return [e.name for e in Snapshot.load(d.DataDir(harness.path)).config.endpoints]


def rotate(
    harness: SchedulerHarness, name: str = "a", secret: str | None = None, hours: int = 24
) -> c.Rotated:
    return harness.ask(c.Rotate(name, secret, hours * HOUR), c.Rotated)


def expire(harness: SchedulerHarness, hours: float) -> bool:
    """Let the clock be so much later."""
    changed = harness.supervisor.live.subscriptions.expire(time.time_ns() + int(hours * HOUR))
    harness.supervisor.live.publish()
    return changed


# ---- creating ------------------------------------------------------------------------------


def test_what_was_created_is_what_every_process_reads(harness: SchedulerHarness) -> None:
    """The snapshot has it, with an id of its own, when the request is answered."""
    made = create(harness)
    snapshot = Snapshot.load(d.DataDir(harness.path))
    assert names(harness) == ["file", "a"]
    assert snapshot.ids == {"file": 0, "a": made.id}
    assert snapshot.created == {"a"}
    assert (made.secret, made.notices) == (None, [])


def test_what_its_owner_should_know(harness: SchedulerHarness) -> None:
    """Notices come back, with the fields' paths."""
    assert create(harness, events=["route.eror"]).notices == [
        "events[0]: no known event type matches 'route.eror' (did you mean route.error?); "
        "if the host emits it, list its type under event_types"
    ]


def test_names_are_made_of_the_host(harness: SchedulerHarness) -> None:
    """And numbered, file endpoints counted too."""
    made = [harness.ask(c.Create(LAYER), c.Subscription).name for _ in range(3)]
    assert made == ["a.example", "a.example-2", "a.example-3"]
    assert harness.ask(c.Create({**LAYER, "url": "https://file/"}), c.Subscription).name == "file-2"


@pytest.mark.parametrize("taken", ["file", "a"])
def test_a_name_is_given_once(harness: SchedulerHarness, taken: str) -> None:
    """It may be the file that has it, or another subscription."""
    create(harness)
    with pytest.raises(Conflict, match=f"'{taken}' already; choose another name"):
        create(harness, taken)
    assert names(harness) == ["file", "a"]


@pytest.mark.parametrize("name", ["status", "wh_3", "a b", "", 17, ["x"], {"x": 1}])
def test_names_that_cannot_be(harness: SchedulerHarness, name: Any) -> None:
    """A problem of the field, whatever stands there; nothing is kept."""
    with pytest.raises(ConfigError) as caught:
        create(harness, name)
    assert [problem.path for problem in caught.value.problems] == ["name"]
    assert names(harness) == ["file"]
    assert harness.store.subscriptions() == []


def test_what_is_refused_leaves_no_trace(harness: SchedulerHarness) -> None:
    """All problems in one answer, and neither a row nor a name that is used up."""
    version = harness.supervisor.snapshot.version
    with pytest.raises(ConfigError) as caught:
        create(harness, url="ftp://x", retry={"max_attempts": 0}, where=["?"])
    assert {p.path for p in caught.value.problems} == {"url", "retry.max_attempts", "where[0]"}
    assert [row.name for row in harness.store.endpoints()] == ["file"]
    assert harness.supervisor.snapshot.version == version


@pytest.mark.parametrize("signature", ["fluxgate", "standard", "stripe", "github"])
def test_a_secret_can_be_made(harness: SchedulerHarness, signature: str) -> None:
    """It is told once, in the answer, and signs."""
    made = create(harness, secrets=None, generate_secret=True, signature=signature)
    assert made.secret
    assert harness.endpoint("a").secrets == (made.secret,)


def test_a_secret_is_made_for_the_profile_of_the_defaults(tmp_path: Path) -> None:
    """An engine whose defaults say `standard` makes whsec_ secrets."""
    with SchedulerHarness(tmp_path / "data", defaults={"signature": "standard"}) as harness:
        assert (create(harness, secrets=None, generate_secret=True).secret or "").startswith(
            "whsec_"
        )


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"generate_secret": True}, "generate_secret"),
        ({"generate_secret": True, "secret": "x", "secrets": None}, "generate_secret"),
        ({"generate_secret": "no", "secrets": None}, "generate_secret"),
        ({"secret": "x"}, "secret"),
    ],
)
def test_where_the_secret_comes_from_is_said_once(
    harness: SchedulerHarness, options: dict[str, Any], path: str
) -> None:
    """One secret, a list of them, or one to be made; not two of these."""
    with pytest.raises(ConfigError) as caught:
        create(harness, **options)
    assert caught.value.problems[0].path == path


def test_there_is_room_for_so_many(tmp_path: Path) -> None:
    """`max_endpoints` counts every name that was ever used; one that was deleted can come back."""
    with SchedulerHarness(tmp_path / "data", FILE, max_endpoints=3) as harness:
        create(harness, "a")
        create(harness, "b")
        with pytest.raises(Conflict, match="room for 3 names"):
            create(harness, "c")
        harness.ask(c.Delete("a"), c.Done)
        with pytest.raises(Conflict, match="give the name of one that was deleted"):
            create(harness, "c")
        assert create(harness, "a").id == 1


def test_what_comes_back_under_a_name_begins_anew(harness: SchedulerHarness) -> None:
    """A pause, a 410 and failures of one that was deleted do not bind its successor of that name."""
    id = create(harness).id
    harness.ask(c.Pause("a"), c.Done)
    harness.store.disable_endpoint(id, 1, "gone")
    harness.word(id, d.FAILING, 17)
    harness.word(id, d.BREAKER, 17)
    harness.word(id, d.DIED, 17)
    harness.ask(c.Delete("a"), c.Done)
    assert create(harness).id == id
    assert not harness.endpoint("a").paused
    assert Snapshot.load(d.DataDir(harness.path)).disabled == frozenset()
    assert [harness.word(id, field) for field in (d.FAILING, d.BREAKER, d.DIED)] == [0, 0, 0]


# ---- changing ------------------------------------------------------------------------------


def update(harness: SchedulerHarness, patch: dict[str, Any], name: str = "a") -> Endpoint:
    harness.ask(c.Update(name, patch), c.Subscription)
    return harness.endpoint(name)


def test_a_patch_merges(harness: SchedulerHarness) -> None:
    """RFC 7396: what is not named stays, null takes back to the default, lists are replaced."""
    create(harness, retry={"max_attempts": 3, "jitter": 0.5}, headers={"X-A": "1"}, timeout="9s")
    changed = update(
        harness,
        {
            "retry": {"jitter": None},
            "headers": {"X-B": "2"},
            "timeout": None,
            "events": ["route.*"],
        },
    )
    assert (changed.retry.max_attempts, changed.retry.jitter) == (3, 0.1)
    assert changed.headers == {"X-A": "1", "X-B": "2"}
    assert (changed.timeout, changed.events) == (Duration.parse("3s"), ("route.*",))
    assert changed.secrets == ("sk_1",)


def test_an_empty_patch_changes_nothing(harness: SchedulerHarness) -> None:
    """Nor does one that names the endpoint as it is."""
    create(harness)
    before = harness.endpoint("a")
    assert update(harness, {}) == update(harness, {"name": "a"}) == before


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"name": "b"}, "name"),
        ({"name": None}, "name"),
        ({"url": None}, "url"),
        ({"events": []}, "events"),
        ({"secrets": None}, "signature"),
        ({"secret": None}, "signature"),
        ({"secret": ""}, "secret"),
        ({"secret": 5}, "secret"),
        ({"secret": "x", "secrets": ["y"]}, "secret"),
        ({"retry": {"max_attempts": -1}}, "retry.max_attempts"),
        ({"generate_secret": True}, "generate_secret"),
        ({"tiemout": None, "timeout": "x"}, "timeout"),
    ],
)
def test_a_patch_is_judged_as_a_whole(
    harness: SchedulerHarness, patch: dict[str, Any], path: str
) -> None:
    """The result must be sound; otherwise nothing of the patch is kept."""
    create(harness)
    before = harness.endpoint("a")
    with pytest.raises(ConfigError) as caught:
        update(harness, {"timeout": "9s", **patch})
    assert [problem.path for problem in caught.value.problems] == [path]
    assert harness.endpoint("a") == before
    assert harness.store.subscriptions()[0].layer == LAYER


UNKNOWN: list[Callable[[str], c.Request]] = [
    lambda name: c.Update(name, {}),
    lambda name: c.Delete(name),
    lambda name: c.Pause(name),
    lambda name: c.Resume(name),
    lambda name: c.Rotate(name, None, 0),
    lambda name: c.Test(name, "webhook.test", None),
]


@pytest.mark.parametrize("request_for", UNKNOWN)
def test_an_unknown_name(
    harness: SchedulerHarness, request_for: Callable[[str], c.Request]
) -> None:
    """Says so, and what was meant."""
    create(harness, "billing")
    with pytest.raises(UnknownEndpoint, match=r"no endpoint 'biling' \(did you mean billing\?\)"):
        harness.ask(request_for("biling"), c.Done)
    with pytest.raises(UnknownEndpoint, match=r"no endpoint 'zzzzzz'$"):
        harness.ask(request_for("zzzzzz"), c.Done)


@pytest.mark.parametrize("request_for", [UNKNOWN[0], UNKNOWN[1], UNKNOWN[4]])
def test_the_files_endpoints_are_the_files(
    harness: SchedulerHarness, request_for: Callable[[str], c.Request]
) -> None:
    """They are changed where they stand; the error says where and how."""
    with pytest.raises(Conflict, match=r"stands in the configuration file.*SIGHUP"):
        harness.ask(request_for("file"), c.Done)


# ---- pausing -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["file", "a"])
def test_a_pause_outlives_the_engine(harness: SchedulerHarness, name: str) -> None:
    """Of an endpoint of either kind; a resume ends it, twice is once."""
    create(harness)
    for _ in range(2):
        harness.ask(c.Pause(name), c.Done)
        assert harness.endpoint(name).paused
    harness.reopen()
    assert harness.endpoint(name).paused
    for _ in range(2):
        harness.ask(c.Resume(name), c.Done)
        assert not harness.endpoint(name).paused
    harness.reopen()
    assert not harness.endpoint(name).paused


def test_a_pause_in_the_definition(harness: SchedulerHarness) -> None:
    """Of a subscription it can be ended; of a file's endpoint only there."""
    create(harness, paused=True)
    assert harness.endpoint("a").paused
    harness.ask(c.Resume("a"), c.Done)
    assert not harness.endpoint("a").paused
    harness.supervisor.live.load(Config(endpoints=(msgspec.structs.replace(FILE, paused=True),)))
    with pytest.raises(Conflict, match="paused in the configuration file"):
        harness.ask(c.Resume("file"), c.Done)


# ---- deleting ------------------------------------------------------------------------------


def test_what_waits_for_it_becomes_dead_letters(harness: SchedulerHarness) -> None:
    """With the cause `removed`; its name stays in the statistics, as removed."""
    id = create(harness).id
    for i in range(3):
        harness.fail(harness.fresh(f"evt_{i}", endpoint=id))
    harness.ask(c.Delete("a"), c.Done)
    harness.step()
    assert [(row.cause, row.endpoint) for row in dead_letters(harness.store)] == [
        ("removed", id)
    ] * 3
    stats = read_stats(harness.path).endpoint("a")
    assert (stats.state, stats.dead, stats.pending) == ("removed", 3, 0)
    assert names(harness) == ["file"]
    harness.reopen()
    assert names(harness) == ["file"]


def test_its_successor_gets_nothing_of_what_waited(harness: SchedulerHarness) -> None:
    """The next with the name has to wait until that is put away, be it for a request under way."""
    id = create(harness).id
    for i in range(2):
        harness.fail(harness.fresh(f"evt_{i}", endpoint=id))
    out = harness.sleep_until_due()[0]
    harness.ask(c.Delete("a"), c.Done)
    with pytest.raises(Conflict, match=r"deliveries of it \(2\) are still being put away"):
        create(harness)
    harness.step()
    with pytest.raises(Conflict, match=r"\(1\)"):
        create(harness)
    harness.fail(out)
    assert create(harness).id == id
    assert harness.due() == []
    assert read_stats(harness.path).endpoint("a").dead == 2


def test_it_is_deleted_once(harness: SchedulerHarness) -> None:
    """The second time there is none of that name."""
    create(harness)
    harness.ask(c.Delete("a"), c.Done)
    with pytest.raises(UnknownEndpoint):
        harness.ask(c.Delete("a"), c.Done)


# ---- persistence ---------------------------------------------------------------------------


def test_they_outlive_the_engine(harness: SchedulerHarness) -> None:
    """With ids, changes and secrets."""
    create(harness, "a")
    create(harness, "b", timeout="9s")
    update(harness, {"concurrency": 3}, "b")
    rotate(harness, "b", "sk_2")
    before = Snapshot.load(d.DataDir(harness.path))
    harness.reopen()
    after = Snapshot.load(d.DataDir(harness.path))
    assert (after.config, after.ids, after.created) == (before.config, before.ids, before.created)
    assert after.version > before.version
    assert expire(harness, 25)
    assert harness.endpoint("b").secrets == ("sk_2",)


def test_the_files_endpoint_hides_one_of_the_same_name(
    harness: SchedulerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """As long as it is in the file; what was created is kept, and is back afterwards."""
    id = create(harness).id
    of_file = msgspec.structs.replace(FILE, name="a")
    with caplog.at_level(logging.WARNING):
        harness.reopen(of_file)
    assert "hides" in caplog.text
    assert harness.endpoint("a") == of_file
    snapshot = Snapshot.load(d.DataDir(harness.path))
    assert (snapshot.ids["a"], snapshot.created) == (id, frozenset())
    with pytest.raises(Conflict):
        harness.ask(c.Delete("a"), c.Done)
    harness.supervisor.live.load(Config(endpoints=(FILE,), workers=1))
    assert harness.endpoint("a").url == LAYER["url"]
    assert harness.supervisor.snapshot.created == {"a"}


def test_a_reload_changes_the_defaults_below(harness: SchedulerHarness) -> None:
    """An endpoint that was created takes over new defaults of the file, and keeps its own words."""
    create(harness, timeout="9s")
    defaults = {"timeout": "1s", "concurrency": 5, "headers": {"X-A": "1"}}
    harness.supervisor.live.load(
        Config(endpoints=(FILE,), defaults=defaults, share_default_headers=True, workers=1)
    )
    changed = harness.endpoint("a")
    assert (changed.timeout, changed.concurrency) == (Duration.parse("9s"), 5)
    assert changed.headers == {"X-A": "1"}


# ---- secrets -------------------------------------------------------------------------------


def test_a_rotation_has_both_sign_for_a_while(harness: SchedulerHarness) -> None:
    """The new one first; when the overlap is over it is the only one."""
    create(harness)
    rotated = rotate(harness, hours=24)
    assert rotated.generated
    assert abs(rotated.expires_ns - time.time_ns() - 24 * HOUR) < 60 * S
    assert harness.endpoint("a").secrets == (rotated.secret, "sk_1")
    assert not expire(harness, 23.9)
    assert expire(harness, 24.1)
    assert harness.endpoint("a").secrets == (rotated.secret,)
    assert not expire(harness, 1000)


def test_a_rotation_without_overlap(harness: SchedulerHarness) -> None:
    """The former secret is out at once."""
    create(harness)
    rotate(harness, secret="sk_2", hours=0)
    assert harness.endpoint("a").secrets == ("sk_2",)


def test_a_rotation_never_lengthens_a_secrets_life(harness: SchedulerHarness) -> None:
    """Three at a time, each with its own end: rotating again does not bring an old one back."""
    create(harness)
    rotate(harness, secret="sk_2", hours=1)
    rotate(harness, secret="sk_3", hours=48)
    assert harness.endpoint("a").secrets == ("sk_3", "sk_2", "sk_1")
    assert expire(harness, 2)
    assert harness.endpoint("a").secrets == ("sk_3", "sk_2")
    rotate(harness, secret="sk_4", hours=1)
    assert expire(harness, 2)
    assert harness.endpoint("a").secrets == ("sk_4",)


def test_secrets_written_out_stay(harness: SchedulerHarness) -> None:
    """A client that writes the list again during an overlap means it: nothing of it expires, least of
    all the last one."""
    create(harness)
    rotate(harness, secret="sk_2")
    update(harness, {"secrets": ["sk_1"]})
    assert not expire(harness, 1000)
    assert harness.endpoint("a").secrets == ("sk_1",)


def test_another_change_does_not_stop_the_clock(harness: SchedulerHarness) -> None:
    """A patch of something else leaves the overlap as it is."""
    create(harness)
    rotate(harness, secret="sk_2")
    update(harness, {"timeout": "1s"})
    assert expire(harness, 25)
    assert harness.endpoint("a").secrets == ("sk_2",)


def test_secrets_of_the_defaults_can_be_rotated(tmp_path: Path) -> None:
    """They sign beside the endpoint's own for the overlap, then only that."""
    with SchedulerHarness(tmp_path / "data", defaults={"secrets": ["sk_0"]}) as harness:
        create(harness, secrets=None)
        assert harness.endpoint("a").secrets == ("sk_0",)
        rotate(harness, secret="sk_1")
        assert harness.endpoint("a").secrets == ("sk_1", "sk_0")
        assert expire(harness, 25)
        assert harness.endpoint("a").secrets == ("sk_1",)


@pytest.mark.parametrize(
    ("options", "secret", "hours", "path"),
    [
        ({}, "sk_1", 24, "secret"),
        ({}, "", 24, "secret"),
        ({}, " x", 24, "secret"),
        ({"signature": "standard", "secrets": None, "generate_secret": True}, "x", 24, "secret"),
        ({"signature": "github"}, None, 24, "overlap"),
    ],
)
def test_rotations_that_cannot_be(
    harness: SchedulerHarness, options: dict[str, Any], secret: str | None, hours: int, path: str
) -> None:
    """A secret that is no secret, or the present one; and two signatures where one header is."""
    create(harness, **options)
    before = harness.endpoint("a").secrets
    with pytest.raises(ConfigError) as caught:
        rotate(harness, secret=secret, hours=hours)
    assert [problem.path for problem in caught.value.problems] == [path]
    assert harness.endpoint("a").secrets == before


def test_what_signs_nothing_has_nothing_to_rotate(harness: SchedulerHarness) -> None:
    """A conflict, not a secret that nobody uses; for github one that ends at once is fine."""
    create(harness, signature="none")
    with pytest.raises(Conflict, match="signs nothing"):
        rotate(harness)
    create(harness, "b", signature="github")
    assert rotate(harness, "b", hours=0).secret == harness.endpoint("b").secrets[0]


def test_a_full_disk_does_not_end_the_engine(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A secret that expires then is forgotten once the disk takes it."""
    create(harness)
    rotate(harness, secret="sk_2", hours=0)
    (row,) = harness.store.subscriptions()
    harness.store.save_subscription(
        row._replace(layer={**row.layer, "secrets": ["sk_2", "sk_1"]}, expiring={"sk_1": 1})
    )

    def full(store: object, row: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(DeliveryStore, "save_subscription", full)
        harness.reopen()
        caplog.clear()
        harness.supervisor.housekeep(1e9)
        assert "the disk is full" in caplog.text
        with pytest.raises(StoreError):
            create(harness, "b")
    assert harness.endpoint("a").secrets == ("sk_2", "sk_1")
    assert names(harness) == ["file", "a"]
    harness.supervisor.housekeep(2e9)
    assert harness.endpoint("a").secrets == ("sk_2",)
    create(harness, "b")


def test_a_disk_that_stays_full_is_told_once(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried every second; the log has a line when that begins to fail, and one when it works."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    harness.supervisor.live.stale = True
    with caplog.at_level(logging.INFO, "fluxhook"), monkeypatch.context() as patched:
        patched.setattr(Snapshot, "save", full)
        for second in range(5):
            harness.supervisor.housekeep(1e9 + second)
        (line,) = caplog.messages
        assert "config.json cannot be written: No space left on device; make room" in line
        patched.undo()
        harness.supervisor.housekeep(2e9)
    assert caplog.messages[1:] == ["the endpoints are published again"]


def test_a_snapshot_that_cannot_be_written_is_written_later(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller hears of it; what was stored all the same is in effect within a second of the disk's
    recovery, and the engine goes on."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = harness.supervisor.snapshot
    with monkeypatch.context() as patched:
        patched.setattr(Snapshot, "save", full)
        with pytest.raises(StoreError, match=r"config\.json cannot be written: No space left"):
            create(harness)
        harness.supervisor.housekeep(1e9)
        assert harness.supervisor.snapshot is before
        with pytest.raises(StoreError):
            harness.supervisor.live.load(Config(workers=1))
    harness.supervisor.housekeep(2e9)
    assert names(harness) == ["file", "a"]
    assert harness.supervisor.snapshot.version == before.version + 1


# ---- tests, replays, purges ----------------------------------------------------------------


def test_a_test_event_is_in_the_store_from_the_start(harness: SchedulerHarness) -> None:
    """It goes to the one endpoint, whatever that subscribes to, and is counted like any event."""
    id = create(harness, events=["route.error"]).id
    sent = harness.ask(c.Test("a", "webhook.test", {"hello": 1}), c.TestSent)
    row = harness.store.delivery(sent.delivery_id)
    assert row is not None
    assert (row.state, row.type, row.event_id) == (State.WAITING, "webhook.test", sent.event_id)
    assert b'"data":{"hello":1}' in (harness.store.body(row.id) or b"")
    (delivery,) = harness.due()
    assert (delivery.id, delivery.endpoint) == (row.id, id)
    harness.reporter.report(delivery, "delivered", "delivered")
    harness.step()
    stats = read_stats(harness.path).endpoint("a")
    assert (stats.accepted, stats.delivered, stats.balance) == (1, 1, 0)
    assert [row.state for row in deliveries(harness.store)] == [State.DELIVERED]


@pytest.mark.parametrize(("pause", "word"), [(True, "paused"), (False, "disabled")])
def test_a_test_needs_an_endpoint_that_is_at_work(
    harness: SchedulerHarness, pause: bool, word: str
) -> None:
    """A user who tests wants an answer now."""
    id = create(harness).id
    if pause:
        harness.ask(c.Pause("a"), c.Done)
    else:
        harness.store.disable_endpoint(id, 1, "gone")
        harness.supervisor.live.publish()
    with pytest.raises(Conflict, match=f"'a' is {word}; resume it first"):
        harness.ask(c.Test("a", "webhook.test", None), c.TestSent)
    harness.ask(c.Resume("a"), c.Done)
    harness.ask(c.Test("a", "webhook.test", None), c.TestSent)


def make_dead_letters(harness: SchedulerHarness, n: int) -> list[int]:
    for i in range(n):
        harness.fail(harness.fresh(f"evt_{i}"), "dead")
    return [row.id for row in dead_letters(harness.store)][::-1]


def test_a_dead_letter_is_replayed_once(harness: SchedulerHarness) -> None:
    """However often it is named; what is not dead is passed over."""
    ids = make_dead_letters(harness, 3)
    assert harness.ask(c.Replay([ids[0], ids[0], ids[1], 12345]), c.Done).count == 2
    assert harness.ask(c.Replay(ids[:2]), c.Done).count == 0
    assert {delivery.id for delivery in harness.due()} == set(ids[:2])
    assert harness.word(0, d.STORED) == 2
    assert read_stats(harness.path).endpoint("file").dead == 1


def test_the_trail_is_written_before_anything_is_erased(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A purge whose trail cannot be written erases nothing; one line for each, however often it is
    named."""
    ids = make_dead_letters(harness, 3)
    trail = harness.scheduler.retention.trail
    lines: list[str] = []

    def fails(entries: object) -> None:
        raise StoreError("no room for the trail")

    def append(entries: Any) -> None:
        assert len(dead_letters(harness.store)) == 3  # all of them are still there
        lines.extend(entry.event_id for entry in entries)

    monkeypatch.setattr(trail, "append", fails)
    with pytest.raises(StoreError):
        harness.ask(c.Purge(ids), c.Done)
    assert len(dead_letters(harness.store)) == 3
    monkeypatch.setattr(trail, "append", append)
    assert harness.ask(c.Purge([ids[0], ids[0], ids[1]]), c.Done).count == 2
    assert lines == ["evt_0", "evt_1"]
    assert [row.id for row in dead_letters(harness.store)] == ids[2:]
    assert harness.store.counters()[0]["dropped.purged"] == 2
