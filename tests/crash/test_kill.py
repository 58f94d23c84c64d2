"""An accepted event survives SIGKILL: of any process, again and again, and of all of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from crash.support import CONCURRENCY, EVENTS, FAILING, FINE, HANGING, KEYS, CrashStage, Host, Row
from fluxhook import Config

Report = Callable[[Row], None]

#: What goes on while processes die. steady: everything is well, and events come at a rate that the
#: engine keeps up with. failing: the endpoint answers 500 until six tenths of the events are accepted,
#: another one beside it hangs as long, and events come as fast as the engine takes them.
STEADY_RATE = 8_000
situations = pytest.mark.parametrize("situation", ["steady", "failing"])


def begin(stage: CrashStage, situation: str) -> tuple[Config, int, int]:
    """The configuration, the events a second, and how many deliveries may be under way at a time."""
    if situation == "steady":
        return stage.config(), STEADY_RATE, CONCURRENCY
    stage.behave("main", FAILING)
    stage.behave("side", HANGING)
    return stage.config(stage.endpoint("main"), stage.endpoint("side")), 0, 2 * CONCURRENCY


def heal(stage: CrashStage) -> None:
    stage.behave("main", FINE)
    stage.behave("side", FINE)


def kill_under_load(
    stage: CrashStage, situation: str, times: int, kill: Callable[[int], None]
) -> None:
    """Kill while events are accepted, at equal distances."""
    healed = situation == "steady"
    for i in range(times):
        share = (i + 1) / (times + 1)
        if not healed and share > 0.6:
            stage.reach(int(0.6 * EVENTS))
            heal(stage)
            healed = True
        stage.reach(int(share * EVENTS))
        kill(i)
    if not healed:
        stage.reach(int(0.6 * EVENTS))
        heal(stage)


@situations
def test_worker(stage: CrashStage, situation: str, report: Report) -> None:
    """Killed workers lose nothing: their successors repeat only what was in flight."""
    config, rate, in_flight = begin(stage, situation)
    host = stage.host(EVENTS, config=config, rate=rate)
    stage.start(host)
    kill_under_load(stage, situation, 5, stage.kill_worker)
    report(stage.prove(bound=5 * in_flight // 2))  # each of two workers has half of it


@situations
def test_supervisor_in_a_host(stage: CrashStage, situation: str, report: Report) -> None:
    """A killed supervisor, and with it the scheduler, is replaced by the host's Engine."""
    config, rate, in_flight = begin(stage, situation)
    host = stage.host(EVENTS, config=config, rate=rate)
    stage.start(host)
    kill_under_load(stage, situation, 3, lambda _: stage.kill_supervisor())
    report(stage.prove(bound=3 * in_flight))


@situations
def test_supervisor_alone(stage: CrashStage, situation: str, report: Report) -> None:
    """Publishers outlive a killed engine, and its successor goes on where it stopped."""
    config, rate, in_flight = begin(stage, situation)
    stage.serve(config)
    hosts = [stage.host(EVENTS // 2, rate=rate // 2) for _ in range(2)]
    for host in hosts:
        stage.start(host)

    def kill(_: int) -> None:
        stage.kill_supervisor()
        stage.serve(config)

    kill_under_load(stage, situation, 3, kill)
    report(stage.prove(bound=3 * in_flight))


@situations
def test_publisher(stage: CrashStage, situation: str, report: Report) -> None:
    """A publisher that is killed within `emit` has accepted what it returned for, and at most that
    one event more; the next in its slot goes on in its rings."""
    config, _, _ = begin(stage, situation)
    stage.serve(config)
    survivor = stage.host(EVENTS // 2)
    stage.start(survivor)
    victims: list[Host] = []

    def kill(i: int) -> None:
        if victims:
            victims[-1].kill()
            stage.kills += 1
        victims.append(stage.host(EVENTS // 2))
        stage.start(victims[-1])

    kill_under_load(stage, situation, 6, kill)
    report(stage.prove(bound=0))
    slots = {slot.name for slot in (stage.data_dir / "rings").iterdir()}
    assert slots - {"engine"} == {"0", "1"}


@situations
def test_everything(stage: CrashStage, situation: str, report: Report) -> None:
    """Events that were accepted before all processes died are delivered by those that start later."""
    config, rate, in_flight = begin(stage, situation)

    def start(count: int) -> None:
        host = stage.host(count, config=config, rate=rate)
        stage.start(host)

    def kill(_: int) -> None:
        stage.kill_everything()
        start(EVENTS // 3)

    start(EVENTS // 3)
    kill_under_load(stage, situation, 3, kill)
    report(stage.prove(bound=3 * in_flight))


def test_order(stage: CrashStage, report: Report) -> None:
    """An ordered endpoint gets the events of each key in their order, whichever process dies in
    between: an event may come again, but none comes before one that was accepted earlier."""
    main = stage.endpoint("main", ordered=True, order_key="key")
    host = stage.host(EVENTS, config=stage.config(main), rate=STEADY_RATE // 2)
    stage.start(host)
    kills: list[Callable[[int], None]] = [
        stage.kill_worker,
        stage.kill_worker,
        lambda _: stage.kill_supervisor(),
    ]
    kill_under_load(stage, "steady", len(kills), lambda i: kills[i](i))
    report(stage.prove(bound=len(kills) * CONCURRENCY))
    for key in range(KEYS):
        arrived = [n for n in stage.ids("main") if n % KEYS == key]  # by their first arrival
        assert arrived == sorted(arrived)
