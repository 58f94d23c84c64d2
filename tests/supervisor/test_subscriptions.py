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
from fluxhook.store import State, StoreError
from fluxhook.transport import datadir as d
from fluxhook.transport.snapshot import Snapshot
from support.scheduler_harness import HOUR, Desk, S

LAYER = {"url": "https://a.example/", "events": ["*"], "secrets": ["sk_1"]}
FILE = Endpoint(name="file", url="https://file.example/", secrets=("sk_f",))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk(tmp_path / "data", FILE) as desk:
        yield desk


def create(desk: Desk, name: str = "a", **options: Any) -> c.Subscription:
    layer = {k: v for k, v in {"name": name, **LAYER, **options}.items() if v is not None}
    return desk.ask(c.Create(layer), c.Subscription)


def names(desk: Desk) -> list[str]:
    return [e.name for e in Snapshot.load(d.DataDir(desk.path)).config.endpoints]


def rotate(desk: Desk, name: str = "a", secret: str | None = None, hours: int = 24) -> c.Rotated:
    return desk.ask(c.Rotate(name, secret, hours * HOUR), c.Rotated)


def expire(desk: Desk, hours: float) -> bool:
    """Lets the clock be so much later."""
    changed = desk.supervisor._subscriptions.expire(time.time_ns() + int(hours * HOUR))
    desk.supervisor._republish()
    return changed


# ---- creating ------------------------------------------------------------------------------


def test_what_was_created_is_what_every_process_reads(desk: Desk) -> None:
    """The snapshot has it, with an id of its own, when the request is answered."""
    made = create(desk)
    snapshot = Snapshot.load(d.DataDir(desk.path))
    assert names(desk) == ["file", "a"]
    assert snapshot.ids == {"file": 0, "a": made.id}
    assert snapshot.created == {"a"}
    assert (made.secret, made.notices) == (None, [])


def test_what_its_owner_should_know(desk: Desk) -> None:
    """Notices come back, with the fields' paths."""
    assert create(desk, events=["route.eror"]).notices == [
        "events[0]: no known event type matches 'route.eror' (did you mean route.error?); "
        "if the host emits it, list its type under event_types"
    ]


def test_names_are_made_of_the_host(desk: Desk) -> None:
    """And numbered, file endpoints counted too."""
    made = [desk.ask(c.Create(LAYER), c.Subscription).name for _ in range(3)]
    assert made == ["a.example", "a.example-2", "a.example-3"]
    assert desk.ask(c.Create({**LAYER, "url": "https://file/"}), c.Subscription).name == "file-2"


@pytest.mark.parametrize("taken", ["file", "a"])
def test_a_name_is_given_once(desk: Desk, taken: str) -> None:
    """Whoever has it, the file or another subscription."""
    create(desk)
    with pytest.raises(Conflict, match=f"'{taken}' already; choose another name"):
        create(desk, taken)
    assert names(desk) == ["file", "a"]


@pytest.mark.parametrize("name", ["status", "wh_3", "a b", "", 17, ["x"], {"x": 1}])
def test_names_that_cannot_be(desk: Desk, name: Any) -> None:
    """A problem of the field, whatever stands there; nothing is kept."""
    with pytest.raises(ConfigError) as caught:
        create(desk, name)
    assert [problem.path for problem in caught.value.problems] == ["name"]
    assert names(desk) == ["file"]
    assert desk.store.subscriptions() == []


def test_what_is_refused_leaves_no_trace(desk: Desk) -> None:
    """All problems in one answer, and neither a row nor a name that is used up."""
    version = desk.supervisor.snapshot.version
    with pytest.raises(ConfigError) as caught:
        create(desk, url="ftp://x", retry={"max_attempts": 0}, where=["?"])
    assert {p.path for p in caught.value.problems} == {"url", "retry.max_attempts", "where[0]"}
    assert [row.name for row in desk.store.endpoints()] == ["file"]
    assert desk.supervisor.snapshot.version == version


@pytest.mark.parametrize("signature", ["fluxgate", "standard", "stripe", "github"])
def test_a_secret_can_be_made(desk: Desk, signature: str) -> None:
    """It is told once, in the answer, and signs."""
    made = create(desk, secrets=None, generate_secret=True, signature=signature)
    assert made.secret
    assert desk.endpoint("a").secrets == (made.secret,)


