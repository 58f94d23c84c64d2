"""The wall clock is set while an engine waits, or while it does not run: nobody waits for that.

What each of these would do by the wall clock is to wait for an hour, or to be given up at once.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fluxhook import Aggregate, Batch, Breaker, Config, Duration, Endpoint, Rate, Retry
from fluxhook._native import ring
from fluxhook.admin.views import delivery_view
from fluxhook.control import Control
from fluxhook.endpoint_state import EndpointState
from fluxhook.policy import breaker
from fluxhook.policy.clock import Clock, look
from fluxhook.receiver import Behaviour
from fluxhook.stats import EndpointStats, read_stats
from fluxhook.store import ReadStore, State, StoreError, queries
from fluxhook.store.audit import timestamp
from fluxhook.store.queries import DeliveryFilter
from fluxhook.store.rows import DeliveryRow
from fluxhook.supervisor import clock_watch
from fluxhook.supervisor.supervisor import HOUSEKEEPING_S
from fluxhook.transport import datadir as d
from fluxhook.transport.engine_clock import read_clocks
from support.clock import Host, WallClock
from support.receiver import ReceiverProcess
from support.rig import NEVER, seconds
from support.rig import until as until
from support.scheduler_harness import HOUR, S, SchedulerHarness
from support.store_rows import dead_letters, deliveries

FAILS = Behaviour(fail_rate=1.0, fail_status=503)
FINE = Behaviour()
#: of the steps that are tested, which no test could wait for
BACK_S, FORWARD_S = -3600.0, 25 * 3600.0
#: long enough to set the clock meanwhile
SOON = seconds(3)
OPENS = Breaker(failure_threshold=1, reset_timeout=SOON)
#: for what takes SOON, on a machine that is busy; far below the steps
DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> WallClock:
    return WallClock(tmp_path_factory.mktemp("clock"))


@pytest.fixture
def wall(shim: WallClock) -> WallClock:
    """A clock that is right to begin with."""
    shim.step(-shim.offset_s)
    return shim


class World:
    """An engine's host, under a clock that may be set, with an endpoint for each kind of wait."""

    def __init__(self, data_dir: Path, wall: WallClock, receiver: ReceiverProcess) -> None:
        self.data_dir, self.wall, self.receiver = data_dir, wall, receiver
        self.config = Config(
            workers=1,
            allow_networks=("127.0.0.0/8",),
            endpoints=(
                self._endpoint("retry"),
                self._endpoint("order", ordered=True, on_head_failure="block"),
                self._endpoint(
                    "breaker", circuit_breaker=Breaker(failure_threshold=1, reset_timeout=SOON)
                ),
                self._endpoint("window", aggregate=Aggregate(window=SOON, types=("a.window",))),
                self._endpoint("batch", batch=Batch(max_events=100, max_delay=SOON)),
                self._endpoint("rate", rate_limit=Rate.parse("2/s")),
                self._endpoint("young", ttl=seconds(60)),
                self._endpoint("old", ttl=seconds(2)),
                self._endpoint("paused", paused=True),
                self._endpoint("dead", retry=Retry(max_attempts=1)),
            ),
        )
        self.host = Host(data_dir, wall, self.config)

    def _endpoint(self, name: str, **options: Any) -> Endpoint:
        retry = Retry(max_attempts=10, initial_interval=SOON, multiplier=1.0)
        options = {"circuit_breaker": NEVER, "retry": retry} | options
        return Endpoint(
            name=name,
            url=f"{self.receiver.url}/{name}",
            events=(f"a.{name}",),
            signature="none",
            **options,
        )

    def fail(self, *names: str) -> None:
        """One event for each, whose first attempt fails; all that follow would succeed."""
        for name in names:
            self.receiver.behave(FAILS, f"/{name}")
            assert self.host.emit(f"a.{name}") == 1
        until(lambda: all(self.stats(name).failed_attempts for name in names))
        until(lambda: all(self.stats(name).stored for name in names))
        for name in names:
            self.receiver.behave(FINE, f"/{name}")

    def stats(self, name: str) -> EndpointStats:
        return read_stats(self.data_dir).endpoint(name)

    def notices_the_step(self, steps: int) -> None:
        """Wait until the engine has seen the wall clock set that many times."""
        until(lambda: len(self._clock().offsets) == steps + 1)

    def _clock(self) -> Clock:
        with ReadStore.open(self.data_dir / "store.db") as store:
            return store.clock()


