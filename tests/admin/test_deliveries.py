"""Deliveries, attempts, dead letters and the audit trail: found, paged, replayed, purged."""

from __future__ import annotations

from typing import Any

import pytest

from admin.conftest import ApiSite, problem, until
from fluxhook.admin.paging import parse_moment, write_cursor
from fluxhook.events.catalog import TYPES
from fluxhook.receiver import Behaviour
from fluxhook.store.audit import AuditEntry, AuditTrail
from fluxhook.transport.datadir import DataDir

UNKNOWN = "dlv_0000000000000001"


def walk(site: ApiSite, path: str, **filters: Any) -> list[dict[str, Any]]:
    """Return all items of a list, page by page."""
    items: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = site.client.get(path, params=filters | cursor).json()
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        assert len(page["items"]) == filters["limit"]
        cursor = {"cursor": page["next_cursor"]}


@pytest.mark.parametrize("path", ["/v1/deliveries", "/v1/attempts", "/v1/dead-letters"])
def test_pages_hold_everything_once(site: ApiSite, path: str) -> None:
    """In whatever size they are asked for, newest first, while more is added at the front."""
    name = f"paged-{path[4:]}"
    site.dead_letter(name, 7)
    key = "delivery_id" if path == "/v1/attempts" else "id"
    whole = [row[key] for row in site.items(path, endpoint=name)]
    assert len(set(whole)) == 7
    for limit in (1, 3, 7):
        assert [row[key] for row in walk(site, path, endpoint=name, limit=limit)] == whole
    first = site.client.get(path, params={"endpoint": name, "limit": 3}).json()
    site.emit(f"{name.replace('-', '_')}.late")
    until(lambda: len(site.items(path, endpoint=name)) == 8)
    rest = walk(site, path, endpoint=name, limit=3, cursor=first["next_cursor"])
    assert [row[key] for row in first["items"] + rest] == whole


def test_deliveries_are_filtered(site: ApiSite) -> None:
    """By each of the parameters, and by several at once."""
    ids = site.dead_letter("sieved", 3)
    row = site.client.get(f"/v1/deliveries/{ids[0]}").json()
    assert (row["state"], row["cause"], row["type"]) == ("dead", "server_error", "sieved.happened")

    def count(**filters: Any) -> int:
        return len(site.items("/v1/deliveries", endpoint="sieved", **filters))

    assert count() == count(state="dead") == count(type="sieved.happened") == 3
    assert count(cause="server_error", state="dead", since="1h") == 3
    assert count(event_id=row["event_id"]) == 1
    nothing: list[dict[str, str]] = [
        {"state": "waiting"},
        {"type": "sieved.other"},
        {"cause": "timeout"},
        {"event_id": "evt_none"},
        {"until": "1h"},
        {"since": "2099-01-01T00:00:00Z"},
    ]
    for filters in nothing:
        assert count(**filters) == 0, filters
    by_id = site.items("/v1/deliveries", endpoint=row["endpoint_id"])
    assert len(by_id) == 3


def test_times_bound_a_list(site: ApiSite) -> None:
    """`since` belongs to it, `until` does not; both are of the time that the row shows."""
    site.dead_letter("timed", 3)
    rows = site.items("/v1/deliveries", endpoint="timed")
    moment = rows[1]["accepted_at"]
    since = site.items("/v1/deliveries", endpoint="timed", since=moment)
    until_ = site.items("/v1/deliveries", endpoint="timed", until=moment)
    assert [row["id"] for row in since] + [row["id"] for row in until_] == [r["id"] for r in rows]
    assert all(row["accepted_at"] >= moment for row in since)
    assert all(row["accepted_at"] < moment for row in until_)


def test_attempts_are_filtered_by_their_outcome(site: ApiSite) -> None:
    """`delivered`, or a cause of failure."""
    site.receiver.behave(Behaviour(fail_first=1), "/tried")
    retry = {"schedule": ["10ms"], "jitter": 0}
    site.create("tried", retry=retry, record="all")
    (event,) = site.emit("tried.x")
    site.receiver.wait_for(1, "/tried")
    rows = until(lambda: len(rows := site.items("/v1/attempts", endpoint="tried")) == 2 and rows)
    assert [(row["n"], row["outcome"]) for row in rows] == [(2, "delivered"), (1, "server_error")]
    assert {row["event_id"] for row in rows} == {event["id"]}
    for outcome, n in (("delivered", 1), ("server_error", 1), ("timeout", 0)):
        assert len(site.items("/v1/attempts", endpoint="tried", outcome=outcome)) == n
    assert site.items("/v1/attempts", endpoint="tried", type="tried.y") == []
    assert site.items("/v1/attempts", endpoint="tried", until="1h") == []


# ---- dead letters ----------------------------------------------------------------------------


