"""`fluxhook serve` with everything that goes with it: emit, status, listen, and signals."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Invoke, Program, Start, json, until
from fluxhook import FluxhookError
from fluxhook.admin.announced import AdminFile
from fluxhook.cli import serve as serve_module
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.receiver import Behaviour
from fluxhook.stats import read_stats
from fluxhook.supervisor.supervisor import Supervisor
from fluxhook.transport.datadir import DataDir
from support.receiver import ReceiverProcess

ALLOWED = ("--allow-network", "127.0.0.0/8")
SECRET = "sk_live_9x8m2p"


def write(path: Path, url: str, *extra: str, events: str = "order.*", **options: Any) -> Path:
    """A configuration with one endpoint `shop`."""
    lines = [f"  {name}: {value}" for name, value in ({"workers": 1} | options).items()]
    endpoint = ["name: shop", f"url: {url}", f"events: [{events}]", *extra]
    lines += ["  endpoints:", "    - " + "\n      ".join(endpoint)]
    path.write_text("\n".join(["webhook:", *lines, ""]))
    return path


def serve(start: Start, config: Path, *options: object) -> Program:
    """Return once it serves."""
    program = start("serve", "--config", config, "--no-admin", *ALLOWED, *options)
    assert program.line().startswith(f"fluxhook serves: pid {program.pid}, ")
    return program


def shop(data_dir: Path) -> Any:
    return read_stats(data_dir).endpoint("shop")


def test_from_emit_to_a_verified_delivery(start: Start, invoke: Invoke, tmp_path: Path) -> None:
    """Four programs that know of each other by a port and a folder."""
    listener = start("listen", "--port", 0, "--json", "--secret", SECRET, "--count", 3)
    url = json(listener.line())["listening"]
    config = write(tmp_path / "f.yaml", f"{url}/in", f"secret: {SECRET}")
    engine = serve(start, config)
    lines = '{"type": "order.created", "data": {"n": 1}}\n{"type": "order.paid"}\n'
    assert invoke("emit", "order.sent", "--id", "o-3").exit_code == ExitCode.OK
    assert invoke("emit", stdin=lines).exit_code == ExitCode.OK
    heard = [json(line) for line in listener.end().stdout.splitlines()]
    assert {d["type"] for d in heard[:3]} == {"order.created", "order.paid", "order.sent"}
    assert all(d["verified"] for d in heard[:3])
    assert heard[3]["summary"]["verified"] == 3
    until(lambda: shop(tmp_path / "fluxhook-data").delivered == 3, "delivered")
    status = json(invoke("status", "--json").stdout)
    assert status["running"] is True
    assert status["endpoints"][0]["latency_ms"].keys() == {"p50", "p95", "p99"}
    assert "● running" in invoke("status").stdout
    engine.signal(signal.SIGTERM)
    said = engine.end()
    assert said.exit_code == ExitCode.OK
    assert said.stdout == "fluxhook stopped: nothing is pending\n"
    assert "draining for up to 30s" in said.stderr
    assert "○ stopped" in invoke("status").stdout


def test_sigterm_leaves_what_cannot_be_delivered_for_the_next_start(
    start: Start, invoke: Invoke, tmp_path: Path, receiver: ReceiverProcess
) -> None:
    receiver.behave(Behaviour(status=503))
    config = write(tmp_path / "f.yaml", receiver.url)
    engine = serve(start, config, "--data-dir", "state")
    invoke("emit", "order.created", "--data-dir", "state")
    until(lambda: shop(tmp_path / "state").failed_attempts, "an attempt")
    engine.signal(signal.SIGTERM)
    said = engine.end()
    assert said.exit_code == ExitCode.OK
    assert f"1 delivery left in {tmp_path}/state" in said.stdout
    receiver.behave(None)
    engine = serve(start, config, "--data-dir", "state")
    receiver.wait_for(1)


def test_a_second_ctrl_c_leaves_at_once(
    start: Start, invoke: Invoke, tmp_path: Path, receiver: ReceiverProcess
) -> None:
    """Deliveries that are on their way stay in the files."""
    receiver.behave(Behaviour(fault="hang"))
    engine = serve(start, write(tmp_path / "f.yaml", receiver.url, "timeout: 30s"))
    invoke("emit", "order.created")
    until(lambda: receiver.state().open, "the request is on its way")
    engine.signal(signal.SIGINT)
    engine.hear("Ctrl-C leaves at once")
    engine.signal(signal.SIGINT)
    assert engine.end().exit_code == ExitCode.INTERRUPTED
    assert shop(tmp_path / "fluxhook-data").pending == 1


def test_sighup_reads_the_file_again_and_keeps_the_old_one_if_it_is_bad(
    start: Start, invoke: Invoke, tmp_path: Path, receiver: ReceiverProcess
) -> None:
    config = write(tmp_path / "f.yaml", f"{receiver.url}/before")
    engine = serve(start, config)
    data_dir = tmp_path / "fluxhook-data"
    assert invoke("emit", "cart.filled").stdout.endswith("1 without subscriber\n")

    write(config, f"{receiver.url}/after", events="cart.*", data_dir="elsewhere")
    engine.signal(signal.SIGHUP)
    until(lambda: read_stats(data_dir).version == 2, "the new version")
    assert "1 delivery accepted" in invoke("emit", "cart.filled").stdout
    receiver.wait_for(1, "/after")

    config.write_text("webhook: {endpoints: [{name: shop, url: nowhere}]}")
    engine.signal(signal.SIGHUP)
    said = engine.hear("the old one stays")
    assert "data_dir changes with the next start only" in said
    assert "1 delivery accepted" in invoke("emit", "cart.filled").stdout
    receiver.wait_for(2, "/after")
    assert read_stats(data_dir).version == 2


def test_one_data_directory_has_one_engine(start: Start, invoke: Invoke, tmp_path: Path) -> None:
    config = write(tmp_path / "f.yaml", "http://127.0.0.1:9/")
    engine = serve(start, config)
    said = start("serve", "--config", config, *ALLOWED).end()
    assert said.exit_code == ExitCode.RUNNING
    assert f"an engine (pid {engine.pid}) runs on" in said.stderr


def test_the_processes_say_what_they_are(start: Start, tmp_path: Path) -> None:
    engine = serve(start, write(tmp_path / "f.yaml", "http://127.0.0.1:9/"))
    title = Path(f"/proc/{engine.pid}/cmdline").read_bytes().rstrip(b"\0").decode()
    assert title.startswith("fluxhook supervisor [")
    children = Path(f"/proc/{engine.pid}/task/{engine.pid}/children").read_text().split()
    assert len(children) == 1
    path = Path(f"/proc/{children[0]}/cmdline")
    until(lambda: path.read_bytes().startswith(b"fluxhook worker 0 ["), "its title")


def test_a_disabled_configuration_serves_and_says_that_nothing_will_be_delivered(
    start: Start, invoke: Invoke, tmp_path: Path
) -> None:
    engine = serve(start, write(tmp_path / "f.yaml", "http://127.0.0.1:9/", enabled="false"))
    assert "1 without subscriber" in invoke("emit", "order.created").stdout
    engine.signal(signal.SIGTERM)
    assert "nothing will be delivered" in engine.end().stderr


@pytest.mark.parametrize(
    ("option", "variable", "key", "wanted"),
    [
        (None, None, None, "fluxhook-data"),
        (None, None, "key", "key"),
        (None, "variable", "key", "variable"),
        ("option", "variable", "key", "option"),
    ],
)
def test_the_data_directory_is_the_nearest_that_is_named(
    invoke: Invoke,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str | None,
    variable: str | None,
    key: str | None,
    wanted: str,
) -> None:
    """The command line, the environment, the file, the default."""
    seen: list[str] = []

    class Refusing(Supervisor):
        def __init__(self, data_dir: str, *_: object, **__: object) -> None:
            seen.append(os.fspath(data_dir))
            raise FluxhookError("enough")

    monkeypatch.setattr(serve_module, "Supervisor", Refusing)
    monkeypatch.setattr(serve_module, "name_process", lambda *_: None)
    if variable:
        monkeypatch.setenv("FLUXHOOK_DATA_DIR", variable)
    options = {"data_dir": key} if key else {}
    config = write(tmp_path / "f.yaml", "https://example.com/", **options)
    chosen = ("--data-dir", option) if option else ()
    assert invoke("serve", "--config", config, *chosen).exit_code == ExitCode.FAILURE
    assert seen == [wanted]


def test_a_bad_file_or_directory_starts_nothing(invoke: Invoke, tmp_path: Path) -> None:
    """The error names what cannot be used, says why, and what to do."""
    config = write(tmp_path / "f.yaml", "http://127.0.0.1:9/")
    said = invoke("serve", "--config", config)
    assert said.exit_code == ExitCode.CONFIG
    assert "127.0.0.0/8" in said.stderr
    assert invoke("serve", "--config", "nowhere.yaml").exit_code == ExitCode.CONFIG
    assert invoke("serve").exit_code == ExitCode.USAGE
    (tmp_path / "file").write_text("")
    said = invoke("serve", "--config", config, *ALLOWED, "--data-dir", "file/state")
    assert said.exit_code == ExitCode.FAILURE
    assert "file/state cannot be used: Not a directory; name a folder" in said.stderr
    assert not DataDir(tmp_path / "fluxhook-data").words.exists()


def test_a_store_that_is_gone_is_not_made_anew_in_silence(
    start: Start, invoke: Invoke, tmp_path: Path
) -> None:
    """The start ends with 13 and one line, until it is told to go on without."""
    config = write(tmp_path / "f.yaml", "http://127.0.0.1:9/")
    program = serve(start, config)
    program.signal(signal.SIGTERM)
    assert program.end().exit_code == ExitCode.OK
    store = DataDir(tmp_path / "fluxhook-data").store
    for path in store.parent.glob("store.db*"):
        path.unlink()
    said = invoke("serve", "--config", config, "--no-admin", *ALLOWED)
    assert said.exit_code == ExitCode.DAMAGED
    assert said.exit_code == 13
    assert "store.db is missing" in said.stderr
    assert "--accept-loss" in said.stderr
    assert "Traceback" not in said.stderr
    assert not store.exists()
    program = serve(start, config, "--accept-loss")
    assert store.exists()
    program.signal(signal.SIGTERM)
    assert program.end().exit_code == ExitCode.OK


def test_it_says_that_it_serves_once_the_admin_api_does(start: Start, tmp_path: Path) -> None:
    """Also in a folder with modules of names that Python has."""
    for name in ("queue", "secrets", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('executed')\n")
    config = write(tmp_path / "f.yaml", "https://hooks.example.com/in")
    program = start("serve", "--config", config, "--admin", "127.0.0.1:0", *ALLOWED)
    assert program.line().startswith(f"fluxhook serves: pid {program.pid}, ")
    assert AdminFile.load(tmp_path / "fluxhook-data" / "admin.json").url
    program.signal(signal.SIGTERM)
    said = program.end()
    assert said.exit_code == ExitCode.OK
    assert "executed" not in said.stderr


def test_an_address_of_the_command_line_is_judged_like_the_files(
    start: Start, tmp_path: Path
) -> None:
    """Beyond this machine, without TLS: a notice; on loopback none, whatever the file says."""
    config = write(
        tmp_path / "f.yaml",
        "https://hooks.example.com/in",
        admin="{listen: '0.0.0.0:0', dashboard: false, tokens: [{token: t-0123456789abcdef}]}",
    )
    for address, noticed in (("0.0.0.0:0", True), ("127.0.0.1:0", False)):
        program = start("serve", "--config", config, "--admin", address, *ALLOWED)
        program.line()
        program.signal(signal.SIGTERM)
        said = program.end()
        assert ("webhook.admin.listen: " in said.stderr) is noticed, said.stderr


def test_a_taken_admin_port_is_an_error_at_start(start: Start, tmp_path: Path) -> None:
    """One clear line, nothing served, and no worker begun: as for a second engine of the same file."""
    config = write(tmp_path / "f.yaml", "https://hooks.example.com/in")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = start("serve", "--config", config, "--admin", address, *ALLOWED).end()
    assert said.exit_code == ExitCode.CONFIG
    assert said.stdout == ""
    assert f"{address} cannot be listened on: Address already in use\n" in said.stderr
    assert "Traceback" not in said.stderr
    assert not read_stats(tmp_path / "fluxhook-data").running
    assert not (tmp_path / "fluxhook-data" / "workers" / "0" / "serving").exists()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise RuntimeError('odd')", "cannot be loaded: RuntimeError: odd"),
        ("import os; os._exit(7)", "fluxhook.admin ended with status 7 before it served"),
        ("def __getattr__(name): raise LookupError(name)", "cannot be loaded: LookupError"),
    ],
)
def test_an_admin_api_that_cannot_start_is_an_error_at_start(
    start: Start, tmp_path: Path, program: str, said: str
) -> None:
    """A broken package, whatever it does, is said; the engine does not go on without its API."""
    config = write(tmp_path / "f.yaml", "https://hooks.example.com/in")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "uvicorn.py").write_text(program)
    environ = {"PYTHONPATH": str(tmp_path / "site")}
    ended = start(
        "serve", "--config", config, "--admin", "127.0.0.1:0", *ALLOWED, environ=environ
    ).end()
    assert ended.exit_code == ExitCode.FAILURE
    assert ended.stdout == ""
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_twins_keep_what_is_stored_for_them(
    start: Start, invoke: Invoke, tmp_path: Path, receiver: ReceiverProcess
) -> None:
    """Endpoints of the same name, as FluxMQ allows them: in whatever order the file has them, when
    one of them goes and comes back, and over a restart, none gets what was stored for another."""
    twins = [
        f"{{name: shop, url: {receiver.url}/{kind}, events: [{kind}.x], timeout: 5s, "
        "retry: {max_attempts: 100, initial_interval: 50ms, max_interval: 50ms, multiplier: 1}, "
        "circuit_breaker: {reset_timeout: 100ms}}"
        for kind in ("a", "b", "c")
    ]
    config, data_dir = tmp_path / "f.yaml", tmp_path / "fluxhook-data"

    def lists(*kinds: int) -> None:
        listed = "".join(f"\n  - {twins[kind]}" for kind in kinds)
        config.write_text(
            "webhook:\n  enabled: true\n  workers: 1\n  admin: {enabled: false}\n"
            f"  event_types: [a.x, b.x, c.x]\n  endpoints:{listed}\n"
        )

    def stored() -> dict[str, int]:
        return {e.name: e.stored for e in read_stats(data_dir).endpoints if e.state != "removed"}

    def reload(*kinds: int) -> None:
        version = read_stats(data_dir).version
        lists(*kinds)
        engine.signal(signal.SIGHUP)
        until(lambda: read_stats(data_dir).version > version, "the new version")

    receiver.behave(Behaviour(status=503))
    lists(0)
    engine = serve(start, config)
    invoke("emit", "a.x", "--id", "a1")
    until(lambda: stored() == {"shop": 1}, "the first one waits")
    reload(1, 0, 2)
    for kind in "abc":
        invoke("emit", f"{kind}.x", "--id", f"{kind}2")
    until(lambda: sorted(stored().values()) == [1, 1, 2], "all of them wait")
    assert stored()["shop"] == 2
    names = stored()
    reload(2, 1, 0)
    assert stored() == names
    engine.signal(signal.SIGTERM)
    engine.end()
    lists(0, 2, 1)
    engine = serve(start, config)
    assert stored() == names
    receiver.behave(None)
    until(lambda: not any(stored().values()), "what waited is delivered")
    assert sorted(receiver.ids("/a")) == ["a1", "a2"]
    assert set(receiver.ids("/b")) == {"b2"}
    assert set(receiver.ids("/c")) == {"c2"}
