"""Changes to an engine that runs, through its socket: what arrives, what is refused, who is borne."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fluxhook import Duration, Endpoint, Engine, SignatureError, verify
from fluxhook import control as c
from fluxhook.config.secret import Secret
from fluxhook.errors import (
    ConfigError,
    Conflict,
    EngineError,
    EngineNotRunning,
    EventError,
    PayloadTooLarge,
    UnknownEndpoint,
)
from fluxhook.receiver import Behaviour
from fluxhook.store import ReadStore, State
from fluxhook.supervisor.control_server import MAX_CONNECTIONS
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.snapshot import Snapshot
from support.receiver import ReceiverProcess
from support.rig import Rig, seconds, until

SECRET = "sk_live_9x8m2p"


class Shared(Rig):
    """One engine for many tests; each takes names of its own."""

    engine_: Engine

    @property
    def control(self) -> c.Control:
        return c.Control(self.data_dir)

    def layer(self, name: str, **options: Any) -> dict[str, Any]:
        return {
            "name": name,
            "url": f"{self.receiver.url}/{name}",
            "events": [f"{name}.*"],
            "secret": SECRET,
            "retry": {"max_attempts": 2, "initial_interval": "10ms"},
            "circuit_breaker": {"failure_threshold": 1000},
        } | options

    def create(self, name: str, **options: Any) -> c.Subscription:
        return self.control.create(self.layer(name, **options))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with ReceiverProcess(keep=100) as receiver:
        rig = Shared(receiver, tmp_path_factory.mktemp("control") / "data")
        try:
            file = rig.endpoint("file", events=("file.*",))
            rig.engine_ = rig.engine(file, max_event_bytes=65536).start()
            yield rig
        finally:
            rig.close()


@contextlib.contextmanager
def connection(rig: Rig) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock, c.socket_path(DataDir(rig.data_dir)) as path:
        sock.connect(path)  # without a timeout, which would make a full queue an error (EAGAIN)
        sock.settimeout(10)
        yield sock


def answer(sock: socket.socket) -> dict[str, Any]:
    (length,) = struct.unpack("<I", _exactly(sock, 4))
    decoded: dict[str, Any] = msgspec.msgpack.decode(_exactly(sock, length))
    return decoded


def _exactly(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        chunk = sock.recv(length - len(data))
        assert chunk, "the engine hung up"
        data += chunk
    return data


PAUSE = c.frame(msgspec.msgpack.encode(c.Pause("no-such-endpoint")))

# ---- what arrives --------------------------------------------------------------------------


def test_an_endpoint_is_at_work_when_create_returns(shared: Shared) -> None:
    """The very next event goes there, signed."""
    made = shared.create("now")
    assert (made.name, made.secret) == ("now", None)
    assert shared.engine_.emit("now.x", {"n": 1}) == 1
    shared.receiver.wait_for(1, "/now")
    (request,) = shared.receiver.requests("/now")
    verify(request.body, request.headers, SECRET)
    stats = shared.engine_.stats().endpoint("now")
    assert (stats.id, stats.state, stats.url) == (made.id, "active", f"{shared.receiver.url}/now")


def test_an_update_is_in_effect_when_it_returns(shared: Shared) -> None:
    """Another URL, other events; the id stays."""
    made = shared.create("moved")
    changed = shared.control.update(
        "moved", {"url": f"{shared.receiver.url}/moved-on", "events": ["moved.away"]}
    )
    assert changed.id == made.id
    assert shared.engine_.emit("moved.x", {}) == 0
    assert shared.engine_.emit("moved.away", {}) == 1
    shared.receiver.wait_for(1, "/moved-on")
    assert shared.receiver.total("/moved") == 0


def test_a_deleted_endpoint_gets_nothing(shared: Shared) -> None:
    """Not from the moment on at which delete returns."""
    shared.create("deleted")
    assert shared.engine_.emit("deleted.x", {}) == 1
    shared.receiver.wait_for(1, "/deleted")
    shared.control.delete("deleted")
    assert shared.engine_.emit("deleted.x", {}) == 0
    assert shared.engine_.stats().endpoint("deleted").state == "removed"


@pytest.mark.parametrize("name", ["file", "paused"])
def test_a_pause_holds_back_and_a_resume_sends(shared: Shared, name: str) -> None:
    """Events that are accepted in between wait in the store."""
    if name != "file":
        shared.create(name)
    before = shared.receiver.distinct(f"/{name}")
    shared.control.pause(name)
    for n in range(20):
        assert shared.engine_.emit(f"{name}.x", {"n": n}) == 1
    until(lambda: shared.engine_.stats().endpoint(name).stored == 20)
    assert shared.engine_.stats().endpoint(name).state == "paused"
    assert shared.receiver.distinct(f"/{name}") == before
    shared.control.resume(name)
    shared.receiver.wait_for(before + 20, f"/{name}")


def test_a_generated_secret_signs(shared: Shared) -> None:
    """It is told in the answer."""
    made = shared.create("generated", secret=None, generate_secret=True)
    shared.engine_.emit("generated.x", {})
    shared.receiver.wait_for(1, "/generated")
    (request,) = shared.receiver.requests("/generated")
    assert made.secret
    verify(request.body, request.headers, made.secret)


def accepts(request: Any, secret: str) -> bool:
    try:
        verify(request.body, request.headers, secret)
    except SignatureError:
        return False
    return True


def test_both_secrets_sign_for_the_overlap(shared: Shared) -> None:
    """A receiver that has either accepts; afterwards only one that has the new."""
    shared.create("rotated")
    rotated = shared.control.rotate_secret("rotated", overlap=Duration.parse("1s"))
    assert rotated.generated
    shared.engine_.emit("rotated.x", {})
    shared.receiver.wait_for(1, "/rotated")
    assert time.time_ns() < rotated.expires_ns, "the machine is too slow for this test"
    both = shared.receiver.requests("/rotated")[0]
    assert accepts(both, SECRET)
    assert accepts(both, rotated.secret)

    def secrets() -> tuple[str, ...]:
        config = Snapshot.load(DataDir(shared.data_dir)).config
        return next(e.secrets for e in config.endpoints if e.name == "rotated")

    until(lambda: secrets() == (rotated.secret,))

    def signed_with_one() -> bool:
        """The worker takes the change up a moment after it is on record."""
        before = shared.receiver.distinct("/rotated")
        shared.engine_.emit("rotated.x", {})
        shared.receiver.wait_for(before + 1, "/rotated")
        latest = shared.receiver.requests("/rotated")[-1]
        assert accepts(latest, rotated.secret)
        return not accepts(latest, SECRET)

    until(signed_with_one)
    given = shared.control.rotate_secret("rotated", secret="sk_given", overlap=Duration(0))
    assert (given.secret, given.generated) == ("sk_given", False)


def test_a_test_event(shared: Shared) -> None:
    """Its delivery can be followed from the start to its success, attempt included."""
    shared.create("tested")
    sent = shared.control.send_test("tested", data={"hello": "world"})

    def look() -> Any:
        with ReadStore.open(DataDir(shared.data_dir).store) as store:
            row = store.delivery(sent.delivery_id)
            return row, store.attempts(sent.delivery_id)

    until(lambda: look()[0].state == State.DELIVERED)
    row, attempts = look()
    assert (row.event_id, row.type) == (sent.event_id, "webhook.test")
    assert [past.attempt.status for past in attempts] == [204]
    (request,) = shared.receiver.requests("/tested")
    assert json.loads(request.body)["data"] == {"hello": "world"}
    typed = shared.control.send_test("tested", "tested.other", {"n": 1})
    assert typed.event_id != sent.event_id
    assert shared.engine_.emit("webhook.test", {}) == 0  # nobody subscribed


# ---- replays and purges --------------------------------------------------------------------


def die(rig: Shared, name: str, n: int) -> list[int]:
    """Dead letters of an endpoint, by ascending id."""
    rig.create(name, retry={"max_attempts": 1})
    rig.receiver.behave(Behaviour(status=503), f"/{name}")
    for i in range(n):
        rig.engine_.emit(f"{name}.{'even' if i % 2 == 0 else 'odd'}", {"n": i})
    until(lambda: rig.engine_.stats().endpoint(name).dead == n)
    rig.receiver.behave(Behaviour(), f"/{name}")
    with ReadStore.open(DataDir(rig.data_dir).store) as store:
        return store.select_dead(endpoint=rig.engine_.stats().endpoint(name).id)


def test_a_replay_goes_on_in_steps(shared: Shared) -> None:
    """Each step says where the next begins; the last one says that it is the last."""
    ids = die(shared, "replayed", 7)
    control = shared.control
    first = control.replay(c.Selection(endpoint="replayed", type="replayed.even", limit=3))
    assert (first.done, first.after) == (3, ids[4])
    rest = control.replay(
        c.Selection(endpoint="replayed", type="replayed.even", limit=3, after=first.after or 0)
    )
    assert rest == c.Step(1, None)
    shared.receiver.wait_for(4, "/replayed")
    assert control.replay(c.Selection(ids=[*ids, ids[1], 0, -5, 2**64, 2**70])).done == 3
    shared.receiver.wait_for(7, "/replayed")
    assert control.replay(c.Selection(endpoint="replayed")) == c.Step(0, None)
    assert shared.engine_.stats().endpoint("replayed").dead == 0


def test_a_purge_leaves_a_line_for_each(shared: Shared) -> None:
    """By whatever they are chosen; what is gone cannot be replayed."""
    ids = die(shared, "purged", 5)
    control = shared.control
    assert control.purge(c.Selection(endpoint="purged", until_ns=1)).done == 0
    assert control.purge(c.Selection(endpoint="purged", cause="timeout")).done == 0
    assert control.purge(c.Selection(ids=ids[:2])).done == 2
    assert control.purge(c.Selection(endpoint="purged", cause="server_error", since_ns=1)).done == 3
    assert control.replay(c.Selection(ids=ids)).done == 0
    lines = (shared.data_dir / "audit" / "audit.jsonl").read_text().splitlines()
    assert sum('"purged.even"' in line for line in lines) == 3
    stats = shared.engine_.stats().endpoint("purged")
    assert (stats.dead, stats.dropped, stats.balance) == (0, {"purged": 5}, 0)


def test_a_selection_of_an_unknown_endpoint(shared: Shared) -> None:
    """Is refused, not taken for an empty one."""
    with pytest.raises(UnknownEndpoint, match=r"'fiel' \(did you mean file\?\)"):
        shared.control.replay(c.Selection(endpoint="fiel"))


# ---- what is refused -----------------------------------------------------------------------


def test_every_problem_comes_back(shared: Shared) -> None:
    """With path, message and remedy, as the check found them."""
    with pytest.raises(ConfigError) as caught:
        shared.create("bad", url="ftp://x", timeout="soon", events=[])
    assert [problem.path for problem in caught.value.problems] == ["events", "timeout", "url"]
    assert all(problem.message and problem.remedy for problem in caught.value.problems)


def test_every_kind_of_error_comes_back(shared: Shared) -> None:
    """As the class that a caller decides by."""
    control = shared.control
    with pytest.raises(Conflict, match="configuration file"):
        control.delete("file")
    with pytest.raises(UnknownEndpoint, match="did you mean file"):
        control.pause("fille")
    with pytest.raises(EventError, match="event type"):
        control.send_test("file", "No Type")
    with pytest.raises(PayloadTooLarge):
        control.send_test("file", data={"x": "y" * 70_000})
    with pytest.raises(ConfigError, match="name: cannot be changed"):
        shared.create("errors")
        control.update("errors", {"name": "other"})


def test_no_error_shows_a_secret(
    shared: Shared, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the caller's nor the engine's log."""
    for options in (
        {"secret": [" s3cret"]},
        {"secret": " s3cret"},
        {"secrets": ["s3cret"]},
        {"secret": "s3cret", "signature": "standard"},
        {"headers": {"A": "s3cret\n"}},
    ):
        with pytest.raises(ConfigError) as caught:
            shared.create("leak", **options)
        assert "s3cret" not in str(caught.value)
    shared.create("leak")
    with pytest.raises(ConfigError) as caught:
        shared.control.rotate_secret("leak", " s3cret")
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in "".join(capfd.readouterr()) + caplog.text