@pytest.fixture
def world(tmp_path: Path, wall: WallClock, receiver: ReceiverProcess) -> Iterator[World]:
    world = World(tmp_path / "data", wall, receiver)
    try:
        yield world
    finally:
        world.host.close()


@pytest.mark.parametrize("step_s", [BACK_S, FORWARD_S])
def test_whatever_waits_goes_on_in_its_time(world: World, step_s: float) -> None:
    """Stored retries, a line in order, an open breaker, a window, a batch and a rate limit go on
    within seconds, an event is as old as the time that it waited, and a secret that was rotated signs
    for the time that was said."""
    control = Control(world.data_dir)
    control.create(
        {"name": "secret", "url": f"{world.receiver.url}/secret", "events": ["a.secret"],
         "secrets": ["sk_first_secret"]}
    )  # fmt: skip
    control.rotate_secret("secret", "sk_second_secret", SOON)
    world.receiver.behave(FAILS, "/old")
    world.fail("retry", "order", "breaker", "young")
    for name in ("window", "batch", "old"):
        assert world.host.emit(f"a.{name}") == 1
    for _ in range(4):
        world.host.emit("a.rate")
    world.wall.step(step_s)
    for n in range(1, 3):
        world.host.emit("a.order", {"n": n})
        world.host.emit("a.rate")
        world.host.emit("a.retry")
    world.host.emit("a.breaker")
    for name, count in {
        "retry": 3, "order": 3, "breaker": 2, "window": 1, "batch": 1, "rate": 6, "young": 1,
    }.items():  # fmt: skip
        world.receiver.wait_for(count, f"/{name}", DEADLINE_S)
    until(lambda: world.stats("old").dropped == {"expired": 1})
    bodies = [json.loads(r.body) for r in world.receiver.requests("/order") if r.status < 300]
    assert [(b.get("data") or {}).get("n", 0) for b in bodies] == [0, 1, 2]

    def signatures() -> int:
        world.host.emit("a.secret")
        until(lambda: len(world.receiver.requests("/secret")) > seen[0])
        requests = world.receiver.requests("/secret")
        seen[0] = len(requests)
        (name,) = (name for name in requests[-1].headers if name.endswith("-signature"))
        return len(requests[-1].headers[name].replace(",", " ").split("v1")) - 1

    seen = [0]
    until(lambda: signatures() == 1)
    assert not any(
        sum(e.dropped.values()) for e in read_stats(world.data_dir).endpoints if e.name != "old"
    )


def test_a_step_forward_makes_nothing_too_old(world: World) -> None:
    """By more than the retention: what is pending stays so, a dead letter can be replayed, and what
    waits longer than its ttl by the wall clock alone is delivered."""
    world.receiver.behave(FAILS, "/dead")
    world.host.emit("a.dead")
    world.host.emit("a.paused")
    world.fail("young", "retry")
    until(lambda: world.stats("dead").dead == 1 and world.stats("paused").stored == 1)
    world.wall.step(FORWARD_S)
    world.notices_the_step(1)
    # The retention is looked at each second, and these take longer.
    for name in ("young", "retry"):
        world.receiver.wait_for(1, f"/{name}", DEADLINE_S)
    found = {name: world.stats(name) for name in ("dead", "paused", "young", "retry")}
    assert found["dead"].dead == 1
    assert found["paused"].pending == 1
    assert not any(sum(one.dropped.values()) for one in found.values())


@pytest.mark.parametrize("step_s", [BACK_S, FORWARD_S])
def test_the_clock_is_set_while_no_engine_runs(world: World, step_s: float) -> None:
    """The next engine knows by the boot how much time has passed, killed or not; what hosts emitted
    meanwhile is as old as it is."""
    world.fail("retry", "young", "breaker")
    world.host.emit("a.paused")
    world.host.emit("a.window")
    until(lambda: world.stats("paused").stored == 1 and world.stats("window").stored == 1)
    world.host.kill()
    with Host(world.data_dir, world.wall) as alone:
        alone.emit("a.young")
        world.wall.step(step_s)
        alone.emit("a.young")
    world.host = Host(world.data_dir, world.wall, world.config)
    for name, count in {"retry": 1, "young": 3, "breaker": 1, "window": 1}.items():
        world.receiver.wait_for(count, f"/{name}", DEADLINE_S)
    assert world.stats("paused").pending == 1


