"""Ingest: what is accepted, how often, and what is refused with which words."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from admin.conftest import ROUTE_ERROR, ApiSite, client_of, config, problem, until
from fluxhook import Endpoint, Size
from fluxhook.admin.ingest import IngestRequest
from fluxhook.admin.models import Accepted
from fluxhook.admin.routes.events import complete_lines
from fluxhook.config.schema import Admin
from fluxhook.events.envelope import EnvelopeStyle
from fluxhook.events.event import Event
from fluxhook.events.factory import EventFactory
from fluxhook.publisher import publisher
from fluxhook.publisher.publisher import Prepared, Publisher
from fluxhook.receiver import Behaviour
from fluxhook.supervisor.supervisor import Supervisor

NDJSON = {"Content-Type": "application/x-ndjson"}


def bad(**changes: Any) -> dict[str, Any]:
    return {"type": "route.error", "data": ROUTE_ERROR["data"] | changes}  # type: ignore[operator]


def ndjson(*events: Any) -> bytes:
    return b"\n".join(map(msgspec.json.encode, events))


def test_one_event_is_delivered(site: ApiSite) -> None:
    """The answer has its id and the number of its endpoints, and so has the receiver."""
    site.create("single")
    answer = site.client.post("/v1/events", json={"type": "single.x", "data": {"n": 1}})
    assert answer.status_code == 202
    (accepted,) = answer.json()["events"]
    assert accepted["endpoints"] == 1
    site.receiver.wait_for(1, "/single")
    assert list(site.receiver.ids("/single")) == [accepted["id"]]


def test_an_array_is_answered_in_its_order(site: ApiSite) -> None:
    """Own ids are kept; a topic is the event's."""
    site.create("array", topic_filters=["a/+"])
    answer = site.client.post(
        "/v1/events",
        json=[
            {"type": "array.x", "id": "own-1", "topic": "a/b"},
            {"type": "array.x", "id": "own-2", "topic": "b"},
            {"type": "nobody.subscribed", "id": "own-3"},
        ],
    )
    assert answer.json() == {
        "events": [
            {"id": "own-1", "endpoints": 1},
            {"id": "own-2", "endpoints": 0},
            {"id": "own-3", "endpoints": 0},
        ]
    }
    assert site.client.post("/v1/events", json=[]).json() == {"events": []}


def test_lines_are_accepted(site: ApiSite) -> None:
    """Empty lines do not count, the last one needs no line end."""
    site.create("lines")
    body = b'{"type":"lines.a"}\n\n{"type":"lines.b"}\r\n{"type":"lines.c","data":{"n":3}}'
    answer = site.client.post("/v1/events", content=body, headers=NDJSON)
    assert answer.status_code == 202
    assert len(answer.json()["events"]) == 3
    site.receiver.wait_for(3, "/lines")


def test_lines_may_be_cut_anywhere() -> None:
    """However a body arrives, the numbered lines are the same."""
    body = b"one\n\nthree\r\nfour"

    async def read(size: int) -> list[tuple[int, bytes]]:
        async def stream() -> Any:
            for i in range(0, len(body), size):
                yield body[i : i + size]

        return [line async for some in complete_lines(stream(), 100) for line in some]

    for size in range(1, len(body) + 1):
        assert asyncio.run(read(size)) == [(1, b"one"), (3, b"three\r"), (4, b"four")]


BAD_EVENTS: list[tuple[Any, str]] = [
    (bad(status_code="x"), "data.status_code"),
    (bad(extra=1), "data.extra"),
    ({"type": "route.error", "data": {}}, "data.request_id"),
    ({"type": "route.error"}, "data"),
    ({"type": "Route Error"}, "type"),
    ({"type": 5}, "type"),
    ({"type": "x" * 200}, "type"),
    ({}, ""),
    ({"type": "a.b", "data": []}, "data"),
    ({"type": "a.b", "id": "with space"}, "id"),
    ({"type": "a.b", "topic": "a/#"}, "topic"),
    ({"type": "a.b", "topic": ""}, "topic"),
    ({"type": "a.b", "what": 1}, ""),
    (5, ""),
]