def test_values_of_the_configuration_can_be_given(shared: Shared) -> None:
    """Durations and secrets from a host's own structs are written as a file would."""
    made = shared.create("typed", timeout=Duration.parse("7s"), secret=Secret("sk_typed"))
    snapshot = Snapshot.load(DataDir(shared.data_dir))
    (endpoint,) = (e for e in snapshot.config.endpoints if e.name == made.name)
    assert (str(endpoint.timeout), endpoint.secrets) == ("7s", ("sk_typed",))


@pytest.mark.parametrize("value", [object(), "\ud800", 2**70, {1: {2}}, Endpoint])
def test_what_has_no_json_form(shared: Shared, value: Any) -> None:
    """Is an error of the package's own, before anything is sent."""
    with pytest.raises(ConfigError, match="has no JSON form|is not known here"):
        shared.create("odd", zzz=value)
    with pytest.raises(EventError):
        shared.control.send_test("file", data={"x": value})


@pytest.mark.parametrize("levels", [600, 5000, 20_000, 0], ids=lambda n: f"{n or 'endless'}")
def test_what_is_nested_too_deep(shared: Shared, levels: int) -> None:
    """Is found by a limit of ours, before a library recurses into it, as is what holds itself."""
    value: list[Any] = []
    if levels == 0:
        value += [value, value]
    for _ in range(levels):
        value = [value]
    with pytest.raises(ConfigError, match="nested over 512 levels deep"):
        shared.create("odd", where=value)
    with pytest.raises(ConfigError, match="nested over 512 levels deep"):
        shared.control.update("file", {"headers": {"x": value}})
    with pytest.raises(EventError, match="nested over 512 levels deep"):
        shared.control.send_test("file", data={"x": value})


