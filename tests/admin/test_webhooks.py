"""Webhooks over HTTP: what is created, shown, changed and removed, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fluxhook
from admin.conftest import ApiSite, client_of, config, problem, until
from fluxhook import Endpoint
from fluxhook.control import Create, Subscription
from fluxhook.receiver import Behaviour
from support.scheduler_harness import SchedulerHarness


def test_the_documents_own_webhook_is_created(site: ApiSite) -> None:
    """`--type route.error --url ... --secret sk_live_9x8m2p --timeout 3s` of FluxGate's page, and
    what was given is in force when the answer arrives."""
    url = f"{site.receiver.url}/documents"
    body = {"events": ["route.error"], "url": url, "secret": "sk_live_9x8m2p", "timeout": "3s"}
    response = site.client.post("/v1/webhooks", json={"name": "documents", **body})
    assert response.status_code == 201
    made = response.json()
    assert response.headers["location"] == f"/v1/webhooks/{made['id']}"
    assert (made["name"], made["source"], made["state"]) == ("documents", "api", "active")
    assert made["secrets"] == ["***"]
    assert made["secret"] is None, "it was given, so it is not shown"
    data = {
        "request_id": "req_7h3k9m2p",
        "path": "/api/v2/inventory",
        "status_code": 503,
        "upstream_service": "stock-manager",
        "latency_ms": 2450,
    }
    accepted = site.client.post("/v1/events", json={"type": "route.error", "data": data}).json()
    assert accepted["events"][0]["endpoints"] == 1
    site.receiver.wait_for(1, "/documents")
    (received,) = site.receiver.requests("/documents")
    verified = fluxhook.verify(received.body, received.headers, "sk_live_9x8m2p")
    assert verified is not None
    assert site.client.delete("/v1/webhooks/documents").status_code == 204


def test_a_webhook_is_shown_by_name_and_by_id(site: ApiSite) -> None:
    """Both references lead to the same resource, which the list has too."""
    made = site.create("shown")
    by_name = site.client.get("/v1/webhooks/shown").json()
    by_id = site.client.get(f"/v1/webhooks/{made['id']}").json()
    assert by_name == by_id
    assert by_name in site.items("/v1/webhooks")
    assert by_name["timeout"] == "3s"
    assert by_name["created_at"].endswith("Z")


@pytest.mark.parametrize(
    ("events", "near"),
    [
        (["route"], "route.*"),
        (["route.eror"], "route.error"),
        (["rout.*", "order.created"], "route.*"),
    ],
)
def test_a_subscription_to_nothing_is_pointed_out(
    site: ApiSite, events: list[str], near: str
) -> None:
    """It is accepted, since a host may emit any type, and said so: in the answer, and whenever the
    webhook is shown."""
    made = site.create("mistyped", events=events)
    (notice,) = made["notices"]
    said = f"events[0]: no known event type matches {events[0]!r} (did you mean {near}"
    assert notice.startswith(said)
    assert site.client.get("/v1/webhooks/mistyped").json()["notices"] == [notice]
    patched = site.client.patch("/v1/webhooks/mistyped", json={"events": ["route.*"]}).json()
    assert patched["notices"] == []
    assert site.client.get("/v1/webhooks/mistyped").json()["notices"] == []
    assert site.client.delete("/v1/webhooks/mistyped").status_code == 204


def test_a_webhook_of_the_file_can_be_paused_but_not_changed(site: ApiSite) -> None:
    """The configuration file owns it."""
    shown = site.client.get("/v1/webhooks/filed").json()
    assert (shown["source"], shown["created_at"]) == ("file", None)
    problem(site.client.patch("/v1/webhooks/filed", json={"timeout": "9s"}), 409, "conflict")
    problem(site.client.delete("/v1/webhooks/filed"), 409, "conflict")
    problem(site.client.post("/v1/webhooks/filed/rotate-secret"), 409, "conflict")
    assert site.client.post("/v1/webhooks/filed/pause").json()["state"] == "paused"
    assert site.client.post("/v1/webhooks/filed/resume").json()["state"] == "active"


def test_a_patch_changes_what_it_names(site: ApiSite) -> None:
    """RFC 7396: null takes an option back to its default, the others stay."""
    site.create("patched", ttl="5m", timeout="4s")
    answer = site.client.patch(
        "/v1/webhooks/patched",
        content=b'{"timeout": "7s", "ttl": null, "retry": {"max_attempts": 2}}',
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert answer.status_code == 200
    changed = answer.json()
    assert (changed["timeout"], changed["ttl"]) == ("7s", None)
    assert changed["retry"]["max_attempts"] == 2
    assert changed["url"].endswith("/patched")
    assert changed["updated_at"] >= changed["created_at"]


def test_a_deleted_webhook_is_gone(site: ApiSite) -> None:
    """A second deletion finds none, and what is emitted has no subscriber."""
    site.create("deleted")
    assert site.client.delete("/v1/webhooks/deleted").status_code == 204
    problem(site.client.delete("/v1/webhooks/deleted"), 404, "unknown-webhook")
    problem(site.client.get("/v1/webhooks/deleted"), 404, "unknown-webhook")
    assert site.emit("deleted.x")[0]["endpoints"] == 0


def test_a_paused_webhook_keeps_its_events(site: ApiSite) -> None:
    """They are delivered once it is resumed."""
    site.create("paused")
    assert site.client.post("/v1/webhooks/paused/pause").json()["state"] == "paused"
    assert site.emit("paused.x")[0]["endpoints"] == 1
    problem(site.client.post("/v1/webhooks/paused/test"), 409, "conflict")
    until(lambda: site.client.get("/v1/webhooks/paused/status").json()["pending"] == 1)
    assert site.receiver.total("/paused") == 0
    site.client.post("/v1/webhooks/paused/resume")
    site.receiver.wait_for(1, "/paused")


def test_a_generated_secret_is_shown_once(site: ApiSite) -> None:
    """On creation and on rotation; meanwhile and afterwards it is `***`."""
    made = site.create("generated", signature="fluxgate", generate_secret=True)
    first = made["secret"]
    assert first
    assert first not in site.client.get("/v1/webhooks/generated").text
    rotated = site.client.post("/v1/webhooks/generated/rotate-secret", json={"overlap": "1h"})
    second = rotated.json()["secret"]
    assert rotated.status_code == 200
    assert second != first
    shown = site.client.get("/v1/webhooks/generated").json()
    assert shown["expiring_secrets"] == 1
    assert shown["secrets_expire_at"] == rotated.json()["former_expires_at"]
    site.emit("generated.x")
    site.receiver.wait_for(1, "/generated")
    (received,) = site.receiver.requests("/generated")
    for secret in (first, second):
        assert fluxhook.verify(received.body, received.headers, secret)


def test_a_secret_that_was_given_is_not_shown(site: ApiSite) -> None:
    """A client that rotates to a secret of its own knows it."""
    site.create("given", signature="fluxgate", secret="first-secret")
    rotated = site.client.post("/v1/webhooks/given/rotate-secret", json={"secret": "second-secret"})
    assert rotated.json()["secret"] is None
    assert rotated.json()["generated"] is False
    assert "second-secret" not in rotated.text


def test_a_test_event_goes_to_this_webhook_alone(site: ApiSite) -> None:
    """Whatever it subscribes to; its delivery can be looked at, success included."""
    site.create("tested")
    sent = site.client.post("/v1/webhooks/tested/test", json={"data": {"hello": "world"}})
    assert sent.status_code == 202
    path = f"/v1/deliveries/{sent.json()['delivery_id']}"
    delivery = until(
        lambda: (d := site.client.get(path).json())["state"] == "delivered" and d, "the delivery"
    )
    assert delivery["event_id"] == sent.json()["event_id"]
    assert delivery["type"] == "webhook.test"
    (attempt,) = delivery["history"]
    assert (attempt["outcome"], attempt["status"]) == ("delivered", 204)
    assert attempt["timings"]["total_ms"] > 0
    assert '"hello":"world"' in delivery["request"]["body"]


def test_a_request_is_shown_without_its_signature(site: ApiSite) -> None:
    """Headers with secrets are `***`, the signature too; a receiver's echo of a secret as well."""
    site.receiver.behave(Behaviour(status=200, body=b"you sent Bearer-hidden-in-header"), "/filed")
    sent = site.client.post("/v1/webhooks/filed/test").json()
    path = f"/v1/deliveries/{sent['delivery_id']}"
    delivery = until(lambda: (d := site.client.get(path).json())["history"] and d, "the attempt")
    headers = delivery["request"]["headers"]
    assert headers["Authorization"] == "***"
    assert headers["Content-Type"] == "application/json"
    stamp, signature = headers["X-FluxGate-Signature"].split(",")
    assert stamp[2:].isdecimal()
    assert signature == "v1=***"
    assert delivery["request"]["url"].endswith("/filed?***")
    assert delivery["history"][0]["answer"] == "you sent ***"


