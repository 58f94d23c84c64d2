"""The channel to an embedding host: nobody waits for it."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from fluxhook.transport.host_channel import (
    HostChannel,
    HostHandler,
    Line,
    Lost,
    Message,
    decode,
    taken_from,
    variable,
)


class Ends:
    """Both ends in one process."""

    def __init__(self, *, waits: bool = False) -> None:
        self.reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.reading.setblocking(False)
        self.channel = HostChannel(writing.detach(), "worker 0", waits=waits)

    def close(self) -> None:
        self.reading.close()
        self.channel.socket.close()

    def read(self) -> list[Message]:
        found: list[Message] = []
        while True:
            try:
                data = self.reading.recv(1 << 20)
            except BlockingIOError:
                return found
            if not data:
                return found
            found.append(decode(data))


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.close()


def line(text: str = "a") -> Line:
    return Line("fluxhook.endpoint", logging.WARNING, text, 1.0, "worker 0", 1, {"n": 1})


def test_a_host_that_does_not_read_is_not_waited_for(ends: Ends) -> None:
    """Messages that find no room are counted, and the number comes once there is room."""
    began = time.monotonic()
    for _ in range(10_000):
        ends.channel.send(line())
    assert time.monotonic() - began < 5
    first = ends.read()
    assert set(map(type, first)) == {Line}
    ends.channel.send(line("after"))
    lost, after = ends.read()
    assert lost == Lost("worker 0", 10_000 - len(first))
    assert after == line("after")


def test_what_waits_keeps_its_order_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor keeps what found no room, up to a bound, and flushes it in its loop."""
    monkeypatch.setattr("fluxhook.transport.host_channel.MOST_WAITING", 3000)
    ends = Ends(waits=True)
    for n in range(10_000):
        ends.channel.send(line(str(n)))
    assert ends.channel.waits
    found: list[Message] = []
    while got := ends.read():
        found += got
        ends.channel.flush()
    assert not ends.channel.waits
    lost = found.pop()
    assert isinstance(lost, Lost)
    assert lost.count == 10_000 - len(found)
    assert [int(m.text) for m in found if isinstance(m, Line)] == [*range(len(found))]
    assert len(found) > 3000
    ends.close()


def test_a_message_over_the_bound_is_left_out(ends: Ends) -> None:
    """It is counted like others."""
    ends.channel.send(line("x" * (1 << 20)))
    assert ends.read() == []
    ends.channel.send(line())
    assert ends.read() == [Lost("worker 0", 1), line()]


def test_a_host_that_is_gone_is_noticed(ends: Ends, capfd: pytest.CaptureFixture[str]) -> None:
    """Lines go to standard error from then on, and nothing raises."""
    handler = HostHandler(ends.channel, "worker 0")
    record = logging.makeLogRecord(
        {"msg": "said", "levelno": logging.ERROR, "levelname": "ERROR", "fields": {"endpoint": "e"}}
    )
    ends.reading.close()
    handler.emit(record)
    assert ends.channel.closed
    handler.emit(record)
    assert "ERROR: said endpoint=e" in capfd.readouterr().err


def test_a_child_finds_the_channel_in_its_environment() -> None:
    """It takes the variable away, so that no other program takes the descriptor for its own."""
    environ = dict(os.environ) | variable(7)
    assert taken_from(environ) == 7
    assert taken_from(environ) == -1
    assert variable(-1) == {}
    assert taken_from({"FLUXHOOK_HOST": "x"}) == -1


def test_a_record_keeps_its_fields_and_is_made_safe(ends: Ends) -> None:
    """Those of other packages too, with their traceback as a field."""
    handler = HostHandler(ends.channel, "supervisor")
    logger = logging.Logger("asyncio")
    logger.addHandler(handler)
    try:
        raise ValueError("a\nb")
    except ValueError:
        logger.exception("bad\n%s", "\x1b[31m")
    (found,) = ends.read()
    assert isinstance(found, Line)
    assert found.text == "bad\\n\\x1b[31m"
    assert found.fields["traceback"].isprintable()
    assert (found.logger, found.level, found.role) == ("asyncio", logging.ERROR, "supervisor")


def test_the_end_waits_for_a_host_that_reads_slowly() -> None:
    """All that waits arrives, and nothing counts as lost."""
    ends = Ends(waits=True)
    for n in range(5000):
        ends.channel.send(line(str(n)))
    assert ends.channel.waits
    found: list[Message] = []
    finished = threading.Event()

    def read() -> None:
        while not finished.is_set() or len(found) < 5000:
            found.extend(ends.read())
            time.sleep(0.01)

    reader = threading.Thread(target=read)
    reader.start()
    ends.channel.finish(30.0)
    finished.set()
    reader.join(30)
    assert [m.text for m in found if isinstance(m, Line)] == [str(n) for n in range(5000)]
    ends.close()


def test_the_end_waits_for_no_host_that_does_not_read() -> None:
    """Not longer than it was told to; what was left is counted, and the number is not lost."""
    ends = Ends(waits=True)
    for n in range(5000):
        ends.channel.send(line(str(n)))
    began = time.monotonic()
    ends.channel.finish(0.2)
    assert 0.2 <= time.monotonic() - began < 5
    assert not ends.channel.waits
    arrived = len(ends.read())
    ends.channel.flush()
    assert ends.read() == [Lost("worker 0", 5000 - arrived)]
    ends.close()
