"""One incident, the same each time: an engine as operators run it, and endpoints in every kind of
trouble.

`fluxhook serve` runs over a receiver that answers each endpoint in a way of its own. `play` hands in
some 4,600 events, waits until nothing moves any more, and returns what every view has to show then.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import httpx
import msgspec

import fluxhook
from fluxhook.receiver import Behaviour
from fluxhook.transport.datadir import DataDir
from support.receiver import ReceiverProcess
from support.rig import until

__all__ = ["LONG", "Expected", "IncidentScene"]

#: an ed25519 key whose halves do not fit
_TORN: Final = "whsk_" + base64.b64encode(bytes(range(64))).decode()
_NEVER: Final = {"failure_threshold": 1_000_000}
_TWICE: Final = {"max_attempts": 2, "initial_interval": "200ms", "max_interval": "200ms"}
_ONCE: Final = {"max_attempts": 1}
_SMALL, _LARGE = {"text": "x" * 100}, {"text": "x" * 2000}
#: the name of an endpoint whose name, URL and error are as long as they may be, or nearly
LONG: Final = "partner-integration.eu-central-1.orders-and-inventory-" + "x" * 74
#: far above what the whole takes, on a machine that does much else
DEADLINE_S: Final = 120.0
_BATCH: Final = 500


class Expected(msgspec.Struct, frozen=True):
    """The figures of an endpoint once nothing moves any more; None: they differ from time to time."""

    state: str
    accepted: int
    delivered: int = 0
    dead: int = 0
    pending: int = 0
    failed_attempts: int | None = 0
    dead_by_cause: dict[str, int] | None = {}


class _Part(msgspec.Struct, frozen=True):
    """An endpoint, what its receiver does, and what it is sent: data, and how often."""

    expected: Expected
    options: dict[str, Any] = {}
    behaviour: Behaviour = Behaviour()
    data: tuple[tuple[dict[str, Any], int], ...] = ()


#: 2,000 dead letters in all
_PARTS: Final[dict[str, _Part]] = {
    "healthy": _Part(Expected("active", 600, delivered=600)),
    "slow": _Part(
        Expected("active", 60, delivered=60),
        {"concurrency": 10},
        Behaviour(delay_s=0.2, jitter_s=0.5),
    ),
    "answers-70-percent": _Part(
        Expected(
            "failing",
            200,
            delivered=140,
            dead=60,
            failed_attempts=120,
            dead_by_cause={"server_error": 60},
        ),
        {"retry": _TWICE},
        Behaviour(fail_on=b'"fails"', body=b'{"error": "no stock left in this warehouse"}'),
        (({"works": True}, 140), ({"fails": True}, 60)),
    ),
    "refuses-signatures": _Part(
        Expected(
            "failing", 150, dead=150, failed_attempts=300, dead_by_cause={"unauthorized": 150}
        ),
        {"retry": _TWICE},
        Behaviour(status=401, body=b"the signature does not fit"),
    ),
    "too-large": _Part(
        Expected(
            "failing", 3400, delivered=1700, dead=1700, dead_by_cause={"payload_too_large": 1700}
        ),
        {"max_payload": "1KiB", "retry": _ONCE},
        Behaviour(),
        ((_SMALL, 1700), (_LARGE, 1700)),
    ),
    "breaker-open": _Part(
        Expected("open", 50, pending=50, failed_attempts=None),
        {
            "retry": {"schedule": ["30m"]},
            "circuit_breaker": {"failure_threshold": 3, "reset_timeout": "1h"},
        },
        Behaviour(status=503),
    ),
    "paused": _Part(Expected("paused", 30, pending=30), {"paused": True}),
    "disabled": _Part(
        Expected("disabled", 40, dead=40, failed_attempts=None, dead_by_cause=None),
        {"disable_on_gone": True, "retry": _ONCE},
        Behaviour(status=410),
    ),
    "misconfigured": _Part(
        Expected("misconfigured", 20, pending=20), {"signature": "standard", "secrets": [_TORN]}
    ),
    LONG: _Part(
        Expected("failing", 50, dead=50, failed_attempts=50, dead_by_cause={"connect_timeout": 50}),
        {"retry": _ONCE},
    ),
}


def _type_of(name: str) -> str:
    return f"incident.{name.partition('.')[0].replace('-', '_')}"


class IncidentScene:
    """A context manager; the engine and the receiver run within it. The API needs no token."""

    def __init__(self, folder: Path) -> None:
        """Keep everything in a folder: the data directory, the configuration, and the log."""
        self.data_dir = folder / "data"
        self.log = folder / "serve.log"
        self._config = folder / "fluxhook.yaml"
        self._stack = contextlib.ExitStack()
        with socket.create_server(("127.0.0.1", 0)) as free:
            #: the same after a restart of the admin process
            self._port: int = free.getsockname()[1]
        #: of the API and of the dashboard
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> IncidentScene:
        with contextlib.ExitStack() as stack:
            self.receiver = stack.enter_context(ReceiverProcess())
            for name, part in _PARTS.items():
                self.receiver.behave(part.behaviour, f"/{name}")
            # JSON is YAML too.
            self._config.write_bytes(msgspec.json.encode({"webhook": self._options()}))
            self._process = self._serve(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, at)

    def play(self) -> dict[str, Expected]:
        """Hand in all events, and wait until nothing moves; return what each endpoint has to show."""
        expected = {name: part.expected for name, part in _PARTS.items()}
        for name, part in _PARTS.items():
            for data, n in part.data or (({"path": "/api/v2/inventory"}, part.expected.accepted),):
                self.emit(name, n, data)
        until(lambda: self._is_settled(expected), "the incident is over", DEADLINE_S)
        return expected

    def emit(self, name: str, n: int = 1, data: dict[str, Any] | None = None) -> None:
        """Hand in events for an endpoint."""
        event = {"type": _type_of(name), "data": data or {}}
        for first in range(0, n, _BATCH):
            some = [event] * min(_BATCH, n - first)
            answer = httpx.post(f"{self.url}/v1/events", json=some, timeout=DEADLINE_S)
            assert answer.status_code == 202, answer.text

    def status(self) -> dict[str, dict[str, Any]]:
        """Return what the API says of each endpoint, by name."""
        answer = httpx.get(f"{self.url}/v1/webhooks/status", timeout=DEADLINE_S)
        assert answer.status_code == 200, answer.text
        return {one["name"]: one for one in answer.json()["webhooks"]}

    def _is_settled(self, expected: dict[str, Expected]) -> bool:
        time.sleep(0.1)  # the engine needs the core more
        found = self.status()
        return all(
            (one["accepted"], one["delivered"], one["dead"], one["pending"])
            == (wanted.accepted, wanted.delivered, wanted.dead, wanted.pending)
            and one["queued"] * (wanted.state == "active") == 0
            for name, wanted in expected.items()
            for one in (found[name],)
        )

    def _options(self) -> dict[str, Any]:
        return {
            "endpoints": [self._endpoint(name, part) for name, part in _PARTS.items()],
            "event_types": [_type_of(name) for name in _PARTS],
            "workers": 1,
            "ring_bytes": "16MiB",
            "allow_networks": ["127.0.0.0/8"],
            "admin": {"listen": f"127.0.0.1:{self._port}"},
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
