"""Addresses in special ranges, and the literal forms that lead to them."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.config.networks import judge, literal_address, parse_network

VECTORS = json.loads((Path(__file__).parents[1] / "vectors.json").read_text())


@pytest.mark.parametrize("host", VECTORS["egress_refused_by_default"])
def test_special_hosts_are_refused(host: str) -> None:
    """Each spelling of a private or special address is refused, with the network that would allow
    it; and that network does allow it, where it carries no other address."""
    address = literal_address(host)
    assert address is not None
    refusal = judge(address)
    assert refusal is not None
    assert refusal.remedy == f'add allow_networks: ["{refusal.network}"] under webhook'
    allowed = [parse_network(refusal.network)]
    if host == "[64:ff9b:1::1]" and (carried := judge(address, allowed)):
        allowed.append(parse_network(carried.network))
    assert judge(address, allowed) is None


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0x7F.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("1.2.772", "1.2.3.4"),
        ("0", "0.0.0.0"),
        ("0x", "0.0.0.0"),
        ("LOCALHOST", "127.0.0.1"),
        ("a.localhost.", "127.0.0.1"),
        ("[::1]", "::1"),
        ("example.com", None),
        ("1.2.3.example", None),
        ("0x7f.example", None),
        ("localhost.example", None),
    ],
)
def test_literal_addresses(host: str, expected: str | None) -> None:
    """A host is read as resolvers and browsers read it; names are left to the resolver."""
    address = literal_address(host)
    assert expected == (None if address is None else str(address))


@pytest.mark.parametrize(
    "host",
    [
        "256.1.1.1",
        "1.2.3.4.5",
        "1.2.3.0x100",
        "08.1.1.1",
        "4294967296",
        "a.1",
        "1..2",
        ".1",
        "1.2.3.99999999999999999999",
        "[1.2.3.4]",
        "[]",
    ],
)
def test_hosts_that_only_look_like_addresses(host: str) -> None:
    """A host that ends in a number and is no address is refused, for resolvers disagree on it."""
    with pytest.raises(ValueError, match=r"."):
        literal_address(host)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses(address: str) -> None:
    """A public address is reached, in IPv6 forms that carry it too."""
    assert judge(ipaddress.ip_address(address)) is None


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("169.254.169.254", "a cloud metadata service"),
        ("fd00:ec2::254", "a cloud metadata service"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("255.255.255.255", "broadcast"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("2001:0:1::1", "IETF protocol assignments"),
        ("4000::1", "not global unicast"),
        ("::7f00:1", "not global unicast"),
    ],
)
def test_refusals_name_the_range(address: str, name: str) -> None:
    """A refusal names the narrowest range of the address."""
    refusal = judge(ipaddress.ip_address(address))
    assert refusal is not None
    assert refusal.name == name
    assert address in refusal.message


def test_carried_addresses_are_named() -> None:
    """A refusal of an IPv6 address that carries a private IPv4 address names both."""
    refusal = judge(ipaddress.ip_address("64:ff9b::a00:1"))
    assert refusal is not None
    assert "64:ff9b::a00:1 (10.0.0.1)" in refusal.message
    assert refusal.network == "10.0.0.0/8"


@given(st.ip_addresses(v=4))
def test_private_means_what_the_registry_says(address: ipaddress.IPv4Address) -> None:
    """Nothing that Python's copy of the IANA registry calls private or special is reached."""
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert judge(address) is not None


@given(st.ip_addresses(v=6))
def test_private_means_what_the_registry_says_for_ipv6(address: ipaddress.IPv6Address) -> None:
    """The same for IPv6, where only global unicast and what carries IPv4 is reached at all."""
    open_to = ("2000::/3", "64:ff9b::/96", "::ffff:0:0/96")
    if judge(address) is None:
        assert any(address in ipaddress.ip_network(network) for network in open_to)


