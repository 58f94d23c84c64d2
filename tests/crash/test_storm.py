"""An event that was accepted is counted in exactly one notification, whichever process dies in
between."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest

from crash.support import SIDE, CrashStage
from fluxhook import Aggregate, Config, Duration
from fluxhook.store import ReadStore, State
from fluxhook.transport.datadir import DataDir
from support.store_rows import deliveries

TYPE = "webhook.failures.aggregated"
#: of each host; at this rate windows open and close all the time
EVENTS, RATE = 4_000, 4_000
KILLS = 6


def told(stage: CrashStage) -> dict[str, dict[str, int]]:
    """The numbers of each notification, by its id; all of them were delivered."""
    with ReadStore.open(DataDir(stage.data_dir).store) as store:
        rows = deliveries(store, limit=100_000)
        assert {(row.type, row.state) for row in rows} == {(TYPE, State.DELIVERED)}
        bodies = {row.event_id: json.loads(store.body(row.id) or b"") for row in rows}
    for body in bodies.values():
        assert body["data"]["count"] == sum(body["data"]["counts"].values())
    return {id: body["data"]["counts"] for id, body in bodies.items()}


@pytest.mark.parametrize("seed", range(2))
def test_storm(stage: CrashStage, seed: int) -> None:
    """Workers, supervisor, or all of it with the host: the sum over all notifications is what was
    accepted, for each type, and the accounts say the same."""
    aggregate = Aggregate(window=Duration.parse("100ms"), types=("crash.*",), originals=2)
    config: Config = stage.config(stage.endpoint("main", aggregate=aggregate))

    def begin() -> None:
        stage.start(stage.host(EVENTS, config=config, rate=RATE))

    def everything(_: int) -> None:
        stage.kill_everything()
        begin()

    def supervisor(_: int) -> None:
        stage.kill_supervisor()

    kills: list[Callable[[int], None]] = [stage.kill_worker, supervisor, everything] * (KILLS // 3)
    random.Random(seed).shuffle(kills)
    begin()
    for i, kill in enumerate(kills):
        stage.reach(stage.accepted + EVENTS // (2 * KILLS))
        kill(i)
    stats = stage.settle().endpoint("main")

    counts = told(stage)
    counted = sum(sum(types.values()) for types in counts.values())
    killed = sum(not host.process.is_alive() for host in stage.hosts)
    # A host that was killed may have been within an emit that had accepted its event already.
    assert stage.accepted <= counted <= stage.accepted + killed
    assert stats.aggregated == counted
    assert stats.accepted == counted + len(counts)
    assert stats.delivered == len(counts) < counted / 10
    received = stage.receiver.ids(stage.path("main"))
    assert received.keys() == counts.keys()
    sides = sum(types.get("crash.side", 0) for types in counts.values())
    begun = [(p.load.first, p.accepted) for host in stage.hosts for p in host.progress]
    wanted = sum(n % SIDE == 0 for first, count in begun for n in range(first, first + count))
    assert wanted <= sides <= wanted + killed
    stage.close()
