"""The log of an engine as its host has it, and its callbacks."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import fluxhook
from fluxhook import Breaker, DeadLetter, EndpointStateChange, Engine, Retry
from fluxhook.receiver import Behaviour
from support.rig import NEVER, QUICK, Rig, seconds, supervisor_pid, until

SHORT = Breaker(failure_threshold=2, reset_timeout=seconds(0.3))
#: one failed attempt is the end
ONCE = Retry(max_attempts=1, initial_interval=seconds(0.05), max_interval=seconds(0.2))


class Heard:
    """What the callbacks got, and on which threads."""

    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []
        self.changes: list[EndpointStateChange] = []
        self.threads: set[str] = set()

    def letter(self, letter: DeadLetter) -> None:
        self.threads.add(threading.current_thread().name)
        self.letters.append(letter)

    def change(self, change: EndpointStateChange) -> None:
        self.threads.add(threading.current_thread().name)
        self.changes.append(change)

    def states(self, name: str) -> list[str]:
        return [change.state for change in self.changes if change.endpoint == name]


def engine(rig: Rig, heard: Heard, *endpoints: fluxhook.Endpoint, **options: object) -> Engine:
    made = Engine(
        rig.config(*endpoints, **options),
        rig.data_dir,
        on_dead_letter=heard.letter,
        on_endpoint_state=heard.change,
    )
    rig.engines.append(made)
    return made


def events(caplog: pytest.LogCaptureFixture, endpoint: str) -> list[str]:
    return [
        vars(record)["fields"]["event"]
        for record in list(caplog.records)
        if vars(record).get("fields", {}).get("endpoint") == endpoint
    ]


@pytest.fixture
def heard() -> Heard:
    return Heard()


def test_an_incident_stands_in_the_hosts_log_and_reaches_its_callbacks(
    rig: Rig, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    """An endpoint that fails, opens, closes and recovers, one whose events die, and one that cannot be
    built: the records come from other processes, under the names, levels and fields of the log."""
    rig.receiver.behave(Behaviour(status=503), "/flaky")
    rig.receiver.behave(Behaviour(status=400), "/dead")
    held = rig.endpoint("held", signature="standard", secrets=("whsec_AAAA whsec_BBBB",))
    with (
        caplog.at_level(logging.INFO, "fluxhook"),
        engine(
            rig,
            heard,
            rig.endpoint("flaky", circuit_breaker=SHORT, retry=QUICK),
            rig.endpoint("dead", circuit_breaker=NEVER, retry=ONCE),
        ) as running,
    ):
        for n in range(20):
            running.emit("order.paid", {}, event_id=f"n{n}")
        until(lambda: "breaker_opened" in events(caplog, "flaky"), "open")
        rig.receiver.behave(None, "/flaky")
        until(lambda: "recovered" in events(caplog, "flaky"), "recovered")
        until(lambda: "dead_letters" in events(caplog, "dead"), "dead letters")
        until(lambda: len(heard.letters) >= 20, "letters")
    assert held
    order = [e for e in events(caplog, "flaky") if e != "dead_letters"]
    assert order[:2] == ["first_failure", "breaker_opened"]
    assert order[-2:] == ["breaker_closed", "recovered"]
    records = {
        vars(r)["fields"]["event"]: r
        for r in caplog.records
        if "event" in vars(r).get("fields", {})
    }
    opened = records["breaker_opened"]
    assert (opened.name, opened.levelname) == ("fluxhook.endpoint", "WARNING")
    assert vars(opened)["cause"] == "server_error"
    assert vars(opened)["role"] == "supervisor"
    assert opened.process not in (None, os.getpid())
    dead = [letter for letter in heard.letters if letter.endpoint == "dead"]
    assert {letter.event_id for letter in dead} == {f"n{n}" for n in range(20)}
    assert {letter.cause for letter in dead} == {"client_error"}
    assert "open" in heard.states("flaky")
    assert heard.states("flaky")[-1] == "active"
    assert heard.threads == {"fluxhook-callbacks"}


def test_a_callback_that_blocks_or_raises_holds_up_nothing(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is delivered and counted meanwhile, what is left out is counted, and `close` returns."""
    monkeypatch.setattr("fluxhook.host_listener.MOST_CALLS", 5)
    monkeypatch.setattr("fluxhook.host_listener.CLOSE_S", 0.5)
    rig.receiver.behave(Behaviour(status=400), "/dead")
    blocked, go_on = threading.Event(), threading.Event()
    calls: list[str] = []

    def on_dead_letter(letter: DeadLetter) -> None:
        calls.append(letter.event_id)
        if len(calls) == 1:
            blocked.set()
            go_on.wait(60)
        raise ValueError("of the host")

    made = Engine(
        rig.config(rig.endpoint("dead", retry=ONCE)), rig.data_dir, on_dead_letter=on_dead_letter
    )
    rig.engines.append(made)
    with made:
        for n in range(50):
            made.emit("order.paid", {}, event_id=f"n{n}")
        assert blocked.wait(60)
        assert made.drain(60)
        assert made.stats().endpoint("dead").dead == 50
        go_on.set()
        until(lambda: len(calls) >= 2, "the calls go on")
        made.emit("order.paid", {}, event_id="last")
        until(lambda: "last" in calls, "later ones too")
    raised = [r for r in caplog.records if "on_dead_letter raised" in r.getMessage()]
    assert raised
    assert "of the host" in raised[0].getMessage()
    left_out = [vars(r)["fields"] for r in caplog.records if "callbacks were left out" in r.message]
    assert sum(fields["count"] for fields in left_out) + len(calls) == 51


