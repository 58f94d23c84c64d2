"""One incident, the same each time: an engine as operators run it, and endpoints in every kind of
trouble.

`fluxhook serve` runs over a receiver that answers each endpoint in a way of its own. `play` hands in
some 4,800 events and waits until nothing moves any more; `mend` does what operators do then. Both
return what every view has to show afterwards.
"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import httpx
import msgspec
from click.testing import CliRunner

import fluxhook
from fluxhook.cli.app import app
from fluxhook.receiver import Behaviour
from fluxhook.transport.datadir import DataDir
from support.receiver import ReceiverProcess
from support.rig import until

__all__ = ["DEADLINE_S", "LONG", "Expected", "IncidentScene"]

#: an ed25519 key whose halves do not fit
_TORN: Final = "whsk_" + base64.b64encode(bytes(range(64))).decode()
_WHOLE: Final = "whsec_" + base64.b64encode(bytes(range(32))).decode()
_NEVER: Final = {"failure_threshold": 1_000_000}
_TWICE: Final = {"max_attempts": 2, "initial_interval": "200ms", "max_interval": "200ms"}
_ONCE: Final = {"max_attempts": 1}
_SMALL, _LARGE = {"text": "x" * 100}, {"text": "x" * 2000}
#: the name of an endpoint whose name, URL and error are as long as they may be, or nearly
LONG: Final = "partner-integration.eu-central-1.orders-and-inventory-" + "x" * 74
#: far above what the whole takes, on a machine that does much else
DEADLINE_S: Final = 120.0
_BATCH: Final = 500
#: of events that nobody waits for any more
_TTL_S: Final = 1.0


class Expected(msgspec.Struct, frozen=True):
    """The figures of an endpoint once nothing moves any more; None: they differ from time to time."""

    state: str
    accepted: int
    delivered: int = 0
    dead: int = 0
    pending: int = 0
    failed_attempts: int | None = 0
    filtered: int = 0
    dropped: dict[str, int] = {}
    dead_by_cause: dict[str, int] | None = {}
    #: deaths that there ever were
    died_by_cause: dict[str, int] | None = {}
    #: those that Prometheus raises by the rules that are shipped
    alerts: tuple[str, ...] = ()

    def divided(self, by: int) -> Expected:
        """Return those of an incident that is so many times smaller."""

        def smaller(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: n // by for name, n in value.items()}
            return value // by if isinstance(value, int) else value

        return Expected(**{k: smaller(v) for k, v in msgspec.structs.asdict(self).items()})


class _Part(msgspec.Struct, frozen=True):
    """An endpoint, what its receiver does, what it is sent (data, and how often), and what it comes to
    once operators have mended what can be mended."""

    expected: Expected
    mended: Expected
    options: dict[str, Any] = {}
    behaviour: Behaviour = Behaviour()
    data: tuple[tuple[dict[str, Any], int], ...] = ()
    #: options that are put right in the configuration file
    put_right: dict[str, Any] = {}


def _well(accepted: int, failed_attempts: int | None = 0, **figures: Any) -> Expected:
    delivered = figures.pop("delivered", accepted)
    return Expected(
        "active", accepted, delivered=delivered, failed_attempts=failed_attempts, **figures
    )


#: 2,000 dead letters in all
_PARTS: Final[dict[str, _Part]] = {
    "healthy": _Part(_well(600), _well(600)),
    "slow": _Part(_well(60), _well(60), {"concurrency": 10}, Behaviour(delay_s=0.2, jitter_s=0.5)),
    "answers-70-percent": _Part(
        Expected(
            "failing",
            200,
            delivered=140,
            dead=60,
            failed_attempts=120,
            dead_by_cause={"server_error": 60},
            died_by_cause={"server_error": 60},
            alerts=("FluxhookEndpointFailing", "FluxhookEventsDying"),
        ),
        _well(200, 120, died_by_cause={"server_error": 60}),
        {"retry": _TWICE},
        Behaviour(fail_on=b'"fails"', body=b'{"error": "no stock left in this warehouse"}'),
        (({"works": True}, 140), ({"fails": True}, 60)),
    ),
    "refuses-signatures": _Part(
        Expected(
            "failing",
            150,
            dead=150,
            failed_attempts=300,
            dead_by_cause={"unauthorized": 150},
            died_by_cause={"unauthorized": 150},
            alerts=("FluxhookEndpointFailing", "FluxhookEventsDying", "FluxhookSignatureRejected"),
        ),
        _well(150, 300, died_by_cause={"unauthorized": 150}),
        {"retry": _TWICE},
        Behaviour(status=401, body=b"the signature does not fit"),
    ),
    "too-large": _Part(
        Expected(
            "failing",
            3400,
            delivered=1700,
            dead=1700,
            dead_by_cause={"payload_too_large": 1700},
            died_by_cause={"payload_too_large": 1700},
            alerts=("FluxhookEndpointFailing", "FluxhookEventsDying"),
        ),
        _well(3400, died_by_cause={"payload_too_large": 1700}),
        {"max_payload": "1KiB", "retry": _ONCE},
        Behaviour(),
        ((_SMALL, 1700), (_LARGE, 1700)),
        {"max_payload": "10KiB"},
    ),
    "breaker-open": _Part(
        Expected("open", 50, pending=50, failed_attempts=None, alerts=("FluxhookBreakerOpen",)),
        _well(50, None),
        {
            "retry": {"schedule": ["30m"]},
            "circuit_breaker": {"failure_threshold": 3, "reset_timeout": "1h"},
        },
        Behaviour(status=503),
    ),
    "paused": _Part(
        Expected("paused", 30, pending=30), _well(30), {"paused": True}, put_right={"paused": False}
    ),
    "disabled": _Part(
        Expected(
            "disabled",
            40,
            dead=40,
            failed_attempts=None,
            dead_by_cause=None,
            died_by_cause=None,
            alerts=("FluxhookEndpointDisabled", "FluxhookEventsDying"),
        ),
        _well(40, None, died_by_cause=None),
        {"disable_on_gone": True, "retry": _ONCE},
        Behaviour(status=410),
    ),
    "misconfigured": _Part(
        Expected("misconfigured", 20, pending=20, alerts=("FluxhookEndpointHeld",)),
        _well(20),
        {"signature": "standard", "secrets": [_TORN]},
        put_right={"secrets": [_WHOLE]},
    ),
    "expires": _Part(
        _well(80, delivered=0, dropped={"expired": 80}, alerts=("FluxhookEventsDropped",)),
        _well(80, delivered=0, dropped={"expired": 80}),
        {"ttl": f"{_TTL_S}s"},
    ),
    "filters": _Part(
        _well(20, filtered=50),
        _well(20, filtered=50),
        {"where": ["status_code >= 500"]},
        data=(({"status_code": 503}, 20), ({"status_code": 204}, 50)),
    ),
    # Nobody speaks TLS there: its dead letters are purged, and it goes on failing.
    LONG: _Part(
        Expected(
            "failing",
            50,
            dead=50,
            failed_attempts=50,
            dead_by_cause={"connect_timeout": 50},
            died_by_cause={"connect_timeout": 50},
            alerts=("FluxhookEndpointFailing", "FluxhookEventsDying"),
        ),
        Expected(
            "failing",
            50,
            failed_attempts=50,
            dropped={"purged": 50},
            died_by_cause={"connect_timeout": 50},
            alerts=("FluxhookEndpointFailing",),
        ),
        {"retry": _ONCE},
    ),
}
#: what `play` halts for so long that its events are found too old
_EXPIRES: Final = "expires"


def _type_of(name: str) -> str:
    return f"incident.{name.partition('.')[0].replace('-', '_')}"


class IncidentScene:
    """A context manager; the engine and the receiver run within it. The API needs no token."""

    def __init__(self, folder: Path, *, divisor: int = 1) -> None:
        """Keep everything in a folder: the data directory, the configuration, and the log, a JSON
        object a line. Of all events there is one in `divisor`."""
        self.data_dir = folder / "data"
        self.log = folder / "serve.log"
        self._config = folder / "fluxhook.yaml"
        self._divisor = divisor
        self._stack = contextlib.ExitStack()
        with socket.create_server(("127.0.0.1", 0)) as free:
            #: the same after a restart of the admin process
            self._port: int = free.getsockname()[1]
        #: of the API and of the dashboard
        self.url = f"http://127.0.0.1:{self._port}"
        self._api = httpx.Client(base_url=self.url, timeout=DEADLINE_S)

    def __enter__(self) -> IncidentScene:
        with contextlib.ExitStack() as stack:
            self.receiver = stack.enter_context(ReceiverProcess())
            for name, part in _PARTS.items():
                self.receiver.behave(part.behaviour, f"/{name}")
            self._configure()
            self._process = self._serve(stack)
            stack.callback(self._api.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, at)

    @property
    def names(self) -> list[str]:
        return list(_PARTS)

    def play(self) -> dict[str, Expected]:
        """Hand in all events, and wait until nothing moves; return what each endpoint has to show."""
        self.command("webhook", "pause", _EXPIRES)
        for name, part in _PARTS.items():
            every = part.expected.accepted + part.expected.filtered
            for data, n in part.data or (({"path": "/api/v2/inventory"}, every),):
                self.emit(name, n // self._divisor, data)
        until(lambda: self.status()[_EXPIRES]["stored"], "what is to expire is stored", DEADLINE_S)
        time.sleep(_TTL_S)  # time that has to pass
        self.command("webhook", "resume", _EXPIRES)
        return self._wait({name: part.expected for name, part in _PARTS.items()})

    def mend(self) -> dict[str, Expected]:
        """Put right what was wrong, as operators do, and have all that waits delivered; return what
        each endpoint has to show then."""
        for name in _PARTS:
            self.receiver.behave(Behaviour(), f"/{name}")
        self._reload({name: part.put_right for name, part in _PARTS.items() if part.put_right})
        self.command("webhook", "resume", "disabled")
        self.command("webhook", "close-breaker", "breaker-open")
        self.command("webhook", "retry", "breaker-open")
        self.command("dead-letters", "purge", "--yes", "--endpoint", LONG)
        self.command("dead-letters", "replay", "--all")
        mended = {name: part.mended for name, part in _PARTS.items()}
        for name, part in _PARTS.items():
            if part.expected.state == "failing" and part.mended.state == "active":
                self.command("webhook", "resume", name)  # it has been looked after
        return self._wait(mended)

    def emit(self, name: str, n: int = 1, data: dict[str, Any] | None = None) -> None:
        """Hand in events for an endpoint."""
        event = {"type": _type_of(name), "data": data or {}}
        for first in range(0, n, _BATCH):
            some = [event] * min(_BATCH, n - first)
            answer = self._api.post("/v1/events", json=some)
            assert answer.status_code == 202, answer.text

    def command(self, *arguments: str, columns: int = 400) -> str:
        """Run `fluxhook` on the data directory, or by the API that is given; return what it prints. It
        must end with 0."""
        where = () if "--api" in arguments else ("--data-dir", str(self.data_dir))
        runner = CliRunner(env={"COLUMNS": str(columns), "NO_COLOR": "1"})
        done = runner.invoke(app, [*arguments, *where])
        assert done.exit_code == 0, f"{arguments}: {done.exit_code}\n{done.output}"
        return done.stdout

    def get(self, path: str) -> httpx.Response:
        """Return an answer of the API, which must be 200."""
        answer = self._api.get(path)
        assert answer.status_code == 200, answer.text
        return answer

    def status(self) -> dict[str, dict[str, Any]]:
        """Return what the API says of each endpoint, by name."""
        return {one["name"]: one for one in self.get("/v1/webhooks/status").json()["webhooks"]}

    def end(self) -> None:
        """End the engine: its log is complete then."""
        self._stack.close()

    def _wait(self, expected: dict[str, Expected]) -> dict[str, Expected]:
        """Return what is expected, in this incident's size, once counters have come to it."""
        sized = {name: one.divided(self._divisor) for name, one in expected.items()}
        until(lambda: self._is_settled(sized), "all is at rest", DEADLINE_S)
        return sized

    def _is_settled(self, expected: dict[str, Expected]) -> bool:
        time.sleep(0.1)  # the engine needs the core more
        found = self.status()
        self.unsettled = {
            name: found[name]
            for name, wanted in expected.items()
            if (
                found[name]["accepted"],
                found[name]["delivered"],
                found[name]["dead"],
                found[name]["pending"],
                found[name]["queued"] * (wanted.state == "active"),
            )
            != (wanted.accepted, wanted.delivered, wanted.dead, wanted.pending, 0)
        }
        return not self.unsettled

    def _reload(self, changed: dict[str, dict[str, Any]]) -> None:
        """Change options of endpoints in the file, and have it loaded."""
        before = self._version()
        self._configure(changed)
        self._process.send_signal(signal.SIGHUP)
        until(lambda: self._version() > before, "the file is loaded", DEADLINE_S)

    def _version(self) -> int:
        found: int = self.get("/v1/webhooks/status").json()["version"]
        return found

    def _configure(self, changed: dict[str, dict[str, Any]] | None = None) -> None:
        # JSON is YAML too.
        options = self._options(changed or {})
        self._config.write_bytes(msgspec.json.encode({"webhook": options}))

    def _options(self, changed: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return {
            "endpoints": [
                self._endpoint(name, part) | changed.get(name, {}) for name, part in _PARTS.items()
            ],
            "event_types": [_type_of(name) for name in _PARTS],
            "workers": 1,
            "ring_bytes": "16MiB",
            "allow_networks": ["127.0.0.0/8"],
            "admin": {"listen": f"127.0.0.1:{self._port}"},
            "log": {"format": "json"},
        }

    def _endpoint(self, name: str, part: _Part) -> dict[str, Any]:
        url = f"{self.receiver.url}/{name}"
        if name == LONG:
            # TLS to what speaks none, and waits for a request
            url = (
                url.replace("http://", "https://") + "/a-path-as-long-as-some-partners-have-it" * 4
            )
        return {
            "name": name,
            "url": url,
            "events": [_type_of(name)],
            "signature": "none",
            "circuit_breaker": _NEVER,
            **part.options,
        }

    def _serve(self, stack: contextlib.ExitStack) -> subprocess.Popen[bytes]:
        roots = str(Path(fluxhook.__file__).parents[1])
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FLUXHOOK")}
        log = stack.enter_context(self.log.open("wb"))
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "fluxhook", "serve"),
                *("-c", str(self._config), "--data-dir", str(self.data_dir)),
            ],
            stdout=log,
            stderr=log,
            env={**inherited, "PYTHONPATH": roots},
        )

        def end() -> None:
            process.terminate()
            try:
                process.wait(DEADLINE_S)
            finally:
                process.kill()

        stack.callback(end)

        def serves() -> bool:
            assert process.poll() is None, self.log.read_text(errors="replace")
            return DataDir(self.data_dir).admin_file.exists()

        until(serves, "it serves", DEADLINE_S)
        return process
