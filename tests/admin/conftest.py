"""Engines with a receiver beside them, and clients of their admin API in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from fluxhook import Config, Endpoint, Engine, Retry, Size
from fluxhook.admin.app import create_app
from fluxhook.config.schema import Admin, Token
from fluxhook.receiver import Behaviour
from fluxhook.supervisor.supervisor import Supervisor
from support.receiver import ReceiverProcess
from support.rig import until as until

#: far above what a step takes, even on a machine that does much else
DEADLINE_S = 60.0
BASE_URL = "http://127.0.0.1:8090"

READ, WRITE, EMIT, ALL = (f"{name}-token-0123456789" for name in ("read", "write", "emit", "all"))
TOKENS = (
    Token(token=READ, scopes=("read",)),
    Token(token=WRITE, scopes=("write",)),
    Token(token=EMIT, scopes=("emit",)),
    Token(token=ALL),
)
#: what no answer may hold
SECRETS = (
    "sk_live_9x8m2p",
    "Bearer-hidden-in-header",
    "hidden-in-query",
    "hidden-in-proxy",
    *(token.token for token in TOKENS),
)

ROUTE_ERROR = {
    "type": "route.error",
    "data": {
        "request_id": "req_7h3k9m2p",
        "path": "/api/v2/inventory",
        "status_code": 503,
        "upstream_service": "stock-manager",
        "latency_ms": 2450,
    },
}


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Return the problem details of an answer, which must be of this status and kind."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    body: dict[str, Any] = response.json()
    assert body["type"] == f"urn:fluxhook:problem:{kind}", body
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["instance"] == response.request.url.raw_path.decode().partition("?")[0]
    return body


@contextmanager
def client_of(data_dir: Path, *, token: str = "", own_token: str = "") -> Iterator[TestClient[Any]]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    app: Any = create_app(data_dir, own_token=own_token)
    with TestClient(app, base_url=BASE_URL) as client:
        client.headers.update(headers)
        yield client


def config(*endpoints: Endpoint, **options: Any) -> Config:
    defaults: dict[str, Any] = {
        "workers": 1,
        "allow_networks": ("127.0.0.0/8",),
        "ring_bytes": Size(2**22),
    }
    return Config(endpoints=endpoints, **(defaults | options))


class ApiSite:
    """An engine, its receiver, and a client of its API, which is open."""

    def __init__(self, receiver: ReceiverProcess, engine: Engine, client: TestClient[Any]) -> None:
        self.receiver = receiver
        self.engine = engine
        self.client = client
        self.data_dir = engine.data_dir

    def create(self, name: str, **options: Any) -> dict[str, Any]:
        """Create a webhook whose path at the receiver is its name."""
        layer = {
            "name": name,
            "url": f"{self.receiver.url}/{name}",
            "events": [f"{name.replace('-', '_')}.*"],
            "signature": "none",
        } | options
        response = self.client.post("/v1/webhooks", json=layer)
        assert response.status_code == 201, response.text
        body: dict[str, Any] = response.json()
        return body

    def emit(self, *types: str, **options: Any) -> list[dict[str, Any]]:
        response = self.client.post("/v1/events", json=[{"type": t, **options} for t in types])
        assert response.status_code == 202, response.text
        accepted: list[dict[str, Any]] = response.json()["events"]
        return accepted

    def items(self, path: str, **filters: Any) -> list[dict[str, Any]]:
        response = self.client.get(path, params=filters)
        assert response.status_code == 200, response.text
        items: list[dict[str, Any]] = response.json()["items"]
        return items

    def dead_letter(self, name: str, n: int) -> list[str]:
        """Make dead letters of a new webhook that gives up at once; return their ids, the latest
        first."""
        self.receiver.behave(Behaviour(status=503), f"/{name}")
        never = {"failure_threshold": 1_000_000}
        self.create(name, retry={"max_attempts": 1}, circuit_breaker=never)
        self.emit(*[f"{name.replace('-', '_')}.happened"] * n)
        found = until(
            lambda: len(rows := self.items("/v1/dead-letters", endpoint=name)) == n and rows,
            f"{n} dead letters",
        )
        return [row["id"] for row in found]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiSite]:
    """Start one engine for a module's tests, each of which makes webhooks of its own."""
    with ReceiverProcess(keep=200) as receiver:
        filed = Endpoint(
            name="filed",
            url=f"{receiver.url}/filed?token=hidden-in-query",
            events=("filed.*",),
            secrets=("sk_live_9x8m2p",),
            headers={"Authorization": "Bearer-hidden-in-header"},
            retry=Retry(max_attempts=1),
        )
        data_dir = tmp_path_factory.mktemp("site") / "data"
        with (
            Engine(config(filed, event_types=("order.created",)), data_dir) as engine,
            client_of(data_dir) as client,
        ):
            yield ApiSite(receiver, engine, client)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the data directory of an engine that was started and stopped; its API has TOKENS."""
    data_dir = tmp_path_factory.mktemp("stopped") / "data"
    ops = Endpoint(name="ops", url="https://hooks.example.com/fg", signature="none")
    Supervisor(data_dir, config(ops, admin=Admin(tokens=TOKENS))).close()
    return data_dir


@pytest.fixture
def guarded(stopped: Path) -> Iterator[TestClient[Any]]:
    """Make a client without a token."""
    with client_of(stopped, own_token="own-token-0123456789") as client:
        yield client
