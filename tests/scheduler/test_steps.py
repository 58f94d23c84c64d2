"""No step of the supervisor takes more than a bounded number of items. What is asserted are counts."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fluxhook import Aggregate, ConfigError, Endpoint, EngineError
from fluxhook import control as c
from fluxhook.config.units import Duration
from fluxhook.control import Control, frame, socket_path
from fluxhook.scheduler import step_limits
from fluxhook.store.delivery_id import DeliveryIds
from fluxhook.supervisor import control_server as listener
from fluxhook.supervisor.control_server import Listener
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.messages import EventHead
from support.scheduler_harness import HOUR, SchedulerHarness


def ops(name: str = "ops", **options: Any) -> Endpoint:
    return Endpoint(name=name, url="https://hooks.example.com/", signature="none", **options)


# ---- requests ------------------------------------------------------------------------------


class Asked:
    """A listener, and what it was asked."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self.datadir = DataDir(path)
        self.names: list[str] = []
        self.listener = Listener(self.datadir, self.apply)
        self.clients: list[socket.socket] = []

    def apply(self, request: c.Request, origin: c.Origin) -> msgspec.Struct:
        assert isinstance(request, c.Pause)
        self.names.append(request.name)
        return c.Done()

    def send(self, *names: str) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(30)
        with socket_path(self.datadir) as path:
            client.connect(path)
        encode = msgspec.msgpack.encode
        client.sendall(b"".join(frame(encode(c.Pause(name))) for name in names))
        self.clients.append(client)
        return client


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    one = Asked(tmp_path / "data")
    yield one
    one.listener.close()
    for client in one.clients:
        client.close()


def step_until_quiet(asked: Asked) -> list[int]:
    """Return how many requests each step answered."""
    counts = []
    for _ in range(400):
        before = len(asked.names)
        asked.listener.step()
        counts.append(len(asked.names) - before)
        if not asked.listener.busy and not counts[-1] and len(counts) > len(asked.clients):
            break
    return counts


def test_a_step_answers_one_request(asked: Asked) -> None:
    """Of many clients, and of one that asks for much at once. None is lost."""
    asked.send(*(f"b{i}" for i in range(30)))
    for i in range(20):
        asked.send(f"a{i}")
    counts = step_until_quiet(asked)
    assert max(counts) == 1
    assert sorted(asked.names) == sorted(
        [f"a{i}" for i in range(20)] + [f"b{i}" for i in range(30)]
    )
    assert [name for name in asked.names if name < "b"] == [f"a{i}" for i in range(20)]
    assert [name for name in asked.names if name > "b"] == [f"b{i}" for i in range(30)]
    for client in asked.clients:
        assert client.recv(4)


def test_who_asks_is_answered_before_others_come(asked: Asked) -> None:
    """More clients than there are places, all of which ask: none of them is sent away for another."""
    for i in range(listener.MAX_CONNECTIONS - 1):
        asked.send(f"a{i:03}")
        asked.listener.step()
    for i in range(20):
        asked.send(f"b{i:03}")
    step_until_quiet(asked)
    assert len(asked.names) == listener.MAX_CONNECTIONS - 1 + 20


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (
            {"where": ["status_code >= 500"] * 100_000},
            "where: has 100,000 entries; write at most 32",
        ),
        ({"retry": {"schedule": ["1s"] * 101}}, "retry.schedule: has 101 entries"),
        ({f"x{i}": i for i in range(100_000)}, "has 100,000 keys; write at most 100"),
        ({"tls": {"ca": "x" * (8 << 20)}}, "request: is over 8 MiB"),
    ],
    ids=["where", "schedule", "keys", "bytes"],
)
def test_a_large_definition_is_refused_where_it_comes_from(
    tmp_path: Path, layer: dict[str, Any], said: str
) -> None:
    """The supervisor does not hear of it: here there is none."""
    control = Control(tmp_path / "data")
    with pytest.raises(ConfigError, match=said):
        control.create(layer)
    with pytest.raises(ConfigError, match=said):
        control.update("ops", layer)


