"""`fluxhook listen` verifies, shows and counts what arrives, and fails as it is told."""

from __future__ import annotations

import http.client
import signal
import socket
import time
from urllib.parse import urlsplit

from cli.conftest import DEADLINE_S, Invoke, Program, Start, json
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.policy.signature import make_profile
from fluxhook.receiver.faults import FAULTS

SECRET = "sk_live_9x8m2p"
GATEWAY = b'{"id":"evt_1","type":"route.error","timestamp":"2026-01-01T00:00:00Z","data":{}}'
BROKER = b'{"event_type":"client.connected","event_id":"u-1","broker_id":"b","data":{}}'


def post(url: str, body: bytes, headers: dict[str, str] | None = None) -> int | None:
    """The status of the answer; None if the connection ended without one."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port or 0, timeout=DEADLINE_S
    )
    try:
        connection.request("POST", "/in", body, headers or {})
        return connection.getresponse().status
    except http.client.RemoteDisconnected:
        return None
    finally:
        connection.close()


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    (line,) = make_profile("fluxgate", [secret]).headers("", int(time.time()), body)
    name, _, value = line.decode().partition(": ")
    return {name: value}


def listening(start: Start, *options: object) -> tuple[Program, str]:
    program = start("listen", "--port", 0, "--json", *options)
    return program, json(program.line())["listening"]


def test_each_delivery_is_a_line_and_the_end_a_summary(start: Start) -> None:
    program, url = listening(start, "--secret", SECRET, "--count", 3)
    assert post(url, GATEWAY, signed(GATEWAY)) == 204
    assert post(url, GATEWAY, signed(GATEWAY, "another")) == 401
    assert post(url, BROKER) == 401
    said = program.end()
    assert said.exit_code == ExitCode.OK
    *deliveries, last = map(json, said.stdout.splitlines())
    for delivery in deliveries:
        assert delivery.pop("at").endswith("Z")
    common = {"path": "/in"}
    assert deliveries == [
        common
        | {"type": "route.error", "id": "evt_1", "seen": 1, "bytes": len(GATEWAY)}
        | {"verified": True, "status": 204},
        common
        | {"type": "route.error", "id": "evt_1", "seen": 2, "bytes": len(GATEWAY)}
        | {"verified": False, "status": 401, "reason": "no signature matches"},
        common
        | {"type": "client.connected", "id": "u-1", "seen": 1, "bytes": len(BROKER)}
        | {"verified": False, "status": 401}
        | {"reason": "the header X-FluxGate-Signature is missing"},
    ]
    summary = last["summary"]
    assert summary.pop("seconds") < 20
    assert summary == {
        "received": 3,
        "events": 2,
        "verified": 1,
        "refused": 2,
        "accepted": 1,
        "bytes": 2 * len(GATEWAY) + len(BROKER),
    }


def test_it_fails_as_often_as_it_is_told(start: Start) -> None:
    program, url = listening(start, "--fail-first", 2, "--fail-status", 429, "--status", 200)
    assert [post(url, GATEWAY) for _ in range(3)] == [429, 429, 200]
    program.signal(signal.SIGTERM)
    said = program.end()
    assert said.exit_code == ExitCode.OK
    lines = [json(line) for line in said.stdout.splitlines()]
    assert [line["status"] for line in lines[:3]] == [429, 429, 200]
    assert lines[0]["verified"] is None
    assert lines[3]["summary"]["accepted"] == 1


def test_it_can_hang_and_answer_late(start: Start) -> None:
    program, url = listening(start, "--hang", "--count", 1)
    assert post(url, GATEWAY) is None
    first = json(program.end().stdout.splitlines()[0])
    assert (first["status"], first["reason"]) == (0, "hang")
    program, url = listening(start, "--delay", 0.2, "--count", 1)
    before = time.monotonic()
    assert post(url, GATEWAY) == 204
    assert time.monotonic() - before >= 0.2
    assert program.end().exit_code == ExitCode.OK


def test_it_behaves_in_the_ways_of_the_library(start: Start, invoke: Invoke) -> None:
    """Each has a name and a sentence; a request that it befalls is a line with its name."""
    said = invoke("listen", "--behave", "help")
    assert said.exit_code == ExitCode.OK
    lines = said.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(FAULTS)
    assert all(line.endswith(".") for line in lines)
    program, url = listening(start, "--behave", "second_answer", "--count", 1, "--status", 200)
    assert post(url, GATEWAY) == 200
    first = json(program.end().stdout.splitlines()[0])
    assert (first["status"], first["reason"]) == (200, "second_answer")


def test_a_behaviour_that_there_is_not_or_that_cannot_be_is_said(invoke: Invoke) -> None:
    for options, words in (
        (["nonsense"], "--behave help"),
        (["close", "--hang"], "--hang"),
        (["h2_push", "--secret", SECRET], "--secret"),
    ):
        said = invoke("listen", "--port", 0, "--behave", *options)
        assert said.exit_code == ExitCode.USAGE
        assert words in said.stderr


def test_people_see_one_line_each_and_nothing_steers_their_terminal(start: Start) -> None:
    program = start("listen", "--port", 0, "--verbose")
    said = program.line()
    assert "without a --secret nothing is verified" in said
    url = said.split()[2].rstrip(";")
    body = b'{"id": "\\u001b[2J", "type": "[red]x[/red]"}'
    post(url, GATEWAY, {"X-Extra": "value"})
    post(url, body)
    post(url, b"no JSON")
    program.signal(signal.SIGINT)
    end = program.end()
    assert end.exit_code == ExitCode.INTERRUPTED
    assert end.stderr == ""
    for text in (
        "204 route.error",
        "evt_1",
        "x-extra: value",
        "(no event type)",
        "no JSON",
        "[red]x[/red]",
        r"\x1b[2J",
    ):
        assert text in end.stdout
    assert "\x1b" not in end.stdout
    assert end.stdout.splitlines()[-1].startswith("3 deliveries of 3 events, 3 answered")


def test_a_secret_may_come_from_the_environment(start: Start) -> None:
    """A command line is for every user of the machine to see."""
    environ = {"FLUXHOOK_SECRET": SECRET}
    program = start("listen", "--port", 0, "--json", "--count", 1, environ=environ)
    url = json(program.line())["listening"]
    assert post(url, GATEWAY, signed(GATEWAY)) == 204
    assert program.end().exit_code == ExitCode.OK


def test_a_port_that_is_taken_is_one_message(invoke: Invoke) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = invoke("listen", "--port", taken.getsockname()[1])
    assert said.exit_code == ExitCode.FAILURE
    assert said.stderr.startswith("Error: ")
    assert "address already in use" in said.stderr.lower()


def test_an_unusable_secret_is_a_problem_of_the_configuration(invoke: Invoke) -> None:
    said = invoke("listen", "--port", 0, "--profile", "standard", "--secret", "s3cret")
    assert said.exit_code == ExitCode.CONFIG
    assert "whsec_" in said.stderr
    assert "s3cret" not in said.stderr