def test_status_counts(site: ApiSite) -> None:
    """accepted = delivered + dead + dropped + aggregated + pending, each with its latencies and its
    last error; and what each process counted."""
    site.receiver.behave(Behaviour(fail_first=1, fail_status=500), "/counted")
    site.create("counted", retry={"max_attempts": 1})
    site.emit("counted.a")
    until(lambda: site.client.get("/v1/webhooks/counted/status").json()["dead"] == 1)
    site.emit("counted.b")
    site.receiver.wait_for(1, "/counted")
    one = until(
        lambda: (s := site.client.get("/v1/webhooks/counted/status").json())["delivered"] == 1 and s
    )
    assert one["accepted"] == one["delivered"] + one["dead"] == 2
    assert one["success_rate"] == 0.5
    assert one["latency_ms"]["p50"] > 0
    assert one["last_error"]["cause"] == "server_error"
    status = site.client.get("/v1/webhooks/status").json()
    assert status["running"] is True
    assert one["name"] in [row["name"] for row in status["webhooks"]]
    assert status["totals"]["accepted"] >= 2
    assert {row["role"] for row in status["processes"]} == {"publisher", "worker"}


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"url": "ftp://example.com"}, "url"),
    ({"url": "https://"}, "url"),
    ({"url": "http://10.0.0.1/"}, "url"),
    ({"events": ["Route Error"]}, "events[0]"),
    ({"events": []}, "events"),
    ({"timeout": "9"}, "timeout"),
    ({"timeout": 9}, "timeout"),
    ({"retry": {"max_attempts": 0}}, "retry.max_attempts"),
    ({"topic_filters": ["a/#/b"]}, "topic_filters[0]"),
    ({"where": ["status >"]}, "where[0]"),
    ({"signature": "fluxgate"}, "signature"),
    ({"signature": "standard", "secret": "x"}, "secret"),
    ({"headers": {"Content-Length": "1"}}, "headers.Content-Length"),
    ({"rate_limit": "fast"}, "rate_limit"),
    ({"nmae": "x"}, "nmae"),
    ({"name": "status"}, "name"),
    ({"name": "with/slash"}, "name"),
    ({"secret": "***"}, "secret"),
    ({"headers": {"Authorization": "***"}}, "headers.Authorization"),
    ({"url": "https://example.com/?***"}, "url"),
]