@given(st.ip_addresses(v=4))
def test_carrying_forms_are_judged_alike(address: ipaddress.IPv4Address) -> None:
    """An IPv4 address and its IPv4-mapped form share their fate, allowed networks included."""
    mapped = ipaddress.IPv6Address(f"::ffff:{address}")
    allowed = [parse_network("10.0.0.0/8")]
    assert (judge(mapped) is None) == (judge(address) is None)
    assert (judge(mapped, allowed) is None) == (judge(address, allowed) is None)


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("10.0.0.1/8", "may mean 10.0.0.0/8"),
        ("10.0.0.0/33", "is not a network"),
        ("localhost", "is not a network"),
        ("", "is not a network"),
        ("::ffff:10.0.0.0/104", "write the IPv4 network"),
    ],
)
def test_bad_networks(text: str, piece: str) -> None:
    """A network that would allow nothing, or more than it seems, is refused."""
    with pytest.raises(ValueError, match=piece):
        parse_network(text)


def test_one_address_is_a_network() -> None:
    """A single address may stand for the network that holds only it."""
    assert str(parse_network("127.0.0.1")) == "127.0.0.1/32"


#: each with an IPv4 address in it
CARRYING = {
    "::ffff:127.0.0.1": "127.0.0.1",
    "::ffff:0:127.0.0.1": "127.0.0.1",
    "::127.0.0.1": "127.0.0.1",
    "64:ff9b::127.0.0.1": "127.0.0.1",
    "64:ff9b::a9fe:a9fe": "169.254.169.254",
    "2002:7f00:1::": "127.0.0.1",
    "2002:c0a8:101:5::9": "192.168.1.1",
    "2001:0:7f00:1::f7f7:f7f7": "127.0.0.1",  # Teredo, by its server
    "2001:0:808:808:0:0:80ff:fffe": "127.0.0.1",  # by its client, 8.8.8.8 being the server
    "64:ff9b:1::127.0.0.1": "127.0.0.1",  # RFC 6052, a prefix of 96 bits
    "64:ff9b:1:ff::10.0.0.1": "10.0.0.1",
    "64:ff9b:1:0:7f:0:100::": "127.0.0.1",  # of 64
    "64:ff9b:1:7f:0:1::": "127.0.0.1",  # of 56
    "64:ff9b:1:7f00:0:100::": "127.0.0.1",  # of 48
}


@pytest.mark.parametrize(("text", "carried"), CARRYING.items())
def test_no_ipv6_network_admits_what_is_carried(text: str, carried: str) -> None:
    """Neither ::/0 nor the network of the form, nor the address itself: an IPv4 network has to."""
    address = ipaddress.ip_address(text)
    for network in ("::/0", f"{address}/128", "64:ff9b::/96", "2002::/16", "2000::/3"):
        allowed = [ipaddress.ip_network(network), ipaddress.ip_network("::/0")]
        refusal = judge(address, allowed)
        assert refusal is not None
        assert carried in refusal.message
    assert refusal is not None
    assert judge(address, [*allowed, ipaddress.ip_network(refusal.network)]) is None
    assert judge(address, [*allowed, ipaddress.ip_network("0.0.0.0/0")]) is None


@pytest.mark.parametrize(
    "text",
    [
        "64:ff9b:1::8.8.8.8",
        "64:ff9b:1:808:8:800::",
        "64:ff9b:1:8:8:808::",
        "64:ff9b:1:0:8:808:800:0",
        "2001:0:808:808::f7f7:f7f7",
    ],
)
def test_what_carries_a_public_address_is_judged_by_its_range(text: str) -> None:
    """It needs the range's own network, and no more."""
    address = ipaddress.ip_address(text)
    refusal = judge(address)
    assert refusal is not None
    assert judge(address, [parse_network(refusal.network)]) is None


def test_loopback_itself_is_in_its_own_network() -> None:
    """::/0 allows what is IPv6 by itself."""
    allowed = [parse_network("::/0")]
    for text in ("::1", "fd00::1", "fe80::1"):
        assert judge(ipaddress.ip_address(text), allowed) is None
    assert judge(ipaddress.ip_address("127.0.0.1"), allowed) is not None


@given(st.ip_addresses(v=6), st.sampled_from(["::/0", "2000::/3", "64:ff9b::/96"]))
def test_an_allowed_ipv6_network_opens_no_ipv4(
    address: ipaddress.IPv6Address, network: str
) -> None:
    """Whatever Python finds carried in an address is public where the address is admitted."""
    if judge(address, [parse_network(network)]) is None:
        carried = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        assert all(judge(one) is None for one in carried if one is not None)