def test_what_others_see_is_wall_time(world: World) -> None:
    """A signature is dated by the clock as it is set, at once, since a receiver compares it with its
    own; a retry by what the clock will show when it is due."""
    Control(world.data_dir).create(
        {"name": "signed", "url": f"{world.receiver.url}/signed", "events": ["a.signed"],
         "signature": "standard", "generate_secret": True}
    )  # fmt: skip
    world.wall.step(BACK_S)
    world.host.emit("a.signed")
    world.receiver.wait_for(1, "/signed", DEADLINE_S)
    (request,) = world.receiver.requests("/signed")
    assert abs(int(request.headers["webhook-timestamp"]) - (time.time() + BACK_S)) < 60
    world.notices_the_step(1)
    world.fail("retry")
    due_ns = world.stats("retry").next_retry_ns
    assert due_ns is None or abs(due_ns / 1e9 - (time.time() + BACK_S)) < 60


# ---- over a boot, which no test can have: a supervisor whose worker is the test ----------------


class Machine:
    """Boots, with its clock set to another time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self._boots = 0

    def boot(self, harness: SchedulerHarness, step_ns: int) -> None:
        """The next engine on the data directory runs in another boot."""
        harness.close()
        self._boots += 1
        boot_id = self._boots.to_bytes(16, "big")
        self._patch.setattr(d, "boot_id", lambda: boot_id)

        def read() -> tuple[int, int]:
            boot_ns, wall_ns = read_clocks()
            return boot_ns, wall_ns + step_ns

        self._patch.setattr(clock_watch, "read_clocks", read)
        harness.open()
        harness.now_ns = harness.supervisor.clock.now_ns()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def desk_of(path: Path, **options: Any) -> SchedulerHarness:
    """An engine at the present time, with an endpoint and one that is paused."""
    options_of: dict[str, Any] = {"url": "http://127.0.0.1:1/", "signature": "none"}
    endpoints = (
        Endpoint(name="a", **options_of),
        Endpoint(name="paused", paused=True, **options_of),
    )
    harness = SchedulerHarness(path / "data", *endpoints, **options)
    harness.now_ns = harness.supervisor.clock.now_ns()
    return harness


def park(harness: SchedulerHarness, event_id: str) -> None:
    """An event for the paused endpoint."""
    harness.reporter.report(harness.fresh(event_id, endpoint=1), "parked", "paused")
    harness.step()


def pending(harness: SchedulerHarness) -> list[DeliveryRow]:
    """The oldest first."""
    return deliveries(harness.store, state=State.WAITING)[::-1]


def test_a_boot_into_the_past_holds_nothing_up(tmp_path: Path, machine: Machine) -> None:
    """The engine's time goes on from when it was last seen; new deliveries come behind the others."""
    with desk_of(tmp_path) as harness:
        harness.first_failure("1")
        (before,) = pending(harness)
        wait_ns = before.due_ns - harness.now_ns
        machine.boot(harness, -50 * 365 * 24 * HOUR)
        assert before.due_ns - harness.now_ns <= wait_ns
        harness.first_failure("2")
        rows = pending(harness)
        assert [row.event_id for row in rows] == ["1", "2"]
        harness.now_ns = max(row.due_ns for row in rows)
        assert {delivery.id for delivery in harness.due()} == {row.id for row in rows}


def test_a_boot_into_the_future_gives_up_nothing_at_once(tmp_path: Path, machine: Machine) -> None:
    """It may be that much later, or the clock may be wrong: for an hour what is pending can be
    attempted, and a dead letter looked at and replayed."""
    with desk_of(tmp_path) as harness:
        harness.first_failure("1")
        park(harness, "2")
        harness.fail(harness.fresh("3"), "dead")
        machine.boot(harness, 48 * HOUR)
        (again,) = harness.due()
        assert [row.event_id for row in pending(harness)] == ["1", "2"]
        assert [row.event_id for row in dead_letters(harness.store)] == ["3"]
        harness.fail(again, "delivered", "delivered", 200)
        harness.now_ns += HOUR
        harness.step()
        assert [row.cause for row in dead_letters(harness.store)] == ["retention"]


