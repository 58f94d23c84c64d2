"""Addresses that a delivery must not reach unless the operator allows their network.

The ranges are those of the IANA special-purpose address registries (RFC 6890), multicast, all that
is not allocated for global unicast, and the metadata services of the large clouds.

An IPv6 address that carries an IPv4 address is judged by both: a gateway, a tunnel or the kernel itself
sends on to what is carried. So an allowed IPv6 network admits no private IPv4 address; only an allowed
IPv4 network does, in each form that carries it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, NamedTuple

__all__ = [
    "Address",
    "Network",
    "Refusal",
    "carries",
    "judge",
    "literal_address",
    "parse_network",
]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: The first range that holds an address names it, so the special ones stand before the wide ones.
_RANGES: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ipaddress.ip_network(network), name)
    for network, name in (
        ("169.254.169.254/32", "a cloud metadata service"),
        ("100.100.100.200/32", "a cloud metadata service"),
        ("192.0.0.192/32", "a cloud metadata service"),
        ("168.63.129.16/32", "a cloud platform's own service"),
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "IETF protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
        ("fd00:ec2::254/128", "a cloud metadata service"),
        ("fd20:ce::254/128", "a cloud metadata service"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("64:ff9b:1::/48", "local-use NAT64"),
        ("100::/64", "discard-only"),
        ("2001::/23", "IETF protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "unique local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
#: RFC 4291 section 2.4; IANA, IPv6 address space: nothing else is allocated for it.
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
#: only a way to write, or to reach, the IPv4 address that is carried: no range of its own is judged
_PLAIN_CARRIERS: Final = (
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped, RFC 4291 section 2.5.5.2
    IPv6Network("64:ff9b::/96"),  # NAT64, RFC 6052
)
_TEREDO: Final = IPv6Network("2001::/32")
#: Prefixes of addresses that carry an IPv4 address, and how far right its last bit stands.
_CARRIERS: Final = (
    *((network, 0) for network in _PLAIN_CARRIERS),
    (IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated, RFC 7915
    (IPv6Network("2002::/16"), 80),  # 6to4, RFC 3056
    (_TEREDO, 64),  # the server, RFC 4380 section 4
)
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")
#: RFC 6052 section 2.2: the lengths of prefixes within it
_NAT64_LENGTHS: Final = (48, 56, 64, 96)
#: deprecated (RFC 4291 section 2.5.5.1); `::` and `::1` are none of them
_COMPATIBLE: Final = IPv6Network("::/96")


class Refusal(NamedTuple):
    """Why an address is refused: the range it lies in, and what to add if that is meant."""

    address: str
    network: str
    name: str

    @property
    def message(self) -> str:
        return f"{self.address} is not public: {self.network} is {self.name}"

    @property
    def remedy(self) -> str:
        return f'add allow_networks: ["{self.network}"] under webhook'


def judge(address: Address, allowed: Sequence[Network] = ()) -> Refusal | None:
    """Return None if the address, and each that it carries, is public or lies in one of the allowed
    networks.

    A network allows an IPv4 address in each form that carries it.
    """
    plain = any(address in network for network in _PLAIN_CARRIERS)
    if not plain and (refusal := _judge_itself(address, allowed)):
        return refusal
    for carried in _carried(address):
        if refusal := _judge_itself(carried, allowed):
            return refusal._replace(address=f"{address} ({refusal.address})")
    return None


def carries(network: Network) -> bool:
    """Return whether each address of the network carries an IPv4 address, which is judged too."""
    return isinstance(network, IPv6Network) and any(
        network.subnet_of(carrier) for carrier in (*(c for c, _ in _CARRIERS), _LOCAL_NAT64)
    )


def _judge_itself(address: Address, allowed: Sequence[Network]) -> Refusal | None:
    if any(address in network for network in allowed):
        return None
    for network, name in _RANGES:
        if address in network:
            return Refusal(str(address), str(network), name)
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return Refusal(str(address), f"{address}/128", "not global unicast")
    return None


def parse_network(text: str) -> Network:
    """Read "10.0.0.0/8", or one address. ValueError says what is wrong."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        try:
            loose = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"{text!r:.80} is not a network") from None
        raise ValueError(f"{text!r} has bits beyond its prefix; it may mean {loose}") from None
    if isinstance(network, IPv6Network) and network.subnet_of(_PLAIN_CARRIERS[0]):
        raise ValueError(f"{text!r} is IPv4 in IPv6 notation; write the IPv4 network")
    return network


_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*", re.ASCII)


def literal_address(host: str) -> Address | None:
    """Return the address that a URL's host spells out; None for a name that has to be resolved.

    Reads what inet_aton and browsers read (`127.1`, `0x7f000001`, `2130706433`, `0177.0.0.1`),
    brackets, and the names that always mean loopback (RFC 6761 section 6.3). ValueError for a host
    that ends in a number and is no address (WHATWG URL, "ends in a number").
    """
    if host.startswith("[") and host.endswith("]"):
        return ipaddress.IPv6Address(host[1:-1])
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return IPv4Address("127.0.0.1")
    parts = name.split(".")
    if not _NUMBER.fullmatch(parts[-1]):
        return None
    bounds = [256] * (len(parts) - 1) + [256 ** (5 - len(parts))] if len(parts) <= 4 else []
    value = 0
    for part, bound in zip(parts, bounds, strict=False):
        number = _number(part)
        if number is None or number >= bound:
            bounds = []
            break
        value = value * bound + number
    if not bounds:
        raise ValueError(f"{host!r:.80} is not an IPv4 address")
    return IPv4Address(value)


def _number(text: str) -> int | None:
    """Read a part of an IPv4 address: 0x is hexadecimal, a leading 0 octal. None: not a number."""
    if not _NUMBER.fullmatch(text) or len(text) > 16:
        return None
    try:
        if text[:2].lower() == "0x":
            return int(text[2:] or "0", 16)
        return int(text, 8 if text.startswith("0") else 10)
    except ValueError:
        return None


def _carried(address: Address) -> list[IPv4Address]:
    """Return the IPv4 addresses inside an IPv6 address of a carrying form."""
    if isinstance(address, IPv4Address):
        return []
    number = int(address)
    found = [number >> shift for network, shift in _CARRIERS if address in network]
    if address in _TEREDO:
        found.append(~number)  # the client
    elif address in _COMPATIBLE and number > 1:
        found.append(number)
    elif address in _LOCAL_NAT64:
        found += _nat64_readings(number)
    return [IPv4Address(one & 0xFFFFFFFF) for one in found]


def _nat64_readings(number: int) -> list[int]:
    """Return what an address in the range for local NAT64 may carry. The length of the prefix is the
    network's own affair, but behind the carried address there are zeros, and bits 64 to 71 are left out
    (RFC 6052 section 2.2)."""
    readings = []
    for length in _NAT64_LENGTHS:
        if length == 96:
            readings.append(number)
            continue
        above = number >> 64  # with the high part of the carried address
        below = number << 8 & (1 << 64) - 1  # with the low part, without the octet between them
        joined = above << 64 | below
        end = length + 32
        if not number >> 56 & 0xFF and not joined & (1 << 128 - end) - 1:
            readings.append(joined >> 128 - end)
    return [one for one in readings if one >> 24 & 0xFF] or readings  # nobody means 0.0.0.0/8
