"""The engine's processes: starting, stopping, dying."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from fluxhook import (
    ConfigError,
    Engine,
    EngineError,
    EngineRunning,
    FluxhookError,
    LayoutError,
    Publisher,
    Retry,
    connect,
)
from fluxhook.receiver import Behaviour
from fluxhook.stats import read_stats
from support.rig import QUICK, Rig, seconds, supervisor_pid, until


def titles(pid: int) -> list[str]:
    """The titles of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{p}/cmdline").read_text().strip("\0 ") for p in (str(pid), *children)]


def test_one_engine_for_a_data_directory(rig: Rig) -> None:
    """The second is refused and told whose it is; the first goes on."""
    with rig.engine(rig.endpoint("a")) as first:
        with pytest.raises(EngineRunning, match=str(supervisor_pid(rig.data_dir))):
            rig.engine(rig.endpoint("a")).start()
        assert first.emit("order.paid", {}) == 1
        assert first.drain(10)


def test_processes_say_what_they_are(rig: Rig) -> None:
    """In ps and top: role, number, data directory."""
    with rig.engine(rig.endpoint("a"), workers=2):
        until(lambda: len(titles(supervisor_pid(rig.data_dir))) == 3)
        until(lambda: all(t.startswith("fluxhook") for t in titles(supervisor_pid(rig.data_dir))))
        assert sorted(t.split(" [")[0] for t in titles(supervisor_pid(rig.data_dir))) == [
            "fluxhook supervisor",
            "fluxhook worker 0",
            "fluxhook worker 1",
        ]


def test_a_bad_configuration_is_refused_before_anything_starts(rig: Rig) -> None:
    """ConfigError with the path; no data directory is made."""
    with pytest.raises(ConfigError, match=r"endpoints\[0\]\.url"):
        Engine(rig.config(rig.endpoint("a", url="ftp://x/")), rig.data_dir)
    assert not rig.data_dir.exists()


