"""The Go contender: a notifier made after FluxMQ's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from bench.machine import Cores, describe
from bench.rows import Load

from bench import contenders
from fluxhook.receiver import Behaviour
from support.receiver import ReceiverProcess

CORES = Cores.divide()
WARM_UP = 1000
pytestmark = pytest.mark.usefixtures("affinity")


class Receiver:
    """A load, as a contender gets it."""

    def __init__(self, process: ReceiverProcess) -> None:
        self.process = process
        self.pid = process.pid

    def urls(self, load: Load) -> list[str]:
        return [self.process.url + "/"]

    def requests(self) -> int:
        return self.process.total()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with ReceiverProcess() as process:
        yield Receiver(process)


@pytest.mark.parametrize("name", list(contenders.NOTIFIERS))
def test_the_notifier_sends_what_it_says(name: str, receiver: Receiver, tmp_path: Path) -> None:
    """Built by the run, it posts each event once, in bodies of the size that all contenders send.
    It needs Go: apt-get install golang-go."""
    load = Load(payload=700)
    begun = datetime.now(UTC).replace(microsecond=0)
    figures = contenders.run(name, load, receiver, CORES, 200, tmp_path)
    assert figures["lost"] == 0
    assert figures["rate"] > 0
    assert figures["cpu"] > 0
    assert receiver.process.distinct() == receiver.process.total() >= WARM_UP + 100
    for request in receiver.process.requests():
        assert len(request.body) == 700
        assert request.headers["content-type"] == "application/json"
        body = json.loads(request.body)
        assert list(body) == ["id", "type", "timestamp", "gateway_node", "data"]
        assert UUID(body["id"]).version == 4
        assert begun <= datetime.fromisoformat(body["timestamp"]) <= datetime.now(UTC)


def test_the_header_of_a_run_names_the_compiler(tmp_path: Path) -> None:
    """A figure of the notifier is worth nothing without it."""
    assert describe("nginx", tmp_path)["go"].startswith("go1.")


def test_what_is_refused_is_a_loss(
    receiver: Receiver, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No retry makes up for it, and the first one is told."""
    receiver.process.behave(Behaviour(status=503))
    figures = contenders.run("notifier", Load(), receiver, CORES, 100, tmp_path)
    assert figures["lost"] >= WARM_UP + 100
    assert capfd.readouterr().err == "notifier: the first that failed: answered with 503\n"


@pytest.mark.parametrize("name", list(contenders.NOTIFIERS))
def test_without_go_it_is_left_out(
    name: str, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that brings it, and the header of a run says so too."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(contenders.Absent, match="^go is not installed: apt-get install golang-go$"):
        contenders.run(name, Load(), receiver, CORES, 100, tmp_path)
    assert describe("nginx", tmp_path)["go"] == "not installed"


@pytest.mark.parametrize(("name", "workers"), [("notifier", "5"), ("notifier-200", "200")])
def test_workers_are_what_the_name_says(
    name: str, workers: str, receiver: Receiver, tmp_path: Path
) -> None:
    """Whatever the row has in flight; a program that was built in this run is not built again."""
    answer = json.dumps({"seconds": 1, "cpu_us": 20, "warm_up": 0, "failed": 0})
    program = tmp_path / "notifier"
    program.write_text(f"#!/bin/sh\necho $* > '{tmp_path}/arguments'\necho '{answer}'\n")
    program.chmod(0o755)
    figures = contenders.run(name, Load(in_flight=64), receiver, CORES, 100, tmp_path)
    assert figures == {"rate": 100, "cpu": 20, "lost": 100}
    assert (tmp_path / "arguments").read_text().split() == [
        *("--url", f"{receiver.process.url}/"),
        *("--requests", "100", "--payload", "600", "--in-flight", workers),
    ]


def test_a_program_that_cannot_be_built_ends_the_run(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what the compiler said. Nothing is fetched: an import from elsewhere is such an error."""
    source = tmp_path / "other.go"
    source.write_text('package main\n\nimport _ "example.org/other"\n\nfunc main() {}\n')
    monkeypatch.setattr(contenders, "NOTIFIER", source)
    with pytest.raises(SystemExit, match=r"bench: other\.go cannot be built\n(.|\n)*example\.org"):
        contenders.run("notifier", Load(), receiver, CORES, 100, tmp_path)