# ---- who may be at the other end -----------------------------------------------------------


def test_the_socket_is_the_owners_alone(shared: Shared) -> None:
    """A client that may connect may change everything."""
    mode = (shared.data_dir / "control.sock").stat().st_mode
    assert mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 64,
        b"\x00" * 64,
        c.frame(b""),
        c.frame(b"\xc1"),
        c.frame(msgspec.msgpack.encode({"type": "Reboot"})),
        c.frame(msgspec.msgpack.encode({"type": "Pause"})),
        c.frame(msgspec.msgpack.encode({"type": "Create", "layer": []})),
        c.frame(b"\x91" * 100_000),
        struct.pack("<I", c.MAX_MESSAGE + 1),
        PAUSE[:-1],
        PAUSE[:3],
        b"",
    ],
)
def test_what_is_no_request_hurts_nobody(shared: Shared, garbage: bytes) -> None:
    """It is answered by an error or by nothing; the next client is served."""
    with connection(shared) as sock:
        sock.sendall(garbage)
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(65536):
                pass
    with pytest.raises(UnknownEndpoint):
        shared.control.pause("no-such-endpoint")


def test_a_request_in_pieces(shared: Shared) -> None:
    """Byte by byte, with another client served in between."""
    with connection(shared) as sock:
        for i in range(len(PAUSE)):
            sock.sendall(PAUSE[i : i + 1])
            if i % 10 == 0:
                with pytest.raises(UnknownEndpoint):
                    shared.control.pause("no-such-endpoint")
        assert answer(sock)["error"] == "UnknownEndpoint"


