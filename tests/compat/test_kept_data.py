"""A data directory of an earlier version opens, and all that stands in it is delivered."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compat.world import config
from fluxhook import EndpointStats, Engine
from fluxhook.control import Selection
from fluxhook.stats import read_stats
from fluxhook.store.audit import read_audit
from support.receiver import ReceiverProcess
from support.rig import until

HERE = Path(__file__).parent
KEPT = sorted(HERE.glob("*.tar.xz"))
DEADLINE_S = 30.0


class World:
    """The kept directory of one version, opened by this one, and what its events' ids are."""

    def __init__(self, archive: Path, folder: Path, receiver: ReceiverProcess) -> None:
        self.ids: dict[str, list[str]] = json.loads(
            archive.with_name(archive.name.replace(".tar.xz", ".json")).read_bytes()
        )
        with tarfile.open(archive) as tar:
            # "data" would refuse the FIFOs; 3.11.2 knows no filters
            safe: dict[str, Any] = {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}
            tar.extractall(folder, **safe)
        self.data_dir = folder / "data"
        self.receiver = receiver
        self.engine = Engine(config(receiver.url), self.data_dir)

    def stats(self, endpoint: str) -> EndpointStats:
        (found,) = (e for e in read_stats(self.data_dir).endpoints if e.name == endpoint)
        return found

    def arrives(self, endpoint: str) -> None:
        """Wait for every id, of an endpoint that gets all of what it had accepted, once."""
        wanted = self.ids[endpoint]
        self.receiver.wait_for(len(wanted), f"/{endpoint}", DEADLINE_S)
        assert self.receiver.ids(f"/{endpoint}") == dict.fromkeys(wanted, 1)


@pytest.fixture(params=KEPT, ids=lambda path: path.name.removesuffix(".tar.xz"))
def world(
    request: pytest.FixtureRequest, tmp_path: Path, receiver: ReceiverProcess
) -> Iterator[World]:
    world = World(request.param, tmp_path, receiver)
    try:
        yield world
    finally:
        world.engine.close()


def test_everything_is_kept(world: World) -> None:
    """Before an engine starts the books of the earlier version are read as they are."""
    for name, ids in world.ids.items():
        stats = world.stats(name)
        waits = stats.dead if name == "dead" else stats.pending
        if name == "window":  # those that are counted in it, and the notification that it will be
            waits += stats.aggregated - 1
        assert (waits, stats.balance) == (len(ids), 0), name
        assert sum(stats.dead_by_cause.values()) == stats.dead
        assert "unknown" not in stats.dead_by_cause


def test_everything_is_delivered(world: World) -> None:
    """Events in rings, in outboxes and in the store arrive once; paused webhooks keep what they have
    until they are resumed, dead letters until they are replayed, an open window its count."""
    deaths = world.stats("dead").died_by_cause
    world.engine.start()
    assert world.stats("dead").died_by_cause == deaths
    for name in ("plain", "waiting", "order", "broken"):
        world.arrives(name)
    bodies = [json.loads(request.body) for request in world.receiver.requests("/order")]
    for key in ("a", "b"):
        numbers = [body["data"]["n"] for body in bodies if body["data"]["key"] == key]
        assert numbers == sorted(numbers), f"the order of {key}"

    control = world.engine.control
    assert control.replay(Selection(endpoint="dead")).done == len(world.ids["dead"])
    world.arrives("dead")
    until(lambda: not world.stats("dead").pending)
    assert (world.stats("dead").dead_by_cause, world.stats("dead").died_by_cause) == ({}, deaths)
    for name in ("created", "rotated"):
        secret = {"secret": f"secret-of-{name}"}
        control.update(name, {"url": f"{world.receiver.url}/{name}", **secret})
        assert world.stats(name).state == "paused"
        control.resume(name)
        world.arrives(name)
    assert world.stats("paused").pending == len(world.ids["paused"])

    until(lambda: world.receiver.total("/window") > 0, deadline_s=DEADLINE_S)
    until(lambda: not world.stats("window").pending, deadline_s=DEADLINE_S)
    notices = [json.loads(request.body) for request in world.receiver.requests("/window")]
    assert sum(notice["data"]["count"] for notice in notices) == len(world.ids["window"])

    assert len(list(read_audit(world.data_dir / "audit"))) == 4
    for endpoint in read_stats(world.data_dir).endpoints:
        assert endpoint.balance == 0, endpoint
