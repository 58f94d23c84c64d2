"""Every behaviour of the library has the outcome that must follow from it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from fluxhook.policy.outcome import classify
from fluxhook.receiver import Behaviour
from fluxhook.receiver.faults import FAULTS, LATER_S
from fluxhook.transport.sender import Sender
from fluxhook.transport.target import Target
from support.outcomes import OUTCOMES, reach
from support.receiver import ReceiverProcess

DEADLINE_S = 10.0


class Made(NamedTuple):
    """A request that was made."""

    cause: str
    status: int
    error: str
    opened: bool


class Client:
    """A Sender and the loop around it."""

    def __init__(self) -> None:
        self.sender = Sender(8, lambda address: None)

    def post(self, target: Target) -> Made:
        transfer = self.sender.send(target, [b"Expect:"], b"{}", None, time.time_ns())
        self.sender.start()
        end = time.monotonic() + DEADLINE_S
        while not (finished := self.sender.step(0.05)):
            assert time.monotonic() < end
        ((_, code, message),) = finished
        status, cause, error = transfer.status, None, ""
        if not 200 <= status <= 299:
            status, cause, error = transfer.failure(code, message)
        word = classify(status, cause, ()).cause
        attempt = transfer.attempt(word, error, 0, status)
        made = Made(word, attempt.status, attempt.error, transfer.opened)
        self.sender.release(transfer)
        return made

    def quiet(self, receiver: ReceiverProcess) -> None:
        """Step until what comes later has come: the connection has ended, or it is long past."""
        end = time.monotonic() + 4 * LATER_S
        while receiver.state().open and time.monotonic() < end:
            self.sender.step(0.005)


def target_for(name: str, receiver: str) -> Target:
    """The receiver as an endpoint, or as the proxy before one."""
    url, proxy = reach(name, receiver)
    outcome = OUTCOMES[name]
    ends = name != "slow_body" and not {"timeout", "connect_timeout"} & {
        outcome.cause,
        *outcome.or_causes,
    }
    ms = 5000 if ends else 300
    http2 = FAULTS[name].kind == "http2"
    return Target(url, timeout_ms=ms, connect_timeout_ms=ms, proxy=proxy, http2=http2)


@pytest.fixture(scope="module")
def receiver() -> Iterator[ReceiverProcess]:
    with ReceiverProcess() as process:
        yield process


@pytest.fixture(scope="module")
def healthy() -> Iterator[ReceiverProcess]:
    with ReceiverProcess() as process:
        yield process


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    yield client
    client.sender.close()


def test_the_table_has_every_behaviour() -> None:
    assert OUTCOMES.keys() == FAULTS.keys()


@pytest.mark.parametrize("name", FAULTS)
def test_outcome(
    name: str, client: Client, receiver: ReceiverProcess, healthy: ReceiverProcess
) -> None:
    """The attempt has its cause and status, and an error that is text; the next request goes over the
    same connection or another one, and gets its own answer; a healthy endpoint notices nothing."""
    fault, wanted = FAULTS[name], OUTCOMES[name]
    other = Target(healthy.url, timeout_ms=5000, connect_timeout_ms=5000)
    assert client.post(other).status == 204
    receiver.behave(Behaviour(status=200, body=b"ok", fault=name))
    target = target_for(name, receiver.url)
    if wanted.second:
        assert client.post(target).cause == "delivered"
    made = client.post(target)
    assert made.cause in {wanted.cause, *wanted.or_causes}
    assert made.status == wanted.status
    made.error.encode()
    if not wanted.kept:
        client.quiet(receiver)
    if fault.kind in ("http", "http2"):
        receiver.behave(Behaviour(status=500))
        made = client.post(target)
        assert (made.cause, made.status) == ("server_error", 500)
    else:
        made = client.post(target)
    assert made.opened != wanted.kept
    made = client.post(other)
    assert (made.status, made.opened) == (204, False)