@pytest.mark.parametrize(("event", "field"), BAD_EVENTS, ids=[str(e)[:60] for e, _ in BAD_EVENTS])
def test_a_bad_event_is_named(site: ApiSite, event: Any, field: str) -> None:
    """Alone, in an array, and in a line, by its place and its field."""
    one = problem(site.client.post("/v1/events", json=event), 422, "invalid-event")
    assert one["errors"][0]["field"] == field
    assert one["errors"][0]["message"]
    good = {"type": "nobody.subscribed"}
    many = problem(site.client.post("/v1/events", json=[good, good, event]), 422, "invalid-event")
    assert many["errors"][0]["field"] == ".".join(filter(None, ("[2]", field)))
    line = problem(
        site.client.post("/v1/events", content=ndjson(good, event), headers=NDJSON),
        422,
        "invalid-event",
    )
    assert line["errors"][0]["field"] == ".".join(filter(None, ("line 2", field)))
    assert len(line["events"]) == 1, "the line before it was accepted"


def test_an_array_is_accepted_as_a_whole(site: ApiSite) -> None:
    """If one is bad none is accepted, and every bad one is named."""
    site.create("whole")
    good = {"type": "whole.x"}
    body = problem(
        site.client.post("/v1/events", json=[good, bad(status_code="x"), good, {"type": "?"}]),
        422,
        "invalid-event",
    )
    assert [error["field"] for error in body["errors"]] == ["[1].data.status_code", "[3].type"]
    assert site.client.get("/v1/webhooks/whole/status").json()["accepted"] == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[1,", b'{"type": "a\xff"}', b"[" * 5000, b"nix"])
def test_what_is_no_json_is_refused(site: ApiSite, body: bytes) -> None:
    """400, in whatever form it comes."""
    headers = {"Content-Type": "application/json"}
    problem(site.client.post("/v1/events", content=body, headers=headers), 400, "malformed-body")


@pytest.mark.parametrize(
    "item", [b'{"type": "\xff"}', b'{"type": "\\ud800"}', b"[" * 3000 + b"]" * 3000]
)
def test_a_member_that_is_no_json_is_refused(site: ApiSite, item: bytes) -> None:
    """It is not passed over, and nothing beside it is accepted."""
    body = b'[{"type": "nobody.x"}, ' + item + b"]"
    headers = {"Content-Type": "application/json"}
    problem(site.client.post("/v1/events", content=body, headers=headers), 400, "malformed-body")


@pytest.mark.parametrize("text", [r"\ud800", r"x\\\udfff", r"\ud83d\ude00\uDBFF.", r"\udc00\ud800"])
def test_a_lone_surrogate_is_named(site: ApiSite, text: str) -> None:
    """The decoder's own words would be of a text that was cut short."""
    body = f'{{"type": "nobody.x", "data": {{"s": "{text}"}}}}'.encode()
    headers = {"Content-Type": "application/json"}
    said = problem(
        site.client.post("/v1/events", content=body, headers=headers), 400, "malformed-body"
    )
    assert re.search(r"\\u(d800|dfff|DBFF|dc00) at byte \d+ is half of a pair", said["detail"])


def test_what_is_filtered_is_what_is_sent(site: ApiSite) -> None:
    """A key that stands twice in the request counts and goes out as its last."""
    site.create("judged", events=["judged.x"], where=["n == 2"])
    headers = {"Content-Type": "application/json"}
    for data, endpoints in ((b'{"n":1,"n":2}', 1), (b'{"n":2,"n":1}', 0)):
        body = b'{"type":"judged.x","data":' + data + b"}"
        answer = site.client.post("/v1/events", content=body, headers=headers)
        assert answer.json()["events"][0]["endpoints"] == endpoints


def test_a_line_that_is_no_json_is_numbered(site: ApiSite) -> None:
    """The lines before it were accepted, and are listed."""
    body = b'{"type":"nobody.x"}\n{"type":'
    answer = site.client.post("/v1/events", content=body, headers=NDJSON)
    said = problem(answer, 400, "malformed-body")
    assert "line 2" in said["detail"]
    assert len(said["events"]) == 1


@pytest.mark.parametrize(
    "said", ["text/plain", "application/xml", "multipart/form-data; boundary=x"]
)
def test_another_content_type_is_refused(site: ApiSite, said: str) -> None:
    """415 names those that are taken; a charset does not matter."""
    answer = site.client.post("/v1/events", content=b"{}", headers={"Content-Type": said})
    body = problem(answer, 415, "unsupported-media-type")
    assert "application/x-ndjson" in body["detail"]
    good = site.client.post(
        "/v1/events",
        content=b'{"type":"nobody.x"}',
        headers={"Content-Type": "application/json; charset=utf-8"},
    )
    assert good.status_code == 202


# ---- limits ----------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """An engine that was stopped, with a queue of 4, one endpoint, and little room for bodies."""
    data_dir = tmp_path / "data"
    endpoint = Endpoint(
        name="ops", url="https://hooks.example.com/", events=("ops.*",), signature="none"
    )
    admin = Admin(max_body=Size(4096))
    Supervisor(
        data_dir, config(endpoint, queue_size=4, max_event_bytes=Size(1024), admin=admin)
    ).close()
    return data_dir


def test_a_full_queue_says_when_to_try_again(small: Path) -> None:
    """429 with Retry-After; what was accepted before is listed."""
    with client_of(small) as client:
        answer = client.post(
            "/v1/events", json=[{"type": "ops.x", "id": f"e-{i}"} for i in range(9)]
        )
        body = problem(answer, 429, "queue-full")
        assert int(answer.headers["retry-after"]) >= 1
        assert body["events"] == [{"id": f"e-{i}", "endpoints": 1} for i in range(4)]
        problem(client.post("/v1/events", json={"type": "ops.x"}), 429, "queue-full")
        assert client.post("/v1/events", json={"type": "nobody.x"}).status_code == 202


def test_a_body_is_bounded(small: Path) -> None:
    """413 above admin.max_body, for whatever route; of lines only each single one is bounded."""
    with client_of(small) as client:
        long = b" " * 5000
        for path in ("/v1/events", "/v1/webhooks"):
            answer = client.post(path, content=long, headers={"Content-Type": "application/json"})
            problem(answer, 413, "content-too-large")
        chunks = iter([b'{"type":', b" " * 5000, b'"nobody.x"}'])
        problem(
            client.post("/v1/events", content=chunks, headers={"Content-Type": "application/json"}),
            413,
            "content-too-large",
        )
        many = ndjson(*[{"type": "nobody.x"}] * 1000)
        assert len(many) > 4096
        assert client.post("/v1/events", content=many, headers=NDJSON).status_code == 202
        problem(
            client.post("/v1/events", content=b"x" * 5000, headers=NDJSON), 413, "content-too-large"
        )


def test_an_event_is_bounded(small: Path) -> None:
    """413 above max_event_bytes, before the first of an array is accepted."""
    with client_of(small) as client:
        large = {"type": "ops.x", "data": {"text": "x" * 1024}}
        body = problem(client.post("/v1/events", json=large), 413, "event-too-large")
        assert body["errors"][0]["field"] == "data"
        problem(client.post("/v1/events", json=[{"type": "ops.x"}, large]), 413, "event-too-large")
        assert client.get("/v1/webhooks/ops/status").json()["accepted"] == 0


# ---- Idempotency-Key -------------------------------------------------------------------------


def test_a_repeat_has_the_same_answer_and_no_second_event(site: ApiSite) -> None:
    """For one event, an array, and lines."""
    site.create("repeated")
    one, two = {"type": "repeated.a"}, [{"type": "repeated.b"}, {"type": "repeated.c"}]
    for i, (content, media) in enumerate(
        [
            (msgspec.json.encode(one), "application/json"),
            (msgspec.json.encode(two), "application/json"),
            (ndjson(*two), "application/x-ndjson"),
        ]
    ):
        headers = {"Idempotency-Key": f"key-{i}", "Content-Type": media}
        answers = [
            site.client.post("/v1/events", content=content, headers=headers) for _ in range(3)
        ]
        assert {answer.status_code for answer in answers} == {202}
        assert answers[0].json() == answers[1].json() == answers[2].json()
    assert site.client.get("/v1/webhooks/repeated/status").json()["accepted"] == 5


def test_a_repeat_after_a_restart_has_the_same_ids(site: ApiSite) -> None:
    """Ids are made of the key, so that receivers recognize what memory forgot; each in the form of
    its catalog."""
    message = {"client_id": "c", "topic": "a/b", "qos": 1, "retained": False, "payload_size": 2}
    events = [ROUTE_ERROR, {"type": "message.published", "data": message}]
    headers = {"Idempotency-Key": "restart"}
    first = site.client.post("/v1/events", json=events, headers=headers).json()["events"]
    with client_of(site.data_dir) as client:
        again = client.post("/v1/events", json=events, headers=headers).json()["events"]
    assert [event["id"] for event in first] == [event["id"] for event in again]
    assert first[0]["id"].startswith("evt_")
    assert len(first[1]["id"]) == 36


def test_a_key_is_for_one_request(site: ApiSite) -> None:
    """With other events it is refused, with fewer or more as well."""
    headers = {"Idempotency-Key": "one-request"}
    a, b = {"type": "nobody.a"}, {"type": "nobody.b"}
    assert site.client.post("/v1/events", json=[a, b], headers=headers).status_code == 202
    for other in ([b, a], [a], [a, b, a], a):
        answer = site.client.post("/v1/events", json=other, headers=headers)
        problem(answer, 422, "idempotency-key-reused")


def test_a_repeat_goes_on_where_the_queue_was_full(small: Path) -> None:
    """Events that the first try accepted are not accepted again, and are in the answer."""
    headers = {"Idempotency-Key": "resumed"}
    events = [{"type": "ops.x"} for _ in range(4)] + [{"type": "ops.y"}, {"type": "nobody.z"}]
    with client_of(small) as client:
        first = problem(client.post("/v1/events", json=events, headers=headers), 429, "queue-full")
        again = problem(client.post("/v1/events", json=events, headers=headers), 429, "queue-full")
        assert first["events"] == again["events"]
        assert client.get("/v1/webhooks/ops/status").json()["accepted"] == 4


@pytest.mark.parametrize("key", ["", "x" * 300])
def test_a_bad_key_is_refused(site: ApiSite, key: str) -> None:
    """It has 1 to 255 characters."""
    answer = site.client.post(
        "/v1/events", json={"type": "nobody.x"}, headers={"Idempotency-Key": key}
    )
    problem(answer, 422, "invalid-request")


def test_a_request_is_synced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `durability: power`, after its last event was put and before any answer."""
    order: list[str] = []
    put, sync = Publisher.put, Publisher.sync

    def noted_put(self: Publisher, prepared: Prepared, **options: Any) -> publisher.Accepted:
        order.append("put")
        return put(self, prepared, **options)

    def noted_sync(self: Publisher) -> None:
        before = self._synced
        sync(self)
        order.append(f"sync {self._synced - before}")

    monkeypatch.setattr(Publisher, "put", noted_put)
    monkeypatch.setattr(Publisher, "sync", noted_sync)
    endpoint = Endpoint(name="ops", url="http://127.0.0.1:1/", signature="none")
    Supervisor(tmp_path / "data", config(endpoint, durability="power", queue_size=4)).close()
    lines = ndjson({"type": "ops.x"}, {"type": "ops.x"})
    with client_of(tmp_path / "data") as client:
        assert client.post("/v1/events", json=[{"type": "ops.x"}] * 2).status_code == 202
        assert client.post("/v1/events", json=[{"type": "ops.x"}] * 3).status_code == 429
        assert client.post("/v1/events", content=lines, headers=NDJSON).status_code == 429
    assert order == ["put"] * 2 + ["sync 2"] + ["put"] * 3 + ["sync 2"] + ["put", "sync 0"]


@pytest.mark.parametrize(
    ("events", "durability", "inline"),
    [(1, "process", True), (1000, "process", False), (1, "power", False)],
)
def test_what_may_take_long_keeps_nobody_waiting(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    events: int,
    durability: Literal["process", "power"],
    inline: bool,
) -> None:
    """It is done in a thread; for one event that would cost more than to do it."""
    found: list[bool] = []
    body = IngestRequest.body

    def noted_body(self: IngestRequest, raw: bytes) -> list[Accepted]:
        try:
            asyncio.get_running_loop()
            found.append(True)
        except RuntimeError:
            found.append(False)
        return body(self, raw)

    monkeypatch.setattr(IngestRequest, "body", noted_body)
    endpoint = Endpoint(name="ops", url="http://127.0.0.1:1/", signature="none")
    Supervisor(tmp_path / "data", config(endpoint, durability=durability)).close()
    with client_of(tmp_path / "data") as client:
        answer = client.post("/v1/events", json=[{"type": "nobody.x"}] * events)
    assert answer.status_code == 202
    assert len(answer.json()["events"]) == events
    assert found == [inline]


def test_an_event_is_made_and_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the envelopes that its endpoints ask for: what was checked is what is put."""
    made: list[str] = []
    make, encode = EventFactory.make, EventFactory.encode

    def noted_make(self: EventFactory, type: str, *args: Any, **options: Any) -> Event:
        made.append(type)
        return make(self, type, *args, **options)

    def noted_encode(self: EventFactory, style: EnvelopeStyle, event: Event) -> bytes:
        made.append(style)
        return encode(self, style, event)

    monkeypatch.setattr(EventFactory, "make", noted_make)
    monkeypatch.setattr(EventFactory, "encode", noted_encode)
    endpoints = [
        Endpoint(name=f"e{n}", url=f"http://127.0.0.1:1/{n}", signature="none", **options)  # type: ignore[arg-type]
        for n, options in enumerate(
            (
                {"events": ("a.*",)},
                {"events": ("a.*", "b.*"), "envelope": "standard"},
                {"events": ("b.*",), "envelope": "cloudevents"},
            )
        )
    ]
    Supervisor(tmp_path / "data", config(*endpoints)).close()
    with client_of(tmp_path / "data") as client:
        answer = client.post("/v1/events", json=[{"type": t} for t in ("a.x", "a.x", "b.x", "c.x")])
        assert [event["endpoints"] for event in answer.json()["events"]] == [2, 2, 2, 0]
    assert [name for name in made if "." in name] == ["a.x", "a.x", "b.x", "c.x"]
    styles = [name for name in made if "." not in name]
    expected = ["native", "standard"] * 2 + ["cloudevents", "standard", "native"]
    assert sorted(styles) == sorted(expected)


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = TRACEPARENT.replace("b7ad", "ffff")


def ignored_headers(site: ApiSite) -> int:
    page = site.client.get("/metrics").text
    (found,) = re.findall(r"^fluxhook_ignored_trace_headers_total (\d+)", page, re.MULTILINE)
    return int(float(found))


def contexts(site: ApiSite, name: str, count: int) -> dict[str, tuple[str | None, str | None]]:
    """Return what the receiver got with each event."""
    site.receiver.wait_for(count, f"/{name}")
    return {
        msgspec.json.decode(request.body)["id"]: (
            request.headers.get("traceparent"),
            request.headers.get("tracestate"),
        )
        for request in site.receiver.requests(f"/{name}")
    }


def test_a_trace_is_the_request_s_or_the_event_s_own(site: ApiSite) -> None:
    """The headers of a request count for each of its events that names none."""
    site.create("traced")
    headers = {"traceparent": TRACEPARENT, "tracestate": "rojo=1"}
    own = {"type": "traced.x", "id": "own", "traceparent": OTHER}
    events = [{"type": "traced.x", "id": "array"}, own]
    assert site.client.post("/v1/events", json=events, headers=headers).status_code == 202
    line = {"type": "traced.x", "id": "line"}
    sent = site.client.post("/v1/events", content=ndjson(line), headers=headers | NDJSON)
    assert sent.status_code == 202
    site.client.post("/v1/events", json={"type": "traced.x", "id": "none"})
    assert contexts(site, "traced", 4) == {
        "array": (TRACEPARENT, "rojo=1"),
        "line": (TRACEPARENT, "rojo=1"),
        "own": (OTHER, None),
        "none": (None, None),
    }


def test_trace_headers_that_cannot_be_read_are_ignored_and_counted(site: ApiSite) -> None:
    """As the standard has it: whatever adds them is not what the sender of the events can mend."""
    site.create("untraced")
    before = ignored_headers(site)
    for n, headers in enumerate(
        (
            {"traceparent": "00-x", "tracestate": "rojo=1"},
            {"traceparent": TRACEPARENT, "tracestate": "no members"},
            {"tracestate": "rojo=1"},
        )
    ):
        event = {"type": "untraced.x", "id": f"n{n}"}
        assert site.client.post("/v1/events", json=event, headers=headers).status_code == 202
    assert contexts(site, "untraced", 3) == {
        "n0": (None, None),
        "n1": (TRACEPARENT, None),
        "n2": (None, None),
    }
    assert ignored_headers(site) == before + 2


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"traceparent": "00-x"}, "traceparent"),
        ({"traceparent": TRACEPARENT, "tracestate": "a"}, "tracestate"),
        ({"tracestate": "a=1"}, "tracestate"),
    ],
)
def test_a_bad_trace_of_an_event_is_refused(
    site: ApiSite, given: dict[str, str], field: str
) -> None:
    """As every other field of the body is."""
    answer = site.client.post("/v1/events", json=[{"type": "traced.x", **given}])
    errors = problem(answer, 422, "invalid-event")["errors"]
    assert [error["field"] for error in errors] == [f"[0].{field}"]


def test_a_delivery_shows_its_trace(site: ApiSite) -> None:
    """In lists, by itself, and in the request that was sent."""
    name = "shown"
    site.receiver.behave(Behaviour(status=400), f"/{name}")
    site.create(name)
    headers = {"traceparent": TRACEPARENT, "tracestate": "rojo=1"}
    site.client.post("/v1/events", json={"type": "shown.x"}, headers=headers)
    (row,) = until(lambda: site.items("/v1/deliveries", endpoint=name))
    assert (row["traceparent"], row["tracestate"]) == (TRACEPARENT, "rojo=1")
    detail = site.client.get(f"/v1/deliveries/{row['id']}").json()
    assert {k: detail["request"]["headers"][k] for k in headers} == headers
    assert (detail["traceparent"], detail["tracestate"]) == (TRACEPARENT, "rojo=1")
