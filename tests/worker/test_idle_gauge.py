"""Who is slow: the endpoint, or this worker."""

from __future__ import annotations

import threading
import time

from fluxhook.worker.idle_gauge import IdleGauge


def test_a_thread_that_computes_is_not_idle_and_one_that_waits_is() -> None:
    """Over windows of 50 ms and more, by the kernel's own account of the thread."""
    gauge = IdleGauge()
    gauge.idle(time.time_ns())
    end = time.monotonic() + 0.1
    while time.monotonic() < end:
        pass
    assert not gauge.idle(time.time_ns())
    threading.Event().wait(0.2)
    assert gauge.idle(time.time_ns())
    # within the window the answer stays
    assert gauge.idle(time.time_ns() + 1)
