"""`fluxhook emit` hands over what is good, and says of the rest which line and why."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cli.conftest import Invoke, Start, json
from fluxhook import Config, Endpoint, Size
from fluxhook._native.ring import Consumer
from fluxhook.cli import emit
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.stats import read_stats
from fluxhook.supervisor.supervisor import Supervisor
from fluxhook.transport.messages import EventHead

READING = {
    "client_id": "c1",
    "topic": "sensors/a",
    "qos": 1,
    "retained": False,
    "payload_size": 3,
}
FIELDS = ("client_id=c1", "topic=sensors/a", "qos=1", "retained=false", "payload_size=3")
COUNTS: dict[str, object] = {
    "events": 0,
    "accepted_deliveries": 0,
    "without_subscriber": 0,
    "filtered": 0,
    "queue_full": 0,
    "stopped_at_line": None,
    "refused_lines": 0,
    "refused": [],
}

pytestmark = pytest.mark.usefixtures("stopped")


def accepted(data_dir: Path) -> list[tuple[EventHead, object]]:
    """Return what stands in the first publisher's ring."""
    ring = Consumer(str(data_dir / "rings/0/0.ring"))
    ring.rewind()
    records = [(EventHead.decode(record.event), json(record.body)) for record in ring.take(1000)]
    ring.close()
    return records


def options(*fields: str) -> list[str]:
    return [word for field in fields for word in ("--field", field)]


def test_one_event_of_fields(invoke: Invoke, stopped: Path) -> None:
    """A value that is JSON is taken as such, any other as a text."""
    said = invoke("emit", "message.published", *options(*FIELDS))
    assert said.exit_code == ExitCode.OK
    assert said.stdout == "1 event: 1 delivery accepted\n"
    assert "no engine runs" in said.stderr
    ((head, body),) = accepted(stopped)
    assert head.type == "message.published"
    assert isinstance(body, dict)
    assert body["data"] == READING


def test_one_event_of_json_with_id_and_topic(invoke: Invoke, stopped: Path) -> None:
    said = invoke(
        *("emit", "order.created", "--data", '{"n": 1.5}', "--id", "o-1", "--topic", "sensors/b")
    )
    assert said.exit_code == ExitCode.OK
    ((head, body),) = accepted(stopped)
    assert (head.event_id, head.topic) == ("o-1", "sensors/b")
    assert isinstance(body, dict)
    assert body["data"] == {"n": 1.5}


def test_an_event_for_nobody_is_accepted_for_nobody(invoke: Invoke) -> None:
    said = invoke("emit", "mesage.published")
    assert said.exit_code == ExitCode.OK
    assert said.stdout == "1 event: 0 deliveries accepted, 1 without subscriber\n"
    assert "did you mean message.published" in said.stderr


def test_an_event_that_filters_hold_back_has_a_subscriber(invoke: Invoke, tmp_path: Path) -> None:
    """It is told from one to which nobody subscribed; and types of the host's own are suggested too."""
    endpoint = Endpoint(
        name="shop",
        url="https://hooks.example.com/in",
        signature="none",
        events=("order.created",),
        where=("total >= 100",),
    )
    config = Config(
        endpoints=(endpoint,), event_types=("order.created",), workers=1, ring_bytes=Size(2**20),
        max_event_bytes=Size(2**16), max_endpoints=8,
    )  # fmt: skip
    Supervisor(tmp_path / "filtered", config).close()
    into = ("--data-dir", tmp_path / "filtered")
    said = invoke("emit", "order.created", "--field", "total=20", *into)
    assert said.stdout == "1 event: 0 deliveries accepted, 1 held back by filters\n"
    assert "held back by where, sample or threshold" in said.stderr
    assert "did you mean" not in said.stderr
    lines = '{"type": "order.created", "data": {"total": 20}}\n{"type": "order.paid"}\n'
    counts = json(invoke("emit", "--json", *into, stdin=lines).stdout)
    assert counts == {**COUNTS, "events": 2, "filtered": 1, "without_subscriber": 1}
    assert "(did you mean order.created" in invoke("emit", "order.create", *into).stderr


