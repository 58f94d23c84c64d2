"""An endpoint that cannot be built is held, its events wait, and everybody else goes on."""

from __future__ import annotations

import base64
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fluxhook import Config, Endpoint, Tls
from fluxhook import control as c
from fluxhook.errors import ConfigError, Conflict
from fluxhook.publisher.publisher import Publisher
from fluxhook.stats import read_stats
from fluxhook.supervisor.judge import LOOK_S, SUSPECT_S, Judge
from fluxhook.transport import datadir as d
from fluxhook.transport.sender import Sender
from fluxhook.worker.dispatcher import Dispatcher
from fluxhook.worker.stage_timings import StageTimings
from support.receiver import ReceiverProcess
from support.rig import Rig, until
from support.scheduler_harness import S, SchedulerHarness
from support.tls import self_signed

TORN = "whsk_" + base64.b64encode(bytes(range(64))).decode()
GOOD = "whsec_" + base64.b64encode(bytes(32)).decode()
HEALTHY = Endpoint(name="healthy", url="https://healthy.example/", secrets=("sk_h",))
ODD = Endpoint(name="odd", url="https://odd.example/", signature="standard", secrets=(TORN,))
LAYER = {"name": "rt", "url": "https://rt.example/", "events": ["*"]}


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SchedulerHarness]:
    with SchedulerHarness(tmp_path / "data", HEALTHY, ODD) as harness:
        yield harness


def state(harness: SchedulerHarness, name: str) -> tuple[str, str]:
    stats = read_stats(harness.path).endpoint(name)
    return stats.state, stats.misconfigured_reason


# ---- at the supervisor ---------------------------------------------------------------------