@pytest.mark.parametrize(("options", "field"), BAD_OPTIONS, ids=[str(o) for o, _ in BAD_OPTIONS])
def test_a_bad_option_is_named(site: ApiSite, options: dict[str, Any], field: str) -> None:
    """Each problem says where it stands, what is wrong, and what would be right."""
    layer = {
        "name": "bad",
        "url": "https://hooks.example.com/",
        "events": ["*"],
        "signature": "none",
    }
    answer = site.client.post("/v1/webhooks", json=layer | options)
    body = problem(answer, 422, "invalid-configuration")
    assert field in [error["field"] for error in body["errors"]], body
    assert all(error["message"] and error["remedy"] for error in body["errors"])
    problem(site.client.get("/v1/webhooks/bad"), 404, "unknown-webhook")


def test_a_list_that_is_too_long_is_named(site: ApiSite) -> None:
    """With its limit, however long it is; in a change too."""
    site.create("short")
    too_long = {"where": ["status_code >= 500"] * 100_000}
    layer = {"url": "https://hooks.example.com/", "events": ["*"], **too_long}
    for answer in (
        site.client.post("/v1/webhooks", json=layer),
        site.client.patch("/v1/webhooks/short", json=too_long),
    ):
        body = problem(answer, 422, "invalid-configuration")
        assert body["errors"] == [
            {"field": "where", "message": "has 100,000 entries", "remedy": "write at most 32"}
        ]


def test_all_problems_are_named_at_once(site: ApiSite) -> None:
    """So that one correction is enough."""
    body = problem(site.client.post("/v1/webhooks", json={}), 422, "invalid-configuration")
    assert {error["field"] for error in body["errors"]} >= {"url", "events"}