def test_several_requests_at_once(shared: Shared) -> None:
    """Each has its answer, in the order of the requests."""
    requests = [c.Pause("no-such-1"), c.Pause("no-such-2"), c.Pause("no-such-3")]
    with connection(shared) as sock:
        sock.sendall(b"".join(c.frame(msgspec.msgpack.encode(r)) for r in requests))
        answers = [answer(sock)["message"] for _ in requests]
    assert ["no-such-1" in answers[0], "no-such-3" in answers[2]] == [True, True]


def test_silent_clients_keep_nobody_out(shared: Shared) -> None:
    """However many connect and say nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS + 10):
            stack.enter_context(connection(shared)).sendall(PAUSE[:5])
        with pytest.raises(UnknownEndpoint):
            shared.control.pause("no-such-endpoint")


def test_a_client_that_is_gone_before_the_answer(shared: Shared) -> None:
    """Its change is made, and nothing else happens."""
    layer = shared.layer("orphan")
    with connection(shared) as sock:
        sock.sendall(c.frame(msgspec.msgpack.encode(c.Create(layer))))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: "orphan" in Snapshot.load(DataDir(shared.data_dir)).ids)
    shared.control.delete("orphan")


def test_a_client_that_reads_no_answers(shared: Shared) -> None:
    """The answers that it does not take wait for it alone."""
    with connection(shared) as sock:
        sock.setblocking(False)
        big = c.frame(msgspec.msgpack.encode(c.Pause("x" * 60_000)))
        with contextlib.suppress(BlockingIOError):
            for _ in range(200):
                sock.sendall(big)
        with pytest.raises(UnknownEndpoint):
            shared.control.pause("no-such-endpoint")


def test_a_hundred_clients_at_once(shared: Shared) -> None:
    """All are served, and every change is made."""
    barrier = threading.Barrier(100)

    def create(i: int) -> c.Subscription:
        barrier.wait()
        return shared.create(f"many-{i}", events=["many.x"])

    with ThreadPoolExecutor(100) as pool:
        made = list(pool.map(create, range(100)))
    assert len({subscription.id for subscription in made}) == 100
    assert shared.engine_.emit("many.x", {}) == 100
    with ThreadPoolExecutor(100) as pool:
        list(pool.map(lambda i: shared.control.delete(f"many-{i}"), range(100)))
    assert shared.engine_.emit("many.x", {}) == 0


# ---- where no engine answers ---------------------------------------------------------------


def test_where_no_engine_was_ever_started(tmp_path: Path) -> None:
    """Says so, whatever is asked, and makes nothing."""
    missing = tmp_path / "missing"
    for path in (missing, tmp_path):
        with pytest.raises(EngineNotRunning, match="no fluxhook engine was ever started"):
            c.Control(path).pause("a")
        with pytest.raises(EngineNotRunning):
            c.Control(path).replay(c.Selection(ids=[]))
        with pytest.raises(EngineNotRunning):
            c.Control(path).replay(c.Selection())
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match="cannot be reached: Not a directory"):
        c.Control(tmp_path / "file").pause("a")


def test_an_engine_that_stopped_one_that_hangs_and_one_that_was_killed(rig: Rig) -> None:
    """Three errors that tell what to do; what was created is there again after each."""
    path = rig.data_dir
    control = c.Control(path, timeout_s=0.3)
    layer = {
        "name": "a",
        "url": f"{rig.receiver.url}/a",
        "events": ["*"],
        "signature": "none",
        "retry": {"initial_interval": "50ms", "max_interval": "100ms", "max_attempts": 1000},
        "circuit_breaker": {"failure_threshold": 10000},
    }
    with rig.engine(rig.endpoint("file", events=("file.x",))) as engine:
        engine.control.create(layer)
        rig.receiver.behave(Behaviour(status=503), "/a")
        assert engine.emit("order.paid", {}) == 1
        until(lambda: engine.stats().endpoint("a").stored == 1)

        pid = json.loads((path / "engine.json").read_bytes())["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(EngineError, match=r"did not answer within 0.3 s; the change may"):
                control.pause("file")
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: engine.stats().endpoint("file").state == "paused")  # it was made all the same

        os.kill(pid, signal.SIGKILL)

        said: list[str] = []

        def back() -> bool:
            try:
                engine.control.update("a", {"concurrency": 7})
            except EngineError as error:
                said.append(str(error))
                return False
            return True

        until(back, deadline_s=20)
        assert all("no engine runs on" in text or "ended before" in text for text in said), said
        assert engine.stats().endpoint("file").state == "paused"
        rig.receiver.behave(Behaviour(), "/a")
        rig.receiver.wait_for(1, "/a")
    with pytest.raises(EngineNotRunning, match=f"no engine runs on {path}"):
        control.pause("a")
    with rig.engine(rig.endpoint("file")) as engine:
        assert engine.emit("order.paid", {}) == 2
        rig.receiver.wait_for(2, "/a")


def test_a_path_longer_than_a_sockets_may_be(rig: Rig, tmp_path: Path) -> None:
    """unix(7) allows 107 bytes; a data directory may lie deeper."""
    rig.data_dir = tmp_path / ("deep" * 30) / ("er" * 60) / "data"
    assert len(os.fsencode(rig.data_dir)) > 250
    with rig.engine(rig.endpoint("file")) as engine:
        engine.control.pause("file")
        assert engine.stats().endpoint("file").state == "paused"


# ---- under load ----------------------------------------------------------------------------

RATE = 5_000


class Flow:
    """A thread that emits `RATE` events a second, and what it was answered."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ended = threading.Event()
        #: when emit was called, its id, and how many accepted it
        self.answers: list[tuple[float, str, int]] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        begun = time.monotonic()
        while not self._ended.is_set():
            for _ in range(int((time.monotonic() - begun) * RATE) - len(self.answers)):
                at, id = time.monotonic(), f"evt_{len(self.answers)}"
                accepted = self._engine.emit("flow.x", {"n": 1}, event_id=id)
                self.answers.append((at, id, accepted))
            time.sleep(0.001)

    def __enter__(self) -> Flow:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def reach(self, n: int) -> None:
        until(lambda: len(self.answers) >= n, deadline_s=30)

    def ids(self, since: float = 0.0, until: float = float("inf")) -> set[str]:
        return {id for at, id, _ in self.answers if since <= at < until}