def test_it_is_shown_with_the_reason(
    harness: SchedulerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """State and reason are in the statistics and in the log; the others are active."""
    name, reason = state(harness, "odd")
    assert name == "misconfigured"
    assert "secrets[0]: the two halves" in reason
    assert state(harness, "healthy") == ("active", "")
    with caplog.at_level(logging.ERROR, "fluxhook"):
        harness.reopen()
    assert f"endpoint odd is misconfigured, its events wait: {reason}" in caplog.text


@pytest.mark.parametrize("paused", [False, True])
def test_it_may_be_paused_besides(harness: SchedulerHarness, paused: bool) -> None:
    """The state says what is worse; that it was paused is told too, so that it can be resumed."""
    harness.reopen(HEALTHY, msgspec.structs.replace(ODD, paused=paused))
    stats = read_stats(harness.path).endpoint("odd")
    assert (stats.state, stats.paused) == ("misconfigured", paused)


def test_its_events_are_accepted_and_wait(harness: SchedulerHarness) -> None:
    """A publisher takes them, the scheduler hands none out, and a repaired endpoint gets them."""
    with Publisher(harness.path) as publisher:
        assert publisher.emit("route.x", {}) == 2
    odd = harness.supervisor.snapshot.ids["odd"]
    harness.reporter.report(harness.fresh("evt_1", endpoint=odd), "parked", "misconfigured")
    assert harness.due() == []
    harness.reopen(HEALTHY, msgspec.structs.replace(ODD, secrets=(GOOD,)))
    assert state(harness, "odd") == ("active", "")
    assert [delivery.endpoint for delivery in harness.due()] == [odd]


def test_a_change_that_cannot_be_built_is_refused(harness: SchedulerHarness) -> None:
    """Create, update and rotate; the problem names the field, and nothing was changed."""
    odd = {"signature": "standard", "secret": TORN}
    with pytest.raises(ConfigError, match="secret: the two halves"):
        harness.ask(c.Create({**LAYER, **odd}), c.Subscription)
    harness.ask(c.Create({**LAYER, "signature": "standard", "secret": GOOD}), c.Subscription)
    with pytest.raises(ConfigError, match="secret: the two halves"):
        harness.ask(c.Update("rt", odd), c.Subscription)
    with pytest.raises(ConfigError, match="secret: the two halves"):
        harness.ask(c.Rotate("rt", TORN, 0), c.Rotated)
    with pytest.raises(
        ConfigError, match=r"tls\.ca: the text holds a certificate that cannot be read"
    ):
        harness.ask(c.Update("rt", {"tls": {"ca": "-----BEGIN CERTIFICATE-----"}}), c.Subscription)
    assert harness.endpoint("rt").secrets == (GOOD,)
    assert state(harness, "rt") == ("active", "")


def test_no_test_event_goes_to_it(harness: SchedulerHarness) -> None:
    with pytest.raises(Conflict, match="misconfigured, so nothing can be sent: secrets"):
        harness.ask(c.Test("odd", "webhook.test", None), c.TestSent)


@pytest.mark.parametrize(
    ("layer", "before", "after", "reason"),
    [
        ({}, {"defaults": {"secret": "sk_d"}}, {}, "no secret to sign with"),
        (
            {"secret": "sk_1", "url": "http://10.0.0.1/"},
            {"allow_networks": ("10.0.0.0/8",)},
            {},
            "10.0.0.1",
        ),
        (
            {"secret": "sk_1", "order_key": "id"},
            {"defaults": {"ordered": True}},
            {},
            "no effect on an endpoint that is not ordered",
        ),
        (
            {"secret": "sk_1", "envelope": "cloudevents", "batch": {"format": "cloudevents"}},
            {"defaults": {"batch": {"max_events": 5}}},
            {"defaults": {"batch": {"max_events": 5}, "ordered": True}},
            "one event at a time",
        ),
    ],
)
def test_a_default_that_it_leaned_on_is_gone(
    tmp_path: Path, layer: dict[str, Any], before: Any, after: Any, reason: str
) -> None:
    """It is held under the new configuration, over a restart too, and goes on when the default is back,
    or when it is changed itself."""
    with SchedulerHarness(tmp_path / "data", HEALTHY, **before) as harness:
        harness.ask(c.Create({**LAYER, **layer}), c.Subscription)
        config = harness.supervisor.live.subscriptions.config
        options = {"allow_networks": (), "defaults": {}, **after}
        harness.supervisor.live.load(msgspec.structs.replace(config, **options))
        assert state(harness, "rt")[0] == "misconfigured"
        assert reason in state(harness, "rt")[1]
        assert state(harness, "healthy") == ("active", "")
        harness.options = after
        harness.reopen()
        assert reason in state(harness, "rt")[1]
        harness.supervisor.live.load(config)
        assert state(harness, "rt") == ("active", "")
        harness.reopen()
        harness.ask(
            c.Update(
                "rt",
                {
                    "secret": "sk_2",
                    "url": "https://rt.example/",
                    "order_key": None,
                    "ordered": False,
                },
            ),
            c.Subscription,
        )
        assert state(harness, "rt") == ("active", "")


def test_a_field_of_another_version(harness: SchedulerHarness) -> None:
    """A field that an older version cannot read holds the endpoint; the field is kept for the newer
    one."""
    harness.ask(c.Create({**LAYER, "secret": "sk_1"}), c.Subscription)
    (row,) = harness.store.subscriptions()
    layer = {**row.layer, "of_the_future": 1}
    harness.store.save_subscription(row._replace(layer=layer))
    harness.reopen()
    assert "of_the_future" in state(harness, "rt")[1]
    (row,) = harness.store.subscriptions()
    assert row.layer == layer


def test_a_lost_secret_can_be_rotated(tmp_path: Path) -> None:
    """The way out for one that leaned on the file's secret."""
    with SchedulerHarness(tmp_path / "data", defaults={"secret": "sk_d"}) as harness:
        harness.ask(c.Create(LAYER), c.Subscription)
        harness.options = {}
        harness.reopen()
        assert state(harness, "rt")[0] == "misconfigured"
        harness.ask(c.Rotate("rt", None, 0), c.Rotated)
        assert state(harness, "rt") == ("active", "")


# ---- built again ---------------------------------------------------------------------------


def test_files_and_packages_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every LOOK_S: a file that came, changed or went, and a package that was installed."""
    ca = tmp_path / "ca.pem"
    secure = msgspec.structs.replace(HEALTHY, name="secure", tls=Tls(ca=str(ca)))
    packed = msgspec.structs.replace(HEALTHY, name="packed", compression="zstd")
    endpoints = [HEALTHY, secure, packed]
    monkeypatch.setitem(sys.modules, "zstandard", None)
    judge, now = Judge(), 100.0

    def look() -> bool:
        nonlocal now
        now += LOOK_S
        changed = judge.look(now)
        assert not judge.look(now)
        if changed:
            judge.judge(endpoints, {}, now)
        return changed

    judge.judge(endpoints, {}, now)
    assert "tls.ca" in judge.held["secure"]
    assert "zstandard" in judge.held["packed"]
    assert not look()
    monkeypatch.undo()
    assert look()
    assert judge.held.keys() == {"secure"}
    ca.write_bytes(Path(self_signed(tmp_path, "one").cert).read_bytes())
    assert look()
    assert judge.held == {}
    files = judge.files["secure"]
    assert not look()
    ca.unlink()
    ca.write_bytes(Path(self_signed(tmp_path, "two").cert).read_bytes())
    assert look()
    assert judge.held == {}
    assert judge.files["secure"] != files
    ca.write_text("no certificate")
    assert look()
    assert judge.held == {}
    secure = endpoints[1] = msgspec.structs.replace(secure, concurrency=1)
    judge.judge(endpoints, {}, now)
    assert "no certificate" in judge.held["secure"]
    judge.judge((HEALTHY,), {}, now)
    assert judge.held == {}
    assert judge.files == {}


def test_files_are_replaced_one_after_the_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Until both fit, what was read before stays in force: no worker is told, and the log says why. The
    same where one is gone for a moment."""
    pairs = [self_signed(tmp_path, "one"), self_signed(tmp_path, "two")]
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def put(path: Path, source: str) -> None:
        (tmp_path / "new").write_bytes(Path(source).read_bytes())
        (tmp_path / "new").replace(path)

    put(cert, pairs[0].cert)
    put(key, pairs[0].key)
    secure = msgspec.structs.replace(HEALTHY, tls=Tls(cert=str(cert), key=str(key)))
    judge = Judge()
    judge.judge([secure], {}, 0.0)
    before = judge.files
    for step, (path, source) in enumerate(
        [(cert, pairs[1].cert), (cert, None), (cert, pairs[1].cert)]
    ):
        path.unlink() if source is None else put(path, source)
        now = (step + 1) * LOOK_S
        assert judge.look(now)
        judge.judge([secure], {}, now)
        assert (judge.held, judge.files) == ({}, before)
        assert not judge.look(now + LOOK_S / 2)
    assert caplog.text.count("stays in force: tls.key") == 2
    put(key, pairs[1].key)
    judge.judge([secure], {}, now)  # as SIGHUP asks for it
    assert judge.held == {}
    assert judge.files != before


def test_what_only_a_worker_cannot_build_is_held_for_a_while(harness: SchedulerHarness) -> None:
    """The supervisor takes the worker's word, and lets it try again after SUSPECT_S."""
    id = harness.supervisor.snapshot.ids["healthy"]
    harness.word(id, d.UNBUILT, 1)
    harness.supervisor.housekeep(time.monotonic())
    assert state(harness, "healthy") == (
        "misconfigured",
        "a worker could not build it; its log says why",
    )
    judge = Judge()
    judge.judge((HEALTHY,), {}, 0.0)
    judge.suspect("healthy", 0.0)
    judge.judge((HEALTHY,), {}, 1.0)
    assert judge.held.keys() == {"healthy"}
    assert not judge.look(SUSPECT_S - 1)
    assert judge.look(SUSPECT_S)
    judge.judge((HEALTHY,), {}, SUSPECT_S)
    assert judge.held == {}


# ---- at the worker -------------------------------------------------------------------------


def test_a_worker_survives_what_it_cannot_build(harness: SchedulerHarness) -> None:
    """The supervisor could, and a file went in between: the endpoint queue defers its events and says
    so."""
    words, id = harness.words, harness.supervisor.snapshot.ids["odd"]
    reporter = harness.reporter
    counters, clock = reporter.counters, harness.supervisor.clock
    stages = StageTimings(counters, counters, clock)
    dispatcher = Dispatcher(words, counters, stages, reporter, 0, lambda address: None, clock)
    dispatcher.configure(id, ODD, 1)
    assert harness.word(id, d.UNBUILT) == 1
    dispatcher.arrive([harness.fresh("evt_1", endpoint=id)], harness.now_ns)
    assert dispatcher.idle
    harness.step()
    (row,) = harness.store.pending_since(harness.now_ns + S, 10)
    assert (row.cause, row.attempts) == ("misconfigured", 0)
    dispatcher.configure(id, msgspec.structs.replace(ODD, secrets=(GOOD,)), 1)
    assert dispatcher.queues[id].defers == ""
    dispatcher.senders.close()


def test_connections_made_with_former_files_are_closed(
    harness: SchedulerHarness, tmp_path: Path
) -> None:
    """Endpoints with equal contents share connections; those that nobody uses any more are closed, but
    not while a request is under way."""
    words, reporter = harness.words, harness.reporter
    counters, clock = reporter.counters, harness.supervisor.clock
    stages = StageTimings(counters, counters, clock)
    dispatcher = Dispatcher(words, counters, stages, reporter, 0, lambda address: None, clock)
    ca = tmp_path / "ca.pem"
    ids = [harness.supervisor.snapshot.ids[name] for name in ("healthy", "odd")]
    secure = msgspec.structs.replace(HEALTHY, tls=Tls(ca=str(ca)))

    def configure(name: str) -> Sender:
        ca.write_bytes(Path(self_signed(tmp_path, name).cert).read_bytes())
        for id in ids:
            dispatcher.configure(id, secure, 1, files=len(name))
        dispatcher.retire_senders()
        first, second = (dispatcher.queues[id].sender for id in ids)
        assert first is second
        return first

    before = configure("one")
    before.in_flight += 1
    after = configure("three")
    dispatcher.collect([], harness.now_ns)
    assert after is not before
    assert not before.epoll.closed
    before.in_flight -= 1
    dispatcher.collect([], harness.now_ns)
    assert before.epoll.closed
    assert not after.epoll.closed
    dispatcher.senders.close()


def test_everybody_else_goes_on(rig: Rig, tmp_path: Path) -> None:
    """In real processes: the healthy endpoint gets all; what is repaired gets what waited."""
    identity = self_signed(tmp_path, "receiver")
    ca = tmp_path / "not-yet.pem"
    with ReceiverProcess(tls=identity) as receiver:
        secure = rig.endpoint("secure", url=f"{receiver.url}/secure", tls=Tls(ca=str(ca)))
        torn = rig.endpoint("torn", signature="standard", secrets=(TORN,))
        with rig.engine(rig.endpoint("healthy"), secure, torn, workers=2) as engine:
            for i in range(50):
                assert engine.emit("order.paid", {"i": i}) == 3
            rig.receiver.wait_for(50, "/healthy")
            until(lambda: engine.stats().endpoint("secure").stored == 50)
            states = {e.name: e.state for e in engine.stats().endpoints}
            assert states == {
                "healthy": "active",
                "secure": "misconfigured",
                "torn": "misconfigured",
            }
            ca.write_bytes(Path(identity.cert).read_bytes())
            engine.control.pause("healthy")  # a change has all of them built again
            receiver.wait_for(50, "/secure")
            until(lambda: engine.stats().endpoint("torn").stored == 50)
            assert all(endpoint.balance == 0 for endpoint in engine.stats().endpoints)
    assert rig.receiver.distinct("/torn") == 0


def test_a_configuration_in_python_is_held_too() -> None:
    """Only what is written wrong refuses it: files and packages may come later."""
    from fluxhook import Engine

    Engine(Config(endpoints=(ODD, msgspec.structs.replace(ODD, name="b", tls=Tls(ca="/none")))))
