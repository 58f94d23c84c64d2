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
from typing import Final

__all__ = ["EXTENSION_S", "ServiceManager"]

#: How much more time is asked for while the engine drains, again and again: long enough for what it
#: does after its last turn, which is to store what the workers reported.
EXTENSION_S: Final = 60.0
#: for a service manager that has much to read; arbitrary
SEND_S: Final = 0.5
_EXTENSION: Final = f"EXTEND_TIMEOUT_USEC={int(EXTENSION_S * 1_000_000)}"


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
        self._serves = self._reloading = False
        #: when more time is to be asked for; None unless the engine drains
        self._extend_s: float | None = None

    def ready(self, status: str) -> None:
        """Say that the engine serves. `status` is a line for `systemctl status`."""
        self._serves = True
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Say how the engine stands now."""
        self._send(f"STATUS={status}")

    def reloading(self) -> None:
        """Say that a reload begins. `turn` says that it has ended."""
        self._reloading = True
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, timeout_s: float) -> None:
        """Say that the engine drains, for up to `timeout_s`."""
        self._extend_s = time.monotonic() + EXTENSION_S / 3
        self._send("STOPPING=1", f"STATUS=draining for up to {timeout_s:g} s", _EXTENSION)

    def turn(self, *, busy: bool = False) -> None:
        """Be called in each turn of the supervisor's loop: give the sign of life that is due once it
        serves, and say
        that a reload has ended, unless it keeps the supervisor `busy` still. While the engine drains,
        ask for more time: as long as its loop turns, it is not stuck."""
        now_s = time.monotonic()
        if self._reloading and not busy:
            self._reloading = False
            self._send("READY=1")
        if self._serves and self._interval_s and now_s >= self._next_s:
            self._next_s = now_s + self._interval_s
            self._send("WATCHDOG=1")
        if self._extend_s is not None and now_s >= self._extend_s:
            self._extend_s = now_s + EXTENSION_S / 3
            self._send(_EXTENSION)

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.settimeout(SEND_S)
            sender.sendto("\n".join(lines).encode(), self._address)


def _address(name: str) -> bytes | None:
    """Return the socket's address; None where it is none of a kind that is known here.

    A name that begins with `@` is in the abstract namespace (unix(7)).
    """
    if name.startswith("@"):
        return b"\0" + os.fsencode(name[1:])
    return os.fsencode(name) if name.startswith("/") else None
