"""Every name that the configuration accepts is found by it, percent-encoded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from admin.conftest import BASE_URL, problem
from fluxhook import Config, Endpoint, Size
from fluxhook.admin.app import create_app
from fluxhook.admin.references import written
from fluxhook.cli.api_client import reference, segment
from fluxhook.control import Control
from fluxhook.supervisor.supervisor import Supervisor

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
    "null",
    "id:wh_0",
    "id:",
    "id:a/b",
    "id%3Awh_0",
    "ID:wh_0",
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
    Supervisor(data_dir, Config(endpoints=endpoints, workers=1, ring_bytes=Size(2**23))).close()
    return Client(data_dir)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_found(client: Client, name: str) -> None:
    """By its path, alone and before another word; in queries and on the command line as it is, but for
    one that begins as an id does."""
    path = f"/v1/webhooks/{segment(name)}"
    assert client.request("GET", path).json()["name"] == name
    assert client.request("GET", f"{path}/status").json()["name"] == name
    refused = client.request("POST", f"{path}/pause").json()
    assert refused["type"].endswith("engine-not-running"), "it was found, and cannot be changed"
    said = written(name)
    assert client.request("GET", f"/v1/webhooks/{reference(said)}").json()["name"] == name
    for listing in ("deliveries", "dead-letters", "attempts", "audit"):
        assert client.request("GET", f"/v1/{listing}", params={"endpoint": said}).status_code == 200


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_the_answer_shows_what_was_changed(
    client: Client, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """And not the endpoint whose id its name looks like."""
    changed: list[str] = []
    monkeypatch.setattr(Control, action, lambda self, name: changed.append(name))
    answer = client.request("POST", f"/v1/webhooks/id%3Awh_0/{action}")
    assert changed == [answer.json()["name"]] == ["id:wh_0"]


def test_only_the_word_itself_is_the_status_of_all(client: Client) -> None:
    """An encoded letter makes it a name; a name wins over an equal id."""
    assert "webhooks" in client.request("GET", "/v1/webhooks/status").json()
    assert client.request("GET", "/v1/webhooks/%73tatus").json()["name"] == "status"
    assert client.request("GET", "/v1/webhooks/wh_0").json()["name"] == "wh_0"
    assert client.request("GET", "/v1/webhooks/wh_1").json()["name"] == "wh_0"


def test_an_id_can_be_said_to_be_one(client: Client) -> None:
    """`id:wh_7` is the id whatever is named like it, everywhere; encoded it is a name."""
    for ref, name in (("id:wh_0", "zero"), ("id:wh_1", "wh_0"), ("id:wh_%30", "zero")):
        assert client.request("GET", f"/v1/webhooks/{ref}").json()["name"] == name
        assert client.request("GET", f"/v1/webhooks/{ref}/status").json()["name"] == name
    assert client.request("GET", f"/v1/webhooks/{reference('id:wh_0')}").json()["name"] == "zero"
    for encoded in ("id%3Awh_0", "id%3awh_0", "%69d:wh_0", "%69%64%3a%77h_0"):
        assert client.request("GET", f"/v1/webhooks/{encoded}").json()["name"] == "id:wh_0"
    for nobody in ("id:wh_99", "id:zero", "id:wh_007", "id:wh_", "id:id:wh_0"):
        problem(client.request("GET", f"/v1/webhooks/{nobody}"), 404, "unknown-webhook")
        answer = client.request("GET", "/v1/deliveries", params={"endpoint": nobody})
        problem(answer, 404, "unknown-webhook")


@pytest.mark.parametrize(
    "query",
    [
        "state=null",
        "state=NULL",
        "state=None",
        "state=",
        "state",
        "state=dead&state=waiting",
        "limit=null",
        "limit=",
        "limit=1&limit=2",
        "since=null",
        "until=",
        "cursor=null",
        "cause=",
        "type=",
        "event_id=",
        "endpoint=",
        "=",
        "&state=",
    ],
)
def test_a_filter_is_what_it_says(client: Client, query: str) -> None:
    """Null, nothing, or two at once are refused, by name: none of them finds everything."""
    said = problem(client.request("GET", f"/v1/deliveries?{query}"), 422, "invalid-request")
    assert said["errors"][0]["field"] == query.lstrip("&").partition("=")[0]


@pytest.mark.parametrize("listing", ["deliveries", "attempts", "dead-letters", "audit"])
def test_null_is_a_text(client: Client, listing: str) -> None:
    """A filter for it finds what has that text, and nothing here; a webhook may be named so."""
    for name in ("type", "cause", "outcome", "event_id", "action"):
        answer = client.request("GET", f"/v1/{listing}", params={name: "null"})
        assert answer.status_code == 422 or answer.json()["items"] == []
    problem(client.request("GET", f"/v1/{listing}?since=null"), 422, "invalid-request")
    assert client.request("GET", f"/v1/{listing}?endpoint=null").status_code == 200


def test_a_name_that_is_not_there(client: Client) -> None:
    """The answer shows it, and its path, as they were meant."""
    said = problem(client.request("GET", "/v1/webhooks/no%2Fbody"), 404, "unknown-webhook")
    assert "no/body" in said["detail"]
    assert said["instance"] == "/v1/webhooks/no%2Fbody"