def test_one_dead_letter_is_replayed(site: ApiSite) -> None:
    """It is delivered, with the former attempts before it, and is none any more."""
    (id,) = site.dead_letter("replayed", 1)
    site.receiver.behave(None, "/replayed")
    answer = site.client.post(f"/v1/dead-letters/{id}/replay")
    assert (answer.status_code, answer.json()["done"]) == (202, 1)
    site.receiver.wait_for(1, "/replayed")
    delivery = until(
        lambda: (d := site.client.get(f"/v1/deliveries/{id}").json())["state"] == "delivered" and d
    )
    assert [one["outcome"] for one in delivery["history"]] == ["server_error", "delivered"]
    problem(site.client.post(f"/v1/dead-letters/{id}/replay"), 404, "unknown-delivery")


def test_dead_letters_are_replayed_by_filter_in_steps(site: ApiSite) -> None:
    """A limited request answers with a cursor; following it takes each of them once."""
    site.dead_letter("stepped", 5)
    site.receiver.behave(None, "/stepped")
    nobody = site.client.post(
        "/v1/dead-letters/replay", json={"endpoint": "stepped", "cause": "timeout"}
    )
    assert nobody.json() == {"done": 0, "next_cursor": None}
    body: dict[str, Any] = {"endpoint": "stepped", "since": "1h", "limit": 2}
    done = []
    while True:
        progress = site.client.post("/v1/dead-letters/replay", json=body).json()
        done.append(progress["done"])
        if progress["next_cursor"] is None:
            break
        body["cursor"] = progress["next_cursor"]
    assert done == [2, 2, 1]
    site.receiver.wait_for(5, "/stepped")
    assert site.receiver.total("/stepped") == 5


def test_dead_letters_are_purged(site: ApiSite) -> None:
    """One, or those that match; each leaves a line in the audit trail first."""
    ids = site.dead_letter("purged", 3)
    assert site.client.delete(f"/v1/dead-letters/{ids[0]}").status_code == 204
    problem(site.client.get(f"/v1/deliveries/{ids[0]}"), 404, "unknown-delivery")
    problem(site.client.delete(f"/v1/dead-letters/{ids[0]}"), 404, "unknown-delivery")
    progress = site.client.post("/v1/dead-letters/purge", json={"endpoint": "purged"}).json()
    assert progress == {"done": 2, "next_cursor": None}
    assert site.items("/v1/dead-letters", endpoint="purged") == []
    entries = site.items("/v1/audit", endpoint="purged")
    assert len(entries) == 3
    assert {entry["cause"] for entry in entries} == {"server_error"}


def test_everything_is_purged_only_on_demand(site: ApiSite) -> None:
    """An empty filter is no filter: it takes all: true."""
    site.dead_letter("all-of-them", 2)
    body = problem(site.client.post("/v1/dead-letters/purge", json={}), 422, "invalid-request")
    assert body["errors"][0]["field"] == "all"
    assert len(site.items("/v1/dead-letters", endpoint="all-of-them")) == 2
    assert site.client.post("/v1/dead-letters/purge", json={"all": True}).json()["done"] >= 2
    assert site.items("/v1/dead-letters") == []


def test_a_removed_webhook_leaves_dead_letters(site: ApiSite) -> None:
    """They are found by its former name, and tell why they died."""
    site.create("bygone")
    site.client.post("/v1/webhooks/bygone/pause")
    site.emit("bygone.x")
    until(lambda: site.items("/v1/deliveries", endpoint="bygone"))
    site.client.delete("/v1/webhooks/bygone")
    (row,) = until(lambda: site.items("/v1/dead-letters", endpoint="bygone"))
    assert row["cause"] == "removed"
    shown = site.client.get(f"/v1/deliveries/{row['id']}").json()
    assert shown["request"]["body"]
    assert shown["request"]["headers"] == {}


# ---- the audit trail -------------------------------------------------------------------------