def test_callbacks_go_on_after_the_supervisor_was_replaced(rig: Rig, heard: Heard) -> None:
    """The channel is the host's, and each supervisor gets it."""
    rig.receiver.behave(Behaviour(status=400), "/dead")
    with engine(rig, heard, rig.endpoint("dead", retry=ONCE)) as running:
        running.emit("order.paid", {}, event_id="before")
        until(lambda: len(heard.letters) == 1, "the first")
        supervisor = supervisor_pid(rig.data_dir)
        os.kill(supervisor, signal.SIGKILL)
        until(lambda: supervisor_pid(rig.data_dir) != supervisor, "a new supervisor")
        running.emit("order.paid", {}, event_id="after")
        until(lambda: "after" in [letter.event_id for letter in heard.letters], "the second")


PROGRAM = """
import sys, time
from fluxhook import Config, Endpoint, Engine, Retry, Duration
from fluxhook.config.schema import LogOptions

url, data_dir, format = sys.argv[1:]
once = Retry(max_attempts=1)
config = Config(
    endpoints=(Endpoint(name="dead", url=url, signature="none", retry=once),),
    workers=1, allow_networks=("127.0.0.0/8",), log=LogOptions(format=format),
)
with Engine(config, data_dir) as engine:
    engine.emit("order.paid", {})
    engine.drain(60)
    time.sleep(0.1)
"""


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_host_without_logging_gets_the_lines_on_standard_error(rig: Rig, format: str) -> None:
    """As ever, from all processes, in the format that was chosen; each line is whole."""
    rig.receiver.behave(Behaviour(status=400), "/dead")
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"{rig.receiver.url}/dead", rig.data_dir, format],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(fluxhook.__file__).parents[1])},
    )
    assert ended.returncode == 0, ended.stderr
    lines = ended.stderr.splitlines()
    if format == "json":
        found = [json.loads(line) for line in lines]
        dead = next(line for line in found if line.get("event") == "dead_letters")
        assert (dead["endpoint"], dead["cause"], dead["count"]) == ("dead", "client_error", 1)
        assert dead["role"] == "supervisor"
    else:
        assert any(
            " fluxhook supervisor: ERROR: endpoint dead: events given up: 1 (client_error)" in line
            and "event=dead_letters endpoint=dead cause=client_error count=1" in line
            for line in lines
        )


HANGS = """
import os, sys, time
from fluxhook import Breaker, Config, Endpoint, Engine, Retry
import fluxhook.host_listener as listener
import threading

stop = threading.Event()
listener.HostListener._read = lambda self: stop.wait()  # a host that never reads
url, data_dir = sys.argv[1:]
config = Config(
    endpoints=(
        Endpoint(
            name="dead", url=url, signature="none", retry=Retry(max_attempts=1),
            circuit_breaker=Breaker(failure_threshold=1_000_000),
        ),
    ),
    workers=1, allow_networks=("127.0.0.0/8",),
)
engine = Engine(config, data_dir, on_dead_letter=print).start()
for n in range(3000):
    engine.emit("order.paid", {})
print("drained", engine.drain(60), flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_host_that_does_not_read_and_then_is_killed_hurts_nobody(rig: Rig) -> None:
    """Every delivery ends while it reads nothing; after its end the engine drains and leaves."""
    rig.receiver.behave(Behaviour(status=400), "/dead")
    ended = subprocess.run(
        [sys.executable, "-c", HANGS, f"{rig.receiver.url}/dead", rig.data_dir],
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(fluxhook.__file__).parents[1])},
    )
    assert ended.stdout == "drained True\n"
    until(lambda: not fluxhook.stats.read_stats(rig.data_dir).running, "the engine has left")
    assert fluxhook.stats.read_stats(rig.data_dir).endpoint("dead").dead == 3000


def test_levels_are_the_hosts(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """A host that asks for errors only gets no information from the other processes."""
    with caplog.at_level(logging.ERROR, "fluxhook"):
        with rig.engine(rig.endpoint("a")):
            time.sleep(0)
        assert [r for r in caplog.records if r.levelno < logging.ERROR] == []
