"""The command line as a user has it: in this process where that is enough, else as a program."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

import fluxhook
from fluxhook import Admin, Config, Duration, Endpoint, Engine, Retry, Size, Token
from fluxhook.cli.app import app
from fluxhook.receiver import Behaviour
from fluxhook.supervisor.supervisor import Supervisor
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.process import Child
from fluxhook.transport.snapshot import Snapshot
from support.receiver import ReceiverProcess
from support.rig import until as until

#: far above what a step takes, even on a machine that does much else
DEADLINE_S = 60.0

Invoke = Callable[..., Result]


def json(text: str | bytes) -> Any:
    return msgspec.json.decode(text)


class Program:
    """`fluxhook ...` in a process of its own. It is killed if the test leaves it running."""

    def __init__(
        self,
        arguments: tuple[object, ...],
        directory: Path,
        stdin: int,
        environ: dict[str, str],
    ) -> None:
        roots = str(Path(fluxhook.__file__).parents[1])
        # Nothing of the outside may decide what a test sees.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FLUXHOOK")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fluxhook", *map(str, arguments)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # `select` must not miss what a buffer holds
            cwd=directory,
            env={
                **inherited,
                **environ,
                "PYTHONPATH": os.pathsep.join([*filter(None, [environ.get("PYTHONPATH")]), roots]),
            },
        )
        self.pid = self.process.pid

    def line(self) -> str:
        """Return the next line of its output."""
        stdout = self.process.stdout
        assert stdout is not None
        readable, _, _ = select.select([stdout], [], [], DEADLINE_S)
        assert readable, "it says nothing"
        line = stdout.readline().decode()
        assert line, f"it ended: {self.end().stderr}"
        return line

    def hear(self, words: str) -> str:
        """Return what it says on standard error, up to the words."""
        stderr = self.process.stderr
        assert stderr is not None
        said = ""
        while words not in said:
            readable, _, _ = select.select([stderr], [], [], DEADLINE_S)
            assert readable, f"it only says {said!r}"
            line = stderr.readline().decode()
            assert line, f"it ended, and only said {said!r}"
            said += line
        return said

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, stdin: bytes | None = None) -> Result:
        """Wait for its end; return what it has said since."""
        out, err = self.process.communicate(stdin, timeout=DEADLINE_S)
        return Result(
            runner=CliRunner(),
            stdout_bytes=out,
            stderr_bytes=err,
            output_bytes=out + err,
            return_value=None,
            exit_code=self.process.returncode,
            exception=None,
        )


Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start programs in the test's folder."""
    programs: list[Program] = []

    def start(
        *arguments: object, stdin: int = subprocess.DEVNULL, environ: dict[str, str] | None = None
    ) -> Program:
        programs.append(program := Program(arguments, tmp_path, stdin, environ or {}))
        return program

    yield start
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
        program.process.communicate()


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a command in this process, in the test's folder."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FLUXHOOK")]:
        monkeypatch.delenv(name)

    def invoke(*arguments: object, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(
            app, [*map(str, arguments)], input=stdin, prog_name="fluxhook", catch_exceptions=False
        )

    return invoke


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """Make the data directory of an engine that was started and stopped; it had one endpoint, for
    sensors' messages and the host's own `order.*`, and a queue of 20."""
    data_dir = tmp_path / "fluxhook-data"
    endpoint = Endpoint(
        name="shop",
        url="https://hooks.example.com/in?token=s3cret",
        signature="none",
        events=("message.published", "order.*"),
        topic_filters=("sensors/#",),
    )
    config = Config(
        endpoints=(endpoint,),
        workers=1,
        queue_size=20,
        block_timeout=Duration.parse("50ms"),
        ring_bytes=Size.parse("1MiB"),
        max_event_bytes=Size.parse("64KiB"),
        max_endpoints=8,
    )
    Supervisor(data_dir, config).close()
    return data_dir


#: a token that may read only
READER = "reader-token-0123456789"


class AdminServer:
    """The admin API of a data directory, in a process of its own."""

    def __init__(self, data_dir: Path) -> None:
        self._child = Child("serve", str(data_dir), module="fluxhook.admin")
        file = data_dir / "admin.json"
        try:
            until(file.exists, "the admin API listens")
        except BaseException:
            self.close()
            raise
        said = json(file.read_bytes())
        self.url, self.token = said["url"], said["token"]

    def close(self) -> None:
        self._child.drain()
        self._child.reap()


class CommandSite:
    """An engine with its admin API, and a receiver."""

    def __init__(self, receiver: ReceiverProcess, engine: Engine, admin: AdminServer) -> None:
        self.receiver = receiver
        self.engine = engine
        self.admin = admin
        self.data_dir = engine.data_dir

    def run(self, *arguments: object, stdin: str | None = None, **environ: str) -> Result:
        """Run a command about this engine."""
        env = {
            "FLUXHOOK_DATA_DIR": str(self.data_dir),
            "FLUXHOOK_API": None,
            "FLUXHOOK_TOKEN": None,
            **environ,
        }
        return CliRunner().invoke(
            app,
            [*map(str, arguments)],
            input=stdin,
            env=env,
            prog_name="fluxhook",
            catch_exceptions=False,
        )

    def json(self, *arguments: object) -> Any:
        """Return what a command prints with --json."""
        said = self.run(*arguments, "--json")
        assert said.exit_code == 0, said.output
        return json(said.stdout)

    def lines(self, *arguments: object) -> list[Any]:
        """Return the same for JSON lines."""
        said = self.run(*arguments, "--json")
        assert said.exit_code == 0, said.output
        return [json(line) for line in said.stdout.splitlines()]

    def snapshot(self) -> Snapshot:
        return Snapshot.load(DataDir(self.data_dir))

    def secrets(self, name: str) -> list[str]:
        """Return the secrets that a webhook signs with, in the clear."""
        return [
            str(s) for e in self.snapshot().config.endpoints if e.name == name for s in e.secrets
        ]

    def create(self, name: str, *options: object) -> None:
        """Create a webhook whose path at the receiver is its name, and its events `NAME.*`."""
        url, types = f"{self.receiver.url}/{name}", f"{name}.*"
        said = self.run(
            "webhook", "create", "--name", name, "--url", url, "--type", types,
            "--signature", "none", *options,
        )  # fmt: skip
        assert said.exit_code == 0, said.output

    def dead_letter(self, name: str, n: int) -> list[str]:
        """Make dead letters of a new webhook that gives up at once; return their ids, the latest
        first."""
        self.receiver.behave(Behaviour(status=503, body=b"no room"), f"/{name}")
        self.create(name, "--max-attempts", "1")
        self.engine.emit_many([(f"{name}.happened", {"n": i}) for i in range(n)])
        rows = until(
            lambda: len(r := self.lines("dead-letters", "list", "--endpoint", name)) == n and r,
            f"{n} dead letters",
        )
        return [row["id"] for row in rows]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandSite]:
    """Start one for a module's tests, each of which makes webhooks of its own."""
    with ReceiverProcess(keep=50) as receiver:
        filed = Endpoint(
            name="filed",
            url=f"{receiver.url}/filed?token=hidden-in-query",
            events=("filed.*",),
            secrets=("sk_hidden_secret",),
            headers={"Authorization": "Bearer hidden-in-header"},
            retry=Retry(max_attempts=1),
        )
        config = Config(
            endpoints=(filed,),
            workers=1,
            allow_networks=("127.0.0.0/8",),
            ring_bytes=Size.parse("4MiB"),
            event_types=("order.created",),
            shutdown_timeout=Duration.parse("1s"),
            admin=Admin(
                listen="127.0.0.1:0",
                dashboard=False,
                tokens=(Token(token=READER, scopes=("read",)),),
            ),
        )
        data_dir = tmp_path_factory.mktemp("site") / "data"
        with Engine(config, data_dir) as engine:
            admin = AdminServer(data_dir)
            try:
                yield CommandSite(receiver, engine, admin)
            finally:
                admin.close()
