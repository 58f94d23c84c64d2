"""An engine whose endpoints do all that is wrong at once, and one that does nothing wrong."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from fluxhook import Retry
from fluxhook.receiver import Behaviour, Receiver
from fluxhook.receiver.faults import FAULTS
from fluxhook.store.reader import ReadStore
from fluxhook.transport.datadir import DataDir
from support.outcomes import OUTCOMES, reach
from support.rig import Rig, seconds
from support.store_rows import deliveries

HEALTHY = 200


@pytest.fixture
def receivers() -> Iterator[dict[str, Receiver]]:
    """One for each behaviour, in a thread of their own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    found = {}
    for name in FAULTS:
        found[name] = Receiver(behaviour=Behaviour(status=200, body=b"ok", fault=name))
        asyncio.run_coroutine_threadsafe(found[name].start(), loop).result(10)
    yield found
    for receiver in found.values():
        asyncio.run_coroutine_threadsafe(receiver.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_every_behaviour_is_one_endpoints_trouble(rig: Rig, receivers: dict[str, Receiver]) -> None:
    """The healthy endpoint gets each of its events once, so no worker has ended; each of the others has
    one attempt on record, with the cause that must follow."""
    endpoints = [rig.endpoint("healthy", events=("good.one",))]
    for name, receiver in receivers.items():
        url, proxy = reach(name, receiver.url)
        endpoints.append(
            rig.endpoint(
                name.replace("_", "-"),
                url=url,
                proxy=proxy,
                http_version="2" if FAULTS[name].kind == "http2" else "1.1",
                events=(f"odd.{name}",),
                timeout=seconds(1),
                retry=Retry(max_attempts=1),
                record="all",
            )
        )
    with rig.engine(*endpoints) as engine:
        for name in FAULTS:
            assert engine.emit(f"odd.{name}") == 1
        for _ in range(HEALTHY):
            assert engine.emit("good.one") == 1
        assert engine.drain(30), engine.stats()
        balances = {e.name: e.balance for e in engine.stats().endpoints}
    assert rig.receiver.total("/healthy") == rig.receiver.distinct("/healthy") == HEALTHY
    assert set(balances.values()) == {0}
    with ReadStore.open(DataDir(rig.data_dir).store) as store:
        names = {row.id: row.name.replace("-", "_") for row in store.endpoints()}
        causes = {
            names[row.endpoint]: row.cause or "delivered"
            for row in deliveries(store, limit=1000)
            if row.attempts
        }
    for name, cause in causes.items():
        wanted = OUTCOMES[name]
        # The first request of a connection is answered.
        allowed = {"delivered"} if wanted.second else {wanted.cause, *wanted.or_causes}
        assert cause in allowed, name
    assert causes.keys() == FAULTS.keys()