def test_the_audit_trail_is_paged(site: ApiSite) -> None:
    """Newest first, each entry once, also where many bear the same time."""
    moments = ["2024-05-14T09:32:11.000Z", "2024-05-14T09:32:12.000Z", "2024-05-14T09:32:13.000Z"]
    entries = [
        AuditEntry(
            at=moments[i * 3 // 10],
            action="purged",
            endpoint="audited",
            event_id=f"evt_{i}",
            type="audited.x" if i % 2 else "audited.y",
            accepted_at=moments[0],
            ended_at=moments[0],
            attempts=5,
            cause="timeout",
            error="",
        )
        for i in range(10)
    ]
    folder = DataDir(site.data_dir).audit
    AuditTrail(folder, max_bytes=2**20, files=2).append(entries)
    whole = [entry["event_id"] for entry in site.items("/v1/audit", endpoint="audited")]
    assert whole == [f"evt_{i}" for i in reversed(range(10))]
    for limit in (1, 2, 3, 4, 10):
        rows = walk(site, "/v1/audit", endpoint="audited", limit=limit)
        assert [row["event_id"] for row in rows] == whole
    assert len(site.items("/v1/audit", type="audited.x")) == 5
    assert len(site.items("/v1/audit", event_id="evt_3")) == 1
    assert len(site.items("/v1/audit", endpoint="audited", since=moments[1], until=moments[2])) == 3
    assert site.items("/v1/audit", endpoint="audited", action="other") == []


def test_event_types_have_schemas(site: ApiSite) -> None:
    """Both catalogs, with the versions of their data, and the host's own."""
    types = {row["type"]: row for row in site.items("/v1/event-types")}
    assert types["route.error"]["catalog"] == "gateway"
    assert types["message.published"]["topic"] is True
    (schema,) = types["route.error"]["schema"]["$defs"].values()
    assert "status_code" in schema["required"]
    assert types["order.created"] == {
        "type": "order.created",
        "catalog": "host",
        "topic": False,
        "version": None,
        "dataschema": None,
        "schema": None,
    }
    for name in TYPES:
        version, uri = types[name]["version"], types[name]["dataschema"]
        assert (version, uri) == ("1.0", f"urn:fluxhook:event:{name}:v1")
        if types[name]["schema"] is not None:
            assert types[name]["schema"]["$id"] == uri


# ---- what is refused -------------------------------------------------------------------------

BAD_QUERIES = [
    ("/v1/deliveries?limit=0", "limit"),
    ("/v1/deliveries?limit=501", "limit"),
    ("/v1/deliveries?limit=x", "limit"),
    ("/v1/deliveries?state=lost", "state"),
    ("/v1/deliveries?endpont=x", "endpont"),
    ("/v1/deliveries?cursor=nonsense", "cursor"),
    ("/v1/deliveries?cursor=%00", "cursor"),
    (f"/v1/deliveries?cursor={write_cursor('attempts', 5)}", "cursor"),
    (f"/v1/deliveries?cursor={write_cursor('deliveries', 'x')}", "cursor"),
    (f"/v1/dead-letters?cursor={write_cursor('dead-letters', 5)}", "cursor"),
    ("/v1/attempts?since=yesterday", "since"),
    ("/v1/attempts?since=2024-05-14T09:32:11", "since"),
    ("/v1/attempts?since=2024-05-14T09:32:11+01:00", "since"),
    ("/v1/attempts?until=-5m", "until"),
    ("/v1/attempts?since=5m&until=1h", "since"),
    ("/v1/attempts?state=dead", "state"),
    ("/v1/audit?cursor=AAAA", "cursor"),
    ("/v1/webhooks?limit=5", "limit"),
    ("/healthz?x=1", "x"),
]


@pytest.mark.parametrize(("path", "field"), BAD_QUERIES)
def test_a_bad_parameter_is_named(site: ApiSite, path: str, field: str) -> None:
    """422, with its name; one that is not known as well."""
    body = problem(site.client.get(path), 422, "invalid-request")
    assert body["errors"][0]["field"] == field


def test_a_cursor_beyond_the_store_finds_nothing(site: ApiSite) -> None:
    """Numbers that no row has do no harm."""
    for key in (0, -1, 2**63 - 1):
        cursor = write_cursor("deliveries", key)
        assert site.client.get(f"/v1/deliveries?cursor={cursor}").status_code == 200
    cursor = write_cursor("deliveries", 2**63)
    problem(site.client.get(f"/v1/deliveries?cursor={cursor}"), 422, "invalid-request")


@pytest.mark.parametrize("path", ["/replay", "/purge"])
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"since": "soon"}, "since"),
        ({"cursor": "x"}, "cursor"),
        ({"nope": 1}, ""),
        ([], ""),
    ],
)
def test_a_bad_selection_is_refused(site: ApiSite, path: str, body: Any, field: str) -> None:
    """Nothing is replayed or purged by mistake."""
    if isinstance(body, dict):
        body = body | {"type": "nobody.x"}
    answer = site.client.post(f"/v1/dead-letters{path}", json=body)
    assert problem(answer, 422, "invalid-request")["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "id", [UNKNOWN, "dlv_1", "dlv_ffffffffffffffff", "5", "dlv_000000000000000G", "wh_0", "%20"]
)
def test_an_unknown_delivery_is_not_found(site: ApiSite, id: str) -> None:
    """Whatever its id looks like."""
    problem(site.client.get(f"/v1/deliveries/{id}"), 404, "unknown-delivery")
    problem(site.client.post(f"/v1/dead-letters/{id}/replay"), 404, "unknown-delivery")
    problem(site.client.delete(f"/v1/dead-letters/{id}"), 404, "unknown-delivery")


def test_moments_are_times_or_ages() -> None:
    """RFC 3339 with its zone, to the millisecond."""
    assert parse_moment("1970-01-01T00:00:01.5Z", "x") == 1_500_000_000
    assert parse_moment("1970-01-01T01:00:01.500+01:00", "x") == 1_500_000_000
    assert parse_moment(None, "x") is None
    hour = parse_moment("1h", "x")
    minute = parse_moment("1m", "x")
    assert hour is not None
    assert minute is not None
    assert hour < minute