def test_a_secret_is_made_for_the_profile_of_the_defaults(tmp_path: Path) -> None:
    """An engine whose defaults say `standard` makes whsec_ secrets."""
    with Desk(tmp_path / "data", defaults={"signature": "standard"}) as desk:
        assert (create(desk, secrets=None, generate_secret=True).secret or "").startswith("whsec_")


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
    desk: Desk, options: dict[str, Any], path: str
) -> None:
    """One secret, a list of them, or one to be made; not two of these."""
    with pytest.raises(ConfigError) as caught:
        create(desk, **options)
    assert caught.value.problems[0].path == path


def test_there_is_room_for_so_many(tmp_path: Path) -> None:
    """`max_endpoints` counts every name that was ever used; one that was deleted can come back."""
    with Desk(tmp_path / "data", FILE, max_endpoints=3) as desk:
        create(desk, "a")
        create(desk, "b")
        with pytest.raises(Conflict, match="room for 3 names"):
            create(desk, "c")
        desk.ask(c.Delete("a"), c.Done)
        with pytest.raises(Conflict, match="give the name of one that was deleted"):
            create(desk, "c")
        assert create(desk, "a").id == 1


def test_what_comes_back_under_a_name_begins_anew(desk: Desk) -> None:
    """A pause, a 410 and failures of one that was deleted do not bind its successor of that name."""
    id = create(desk).id
    desk.ask(c.Pause("a"), c.Done)
    desk.store.disable_endpoint(id, 1, "gone")
    desk.word(id, d.FAILING, 17)
    desk.word(id, d.BREAKER, 17)
    desk.ask(c.Delete("a"), c.Done)
    assert create(desk).id == id
    assert not desk.endpoint("a").paused
    assert Snapshot.load(d.DataDir(desk.path)).disabled == frozenset()
    assert (desk.word(id, d.FAILING), desk.word(id, d.BREAKER)) == (0, 0)


# ---- changing ------------------------------------------------------------------------------


def update(desk: Desk, patch: dict[str, Any], name: str = "a") -> Endpoint:
    desk.ask(c.Update(name, patch), c.Subscription)
    return desk.endpoint(name)