def test_a_bad_event_is_refused_with_what_to_correct(invoke: Invoke) -> None:
    said = invoke("emit", "message.published", *options(*FIELDS[:-1]))
    assert said.exit_code == ExitCode.REFUSED
    assert said.stdout == ""
    assert "payload_size" in said.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--data", "{}"),
        ("--field", "a=1"),
        ("order.created", "--data", "[]"),
        ("order.created", "--data", "{"),
        ("order.created", "--data", "{}", "--field", "a=1"),
        ("order.created", "--field", "a"),
        ("order.created", "--file", "-"),
        ("--file", "nowhere"),
        ("--file", "."),
    ],
)
def test_a_command_line_that_makes_no_sense_is_a_usage_error(
    invoke: Invoke, arguments: tuple[str, ...]
) -> None:
    said = invoke("emit", *arguments)
    assert said.exit_code == ExitCode.USAGE
    assert "Traceback" not in said.stderr


#: each bad line, and a word of the reason
BAD_LINES = (
    (b"not json", "malformed"),
    (b'{"type": "order.created"', "truncated"),
    (b"\xff\xfe", "utf-16"),
    (b'{"type": "order.\xff"}', "utf-8"),
    (b"[]", "array"),
    (b'"order.created"', "str"),
    (b"{}", "type"),
    (b'{"type": 1}', "int"),
    (b'{"type": "Order Created"}', "not an event type"),
    (b'{"type": "order.created", "dta": {}}', "dta"),
    (b'{"type": "order.created", "data": 1}', "object"),
    (b'{"type": "order.created", "data": {"a": NaN}}', "malformed"),
    (b'{"type": "order.created", "id": "a.b"}', "event id"),
    (b'{"type": "order.created", "topic": "a/#"}', "topic"),
    (b'{"type": "message.published", "data": {"qos": 1}}', "client_id"),
    (
        b'{"type": "order.created", "data": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
        "nested too deeply",
    ),
    (
        b'{"type": "order.created", "data": ' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"}",
        "nested over 128 levels deep",
    ),
    (b'{"type": "order.created", "data": {"a": "\\ud800"}}', r"\ud800 at byte 41 is half"),
)


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_a_bad_line_is_refused_and_the_others_go_in(
    invoke: Invoke, line: bytes, reason: str
) -> None:
    good = b'{"type": "order.created"}\n'
    said = invoke("emit", "--json", stdin=good + line + b"\r\n" + b"\n" + good + line)
    assert said.exit_code == ExitCode.REFUSED
    counts = json(said.stdout)
    assert (counts["events"], counts["accepted_deliveries"]) == (2, 2)
    assert [refused["line"] for refused in counts["refused"]] == [2, 5]
    for refused in counts["refused"]:
        assert reason in refused["reason"].lower()


def test_refused_lines_are_listed_for_people_and_the_list_has_an_end(invoke: Invoke) -> None:
    said = invoke("emit", stdin="nothing\n" * 30)
    assert said.exit_code == ExitCode.REFUSED
    assert said.stdout == "0 events: 0 deliveries accepted\n"
    assert "30 lines refused:" in said.stderr
    assert "  line 20: " in said.stderr
    assert "  line 21: " not in said.stderr
    assert "and 10 more" in said.stderr


def test_what_came_in_cannot_steer_the_terminal(invoke: Invoke) -> None:
    said = invoke("emit", stdin='{"type": "\\u001b[2J"}\n')
    assert "\x1b" not in said.output


@pytest.mark.parametrize("text", [b"", b"\n\n", b"  \r\n"])
def test_no_line_is_no_event(invoke: Invoke, text: bytes) -> None:
    said = invoke("emit", "--json", stdin=text)
    assert said.exit_code == ExitCode.OK
    assert json(said.stdout) == COUNTS


def test_the_last_line_needs_no_end_and_the_first_may_have_a_mark(invoke: Invoke) -> None:
    said = invoke("emit", "--json", stdin=b'\xef\xbb\xbf{"type":"order.a"}\n{"type":"order.b"}')
    assert json(said.stdout) == COUNTS | {"events": 2, "accepted_deliveries": 2}


def test_a_line_that_no_event_can_need_is_refused(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emit, "MAX_LINE_BYTES", 100)
    line = b'{"type": "order.created", "data": {"a": "%b"}}\n' % (b"x" * 1000)
    said = invoke("emit", "--json", stdin=line + b'{"type": "order.created"}\n')
    counts = json(said.stdout)
    assert counts["accepted_deliveries"] == 1
    assert counts["refused"] == [{"line": 1, "reason": "the line is over 100 bytes"}]


