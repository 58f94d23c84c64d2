"""Tokens that nobody has: each is reported in the log, and a client that gives many waits longer for
each answer.

A token that is known is never held up, wherever it comes from, so nobody can lock another out. What is
remembered, what waits and what is written to the log are bounded.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable
from typing import Final

from fluxhook.admin.problem_details import RequestError
from fluxhook.logs.log import Log

__all__ = ["FREE", "FailedTokens", "delay_s", "peer_of"]

log = Log("admin")

#: failures of a peer whose answers come at once: somebody mistyped
FREE: Final = 3
#: the longest wait; arbitrary
MAX_DELAY_S: Final = 4.0
#: a peer begins anew after this long without a failure; arbitrary
FORGET_S: Final = 300.0
#: peers that are remembered, the latest; arbitrary
MAX_PEERS: Final = 1024
#: answers that wait at a time; more are refused at once, for each takes memory. Arbitrary.
MAX_WAITING: Final = 64


def delay_s(failures: int) -> float:
    """Return for how long the answer to the n-th failure of a peer waits: doubling, up to a bound."""
    return 0.0 if failures <= FREE else min(MAX_DELAY_S, 0.125 * 2 ** min(failures - FREE, 10))


def peer_of(client: object) -> str:
    """Return the peer behind an ASGI `client`: an address, of IPv6 the network that one customer has.
    What is no address is "unknown"."""
    host = client[0] if isinstance(client, (tuple, list)) and client else ""
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class FailedTokens:
    """One thread's: the event loop's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: failures and the time of the last one, the latest peer last
        self.peers: dict[str, tuple[int, float]] = {}
        #: answers that are held up
        self.waiting = 0

    async def slow_down(self, peer: str, what: str) -> None:
        """Wait before an unknown token is refused; `what` says for which request, in words that may
        be logged. Raise RequestError (429) where too many wait already."""
        failures = self.count(peer)
        if failures & (failures - 1) == 0:  # 1, 2, 4, 8: a flood of them is no flood of lines
            times = "" if failures == 1 else f", {failures} times by now"
            log.warning(
                "a token that is not known came from %s, for %s%s", peer, what, times,
                event="unknown_token", peer=peer, count=failures,
            )  # fmt: skip
        delay = delay_s(failures)
        if not delay:
            return
        if self.waiting >= MAX_WAITING:
            raise RequestError(
                "too-many-failures",
                "Too many tokens that are not known were given; try again later.",
            )
        self.waiting += 1
        try:
            await asyncio.sleep(delay)
        finally:
            self.waiting -= 1

    def count(self, peer: str) -> int:
        """Count one more failure of a peer; return how many it has by now."""
        now = self._clock()
        before, last = self.peers.pop(peer, (0, now))
        failures = 1 if now - last > FORGET_S else before + 1
        self.peers[peer] = failures, now
        if len(self.peers) > MAX_PEERS:
            del self.peers[next(iter(self.peers))]
        return failures
