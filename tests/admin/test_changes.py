"""Who changed what, and what can be done about an endpoint in trouble, through the API."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from admin.conftest import ALL, READ, WRITE, client_of, config, problem, until
from fluxhook import Endpoint, Engine
from fluxhook.config.schema import Admin, Token
from fluxhook.control import Control
from fluxhook.receiver import Behaviour
from support.receiver import ReceiverProcess

TOKENS = (
    Token(token=ALL, name="operators"),
    Token(token=WRITE, scopes=("read", "write")),
    Token(token=READ, scopes=("read",), name="grafana"),
)
UNKNOWN = "dlv_0000000000000001"


class Guarded:
    """An engine whose API has tokens, its receiver, and a client with the operators' token."""

    def __init__(self, receiver: ReceiverProcess, engine: Engine, client: TestClient[Any]) -> None:
        self.receiver = receiver
        self.engine = engine
        self.client = client

    def post(self, path: str, token: str = ALL, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} | options.pop("headers", {})
        return self.client.post(path, headers=headers, **options)

    def get(self, path: str, **filters: Any) -> Any:
        answer = self.client.get(path, params=filters, headers={"Authorization": f"Bearer {READ}"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def changes(self, **filters: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/v1/changes", **filters)["items"]
        return found

    def create(self, name: str, token: str = ALL, **options: Any) -> None:
        layer = {
            "name": name,
            "url": f"{self.receiver.url}/{name}",
            "events": [f"{name}.*"],
            "signature": "none",
        } | options
        assert self.post("/v1/webhooks", token, json=layer).status_code == 201

    def waiting(self, name: str, n: int, **options: Any) -> list[str]:
        """Make a webhook whose first attempts fail, and whose second ones are an hour later."""
        self.receiver.behave(Behaviour(status=503), f"/{name}")
        never = {"failure_threshold": 1_000_000}
        retry = {"schedule": ["1h"], "jitter": 0}
        self.create(name, **{"retry": retry, "circuit_breaker": never, **options})
        for i in range(n):
            assert self.engine.emit(f"{name}.x", {"n": i})
        rows = until(
            lambda: (
                len(rows := self.get("/v1/deliveries", endpoint=name, state="waiting")["items"])
                == n
                and rows
            ),
            f"{n} that wait",
        )
        return [row["id"] for row in rows]

    def open(self, name: str) -> None:
        """Make a webhook whose breaker is open for an hour."""
        breaker = {"failure_threshold": 1, "reset_timeout": "1h"}
        self.waiting(name, 1, circuit_breaker=breaker, record="all")
        state = self.get(f"/v1/webhooks/{name}/status")["state"]
        assert state == "open"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with ReceiverProcess(keep=200) as receiver:
        filed = Endpoint(
            name="filed", url=f"{receiver.url}/filed", signature="none", events=("f.x",)
        )
        data_dir = tmp_path_factory.mktemp("site") / "data"
        with (
            Engine(config(filed, admin=Admin(tokens=TOKENS)), data_dir) as engine,
            client_of(data_dir, own_token="own-token-0123456789") as client,
        ):
            yield Guarded(receiver, engine, client)


# ---- who changed what ------------------------------------------------------------------------


def test_a_change_has_the_name_of_its_token(site: Guarded) -> None:
    """A token without a name has something stable that tells nothing of it; the User-Agent of the
    command line says the way."""
    site.create("named")
    assert site.post("/v1/webhooks/named/pause", WRITE).status_code == 200
    headers = {"User-Agent": "fluxhook/1.0"}
    assert site.post("/v1/webhooks/named/resume", headers=headers).status_code == 200
    own = "own-token-0123456789"
    assert site.post("/v1/webhooks/named/pause", own).status_code == 200
    shown = f"token {hashlib.sha256(WRITE.encode()).hexdigest()[:8]}"
    found = site.changes(endpoint="named")
    assert [(one["action"], one["actor"], one["via"]) for one in reversed(found)] == [
        ("webhook.create", "operators", "api"),
        ("webhook.pause", shown, "api"),
        ("webhook.resume", "operators", "cli"),
        ("webhook.pause", "unknown", "api"),  # the test's client has no address
    ]
    assert not any(token in str(found) for token in (ALL, WRITE, READ, own))
    # Programs of the host that embeds the engine: the user.
    site.engine.control.resume("named")
    (newest, *_) = site.changes(endpoint="named")
    assert newest["via"] == "embedding"
    assert newest["actor"]


def test_changes_are_found_page_by_page(site: Guarded) -> None:
    """By endpoint, actor, action and time; in whatever pages, each once, the newest first."""
    site.create("paged", WRITE)
    for action in ("pause", "resume", "pause", "resume"):
        site.post(f"/v1/webhooks/paged/{action}")
    whole = site.changes(endpoint="paged")
    assert len(whole) == 5
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = site.get("/v1/changes", endpoint="paged", limit=2, **cursor)
        found += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == whole
    assert [one["n"] for one in whole] == sorted((one["n"] for one in whole), reverse=True)
    assert len(site.changes(endpoint="paged", actor="operators")) == 4
    assert len(site.changes(endpoint="paged", action="webhook.pause")) == 2
    assert len(site.changes(endpoint="paged", since="1h")) == 5
    assert site.changes(endpoint="paged", until="1h") == []
    headers = {"Authorization": f"Bearer {READ}"}
    problem(site.client.get("/v1/changes?actr=x", headers=headers), 422, "invalid-request")
    problem(site.client.get("/v1/changes?cursor=abc", headers=headers), 422, "invalid-request")


def test_what_is_refused_changes_nothing_and_is_no_entry(site: Guarded) -> None:
    """By scope, by state, by its values."""
    site.create("refused")
    before = site.changes()
    problem(site.post("/v1/webhooks/refused/pause", READ), 403, "insufficient-scope")
    problem(site.post("/v1/webhooks", json={"name": "x y"}), 422, "invalid-configuration")
    problem(site.post("/v1/webhooks/none/retry"), 404, "unknown-webhook")
    problem(site.post(f"/v1/deliveries/{UNKNOWN}/retry"), 404, "unknown-delivery")
    problem(site.post(f"/v1/deliveries/{UNKNOWN}/resend"), 404, "unknown-delivery")
    problem(site.post("/v1/webhooks/refused/retry", json={"limit": 0}), 422, "invalid-request")
    problem(site.post("/v1/webhooks/refused/retry", json={"lmit": 1}), 422, "invalid-request")
    assert site.changes() == before


def test_a_repeated_request_is_one_change(site: Guarded) -> None:
    """The answer to an Idempotency-Key is remembered, and nothing is changed again."""
    site.create("once")
    for _ in range(2):
        answer = site.post("/v1/webhooks/once/test", headers={"Idempotency-Key": "k1"})
        assert answer.status_code == 202
    assert len(site.changes(endpoint="once", action="webhook.test")) == 1


# ---- retry now -------------------------------------------------------------------------------


def test_what_waits_for_its_time_is_attempted_now(site: Guarded) -> None:
    """All of a webhook, in steps that say how many; one entry for all of them."""
    site.waiting("late", 7)
    site.receiver.behave(None, "/late")
    answer = site.post("/v1/webhooks/late/retry", json={"limit": 3})
    assert (answer.status_code, answer.json()["done"]) == (200, 3)
    cursor = answer.json()["next_cursor"]
    assert site.post("/v1/webhooks/late/retry", json={"cursor": cursor}).json() == {
        "done": 4,
        "next_cursor": None,
    }
    site.receiver.wait_for(7, "/late")
    assert site.post("/v1/webhooks/late/retry").json()["done"] == 0
    (entry,) = site.changes(endpoint="late", action="webhook.retry")
    assert (entry["after"]["count"], entry["after"]["more"]) == (3, True)


def test_one_delivery_is_attempted_now(site: Guarded) -> None:
    """Its outcome is the next attempt of the delivery."""
    first, second = site.waiting("single", 2)
    site.receiver.behave(None, "/single")
    assert site.post(f"/v1/deliveries/{first}/retry").json()["done"] == 1
    detail = until(lambda: (d := site.get(f"/v1/deliveries/{first}"))["state"] == "delivered" and d)
    assert [one["n"] for one in detail["history"]] == [1, 2]
    problem(site.post(f"/v1/deliveries/{first}/retry"), 409, "conflict")
    assert site.get(f"/v1/deliveries/{second}")["state"] == "waiting"


# ---- an open breaker -------------------------------------------------------------------------


def test_an_open_breaker_is_closed_and_what_it_held_is_sent(site: Guarded) -> None:
    """A retry and a test say that it stands in the way, and until when."""
    site.open("broken")
    said = problem(site.post("/v1/webhooks/broken/retry"), 409, "conflict")["detail"]
    probe = site.get("/v1/webhooks/broken/status")["next_probe_at"]
    assert f"open until {probe}" in said
    sent = site.post("/v1/webhooks/broken/test").json()
    assert (sent["held_by"], sent["held_until"]) == ("breaker_open", probe)
    held = site.get(f"/v1/deliveries/{sent['delivery_id']}")
    assert (held["cause"], held["due_at"]) == ("breaker_open", probe)
    assert site.engine.emit("broken.x", {})  # which the breaker holds back
    until(lambda: site.get("/v1/webhooks/broken/status")["stored"] == 3)
    site.receiver.behave(None, "/broken")
    answer = site.post("/v1/webhooks/broken/close-breaker")
    assert answer.status_code == 200
    assert answer.json()["state"] in ("active", "failing")
    site.receiver.wait_for(2, "/broken")  # the first one waits for its own time
    assert site.post("/v1/webhooks/broken/retry").json()["done"] == 1
    site.receiver.wait_for(3, "/broken")
    assert site.post("/v1/webhooks/broken/test").json()["held_until"] is None


def test_a_breaker_that_opens_again_at_once_was_closed(
    site: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events come while it is closed, and fail: the answer is the webhook as it is then."""
    site.open("flapping")
    close = Control.close_breaker

    def close_and_fail(control: Control, name: str) -> None:
        close(control, name)
        assert site.engine.emit("flapping.x", {})
        until(lambda: site.get("/v1/webhooks/flapping/status")["state"] == "open")

    monkeypatch.setattr(Control, "close_breaker", close_and_fail)
    answer = site.post("/v1/webhooks/flapping/close-breaker")
    assert (answer.status_code, answer.json()["state"]) == (200, "open")


# ---- send again ------------------------------------------------------------------------------


def test_what_was_delivered_is_sent_again(site: Guarded) -> None:
    """The same event id and body; the books balance. A repeat with its key sends nothing more."""
    site.create("again", record="all")
    site.engine.emit("again.x", {"n": 42})
    site.receiver.wait_for(1, "/again")
    (row,) = until(lambda: site.get("/v1/deliveries", endpoint="again", state="delivered")["items"])
    answers = [
        site.post(f"/v1/deliveries/{row['id']}/resend", headers={"Idempotency-Key": "r1"})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    resent = answers[0].json()
    assert answers[1].json() == resent
    assert (resent["event_id"], resent["held_by"]) == (row["event_id"], None)
    until(lambda: site.get(f"/v1/deliveries/{resent['delivery_id']}")["state"] == "delivered")
    first, second = site.receiver.requests("/again")
    assert first.body == second.body
    figures = until(lambda: (s := site.get("/v1/webhooks/again/status"))["pending"] == 0 and s)
    assert (figures["accepted"], figures["delivered"]) == (2, 2)
    assert len(site.changes(endpoint="again", action="delivery.resend")) == 1
    (dead, *_) = site.waiting("notyet", 1)
    problem(site.post(f"/v1/deliveries/{dead}/resend"), 409, "conflict")
