"""Tells systemd how the engine stands: the protocol of sd_notify(3), for units with `Type=notify`.

Messages are datagrams to the socket that $NOTIFY_SOCKET names, each line a `NAME=value`. Where no
service manager asked for them nothing is sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

__all__ = ["ServiceManager"]


class ServiceManager:
    """Speaks to the service manager that started this process.

    `environ` loses the variables of the protocol, so that no child takes them for its own. Nothing
    raises: an engine delivers, whether or not somebody hears of it.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = _address(environ.pop("NOTIFY_SOCKET", ""))
        watchdog_us = environ.pop("WATCHDOG_USEC", "")
        watched_pid = environ.pop("WATCHDOG_PID", "") or str(os.getpid())
        #: between two signs of life; 0 where none is asked for
        self._interval_s = 0.0
        if watchdog_us.isascii() and watchdog_us.isdigit() and watched_pid == str(os.getpid()):
            self._interval_s = min(1.0, int(watchdog_us) / 2_000_000)
        self._next_s = 0.0
        self._reloading = False

    def ready(self, status: str) -> None:
        """Say that the engine serves. `status` is a line for `systemctl status`."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Say that a reload begins. `turn` says that it has ended."""
        self._reloading = True
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, timeout_s: float) -> None:
        """Say that the engine drains, for up to `timeout_s`."""
        self._send(
            "STOPPING=1",
            f"STATUS=draining for up to {timeout_s:g} s",
            f"EXTEND_TIMEOUT_USEC={int((timeout_s + 10) * 1_000_000)}",
        )

    def turn(self, *, busy: bool = False) -> None:
        """Be called in each turn of the supervisor's loop: give the sign of life that is due, and say
        that a reload has ended, unless it keeps the supervisor `busy` still."""
        if self._reloading and not busy:
            self._reloading = False
            self._send("READY=1")
        if self._interval_s and (now_s := time.monotonic()) >= self._next_s:
            self._next_s = now_s + self._interval_s
            self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(), self._address)


def _address(name: str) -> bytes | None:
    """Return the socket's address; None where it is none of a kind that is known here.

    A name that begins with `@` is in the abstract namespace (unix(7)).
    """
    if name.startswith("@"):
        return b"\0" + os.fsencode(name[1:])
    return os.fsencode(name) if name.startswith("/") else None