def test_an_event_over_the_limit_is_refused_and_the_others_go_in(invoke: Invoke) -> None:
    line = b'{"type": "order.created", "data": {"a": "%b"}}\n' % (b"x" * 2_000_000)
    said = invoke("emit", "--json", stdin=line + b'{"type": "order.created"}\n')
    counts = json(said.stdout)
    assert counts["accepted_deliveries"] == 1
    assert "max_event_bytes" in counts["refused"][0]["reason"]


def test_a_full_queue_without_an_engine_ends_the_load(invoke: Invoke, stopped: Path) -> None:
    """Nothing that was accepted is pushed out, whatever the configuration's policy (`oldest`)."""
    said = invoke("emit", "--json", stdin='{"type": "order.created"}\n' * 50)
    assert said.exit_code == ExitCode.QUEUE_FULL
    assert json(said.stdout) == COUNTS | {
        "events": 21,
        "accepted_deliveries": 20,
        "queue_full": 1,
        "stopped_at_line": 21,
        "refused": [
            {
                "line": 21,
                "reason": "the queue is full: order.created was refused for 1 endpoints",
            }
        ],
    }
    shop = read_stats(stopped).endpoint("shop")
    assert (shop.accepted, shop.pending, shop.refused, shop.dropped) == (20, 20, 1, {})
    said = invoke("emit", stdin='\n\n{"type":"order.a"}\n')
    assert "stopped at line 3: the queue is full, and no engine runs" in said.stderr
    said = invoke("emit", "order.created")
    assert said.exit_code == ExitCode.QUEUE_FULL
    assert "1 refused by a full queue" in said.stdout


def test_arguments_that_are_no_unicode_are_refused(start: Start) -> None:
    bad = b"\xff".decode(errors="surrogateescape")
    for arguments, code in (
        (("--data", f'{{"a": "{bad}"}}'), ExitCode.USAGE),
        (("--field", f"a={bad}"), ExitCode.REFUSED),
        (("--topic", bad), ExitCode.REFUSED),
        (("--id", bad), ExitCode.REFUSED),
    ):
        said = start("emit", "order.created", *arguments).end()
        assert said.exit_code == code
        assert "Traceback" not in said.stderr


def test_a_file_and_a_pipe_are_read_alike(invoke: Invoke, start: Start, tmp_path: Path) -> None:
    """The data directory may come from the environment, the events from `--file -`."""
    events = b'{"type": "order.created", "data": {"n": 1}}\n' * 3
    path = tmp_path / "events.ndjson"
    path.write_bytes(events)
    from_file = invoke("emit", "--file", path, "--json")
    program = start("emit", "--file", "-", "--json", stdin=subprocess.PIPE)
    from_pipe = program.end(events)
    assert json(from_file.stdout) == json(from_pipe.stdout)
    assert json(from_pipe.stdout)["accepted_deliveries"] == 3


def test_the_data_directory_may_come_from_the_environment(
    invoke: Invoke, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = stopped.rename(stopped.with_name("elsewhere"))
    monkeypatch.setenv("FLUXHOOK_DATA_DIR", str(moved))
    assert invoke("emit", "order.created").exit_code == ExitCode.OK


def test_a_bar_shows_on_a_terminal_only(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"type": "order.created"}\n'
    assert "emitting" not in invoke("emit", stdin=text).stderr
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    assert "emitting" in invoke("emit", stdin=text).stderr


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_an_event_may_have_a_trace(invoke: Invoke, stopped: Path) -> None:
    """By options, and by fields of a line; a bad one is refused as any other bad value."""
    given = ("--traceparent", TRACEPARENT, "--tracestate", "rojo=1")
    assert invoke("emit", "order.paid", *given).exit_code == ExitCode.OK
    lines = f'{{"type": "order.paid", "traceparent": "{TRACEPARENT}"}}\n'
    said = invoke("emit", stdin=lines + '{"type": "order.paid", "traceparent": "00-x"}\n')
    assert said.exit_code == ExitCode.REFUSED
    assert "'00-x' is not a traceparent" in said.stderr + said.stdout
    traces = [head.trace for head, _ in accepted(stopped)]
    assert traces == [(TRACEPARENT, "rojo=1"), (TRACEPARENT, "")]
    said = invoke("emit", "order.paid", "--traceparent", "00-x")
    assert said.exit_code == ExitCode.REFUSED
    assert "--traceparent" in invoke("emit", "--traceparent", TRACEPARENT, stdin="{}").stderr
