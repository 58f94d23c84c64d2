"""What a host's `logging` and its callbacks can do to the threads that serve them: nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from fluxhook import DeadLetter, EndpointStateChange
from fluxhook.host_listener import HostListener
from fluxhook.logs.log import Log
from fluxhook.transport.host_channel import Line, Message
from support.rig import until


class Host:
    """A listener, and the writing end that a supervisor has."""

    def __init__(
        self,
        on_dead_letter: Callable[[DeadLetter], object] | None = None,
        on_endpoint_state: Callable[[EndpointStateChange], object] | None = None,
    ) -> None:
        self.listener = HostListener("text", on_dead_letter, on_endpoint_state)
        self.writing = socket.socket(fileno=os.dup(self.listener.fd))

    def send(self, message: Message) -> None:
        self.writing.send(msgspec.msgpack.encode(message))

    def line(self, text: str) -> None:
        self.send(Line("fluxhook.engine", logging.WARNING, text, time.time(), "supervisor", 1, {}))

    def letter(self, event_id: str) -> None:
        self.send(
            DeadLetter(
                delivery_id=1, endpoint="e", event_id=event_id, type="t", topic="", cause="gone",
                error="", attempts=1, accepted_ns=1, dead_ns=2,
            )
        )  # fmt: skip

    def close(self) -> None:
        self.writing.close()
        self.listener.close()

    def threads(self) -> list[str]:
        names = (thread.name for thread in threading.enumerate())
        return sorted(name for name in names if name in ("fluxhook-log", "fluxhook-callbacks"))


class Raises(logging.Handler):
    """A handler of the host's with a defect."""

    def emit(self, record: logging.LogRecord) -> None:
        raise ValueError("of the host's handler")


@pytest.fixture
def package() -> Iterator[logging.Logger]:
    """The root of this package's loggers, without what a test attached to it."""
    logger = logging.getLogger("fluxhook")
    handlers = list(logger.handlers)
    yield logger
    logger.handlers[:] = handlers


def test_a_handler_that_raises_ends_neither_thread(package: logging.Logger) -> None:
    """Lines and calls go on, and a line of this process raises nothing either."""
    heard: list[str] = []

    def on_dead_letter(letter: DeadLetter) -> None:
        heard.append(letter.event_id)
        raise KeyError("of the callback")

    host = Host(on_dead_letter)
    package.addHandler(Raises())
    host.line("a")
    for n in range(3):
        host.letter(f"n{n}")
    until(lambda: len(heard) == 3, "the calls go on")
    Log("engine").error("said in this process")
    assert host.threads() == ["fluxhook-callbacks", "fluxhook-log"]
    host.close()
    assert host.threads() == []


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), KeyboardInterrupt()])
def test_a_callback_may_raise_what_is_no_exception(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """`sys.exit` in a callback ends neither the program nor the calls; it is logged."""
    heard: list[str] = []

    def on_dead_letter(letter: DeadLetter) -> None:
        heard.append(letter.event_id)
        raise error

    host = Host(on_dead_letter)
    host.letter("a")
    host.letter("b")
    until(lambda: heard == ["a", "b"], "both calls")
    host.close()
    assert sum("on_dead_letter raised" in message for message in caplog.messages) == 2


def test_close_waits_for_no_child_that_the_host_forked(caplog: pytest.LogCaptureFixture) -> None:
    """A forked child has both ends too; the reader still ends, with all that was said."""
    host = Host()
    inherited = os.dup(host.listener.fd)  # as a child of a pool has it
    host.line("the last")
    began = time.monotonic()
    host.close()
    assert time.monotonic() - began < 2
    assert host.threads() == []
    assert "the last" in caplog.messages
    os.close(inherited)


@pytest.mark.parametrize("where", ["callback", "handler"])
def test_close_may_be_called_by_either_thread(where: str, package: logging.Logger) -> None:
    """From a callback, or from a handler of the host's, which ends its program at an error."""
    closed: list[BaseException | None] = []

    def close(_: Any = None) -> None:
        try:
            host.listener.close()
            closed.append(None)
        except BaseException as e:
            closed.append(e)

    host = Host(close)
    if where == "callback":
        host.letter("a")
    else:
        handler = logging.Handler()
        handler.emit = close  # type: ignore[assignment]
        package.addHandler(handler)
        host.line("a")
    until(lambda: bool(closed), "closed")
    assert closed == [None]
    until(lambda: host.threads() == [], "no thread is left")
    host.writing.close()


def test_logging_that_is_disabled_is_silent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`logging.disable` holds for a program without handlers too."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    host = Host()
    host.line("nobody wants it")
    host.close()
    assert "nobody" not in capsys.readouterr().err
    monkeypatch.setattr(logging.root.manager, "disable", 0)
    host = Host()
    host.line("somebody wants it")
    host.close()
    assert "somebody" in capsys.readouterr().err
