"""The parts of the benchmark at work, against its own receiver: no figure is looked at but the
losses."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.machine import ROOT, Cores
from bench.receiver import CountingReceiver, Missing, address, find_program
from bench.rows import Load
from bench.stage import Stage

from bench import contenders

LOAD = Load(publishers=2, endpoints=2, in_flight=16, slow=True)
CORES = Cores.divide()
pytestmark = pytest.mark.usefixtures("affinity")


@pytest.fixture
def receiver() -> Iterator[CountingReceiver]:
    with CountingReceiver(LOAD.endpoints, slow=True) as receiver:
        yield receiver


def test_a_stage_balances_its_books(receiver: CountingReceiver) -> None:
    """Events of two hosts were accepted, delivered, and seen by the receiver, each id once."""
    with Stage(LOAD, CORES, receiver) as stage:
        figures = stage.deliver(60)
    assert (figures["lost"], figures["surplus"]) == (0, 0)
    assert receiver.requests() == receiver.distinct() == 60
    assert figures["cpu"] > 0


def test_a_stage_whose_events_are_aggregated(receiver: CountingReceiver) -> None:
    """All of them are counted in the store, and none is sent."""
    with Stage(LOAD._replace(aggregate=True), CORES, receiver) as stage:
        for _ in range(2):
            figures = stage.aggregate(60)
            assert (figures["lost"], figures["surplus"]) == (0, 0)
    assert receiver.requests() == 0
    assert figures["rate"] > 0


def test_a_loss_is_seen(receiver: CountingReceiver) -> None:
    """A request that nobody accounts for makes the books wrong."""
    with Stage(LOAD, CORES, receiver) as stage:
        bare(receiver, 1)
        assert stage.settled()["surplus"] > 0


def bare(receiver: CountingReceiver, count: int) -> dict[str, float]:
    load = LOAD._replace(in_flight=200)
    return contenders.run("bare", load, receiver, CORES, count, Path())


def test_a_contender_is_held_to_the_same(receiver: CountingReceiver) -> None:
    """The receiver counted what it says that it sent."""
    assert bare(receiver, 100)["lost"] == 0


def test_threads_send_what_they_say(receiver: CountingReceiver) -> None:
    """The one client that needs no package."""
    load = LOAD._replace(in_flight=32)
    assert contenders.run("threads", load, receiver, CORES, 100, Path())["lost"] == 0


def test_what_is_not_installed_is_no_error(
    receiver: CountingReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A contender is left out with the command that brings it."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(contenders.Absent, match="apt-get install wrk"):
        contenders.run("wrk", LOAD, receiver, CORES, 100, Path())


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that can be followed."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(Missing, match="nginx is missing; on Debian: apt-get install nginx-light"):
        find_program("nginx", "nginx-light")


def test_endpoints_have_hosts_of_their_own() -> None:
    """All of them valid loopback addresses."""
    addresses = [address(n) for n in range(4096)]
    assert len(set(addresses)) == len(addresses)
    assert all(each.startswith("127.") for each in addresses)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "nonsense"), "there is no row 'nonsense'; choose from main,"),
        (("--repeat", "0"), "--repeat is at least 1"),
        (("--budget", "0"), "--budget is more than 0"),
    ],
)
def test_bad_options_are_explained(arguments: tuple[str, ...], message: str) -> None:
    """With status 2, and before anything is started."""
    run = subprocess.run(
        [sys.executable, "-m", "bench", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert message in run.stderr


#: a machine on which nothing is found
NOWHERE = """
import runpy, shutil

shutil.which = lambda *_, **__: None
runpy.run_module("bench", {}, "__main__")
"""


def test_the_command_says_what_it_lacks() -> None:
    """One line with the command that brings nginx, and status 2."""
    run = subprocess.run(
        [sys.executable, "-c", NOWHERE, "--versions"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stderr == "bench: nginx is missing; on Debian: apt-get install nginx-light\n"
