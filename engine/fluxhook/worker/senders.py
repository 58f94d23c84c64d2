"""The senders of one worker: one for most endpoints, and one for each set of TLS files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fluxhook.config.workers import IN_FLIGHT
from fluxhook.transport.sender import Sender
from fluxhook.transport.tls import TlsMaterial
from fluxhook.transport.transfer import Transfer

__all__ = ["Finished", "Senders"]

#: a transfer, libcurl's error code or 0, and its message
Finished = tuple[Transfer, int, str]


class Senders:
    """The loop sleeps in the `main` sender, which watches the others' epolls. `judge` is asked for each
    address before a socket opens and answers None, or why it is refused."""

    def __init__(self, judge: Callable[[str], str | None]) -> None:
        self.main = Sender(IN_FLIGHT, judge)
        self._judge = judge
        self._others: dict[TlsMaterial, Sender] = {}
        #: those of them that no endpoint uses any more
        self._unused: list[TlsMaterial] = []

    def __iter__(self) -> Iterator[Sender]:
        yield self.main
        yield from self._others.values()

    @property
    def in_flight(self) -> int:
        """Return how many requests are under way."""
        return self.main.in_flight + sum(s.in_flight for s in self._others.values())

    def get(self, tls: TlsMaterial | None) -> Sender:
        """Return the sender for an endpoint with these TLS files."""
        if tls is None:
            return self.main
        sender = self._others.get(tls)
        if sender is None:
            sender = self._others[tls] = Sender(IN_FLIGHT, self._judge, tls)
            self.main.watch(sender.epoll.fileno())
        return sender

    def retire(self, used: Iterable[Sender]) -> None:
        """Close those that are not `used`, with their connections, once what is under way has ended."""
        ids = set(map(id, used))
        self._unused = [tls for tls, sender in self._others.items() if id(sender) not in ids]
        self._close_unused()

    def _close_unused(self) -> None:
        for tls in list(self._unused):
            if not self._others[tls].in_flight:
                sender = self._others.pop(tls)
                self._unused.remove(tls)
                self.main.unwatch(sender.epoll.fileno())
                sender.close()

    def start(self) -> None:
        """Set everything going that was sent since the last call."""
        for sender in self:
            if sender.queued:
                sender.start()

    def tags(self) -> Iterator[Any]:
        """Return the tags of all requests under way."""
        for sender in self:
            yield from sender.tags()

    def wait_s(self, timeout_s: float) -> float:
        """Return how long the main one may sleep so that no other's timer is missed."""
        for sender in self._others.values():
            timeout_s = sender.wait_s(timeout_s)
        return timeout_s

    def collect(self, finished: list[Finished]) -> Iterator[tuple[Sender, list[Finished]]]:
        """Yield what the main one has finished, then what each of the others has."""
        yield self.main, finished
        for sender in self._others.values():
            if sender.in_flight or sender.epoll.fileno() in self.main.fired:
                yield sender, sender.step(0.0)
        if self._unused:
            self._close_unused()

    def rejudge(self) -> None:
        """Have pooled connections judged again: the networks that may be reached have changed."""
        for sender in self:
            sender.rejudge()

    def close(self) -> None:
        """Abort what is under way; it stays in its rings."""
        for sender in (*self._others.values(), self.main):
            sender.close()