def test_a_short_rest_is_no_absence(tmp_path: Path) -> None:
    """An engine that is started again and again finds what is too old all the same."""
    with desk_of(tmp_path, retention=Duration.parse("1h")) as harness:
        park(harness, "1")
        harness.reopen()
        harness.now_ns += 2 * HOUR
        harness.step()
        assert [row.cause for row in dead_letters(harness.store)] == ["retention"]


def test_an_engine_that_slept_finds_nothing_too_old(tmp_path: Path) -> None:
    """A machine that was suspended for longer than the retention wakes up with all of it."""
    with desk_of(tmp_path, retention=Duration.parse("1h")) as harness:
        park(harness, "1")
        clock = harness.supervisor.clock
        clock.known = msgspec.structs.replace(clock.known, seen_ns=clock.known.seen_ns - 2 * HOUR)
        harness.supervisor.housekeep(time.monotonic())
        harness.now_ns += HOUR - S
        harness.step()
        assert pending(harness)
        harness.now_ns += 2 * S
        harness.step()
        assert not pending(harness)


def test_a_full_disk_does_not_keep_the_clock_from_going(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that could not be saved is saved a second later."""
    with desk_of(tmp_path) as harness:

        def full(clock: Clock) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(harness.store, "save_clock", full)
        harness.supervisor.clock_watch.save_at = 0.0
        harness.supervisor.housekeep(1e9)
        monkeypatch.undo()
        harness.supervisor.housekeep(1e9 + HOUSEKEEPING_S)
        assert harness.store.clock() == harness.supervisor.clock.known


@pytest.mark.parametrize(
    "lost",
    [
        "DELETE FROM meta",
        "UPDATE meta SET value = '[]'",
        "UPDATE meta SET value = 7",
        "UPDATE meta SET value = replace(value, 'origin_ns\":1', 'origin_ns\":9')",
        "UPDATE meta SET value = replace(value, '[[0,0,0],', '[')",
    ],
)
def test_a_store_that_lost_the_clock(
    tmp_path: Path, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The snapshot has it too; breakers and rate limits in the shared words go on by it. Of a damaged
    one nothing is believed, and the log says so."""
    with desk_of(tmp_path) as harness:
        set_clock(harness, -HOUR)
        harness.supervisor.live.publish()
        harness.store.db.execute(f"{lost} WHERE key = 'clock'")
        found = clock_watch.begin(harness.store, harness.supervisor.snapshot.clock).known
        assert found.offsets == harness.supervisor.clock.known.offsets
        assert abs(found.origin_ns - harness.supervisor.clock.known.origin_ns) < S
    assert ("clock in it is damaged" in caplog.text) == lost.startswith("UPDATE")


@pytest.mark.parametrize(
    "clock", ['{"offsets":[]}', '{"seen_ns":9223372036854775808}', '{"origin_ns":-1e99}']
)
def test_no_clock_is_believed_with_which_no_engine_can_begin(clock: str) -> None:
    """A damaged snapshot has no checksum; what is read of one makes times that fit everywhere."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(clock, type=Clock)


def test_a_delivery_whose_id_is_damaged_stops_no_engine(tmp_path: Path, machine: Machine) -> None:
    """Its time is not what the engine goes on from."""
    with desk_of(tmp_path) as harness:
        harness.first_failure("1")
        harness.store.db.execute("UPDATE deliveries SET id = id | 1 << 62")
        machine.boot(harness, 0)
        assert abs(harness.now_ns - time.time_ns()) < HOUR
        harness.first_failure("2")
        assert harness.sleep_until_due()


def test_a_directory_without_a_clock_under_one_that_is_behind(tmp_path: Path) -> None:
    """A version that went by the wall clock left it, and the clock was set back since: a retry, an
    open breaker and an open window wait no longer than they would have."""
    options: dict[str, Any] = {"url": "http://127.0.0.1:1/", "signature": "none"}
    retry = Retry(initial_interval=SOON, multiplier=1.0, jitter=0.0)
    endpoints = (
        Endpoint(name="a", retry=retry, circuit_breaker=OPENS, **options),
        Endpoint(name="b", aggregate=Aggregate(window=SOON), **options),
    )
    with SchedulerHarness(tmp_path / "data", *endpoints) as harness:
        harness.first_failure("1")
        harness.now_ns += HOUR
        (again,) = harness.due()
        harness.fail(again)  # long after its delivery was made
        harness.reporter.report(harness.fresh("2", "service.5xx", endpoint=1), "aggregated", "")
        harness.step()
        opened = breaker.State("open", -(-harness.now_ns // 1_000_000))
        harness.word(0, d.BREAKER, breaker.pack(opened))
        harness.close()
        snapshot = msgspec.structs.replace(harness.supervisor.snapshot, clock=Clock())
        snapshot.save(harness.supervisor.datadir)
        with sqlite3.connect(harness.supervisor.datadir.store) as db:
            db.execute("DELETE FROM meta WHERE key = 'clock'")
        db.close()
        harness.open()
        harness.now_ns = began_ns = harness.supervisor.clock.now_ns()
        ends_ns = began_ns + 3 * SOON.ns
        found: list[ring.RingDelivery] = []
        while len(found) < 2 and harness.now_ns < ends_ns:
            found += harness.due()
            harness.now_ns = min(max(harness.wake_ns, harness.now_ns + 1), ends_ns)
        assert sorted(delivery.endpoint for delivery in found) == [0, 1]


# ---- what is dated by a wall clock that was set ------------------------------------------------


def set_clock(harness: SchedulerHarness, step_ns: int) -> None:
    """At the harness's time, as the supervisor notices it."""
    clock = harness.supervisor.clock
    clock.known = look(clock.known, harness.now_ns, harness.now_ns + clock.known.offset_ns)
    clock.known = look(
        clock.known, harness.now_ns, harness.now_ns + clock.known.offset_ns + step_ns
    )
    harness.store.save_clock(clock.known)


@pytest.mark.parametrize("step_ns", [-HOUR, 25 * HOUR])
def test_a_dead_letter_is_kept_for_the_retention(tmp_path: Path, step_ns: int) -> None:
    """No shorter, whatever the clock was set to; nor much longer than the step."""
    with desk_of(tmp_path, retention=Duration.parse("24h")) as harness:
        harness.fail(harness.fresh("1"), "dead")
        set_clock(harness, step_ns)
        harness.fail(harness.fresh("2"), "dead")
        harness.now_ns += 24 * HOUR - S
        harness.step()
        assert len(dead_letters(harness.store)) == 2
        harness.now_ns += HOUR + 2 * S
        harness.step()
        assert not dead_letters(harness.store)


def test_what_happened_is_dated_by_the_wall_clock(tmp_path: Path) -> None:
    """Attempts and ends as it stood then, retries as it will stand; and all of it is found again."""
    with desk_of(tmp_path) as harness:
        harness.first_failure("1")
        set_clock(harness, -HOUR)
        harness.now_ns += 10 * S
        harness.first_failure("2")
        harness.fail(harness.fresh("3"), "dead")
        with ReadStore.open(tmp_path / "data" / "store.db") as store:
            first, second = pending(harness)
            (dead,) = dead_letters(store)
            started = [store.attempts(row.id)[0].attempt.started_ns for row in (first, second)]
            clock, ahead = store.clock(), EndpointState("active")
            due_at = [delivery_view(row, "a", clock, ahead, 0).due_at for row in (first, second)]
            which = DeliveryFilter(since_ns=harness.now_ns - HOUR - 11 * S)
            since = queries.deliveries(store, which, before=None, limit=10)
        assert started == [harness.now_ns - 13 * S, harness.now_ns - HOUR - 3 * S]
        assert dead.ended_ns == harness.now_ns - HOUR
        assert due_at == [timestamp(row.due_ns - HOUR) for row in (first, second)]
        assert [row.event_id for row in since] == ["3", "2", "1"]


def test_ages_are_of_the_time_that_passed(tmp_path: Path) -> None:
    """In the statistics, from which the metric comes."""
    with desk_of(tmp_path) as harness:
        harness.first_failure("1")
        set_clock(harness, 25 * HOUR)
        assert read_stats(tmp_path / "data").endpoint("a").oldest_pending_age_ns < HOUR
