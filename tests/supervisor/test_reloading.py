"""What the supervisor is asked for by signals."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxhook import Config
from fluxhook.config.units import Size
from fluxhook.supervisor.supervisor import Supervisor


@pytest.fixture
def handlers() -> Iterator[None]:
    """Those of the test's process come back."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    wakeup = signal.set_wakeup_fd(-1)
    yield
    signal.set_wakeup_fd(wakeup)
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_what_is_asked_for_during_a_reload_is_done_next(tmp_path: Path) -> None:
    """A SIGHUP while the file is read may be for a file that was changed meanwhile."""
    config = Config(workers=1, ring_bytes=Size(2**22), max_endpoints=16)
    asked = iter((signal.SIGHUP, signal.SIGTERM))
    reads = []

    def read() -> Config:
        reads.append(next(asked))
        signal.raise_signal(reads[-1])
        return config

    supervisor = Supervisor(tmp_path / "data", config, reload=read)
    late = threading.Timer(20.0, os.kill, (os.getpid(), signal.SIGTERM))
    late.start()
    try:
        supervisor.run(on_ready=lambda: signal.raise_signal(signal.SIGHUP))
    finally:
        late.cancel()
    assert reads == [signal.SIGHUP, signal.SIGTERM]
