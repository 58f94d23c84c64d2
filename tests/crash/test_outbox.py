"""A scheduler that dies with its outbox full of reports: nothing is sent again but what was in
flight."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from crash.support import FAILING, FINE, SIDE, CrashStage, Row, until
from fluxhook import Breaker, Duration
from fluxhook._native import ring
from fluxhook.receiver import Behaviour

#: in the outbox, when the supervisor is killed
REPORTS = 10_000
#: deliveries of the store, and as many of them as the scheduler hands out at a time
STORED, OUT = 200, 128


def test_ten_thousand_reports(stage: CrashStage, report: Callable[[Row], None]) -> None:
    """The supervisor stands still while the worker finishes all that it has: the last reports in the
    outbox settle what the store has for `side`, those of `main` before them were recorded only. Killed
    then, its successor applies all of them before it hands out anything, so not one comes twice."""
    stage.behave("side", FAILING)
    config = stage.config(
        stage.endpoint("main", record="all"),
        stage.endpoint(
            "side",
            concurrency=8,
            timeout=Duration.parse("20s"),
            circuit_breaker=Breaker(failure_threshold=1_000_000),
        ),
        workers=1,
    )
    own = stage.data_dir / "workers/0"

    def unsettled(name: str) -> int:
        return sum(ring.unsettled(str(own / name)).values())

    def at_rest() -> bool:
        slots = (stage.data_dir / "rings").glob("*/*.ring")
        return not any(ring.unsettled(str(path)) for path in slots)

    stage.serve(config)
    host = stage.host(STORED * SIDE)
    stage.start(host)
    until(lambda: host.done and at_rest(), "the first load")
    stage.behave("side", Behaviour(delay_s=1.0))
    until(lambda: unsettled("inbox.ring") == OUT, "what the scheduler hands out")
    supervisor = stage.supervisor()
    os.kill(supervisor, signal.SIGSTOP)
    other = stage.host(REPORTS)
    stage.start(other)
    until(lambda: unsettled("outbox.ring") >= REPORTS, "the reports")
    stage.behave("side", FINE)
    until(lambda: unsettled("inbox.ring") == 0 and at_rest(), "the end of what was in flight")
    assert unsettled("outbox.ring") >= REPORTS + OUT // 2
    stage.kill_supervisor()
    stage.serve(config)
    report(stage.prove(bound=0))
