"""The egress guard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.config.networks import literal_address
from fluxhook.policy import egress
from fluxhook.policy.egress import EgressPolicy

VECTORS = json.loads((Path(__file__).parents[1] / "vectors.json").read_text())
REFUSED = sorted({str(literal_address(h)) for h in VECTORS["egress_refused_by_default"]})


@pytest.mark.parametrize("address", REFUSED)
def test_refused_by_default(address: str) -> None:
    """Every private and special address is refused; the sentence has the address, its range and the
    line to add, and that line opens the range; what is carried takes a line of its own."""
    networks: list[str] = []
    while (verdict := EgressPolicy(networks).judge(address)) is not None:
        assert address in verdict
        networks.append(verdict.split('allow_networks: ["')[1].split('"]')[0])
        assert f"{networks[-1]} is " in verdict
    assert len(networks) == 1 + (address == "64:ff9b:1::1")


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_reached(address: str) -> None:
    """A public address is reached without a word."""
    assert EgressPolicy().judge(address) is None


def test_a_sentence() -> None:
    """A refusal reads as a sentence for the operator."""
    assert EgressPolicy().judge("10.0.0.1") == (
        "10.0.0.1 is not public: 10.0.0.0/8 is private; "
        'add allow_networks: ["10.0.0.0/8"] under webhook if deliveries may go there'
    )


def test_allowed_networks_open_no_more() -> None:
    """An allowed network opens its own addresses, in every form that carries them, and no other."""
    policy = EgressPolicy(["127.0.0.1", "fd00::/8"])
    for address in ("127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fd12::1"):
        assert policy.judge(address) is None
    for address in ("127.0.0.2", "10.0.0.1", "::1", "fc00::1"):
        assert policy.judge(address)


def test_zones() -> None:
    """A zone, as curl hands it over with a link-local address, changes nothing."""
    assert "fe80::/10" in (EgressPolicy().judge("fe80::1%eth0") or "")
    assert EgressPolicy(["fe80::/10"]).judge("fe80::1%2") is None


@pytest.mark.parametrize("text", ["", "example.com", "/run/x.sock", "127.1", "[::1]", "%eth0"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """The guard fails closed: what is no IP address is not reached."""
    assert "is not an IP address" in (EgressPolicy(["0.0.0.0/0", "::/0"]).judge(text) or "")


def test_bad_networks() -> None:
    """A network that does not parse cannot become a policy."""
    with pytest.raises(ValueError, match="is not a network"):
        EgressPolicy(["localhost"])


@given(st.lists(st.ip_addresses().map(str), max_size=30))
def test_verdicts_are_remembered(addresses: list[str]) -> None:
    """Asking again gives the same verdict, whatever was asked between."""
    policy, fresh = EgressPolicy(), EgressPolicy()
    first = [policy.judge(address) for address in addresses]
    assert [policy.judge(address) for address in addresses] == first
    assert [fresh.judge(address) for address in reversed(addresses)] == first[::-1]


def count_verdicts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have each address written down that is judged anew."""
    judged: list[str] = []
    monkeypatch.setattr(egress, "judge", lambda address, allowed: judged.append(str(address)))
    return judged


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that resolves to ever new addresses does not fill the memory: of 4096 verdicts none is
    left when one more comes."""
    judged, policy = count_verdicts(monkeypatch), EgressPolicy()
    addresses = [f"10.0.{i >> 8}.{i & 255}" for i in range(4096)]
    for address in (*addresses, *addresses, "10.1.0.0"):
        policy.judge(address)
    assert len(judged) == 4097
    for address in addresses[:4000]:
        policy.judge(address)
    assert len(judged) == 4097 + 4000


def test_a_zone_is_no_part_of_an_address() -> None:
    """It names an interface of this host (RFC 4007 section 11)."""
    assert EgressPolicy().judge("fe80::1%eth0") == EgressPolicy().judge("fe80::1")


def test_a_verdict_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address is judged once, until there are too many to remember; then all are forgotten."""
    judged = count_verdicts(monkeypatch)
    monkeypatch.setattr(egress, "MAX_REMEMBERED", 2)
    policy = EgressPolicy()
    for address in ("::a", "::b", "::b", "::a", "::c", "::a", "::c"):
        policy.judge(address)
    assert judged == ["::a", "::b", "::c", "::a"]
    monkeypatch.undo()
    policy = EgressPolicy()
    first = policy.judge("10.0.0.1")
    assert first is not None
    assert policy.judge("10.0.0.1") == first
