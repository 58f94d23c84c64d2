"""Endpoints that lose events, with real workers: what state, causes and rates say of each."""

from __future__ import annotations

import os
import signal
from contextlib import closing

from prometheus_client.parser import text_string_to_metric_families

from fluxhook import Breaker, Duration, Engine, Retry, Size
from fluxhook.admin.metrics import Metrics
from fluxhook.admin.service import Service
from fluxhook.control import Selection
from fluxhook.receiver import Behaviour
from fluxhook.stats import EndpointStats
from support.rig import Rig, seconds, supervisor_pid, until

EVENTS = 20
PATIENT = Retry(max_attempts=50, initial_interval=seconds(0.05), max_interval=seconds(0.2))


def trouble(rig: Rig) -> Engine:
    """Return an engine with an endpoint for each kind, after EVENTS events, half of them large."""
    rig.receiver.behave(Behaviour(status=400), "/refuses")
    rig.receiver.behave(Behaviour(status=401), "/signatures")
    rig.receiver.behave(Behaviour(fail_rate=0.3, fail_status=503), "/sometimes")
    rig.receiver.behave(Behaviour(status=503), "/down")
    once = Breaker(failure_threshold=5, reset_timeout=Duration.parse("1h"))
    engine = rig.engine(
        rig.endpoint("half", max_payload=Size(1000)),
        rig.endpoint("refuses"),
        rig.endpoint("signatures", circuit_breaker=once),
        rig.endpoint("sometimes", retry=PATIENT),
        rig.endpoint("down", retry=PATIENT),
        rig.endpoint("fine"),
    )
    engine.start()
    for n in range(EVENTS):
        assert engine.emit("order.paid", {"text": "x" * 2000 * (n % 2)}) == 6
    ended = ("half", "refuses", "sometimes", "fine")
    until(lambda: not any(engine.stats().endpoint(name).pending for name in ended))
    until(lambda: engine.stats().endpoint("down").failed_attempts)
    until(lambda: engine.stats().endpoint("signatures").state == "open")
    return engine


def told(one: EndpointStats) -> tuple[str, dict[str, int], float | None]:
    return one.state, one.dead_by_cause, one.event_success_rate


def test_each_kind_of_trouble(rig: Rig) -> None:
    """An endpoint is failing whose events die, or of whose none succeeds, though its breaker is closed;
    one whose retries succeed is not. API and metrics say the same."""
    with closing(trouble(rig)) as engine:
        stats, service = engine.stats(), Service(rig.data_dir)
        shown = {one.name: one for one in service.webhooks()}
        page = Metrics(engine.stats, 500).page().decode()
        service.close()
    half = stats.endpoint("half")
    assert told(half) == ("failing", {"payload_too_large": EVENTS // 2}, 0.5)
    assert half.success_rate == 1.0
    assert half.last_error is not None
    assert half.last_error.cause == "payload_too_large"
    assert told(stats.endpoint("refuses")) == ("failing", {"client_error": EVENTS}, 0.0)
    assert stats.endpoint("signatures").state == "open"
    assert told(stats.endpoint("sometimes")) == ("active", {}, 1.0)
    assert (stats.endpoint("sometimes").success_rate or 0) < 1
    assert told(stats.endpoint("down")) == ("failing", {}, None)
    assert told(stats.endpoint("fine")) == ("active", {}, 1.0)
    counted = {
        (sample.labels["endpoint"], sample.labels["cause"]): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "fluxhook_dead_total"
    }
    assert counted == {(e.name, c): n for e in stats.endpoints for c, n in e.died_by_cause.items()}
    for one in stats.endpoints:
        assert (shown[one.name].state, shown[one.name].dead_by_cause) == (
            one.state,
            one.dead_by_cause,
        )
        assert shown[one.name].dead_cause == one.dead_cause
        assert shown[one.name].event_success_rate == one.event_success_rate


def test_deaths_outlive_a_kill_a_replay_and_a_purge(rig: Rig) -> None:
    """The dead letters add up at each moment, and no death is forgotten."""
    endpoint = rig.endpoint("half", max_payload=Size(1000))
    with rig.engine(endpoint) as engine:
        for n in range(EVENTS):
            engine.emit("order.paid", {"text": "x" * 2000 * (n % 2)})

        def half() -> EndpointStats:
            return engine.stats().endpoint("half")

        def deaths(dead: int, died: int) -> None:
            until(lambda: sum(half().died_by_cause.values()) >= died and not half().pending)
            one = half()
            assert one.dead_by_cause == ({"payload_too_large": dead} if dead else {})
            assert one.died_by_cause == {"payload_too_large": died}
            assert (one.dead, one.balance) == (dead, 0)

        deaths(10, 10)
        supervisor = supervisor_pid(engine.data_dir)
        os.kill(supervisor, signal.SIGKILL)
        until(lambda: supervisor_pid(engine.data_dir) != supervisor and engine.stats().running)
        deaths(10, 10)
        assert engine.control.replay(Selection(endpoint="half")).done == 10
        deaths(10, 20)
        assert engine.control.purge(Selection(endpoint="half")).done == 10
        deaths(0, 20)
