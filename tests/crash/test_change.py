"""An accepted event survives what operators do: stop, reload, another number of workers, and a host
that forks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from crash.support import CONCURRENCY, EVENTS, FINE, SIDE, CrashStage, Row, until
from fluxhook import Config, Duration
from fluxhook.receiver import Behaviour
from fluxhook.stats import read_stats

Report = Callable[[Row], None]


def test_drain_that_takes_too_long(stage: CrashStage, report: Report) -> None:
    """SIGTERM ends the engine after shutdown_timeout, however slow a receiver is; what it did not
    deliver by then is kept for the next start."""
    stage.behave("main", Behaviour(delay_s=1.0))
    config = stage.config(
        stage.endpoint("main", timeout=Duration.parse("2s")),
        queue_size=EVENTS,
        shutdown_timeout=Duration.parse("500ms"),
    )
    stage.serve(config)
    host = stage.host(EVENTS)
    stage.start(host)
    stage.reach(EVENTS)
    until(lambda: stage.ids("main"), "the first arrival")
    seconds = stage.terminate()
    stage.kills += 2  # what the supervisor does to its workers then
    assert 0.5 <= seconds < 10  # all of it takes ten minutes
    stopped = read_stats(stage.data_dir).endpoint("main")
    assert stopped.accepted == EVENTS
    assert stopped.balance == 0
    assert stopped.pending > EVENTS // 2
    stage.behave("main", FINE)
    stage.serve(config)
    report(stage.prove(bound=CONCURRENCY))


def test_reload_under_load(stage: CrashStage, report: Report) -> None:
    """SIGHUP loses nothing: an endpoint that joins gets all that was accepted for it, one that
    leaves has what is left as dead letters, one that moves gets each event at one of its URLs."""
    stage.behave("leaver", Behaviour(fail_rate=0.5))

    def config(i: int, *names: str) -> Config:
        url = stage.endpoint("main").url + ("?moved" if i % 2 else "")
        main = stage.endpoint("main", url=url, concurrency=CONCURRENCY - i, headers={"X-I": str(i)})
        return stage.config(main, *(stage.endpoint(name, events=("crash.*",)) for name in names))

    # What `emit` answers tells for which of them: main 1, leaver 1, joiner and joiner's twin 2.
    joiners = ("joiner", "twin")
    phases = [("leaver",), (), joiners, *2 * [("leaver", *joiners), joiners]]
    stage.serve(config(0, *phases[0]))
    host = stage.host(5 * EVENTS, 5 * EVENTS, rate=4_000)
    stage.start(host)
    for i, names in enumerate(phases[1:], start=1):
        stage.reach(i * EVENTS // len(phases))
        stage.reload(config(i, *names))
    stage.reach(max(EVENTS, stage.accepted + 1000))
    for progress in host.progress:
        progress.stop()
    until(lambda: host.done, "the end of the load")
    answers = [answer for progress in host.progress for answer in progress.answers().items()]
    wanted = {"leaver": {n for n, answer in answers if answer in (2, 4)}}
    wanted |= {name: {n for n, answer in answers if answer >= 3} for name in joiners}
    report(stage.prove(bound=0, wanted=wanted))


@pytest.mark.parametrize("killed", ["child", "parent"])
def test_fork(stage: CrashStage, killed: str, report: Report) -> None:
    """The children of a host emit through the object that they inherited. One that is killed takes
    nothing along; a killed parent leaves them the engine as long as they live."""
    config = stage.config()
    host = stage.host(EVENTS // 2, EVENTS // 2, EVENTS // 2, config=config, forks=2)
    stage.start(host)
    children = host.hear()
    stage.reach(EVENTS // 2)
    stage.kills += 1
    if killed == "child":
        os.kill(children[0], signal.SIGKILL)
        host.cut_short = {1}
    else:
        host.kill()
        host.cut_short = {0}
        until(lambda: host.done and not stage.running, "the end of the children and the engine")
        heir = stage.host(SIDE, config=config)
        stage.start(heir)
    report(stage.prove(bound=0))


def test_other_number_of_workers(stage: CrashStage, report: Report) -> None:
    """Workers that the next engine does not have leave rings, reports and half-done steps behind:
    their heirs see to all of them. Publishers go on, with as many rings as there are workers."""
    stage.behave("main", Behaviour(fail_rate=0.05))
    counts = [5, 2, 3, 1]
    for i, workers in enumerate(counts):
        stage.serve(stage.config(workers=workers))
        # Each time one more, that dies with the engine; the first goes on to the end.
        host = stage.host(*(EVENTS // 4, EVENTS // 4) if i == 0 else (EVENTS // 4,))
        stage.start(host)
        if i < len(counts) - 1:
            stage.reach((i + 1) * EVENTS // len(counts))
            stage.kill_everything(workers, spare=stage.hosts[:1])
    report(stage.prove(bound=CONCURRENCY * (len(counts) - 1)))