def test_endpoints_come_and_go_while_events_flow(rig: Rig) -> None:
    """One that is created gets every event from then on, the others miss none and get none twice; one
    that is deleted gets nothing any more, and its accounts are closed."""
    options = {"drop_policy": "block", "block_timeout": seconds(30), "workers": 2}
    with rig.engine(rig.endpoint("stays"), **options) as engine, Flow(engine) as flow:
        created: dict[str, float] = {}
        deleted: dict[str, float] = {}
        for i, name in enumerate(("first", "second", "third")):
            flow.reach((i + 1) * RATE // 2)
            engine.control.create(
                {
                    "name": name,
                    "url": f"{rig.receiver.url}/{name}",
                    "events": ["flow.*"],
                    "signature": "none",
                    "retry": {"initial_interval": "50ms", "max_attempts": 5},
                }
            )
            created[name] = time.monotonic()
        flow.reach(2 * RATE)
        asked = time.monotonic()
        engine.control.delete("second")
        deleted["second"] = time.monotonic()
        until(lambda: engine.stats().endpoint("second").pending == 0)
        settled = rig.receiver.total("/second")
        flow.reach(3 * RATE)
        assert rig.receiver.total("/second") == settled
        flow.__exit__()
        assert engine.drain(100)
        stats = engine.stats()

    assert set(rig.receiver.ids("/stays")) == flow.ids()
    assert set(rig.receiver.ids("/stays").values()) == {1}
    for name in ("first", "third"):
        ids = rig.receiver.ids(f"/{name}")
        assert flow.ids(since=created[name]) <= ids.keys() <= flow.ids()
        assert set(ids.values()) == {1}
        assert stats.endpoint(name).accepted == len(ids)
    ids = rig.receiver.ids("/second")
    lost = flow.ids(since=created["second"], until=asked) - ids.keys()
    assert len(lost) <= stats.endpoint("second").dead
    assert not flow.ids(since=deleted["second"]) & ids.keys()
    assert all(endpoint.balance == 0 and not endpoint.pending for endpoint in stats.endpoints)


def test_an_engine_of_another_version(tmp_path: Path) -> None:
    """Its answer may mean nothing to us: an error of the package's own."""
    with socket.socket(socket.AF_UNIX) as server, c.socket_path(DataDir(tmp_path)) as path:
        server.bind(path)
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1000)
                client.sendall(c.frame(msgspec.msgpack.encode({"type": "Later"})))

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(EngineError, match="of another version"):
            c.Control(tmp_path).pause("a")
        thread.join()


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    """connect(2) does not wait where a Unix socket's queue is full: the client does, for its time."""
    with (
        socket.socket(socket.AF_UNIX) as server,
        c.socket_path(DataDir(tmp_path)) as path,
        contextlib.ExitStack() as stack,
    ):
        server.bind(path)
        server.listen(0)
        server.settimeout(10)
        with contextlib.suppress(BlockingIOError):
            while True:
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(path)
        with pytest.raises(EngineError, match="cannot be reached"):
            c.Control(tmp_path, timeout_s=0.05).pause("a")

        def serve() -> None:
            while True:
                sock, _ = server.accept()
                with sock:
                    if sock.recv(1000):
                        sock.sendall(c.frame(msgspec.msgpack.encode(c.Done())))
                        return

        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(c.Control(tmp_path).pause, "a")
            stack.close()  # those that were before it leave
            serve()
            asked.result(10)
