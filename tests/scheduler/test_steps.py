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
from fluxhook.scheduler import scheduler as keeper
from fluxhook.supervisor import control_server as listener
from fluxhook.supervisor.control_server import Listener
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.records import EventHead
from support.scheduler_harness import HOUR, Desk


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

    def apply(self, request: c.Request) -> msgspec.Struct:
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
    """How many requests each step answered."""
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
    with Desk(tmp_path / "data", ops()), pytest.raises(EngineError, match="did not answer"):
        Control(tmp_path / "data", timeout_s=0.1).send_test("ops", data={"x": "x" * (9 << 20)})


# ---- the keeper ----------------------------------------------------------------------------


def stored(desk: Desk, endpoint: int, n: int) -> None:
    """Puts so many deliveries into the store, due now."""
    with desk.store.batch() as batch:
        for i in range(n):
            batch.add(
                (desk.now_ns // 1000 + i) << 6 | endpoint,  # as a worker makes one
                endpoint,
                EventHead(f"e-{endpoint}-{i}", "route.error"),
                b"{}",
                accepted_ns=desk.now_ns,
                due_ns=desk.now_ns,
            )


def out(desk: Desk) -> dict[int, int]:
    return {e: desk.store.leased(e) for e in range(3)}


def test_a_step_hands_out_a_batch(tmp_path: Path) -> None:
    """Whatever the endpoints may have under way at a time; and the next step begins with those that had
    nothing of this one."""
    endpoints = [ops(f"e{i}", concurrency=65_536) for i in range(3)]
    with Desk(tmp_path / "data", *endpoints) as desk:
        for endpoint in range(3):
            stored(desk, endpoint, 900)
        desk.keeper.step(desk.now_ns)
        assert sum(out(desk).values()) == keeper.BATCH == 1024
        assert desk.keeper.busy
        desk.keeper.step(desk.now_ns)
        assert sum(out(desk).values()) == 2048
        assert all(out(desk).values())
        desk.step()
        assert out(desk) == {0: 900, 1: 900, 2: 900}
        assert not desk.keeper.busy


def test_a_step_gives_up_a_batch_of_removed_endpoints(tmp_path: Path) -> None:
    with Desk(tmp_path / "data", ops("e0"), ops("e1"), ops("e2")) as desk:
        for endpoint in range(3):
            stored(desk, endpoint, 900)
        desk.reopen(ops("other"))
        pending = sum(desk.store.pending.values())
        steps = 0
        while pending:
            desk.keeper.step(desk.now_ns)
            left = sum(desk.store.pending.values())
            assert 0 < pending - left <= keeper.BATCH
            pending = left
            steps += 1
        assert steps == 3


def test_a_step_closes_some_windows(tmp_path: Path) -> None:
    """Each is a transaction."""
    aggregating = Aggregate(window=Duration.parse("1s"))
    endpoints = [ops(f"e{i}", aggregate=aggregating) for i in range(150)]
    with Desk(tmp_path / "data", *endpoints) as desk:
        for i in range(150):
            delivery = desk.fresh(f"e{i}", "service.5xx", endpoint=i)
            desk.reporter.report(delivery, "aggregated", "")
        desk.step()
        assert len(desk.keeper._windows) == 150
        desk.now_ns += HOUR
        counts = []
        while desk.keeper._windows:
            before = len(desk.keeper._windows)
            desk.keeper.step(desk.now_ns)
            counts.append(before - len(desk.keeper._windows))
        assert counts == [keeper.TRANSACTIONS, keeper.TRANSACTIONS, 22]


def test_a_step_disables_some_endpoints(tmp_path: Path) -> None:
    with Desk(tmp_path / "data", *(ops(f"e{i}") for i in range(100))) as desk:
        desk.keeper._doomed = dict.fromkeys(range(100), ("gone", desk.now_ns))
        desk.keeper.step(desk.now_ns)
        assert len(desk.keeper._doomed) == 100 - keeper.TRANSACTIONS
        assert desk.keeper.busy
        desk.keeper.step(desk.now_ns)
        assert not desk.keeper._doomed
