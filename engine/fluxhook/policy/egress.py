"""The egress guard: which addresses a delivery may reach, judged as the socket opens.

A name is checked when it has become an address, so that a receiver's DNS cannot lead a delivery
into the private network (DNS rebinding). The ranges stand in `config.networks`, which the loader
uses too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from fluxhook.config.networks import judge, parse_network

__all__ = ["EgressPolicy"]

#: Arbitrary: verdicts remembered per policy, far more than a worker has receivers.
MAX_REMEMBERED: Final = 4096


class EgressPolicy:
    """Judges addresses against one configuration's `allow_networks`.

    Safe to share among threads. ValueError if a network does not parse, which a checked
    configuration rules out.
    """

    def __init__(self, allow_networks: Iterable[str] = ()) -> None:
        self._allowed = tuple(map(parse_network, allow_networks))
        self._verdicts: dict[str, str | None] = {}

    def judge(self, address: str) -> str | None:
        """Return None if the delivery may reach it; otherwise a sentence with the address, its range
        and the line to add to the configuration.

        `address` is what the resolver gave, a zone (`fe80::1%eth0`) included; that is how curl's
        opensocket callback hands it over. What is not an IP address is refused.
        """
        try:
            return self._verdicts[address]
        except KeyError:
            pass
        if len(self._verdicts) >= MAX_REMEMBERED:
            self._verdicts.clear()
        verdict = self._verdicts[address] = self._judge(address)
        return verdict

    def _judge(self, address: str) -> str | None:
        try:
            # The zone only names an interface of this host (RFC 4007 section 11).
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return f"{address!r:.80} is not an IP address, and only IP addresses are reached"
        refusal = judge(parsed, self._allowed)
        return refusal and f"{refusal.message}; {refusal.remedy} if deliveries may go there"