def test_a_subscription_to_nothing_is_pointed_out(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """A host may emit any type, so it is a line in the log of the host, and only for what the engine
    does not know."""
    rig.engine(rig.endpoint("a", events=("route", "order.paid")), event_types=("order.paid",))
    (said,) = caplog.messages
    assert said.startswith(
        "endpoints[0].events[0]: no known event type matches 'route' (did you mean route.*?)"
    )


def test_an_unusable_data_directory_is_an_error(rig: Rig, tmp_path: Path) -> None:
    """A file in its place: one sentence, no traceback."""
    (tmp_path / "data").write_text("")
    with pytest.raises(EngineError, match="cannot be used"):
        rig.engine(rig.endpoint("a")).start()


def test_what_it_writes_is_its_owners_alone(rig: Rig) -> None:
    """Nobody else reaches the secrets in `config.json`, or any other file, through the data
    directory."""
    with rig.engine(rig.endpoint("a", signature="fluxgate", secrets=("s3cret",))) as engine:
        assert "s3cret" in (rig.data_dir / "config.json").read_text()
        assert engine.data_dir.stat().st_mode & 0o077 == 0


def test_an_engine_must_be_started(rig: Rig) -> None:
    """emit says what to do."""
    with pytest.raises(EngineError, match="start"):
        rig.engine(rig.endpoint("a")).emit("order.paid", {})


def test_close_delivers_what_is_in_the_rings(rig: Rig) -> None:
    """Nothing is left waiting if the endpoint is well."""
    with rig.engine(rig.endpoint("a"), workers=2) as engine:
        for i in range(2000):
            engine.emit("order.paid", {}, event_id=f"n{i}")
    assert rig.receiver.distinct("/a") == 2000


def test_retries_survive_a_restart(rig: Rig) -> None:
    """A retry that was due later is in the store, and goes out after the next start, the attempts
    before the restart counted."""
    rig.receiver.behave(Behaviour(status=503), "/a")
    slow = Retry(max_attempts=3, initial_interval=seconds(30), max_interval=seconds(30))
    with rig.engine(rig.endpoint("a", retry=slow)) as engine:
        for i in range(10):
            engine.emit("order.paid", {}, event_id=f"n{i}")
        until(lambda: engine.stats().endpoint("a").failed_attempts == 10)
    rig.receiver.behave(None, "/a")
    with rig.engine(rig.endpoint("a", retry=slow)) as engine:
        assert engine.stats().endpoint("a").pending == 10
        assert engine.stats().endpoint("a").balance == 0


def test_shutdown_timeout_bounds_the_drain(rig: Rig) -> None:
    """A hanging endpoint cannot hold the engine for longer; what it did not take is delivered after the
    next start."""
    rig.receiver.behave(Behaviour(fault="hang"), "/a")
    with rig.engine(
        rig.endpoint("a", timeout=seconds(30)), shutdown_timeout=seconds(0.3)
    ) as engine:
        for i in range(10):
            engine.emit("order.paid", {}, event_id=f"n{i}")
        until(lambda: len(rig.receiver.requests("/a")) > 0 or rig.receiver.state().open > 0)
        begun = time.monotonic()
    assert time.monotonic() - begun < 15  # the endpoint may take 30 s
    rig.receiver.behave(None, "/a")
    with rig.engine(rig.endpoint("a")) as engine:
        assert engine.drain(10)
        assert engine.stats().endpoint("a").balance == 0
    assert rig.receiver.distinct("/a") == 10


def test_the_engine_outlives_its_host_until_it_has_delivered(rig: Rig) -> None:
    """A host that dies leaves its rings behind: the supervisor drains them and leaves."""
    host = """
import os, sys
sys.path[:0] = eval(sys.argv[1])
from pathlib import Path
from support.rig import Rig
class Receiver: url = sys.argv[2]
rig = Rig(Receiver, Path(sys.argv[3]))
engine = rig.engine(rig.endpoint("a")).start()
for i in range(1000):
    engine.emit("order.paid", {}, event_id=f"n{i}")
os._exit(0)
"""
    subprocess.run(
        [sys.executable, "-c", host, repr(sys.path), rig.receiver.url, str(rig.data_dir)],
        check=True,
        timeout=30,
    )
    rig.receiver.wait_for(1000, "/a")
    until(lambda: not (rig.data_dir / "engine.json").exists())


def test_another_process_attaches(rig: Rig) -> None:
    """`connect` from this process beside the engine's own publisher."""
    with rig.engine(rig.endpoint("a")) as engine, connect(rig.data_dir) as publisher:
        assert publisher.emit("order.paid", {}) + engine.emit("order.paid", {}) == 2
        assert engine.drain(10)
    assert rig.receiver.distinct("/a") == 2


def test_a_killed_supervisor_is_replaced(rig: Rig) -> None:
    """The host's engine starts another; nothing is lost."""
    with rig.engine(rig.endpoint("a", retry=QUICK)) as engine:
        first = supervisor_pid(rig.data_dir)
        os.kill(first, signal.SIGKILL)
        for i in range(100):
            engine.emit("order.paid", {}, event_id=f"n{i}")
        assert engine.drain(20)
        until(lambda: supervisor_pid(rig.data_dir) != first)
    assert rig.receiver.distinct("/a") == 100


def test_a_data_directory_that_is_removed(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Is noticed within a second: the engine says so and ends, and nothing is accepted into files that
    nobody will read. The host's engine starts another, in a new directory, and its publisher goes on in
    that, as another process's does."""
    with rig.engine(rig.endpoint("a")) as engine, connect(rig.data_dir) as other:
        publishers = (engine.publisher, other)
        first = supervisor_pid(rig.data_dir)
        shutil.rmtree(rig.data_dir)
        for publisher in publishers:
            refusals: set[str] = set()
            until(partial(accepted, rig, publisher, refusals))
            assert all("was removed or replaced" in refusal for refusal in refusals)
        until((rig.data_dir / "engine.json").exists)
        assert supervisor_pid(rig.data_dir) != first
        assert engine.drain(20)
        assert engine.stats().endpoint("a").delivered == 2
        assert engine.stats().endpoint("a").balance == 0
    assert "was removed or replaced under this engine" in caplog.text


def accepted(rig: Rig, publisher: Publisher, refusals: set[str]) -> bool:
    """Return whether an event is, and stands in the files that are there."""
    before = standing(rig)
    return emitted(publisher, refusals) and standing(rig) > before


def emitted(publisher: Publisher, refusals: set[str]) -> bool:
    try:
        publisher.emit("order.paid", {})
    except EngineError as e:
        refusals.add(str(e))
        return False
    return True


def standing(rig: Rig) -> int:
    """Return how many events the files have accepted that are there."""
    try:
        return read_stats(rig.data_dir).endpoint("a").accepted
    except FluxhookError:
        return 0


def test_an_engine_whose_data_directory_was_removed_and_cannot_be_made(rig: Rig) -> None:
    """Refuses each event, and says why."""
    with rig.engine(rig.endpoint("a")) as engine:
        shutil.rmtree(rig.data_dir)
        rig.data_dir.write_text("in the way")
        refusals: set[str] = set()
        until(lambda: not emitted(engine.publisher, refusals))
        assert any("was removed or replaced" in refusal for refusal in refusals)


def test_a_store_that_is_gone(rig: Rig) -> None:
    """Its host gets the error's own kind, and what helps."""
    with rig.engine(rig.endpoint("a")):
        pass
    for path in rig.data_dir.glob("store.db*"):
        path.unlink()
    with pytest.raises(LayoutError, match=r"store\.db is missing.*--accept-loss"):
        rig.engine(rig.endpoint("a")).start()


def test_a_forked_child_closes_only_what_is_its_own(rig: Rig) -> None:
    """Its parent's engine goes on, with its callbacks, and neither waits for the other."""
    heard: list[str] = []
    rig.receiver.behave(Behaviour(status=400), "/dead")
    running = Engine(
        rig.config(rig.endpoint("dead", retry=Retry(max_attempts=1))),
        rig.data_dir,
        on_dead_letter=lambda letter: heard.append(letter.event_id),
    )
    rig.engines.append(running)
    with running:
        began = time.monotonic()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                running.emit("order.paid", {}, event_id="of-child")
                running.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert time.monotonic() - began < 10
        running.emit("order.paid", {}, event_id="of-parent")
        until(lambda: set(heard) == {"of-child", "of-parent"}, "both have died")