def test_a_test_event_may_be_larger(tmp_path: Path) -> None:
    """Its size is that of an event. Here nobody answers."""
    with (
        SchedulerHarness(tmp_path / "data", ops()),
        pytest.raises(EngineError, match="did not answer"),
    ):
        Control(tmp_path / "data", timeout_s=0.1).send_test("ops", data={"x": "x" * (9 << 20)})


# ---- the scheduler ----------------------------------------------------------------------------


def stored(harness: SchedulerHarness, endpoint: int, n: int) -> None:
    """Put so many deliveries into the store, due now."""
    with harness.store.transaction() as transaction:
        for i in range(n):
            transaction.add(
                DeliveryIds(endpoint).next(harness.now_ns + 1000 * i),  # as a worker makes one
                endpoint,
                EventHead(f"e-{endpoint}-{i}", "route.error"),
                b"{}",
                accepted_ns=harness.now_ns,
                due_ns=harness.now_ns,
            )


def out(harness: SchedulerHarness) -> dict[int, int]:
    return {e: harness.store.leased(e) for e in range(3)}


def test_a_step_hands_out_a_batch(tmp_path: Path) -> None:
    """Whatever the endpoints may have under way at a time; and the next step begins with those that had
    nothing of this one."""
    endpoints = [ops(f"e{i}", concurrency=65_536) for i in range(3)]
    with SchedulerHarness(tmp_path / "data", *endpoints) as harness:
        for endpoint in range(3):
            stored(harness, endpoint, 900)
        harness.scheduler.step(harness.now_ns)
        assert sum(out(harness).values()) == step_limits.DELIVERIES == 1024
        assert harness.scheduler.busy
        harness.scheduler.step(harness.now_ns)
        assert sum(out(harness).values()) == 2048
        assert all(out(harness).values())
        harness.step()
        assert out(harness) == {0: 900, 1: 900, 2: 900}
        assert not harness.scheduler.busy


def test_a_step_gives_up_a_batch_of_removed_endpoints(tmp_path: Path) -> None:
    with SchedulerHarness(tmp_path / "data", ops("e0"), ops("e1"), ops("e2")) as harness:
        for endpoint in range(3):
            stored(harness, endpoint, 900)
        harness.reopen(ops("other"))
        pending = sum(harness.store.pending.values())
        steps = 0
        while pending:
            harness.scheduler.step(harness.now_ns)
            left = sum(harness.store.pending.values())
            assert 0 < pending - left <= step_limits.DELIVERIES
            pending = left
            steps += 1
        assert steps == 3


def test_a_step_closes_some_windows(tmp_path: Path) -> None:
    """Each is a transaction."""
    aggregating = Aggregate(window=Duration.parse("1s"))
    endpoints = [ops(f"e{i}", aggregate=aggregating) for i in range(150)]
    with SchedulerHarness(tmp_path / "data", *endpoints) as harness:
        for i in range(150):
            delivery = harness.fresh(f"e{i}", "service.5xx", endpoint=i)
            harness.reporter.report(delivery, "aggregated", "")
        harness.step()
        assert len(harness.scheduler.windows.open) == 150
        harness.now_ns += HOUR
        counts = []
        while harness.scheduler.windows.open:
            before = len(harness.scheduler.windows.open)
            harness.scheduler.step(harness.now_ns)
            counts.append(before - len(harness.scheduler.windows.open))
        assert counts == [step_limits.TRANSACTIONS, step_limits.TRANSACTIONS, 22]


def test_a_step_disables_some_endpoints(tmp_path: Path) -> None:
    with SchedulerHarness(tmp_path / "data", *(ops(f"e{i}") for i in range(100))) as harness:
        harness.scheduler.disabling.to_disable = dict.fromkeys(range(100), ("gone", harness.now_ns))
        harness.scheduler.step(harness.now_ns)
        assert len(harness.scheduler.disabling.to_disable) == 100 - step_limits.TRANSACTIONS
        assert harness.scheduler.busy
        harness.scheduler.step(harness.now_ns)
        assert not harness.scheduler.disabling.to_disable
