"""Every name that the configuration accepts is found by it, percent-encoded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from admin.conftest import BASE_URL, problem
from fluxhook import Config, Endpoint
from fluxhook.admin.app import create_app
from fluxhook.cli.api import segment
from fluxhook.runtime.supervisor import Supervisor

NAMES = (
    "zero",  # wh_0
    "wh_0",
    "status",
    "new",
    "team/alerts",
    "/",
    "a//b/",
    "a b",
    "50%",
    "%2F",
    "q?x=1",
    "a#b",
    "日本",
    "..",
    ".",
    "../..",
    "./status",
    'a\\b"c',
    "[red]x[/red]",
    "*",
    "A",
    "a",
)


class Client:
    """Sends paths as they are written, as a server hands them on."""

    def __init__(self, data_dir: Path) -> None:
        self._transport = httpx.ASGITransport(create_app(data_dir))

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url=BASE_URL) as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """Of an API over an engine that was stopped; changes it cannot make."""
    data_dir: Path = tmp_path_factory.mktemp("names") / "data"
    endpoints = tuple(
        Endpoint(name=name, url="https://hooks.example.com/", signature="none") for name in NAMES
    )
    Supervisor(data_dir, Config(endpoints=endpoints, workers=1, ring_bytes=2**23)).close()
    return Client(data_dir)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_found(client: Client, name: str) -> None:
    """By the path that the command line makes of it, alone and before another word."""
    path = f"/v1/webhooks/{segment(name)}"
    assert client.request("GET", path).json()["name"] == name
    assert client.request("GET", f"{path}/status").json()["name"] == name
    refused = client.request("POST", f"{path}/pause").json()
    assert refused["type"].endswith("engine-not-running"), "it was found, and cannot be changed"
    for listing in ("deliveries", "dead-letters", "attempts"):
        assert client.request("GET", f"/v1/{listing}", params={"endpoint": name}).status_code == 200


def test_only_the_word_itself_is_the_status_of_all(client: Client) -> None:
    """An encoded letter makes it a name; a name wins over an equal id."""
    assert "webhooks" in client.request("GET", "/v1/webhooks/status").json()
    assert client.request("GET", "/v1/webhooks/%73tatus").json()["name"] == "status"
    assert client.request("GET", "/v1/webhooks/wh_0").json()["name"] == "wh_0"
    assert client.request("GET", "/v1/webhooks/wh_1").json()["name"] == "wh_0"


def test_a_name_that_is_not_there(client: Client) -> None:
    """The answer shows it, and its path, as they were meant."""
    said = problem(client.request("GET", "/v1/webhooks/no%2Fbody"), 404, "unknown-webhook")
    assert "no/body" in said["detail"]
    assert said["instance"] == "/v1/webhooks/no%2Fbody"