def test_a_patch_merges(desk: Desk) -> None:
    """RFC 7396: what is not named stays, null takes back to the default, lists are replaced."""
    create(desk, retry={"max_attempts": 3, "jitter": 0.5}, headers={"X-A": "1"}, timeout="9s")
    changed = update(
        desk,
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


def test_an_empty_patch_changes_nothing(desk: Desk) -> None:
    """Nor does one that names the endpoint as it is."""
    create(desk)
    before = desk.endpoint("a")
    assert update(desk, {}) == update(desk, {"name": "a"}) == before


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
def test_a_patch_is_judged_as_a_whole(desk: Desk, patch: dict[str, Any], path: str) -> None:
    """What comes out must be sound; otherwise nothing of the patch is kept."""
    create(desk)
    before = desk.endpoint("a")
    with pytest.raises(ConfigError) as caught:
        update(desk, {"timeout": "9s", **patch})
    assert [problem.path for problem in caught.value.problems] == [path]
    assert desk.endpoint("a") == before
    assert desk.store.subscriptions()[0].layer == LAYER


UNKNOWN: list[Callable[[str], c.Request]] = [
    lambda name: c.Update(name, {}),
    lambda name: c.Delete(name),
    lambda name: c.Pause(name),
    lambda name: c.Resume(name),
    lambda name: c.Rotate(name, None, 0),
    lambda name: c.Test(name, "webhook.test", None),
]


@pytest.mark.parametrize("request_for", UNKNOWN)
def test_an_unknown_name(desk: Desk, request_for: Callable[[str], c.Request]) -> None:
    """Says so, and what was meant."""
    create(desk, "billing")
    with pytest.raises(UnknownEndpoint, match=r"no endpoint 'biling' \(did you mean billing\?\)"):
        desk.ask(request_for("biling"), c.Done)
    with pytest.raises(UnknownEndpoint, match=r"no endpoint 'zzzzzz'$"):
        desk.ask(request_for("zzzzzz"), c.Done)


@pytest.mark.parametrize("request_for", [UNKNOWN[0], UNKNOWN[1], UNKNOWN[4]])
def test_the_files_endpoints_are_the_files(
    desk: Desk, request_for: Callable[[str], c.Request]
) -> None:
    """They are changed where they stand; the error says where and how."""
    with pytest.raises(Conflict, match=r"stands in the configuration file.*SIGHUP"):
        desk.ask(request_for("file"), c.Done)


# ---- pausing -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["file", "a"])
def test_a_pause_outlives_the_engine(desk: Desk, name: str) -> None:
    """Of an endpoint of either kind; a resume ends it, twice is once."""
    create(desk)
    for _ in range(2):
        desk.ask(c.Pause(name), c.Done)
        assert desk.endpoint(name).paused
    desk.reopen()
    assert desk.endpoint(name).paused
    for _ in range(2):
        desk.ask(c.Resume(name), c.Done)
        assert not desk.endpoint(name).paused
    desk.reopen()
    assert not desk.endpoint(name).paused


def test_a_pause_in_the_definition(desk: Desk) -> None:
    """Of a subscription it can be ended; of a file's endpoint only there."""
    create(desk, paused=True)
    assert desk.endpoint("a").paused
    desk.ask(c.Resume("a"), c.Done)
    assert not desk.endpoint("a").paused
    desk.supervisor.publish(Config(endpoints=(msgspec.structs.replace(FILE, paused=True),)))
    with pytest.raises(Conflict, match="paused in the configuration file"):
        desk.ask(c.Resume("file"), c.Done)


# ---- deleting ------------------------------------------------------------------------------


def test_what_waits_for_it_becomes_dead_letters(desk: Desk) -> None:
    """With the cause `removed`; its name stays in the statistics, as removed."""
    id = create(desk).id
    for i in range(3):
        desk.fail(desk.fresh(f"evt_{i}", endpoint=id))
    desk.ask(c.Delete("a"), c.Done)
    desk.step()
    assert [(row.cause, row.endpoint) for row in desk.store.dead_letters()] == [("removed", id)] * 3
    stats = read_stats(desk.path).endpoint("a")
    assert (stats.state, stats.dead, stats.pending) == ("removed", 3, 0)
    assert names(desk) == ["file"]
    desk.reopen()
    assert names(desk) == ["file"]


def test_its_successor_gets_nothing_of_what_waited(desk: Desk) -> None:
    """Whoever takes the name has to wait until that is put away, be it for a request under way."""
    id = create(desk).id
    for i in range(2):
        desk.fail(desk.fresh(f"evt_{i}", endpoint=id))
    out = desk.sleep_until_due()[0]
    desk.ask(c.Delete("a"), c.Done)
    with pytest.raises(Conflict, match=r"deliveries of it \(2\) are still being put away"):
        create(desk)
    desk.step()
    with pytest.raises(Conflict, match=r"\(1\)"):
        create(desk)
    desk.fail(out)
    assert create(desk).id == id
    assert desk.due() == []
    assert read_stats(desk.path).endpoint("a").dead == 2


def test_it_is_deleted_once(desk: Desk) -> None:
    """The second time there is none of that name."""
    create(desk)
    desk.ask(c.Delete("a"), c.Done)
    with pytest.raises(UnknownEndpoint):
        desk.ask(c.Delete("a"), c.Done)


# ---- persistence ---------------------------------------------------------------------------


def test_they_outlive_the_engine(desk: Desk) -> None:
    """With ids, changes and secrets."""
    create(desk, "a")
    create(desk, "b", timeout="9s")
    update(desk, {"concurrency": 3}, "b")
    rotate(desk, "b", "sk_2")
    before = Snapshot.load(d.DataDir(desk.path))
    desk.reopen()
    after = Snapshot.load(d.DataDir(desk.path))
    assert (after.config, after.ids, after.created) == (before.config, before.ids, before.created)
    assert after.version > before.version
    assert expire(desk, 25)
    assert desk.endpoint("b").secrets == ("sk_2",)


def test_the_files_endpoint_hides_one_of_the_same_name(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """As long as it is in the file; what was created is kept, and is back afterwards."""
    id = create(desk).id
    of_file = msgspec.structs.replace(FILE, name="a")
    with caplog.at_level(logging.WARNING):
        desk.reopen(of_file)
    assert "hides" in caplog.text
    assert desk.endpoint("a") == of_file
    snapshot = Snapshot.load(d.DataDir(desk.path))
    assert (snapshot.ids["a"], snapshot.created) == (id, frozenset())
    with pytest.raises(Conflict):
        desk.ask(c.Delete("a"), c.Done)
    desk.supervisor.publish(Config(endpoints=(FILE,), workers=1))
    assert desk.endpoint("a").url == LAYER["url"]
    assert desk.supervisor.snapshot.created == {"a"}


def test_a_reload_changes_the_defaults_below(desk: Desk) -> None:
    """What was created takes over new defaults of the file, and keeps its own words."""
    create(desk, timeout="9s")
    defaults = {"timeout": "1s", "concurrency": 5, "headers": {"X-A": "1"}}
    desk.supervisor.publish(
        Config(endpoints=(FILE,), defaults=defaults, share_default_headers=True, workers=1)
    )
    changed = desk.endpoint("a")
    assert (changed.timeout, changed.concurrency) == (Duration.parse("9s"), 5)
    assert changed.headers == {"X-A": "1"}


# ---- secrets -------------------------------------------------------------------------------


def test_a_rotation_has_both_sign_for_a_while(desk: Desk) -> None:
    """The new one first; when the overlap is over it is the only one."""
    create(desk)
    rotated = rotate(desk, hours=24)
    assert rotated.generated
    assert abs(rotated.expires_ns - time.time_ns() - 24 * HOUR) < 60 * S
    assert desk.endpoint("a").secrets == (rotated.secret, "sk_1")
    assert not expire(desk, 23.9)
    assert expire(desk, 24.1)
    assert desk.endpoint("a").secrets == (rotated.secret,)
    assert not expire(desk, 1000)


def test_a_rotation_without_overlap(desk: Desk) -> None:
    """The former secret is out at once."""
    create(desk)
    rotate(desk, secret="sk_2", hours=0)
    assert desk.endpoint("a").secrets == ("sk_2",)


def test_a_rotation_never_lengthens_a_secrets_life(desk: Desk) -> None:
    """Three at a time, each with its own end: rotating again does not bring an old one back."""
    create(desk)
    rotate(desk, secret="sk_2", hours=1)
    rotate(desk, secret="sk_3", hours=48)
    assert desk.endpoint("a").secrets == ("sk_3", "sk_2", "sk_1")
    assert expire(desk, 2)
    assert desk.endpoint("a").secrets == ("sk_3", "sk_2")
    rotate(desk, secret="sk_4", hours=1)
    assert expire(desk, 2)
    assert desk.endpoint("a").secrets == ("sk_4",)


def test_secrets_written_out_stay(desk: Desk) -> None:
    """Whoever writes the list anew during an overlap means it: nothing of it expires, least of all
    the last one."""
    create(desk)
    rotate(desk, secret="sk_2")
    update(desk, {"secrets": ["sk_1"]})
    assert not expire(desk, 1000)
    assert desk.endpoint("a").secrets == ("sk_1",)


def test_another_change_does_not_stop_the_clock(desk: Desk) -> None:
    """A patch of something else leaves the overlap as it is."""
    create(desk)
    rotate(desk, secret="sk_2")
    update(desk, {"timeout": "1s"})
    assert expire(desk, 25)
    assert desk.endpoint("a").secrets == ("sk_2",)


def test_secrets_of_the_defaults_can_be_rotated(tmp_path: Path) -> None:
    """They sign beside the endpoint's own for the overlap, then only that."""
    with Desk(tmp_path / "data", defaults={"secrets": ["sk_0"]}) as desk:
        create(desk, secrets=None)
        assert desk.endpoint("a").secrets == ("sk_0",)
        rotate(desk, secret="sk_1")
        assert desk.endpoint("a").secrets == ("sk_1", "sk_0")
        assert expire(desk, 25)
        assert desk.endpoint("a").secrets == ("sk_1",)


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
    desk: Desk, options: dict[str, Any], secret: str | None, hours: int, path: str
) -> None:
    """A secret that is no secret, or the present one; and two signatures where one header is."""
    create(desk, **options)
    before = desk.endpoint("a").secrets
    with pytest.raises(ConfigError) as caught:
        rotate(desk, secret=secret, hours=hours)
    assert [problem.path for problem in caught.value.problems] == [path]
    assert desk.endpoint("a").secrets == before


def test_what_signs_nothing_has_nothing_to_rotate(desk: Desk) -> None:
    """A conflict, not a secret that nobody uses; for github one that ends at once is fine."""
    create(desk, signature="none")
    with pytest.raises(Conflict, match="signs nothing"):
        rotate(desk)
    create(desk, "b", signature="github")
    assert rotate(desk, "b", hours=0).secret == desk.endpoint("b").secrets[0]


def test_a_full_disk_does_not_end_the_engine(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A secret that expires then is forgotten once the disk takes it."""
    create(desk)
    rotate(desk, secret="sk_2", hours=0)
    row = desk.supervisor._subscriptions._rows["a"]
    desk.supervisor._subscriptions._save(
        row._replace(layer={**row.layer, "secrets": ["sk_2", "sk_1"]}, expiring={"sk_1": 1})
    )
    desk.supervisor._republish()

    def full(row: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(desk.store, "save_subscription", full)
        desk.supervisor._housekeep(1e9)
        assert "the disk is full" in caplog.text
        with pytest.raises(StoreError):
            create(desk, "b")
    assert desk.endpoint("a").secrets == ("sk_2", "sk_1")
    assert names(desk) == ["file", "a"]
    desk.supervisor._housekeep(2e9)
    assert desk.endpoint("a").secrets == ("sk_2",)
    create(desk, "b")


def test_a_snapshot_that_cannot_be_written_is_written_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller hears of it; what was stored all the same is in effect within a second of the disk's
    recovery, and the engine goes on."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = desk.supervisor.snapshot
    with monkeypatch.context() as patched:
        patched.setattr(Snapshot, "save", full)
        with pytest.raises(StoreError, match=r"config\.json cannot be written: No space left"):
            create(desk)
        desk.supervisor._housekeep(1e9)
        assert desk.supervisor.snapshot is before
        with pytest.raises(StoreError):
            desk.supervisor.publish(Config(workers=1))
    desk.supervisor._housekeep(2e9)
    assert names(desk) == ["file", "a"]
    assert desk.supervisor.snapshot.version == before.version + 1


# ---- tests, replays, purges ----------------------------------------------------------------


def test_a_test_event_is_in_the_store_from_the_start(desk: Desk) -> None:
    """It goes to the one endpoint, whatever that subscribes to, and is counted like any event."""
    id = create(desk, events=["route.error"]).id
    sent = desk.ask(c.Test("a", "webhook.test", {"hello": 1}), c.TestSent)
    row = desk.store.delivery(sent.delivery_id)
    assert row is not None
    assert (row.state, row.type, row.event_id) == (State.WAITING, "webhook.test", sent.event_id)
    assert b'"data":{"hello":1}' in (desk.store.body(row.id) or b"")
    (delivery,) = desk.due()
    assert (delivery.id, delivery.endpoint) == (row.id, id)
    desk.reporter.report(delivery, "delivered", "delivered")
    desk.step()
    stats = read_stats(desk.path).endpoint("a")
    assert (stats.accepted, stats.delivered, stats.balance) == (1, 1, 0)
    assert [row.state for row in desk.store.deliveries()] == [State.DELIVERED]


@pytest.mark.parametrize(("pause", "word"), [(True, "paused"), (False, "disabled")])
def test_a_test_needs_an_endpoint_that_is_at_work(desk: Desk, pause: bool, word: str) -> None:
    """Whoever tests wants an answer now."""
    id = create(desk).id
    if pause:
        desk.ask(c.Pause("a"), c.Done)
    else:
        desk.store.disable_endpoint(id, 1, "gone")
        desk.supervisor._republish()
    with pytest.raises(Conflict, match=f"'a' is {word}; resume it first"):
        desk.ask(c.Test("a", "webhook.test", None), c.TestSent)
    desk.ask(c.Resume("a"), c.Done)
    desk.ask(c.Test("a", "webhook.test", None), c.TestSent)


def dead_letters(desk: Desk, n: int) -> list[int]:
    for i in range(n):
        desk.fail(desk.fresh(f"evt_{i}"), "dead")
    return [row.id for row in desk.store.dead_letters()][::-1]


def test_a_dead_letter_is_replayed_once(desk: Desk) -> None:
    """However often it is named; what is not dead is passed over."""
    ids = dead_letters(desk, 3)
    assert desk.ask(c.Replay([ids[0], ids[0], ids[1], 12345]), c.Done).count == 2
    assert desk.ask(c.Replay(ids[:2]), c.Done).count == 0
    assert {delivery.id for delivery in desk.due()} == set(ids[:2])
    assert desk.word(0, d.STORED) == 2
    assert read_stats(desk.path).endpoint("file").dead == 1


def test_the_trail_is_written_before_anything_is_erased(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A purge whose trail cannot be written erases nothing; one line for each, however often it is
    named."""
    ids = dead_letters(desk, 3)
    trail = desk.keeper._retention._trail
    lines: list[str] = []

    def fails(entries: object) -> None:
        raise StoreError("no room for the trail")

    def append(entries: Any) -> None:
        assert len(desk.store.dead_letters()) == 3  # all of them are still there
        lines.extend(entry.event_id for entry in entries)

    monkeypatch.setattr(trail, "append", fails)
    with pytest.raises(StoreError):
        desk.ask(c.Purge(ids), c.Done)
    assert len(desk.store.dead_letters()) == 3
    monkeypatch.setattr(trail, "append", append)
    assert desk.ask(c.Purge([ids[0], ids[0], ids[1]]), c.Done).count == 2
    assert lines == ["evt_0", "evt_1"]
    assert [row.id for row in desk.store.dead_letters()] == ids[2:]
    assert desk.store.counters()[0]["dropped.purged"] == 2