def test_a_name_is_taken_once(site: ApiSite) -> None:
    """A second webhook of a name is refused; one without a name gets another."""
    site.create("taken")
    layer = {
        "name": "taken",
        "url": "https://hooks.example.com/",
        "events": ["*"],
        "signature": "none",
    }
    problem(site.client.post("/v1/webhooks", json=layer), 409, "conflict")
    del layer["name"]
    names = [site.client.post("/v1/webhooks", json=layer).json()["name"] for _ in range(2)]
    assert names == ["hooks.example.com", "hooks.example.com-2"]
    for name in names:
        site.client.delete(f"/v1/webhooks/{name}")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/webhooks/nobody"),
        ("GET", "/v1/webhooks/wh_999"),
        ("PATCH", "/v1/webhooks/nobody"),
        ("DELETE", "/v1/webhooks/nobody"),
        ("POST", "/v1/webhooks/nobody/pause"),
        ("POST", "/v1/webhooks/nobody/resume"),
        ("POST", "/v1/webhooks/nobody/rotate-secret"),
        ("POST", "/v1/webhooks/nobody/test"),
        ("GET", "/v1/webhooks/nobody/status"),
        ("GET", "/v1/deliveries?endpoint=nobody"),
        ("GET", "/v1/attempts?endpoint=nobody"),
        ("GET", "/v1/dead-letters?endpoint=nobody"),
    ],
)
def test_an_unknown_webhook_is_not_found(site: ApiSite, method: str, path: str) -> None:
    """Wherever it is named."""
    body = b"{}" if method == "PATCH" else None
    problem(site.client.request(method, path, content=body), 404, "unknown-webhook")


@pytest.mark.parametrize("field", ["secret", "overlap", "extra"])
def test_a_bad_rotation_is_refused(site: ApiSite, field: str) -> None:
    """With the field's name."""
    value = {"secret": 5, "overlap": "soon", "extra": 1}[field]
    body = problem(
        site.client.post("/v1/webhooks/filed/rotate-secret", json={field: value}),
        422,
        "invalid-request",
    )
    assert body["errors"][0]["field"] in (field, "")


def test_an_endpoint_that_the_file_hides_is_the_files(tmp_path: Path) -> None:
    """One that was created and then written into the file as well is changed there from then on."""
    layer = {"name": "both", "url": "https://a.example/", "events": ["*"], "secrets": ["sk_1"]}
    with SchedulerHarness(tmp_path / "data") as harness:
        harness.ask(Create(layer), Subscription)
        with client_of(harness.path) as client:
            assert client.get("/v1/webhooks/both").json()["source"] == "api"
            harness.supervisor.live.load(
                config(Endpoint(name="both", url="https://b.example/", signature="none"))
            )
            shown = client.get("/v1/webhooks/both").json()
            assert (shown["source"], shown["created_at"]) == ("file", None)


def test_a_moved_webhook_takes_nothing_hidden_along(site: ApiSite) -> None:
    """422 says which values are to be given anew; what is left out is not sent to the new place."""
    layer = {"headers": {"Authorization": "Bearer-hidden-in-header"}}
    site.create("moving", signature="fluxgate", secret="sk_live_9x8m2p", **layer)
    elsewhere = f"{site.receiver.url}/moved".replace("127.0.0.1", "localhost")
    answer = site.client.patch("/v1/webhooks/moving", json={"url": elsewhere})
    said = problem(answer, 422, "invalid-configuration")
    assert [error["field"] for error in said["errors"]] == ["headers.Authorization", "secret"]
    assert site.client.get("/v1/webhooks/moving").json()["url"].endswith("/moving")
    patch = {"url": elsewhere, "headers": {"Authorization": None}, "secret": "sk_other_9x8m2p"}
    assert site.client.patch("/v1/webhooks/moving", json=patch).status_code == 200
    assert site.client.post("/v1/webhooks/moving/test").status_code == 202
    site.receiver.wait_for(1, "/moved")
    (received,) = site.receiver.requests("/moved")
    assert "authorization" not in {name.lower() for name in received.headers}
    fluxhook.verify(received.body, received.headers, "sk_other_9x8m2p")


def test_an_idempotency_key_creates_once(site: ApiSite) -> None:
    """A repeat has the same answer, with the secret that was generated; so have a rotation and a test
    event. `null` is a key like any other."""
    layer = {"url": f"{site.receiver.url}/once", "events": ["once.*"], "generate_secret": True}
    for key in ("once-1", "null"):
        headers = {"Idempotency-Key": key}
        first, again = (
            site.client.post("/v1/webhooks", json={"name": f"once-{key}", **layer}, headers=headers)
            for _ in range(2)
        )
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.json() == first.json()
        assert again.headers["location"] == first.headers["location"]
        assert first.json()["secret"]
    other = site.client.post("/v1/webhooks", json={**layer, "name": "two"}, headers=headers)
    problem(other, 422, "idempotency-key-reused")
    for action, status in (("rotate-secret", 200), ("test", 202)):
        path = f"/v1/webhooks/once-null/{action}"
        first, again = (site.client.post(path, headers=headers) for _ in range(2))
        assert (first.status_code, again.status_code) == (status, status)
        assert again.json() == first.json()
    assert site.client.get("/v1/webhooks/once-null").json()["expiring_secrets"] == 1
