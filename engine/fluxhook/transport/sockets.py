"""The sockets of one libcurl multi handle: what epoll watches them for, and which may be used again.

A connection is not used again where it may carry something else than the answer to its next request:

    bytes came before the request was written   retired: they would be taken for its answer. Over TLS
                                                libcurl may have read them already; then the request
                                                ends while it is started, and goes out once more
    a request on it timed out                   libcurl closes it; one that requests share (HTTP/2) is
                                                retired if nothing at all arrived meanwhile
    a request failed without an answer          its target's requests open connections of their own
                                                (FRESH_CONNECT) until one of these has brought an answer

To retire is to shut the socket down, whose descriptor is ours: libcurl closes it when it next looks; a
request that is written to it before that fails at once, unsent, and libcurl takes another connection.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pycurl

from fluxhook.transport.target import Target
from fluxhook.transport.transfer import TOTAL_US, Transfer

__all__ = ["Sockets", "retire_if_silent"]

_POLL_IN, _POLL_OUT, _POLL_REMOVE = pycurl.POLL_IN, pycurl.POLL_OUT, pycurl.POLL_REMOVE
#: milliseconds since data was last sent, and since some last arrived: tcpi_last_data_sent and
#: tcpi_last_data_recv in struct tcp_info (linux/tcp.h)
_LAST_DATA = struct.Struct("=44xI4xI")
#: the kernel's clock for it has this resolution at least (CONFIG_HZ=250, the usual one)
_TICK_MS = 4


class Sockets:
    """The descriptors that libcurl uses, and the epoll that watches them."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        #: What epoll watches a descriptor for. An entry may outlive its descriptor, as libcurl
        #: closes idle connections without a word; it is dropped when the number is given out again.
        #: (CLOSESOCKETFUNCTION is no help: that of the handle that opened the connection would be
        #: called, and pycurl cannot run Python for a handle that is idle.)
        self.registered: dict[int, int] = {}
        #: the descriptors that transfers use
        self.busy: set[int] = set()
        #: for which target each descriptor was opened; an entry may be as old as those above
        self._owners: dict[int, Target] = {}

    def open(self, family: int, kind: int, protocol: int, owner: Target | None) -> int:
        """Open a socket for a request to `owner`; return its descriptor. Raises OSError."""
        fd = socket.socket(family, kind, protocol).detach()
        self.registered.pop(fd, None)
        if owner is not None:
            self._owners[fd] = owner
        return fd

    def callback(self) -> Callable[[int, int, Any, Any], None]:
        """Return what libcurl calls with its wish for one socket, twice for each request.

        A socket that is kept alive stays registered for EPOLLIN, so that what arrives on it is seen and
        its next use costs no epoll_ctl.
        """
        busy, idle, watch = self.busy.add, self.busy.discard, self._watch
        registered, owners = self.registered.get, self._owners

        def on_socket(what: int, fd: int, multi: Any, data: Any) -> None:
            if what == _POLL_REMOVE:
                idle(fd)
                if registered(fd) != _POLL_IN:
                    watch(_POLL_IN if fd in owners else _POLL_REMOVE, fd)
            else:
                busy(fd)
                if registered(fd) != what:
                    watch(what, fd)

        return on_socket

    def _watch(self, what: int, fd: int) -> None:
        # Called back from libcurl, where an exception would end the whole multi handle.
        known = self.registered.pop(fd, 0)
        with contextlib.suppress(OSError):
            if what == _POLL_REMOVE:
                if known:
                    self.epoll.unregister(fd)
                return
            mask = (select.EPOLLIN if what & _POLL_IN else 0) | (
                select.EPOLLOUT if what & _POLL_OUT else 0
            )
            if known:
                self.epoll.modify(fd, mask)
            else:
                self.epoll.register(fd, mask)
            self.registered[fd] = what

    def look_at_idle(self, fd: int) -> Target | None:
        """Look at a connection that no request uses and on which something arrived: its end, or bytes
        that nobody asked for. Return the target whose other connections may have such too, if any.

        What arrives for HTTP/2 (SETTINGS, PING) libcurl understands, when a request next uses it.
        """
        owner = self._owners.get(fd)
        if owner is None:
            self._watch(_POLL_REMOVE, fd)
            return None
        ended = True
        with contextlib.suppress(OSError), _lent(fd) as connection:
            try:
                ended = not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None  # libcurl has read it meanwhile
        if not ended and owner.shares:
            self._watch(_POLL_REMOVE, fd)
            return None
        self._retire(fd)
        return None if ended else owner

    def retire_silent(self, transfer: Transfer, target: Target) -> None:
        """Retire what is likely dead, as the request got no answer in its time: its connection, if
        others share it and nothing at all arrived on it meanwhile, and idle ones of the target.

        HTTP/2 could ask a connection for a sign of life (PING), but libcurl does that only in
        curl_easy_upkeep, which pycurl does not offer (7.49).
        """
        own = (transfer.getinfo(pycurl.LOCAL_IP), transfer.getinfo(pycurl.LOCAL_PORT))
        for fd, owner in list(self._owners.items()):
            if fd not in self.busy:
                if owner is target:
                    self._retire(fd)
                continue
            if not (target.shares and owner.shares):
                continue
            with contextlib.suppress(OSError), _lent(fd) as connection:
                _, silent_ms = last_data_ms(connection)
                total_ms = transfer.getinfo(TOTAL_US) // 1000
                if connection.getsockname()[:2] == own and silent_ms >= total_ms - _TICK_MS:
                    connection.shutdown(socket.SHUT_RDWR)

    def _retire(self, fd: int) -> None:
        """Shut an idle connection down, so that nothing is written to it any more, and forget it."""
        self.registered.pop(fd, None)
        self._owners.pop(fd, None)
        # Raises where libcurl has closed the descriptor, and the number may be someone else's.
        with contextlib.suppress(OSError):
            self.epoll.unregister(fd)
            with _lent(fd) as connection:
                connection.shutdown(socket.SHUT_RDWR)
                while connection.recv(65_536, socket.MSG_DONTWAIT):
                    pass  # what has arrived could still be read


def retire_if_silent(transfer: Transfer, began_ns: int) -> bool:
    """Retire the connection of a request that ended, if nothing has arrived on it since then and since
    the request was sent; return whether that is so.

    The kernel's clock can stand still for long where a hypervisor takes the processor away, so a
    comparison with ours is not enough.
    """
    with contextlib.suppress(OSError), _lent(transfer.getinfo(pycurl.LASTSOCKET)) as connection:
        elapsed_ms = (time.monotonic_ns() - began_ns) // 1_000_000
        sent_ms, silent_ms = last_data_ms(connection)
        if silent_ms > max(sent_ms, elapsed_ms + 2 * _TICK_MS):
            connection.shutdown(socket.SHUT_RDWR)
            return True
    return False


@contextlib.contextmanager
def _lent(fd: int) -> Iterator[socket.socket]:
    """Lend a descriptor of libcurl's as a socket. Raises OSError if it is none any more."""
    connection = socket.socket(fileno=fd)
    try:
        yield connection
    finally:
        connection.detach()


def last_data_ms(connection: socket.socket) -> tuple[int, int]:
    """Return for how long nothing was sent, and for how long nothing has arrived, in milliseconds."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA.size)
    sent_ms, arrived_ms = _LAST_DATA.unpack(info)
    return sent_ms, arrived_ms
