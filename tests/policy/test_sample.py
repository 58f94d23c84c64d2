"""The sample: a share of the events, the same ones each time."""

from __future__ import annotations

import hashlib
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.events.identity import Ids
from fluxhook.policy.sample import in_sample

ids = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


@given(ids, st.floats(0, 1), st.floats(0, 1))
def test_a_smaller_share_is_part_of_a_larger(event_id: str, a: float, b: float) -> None:
    """So one id decides the same each time, and endpoints that sample see the same events."""
    if in_sample(event_id, min(a, b)):
        assert in_sample(event_id, max(a, b))


@given(ids)
def test_all_and_none(event_id: str) -> None:
    """1 is everything, 0 nothing."""
    assert in_sample(event_id, 1.0)
    assert not in_sample(event_id, 0.0)


def test_the_choice_is_pinned() -> None:
    """No version may choose otherwise: an id that is replayed would be decided anew."""
    chosen = [i for i in range(40) if in_sample(f"evt_{i}", 0.1)]
    assert chosen == [7, 37]


def test_the_end_of_a_share_is_not_part_of_it() -> None:
    """A share is a half-open range of digests, so that two that meet have no id in common."""

    def digest(event_id: str) -> int:
        return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=8).digest(), "big")

    # one whose digest a float holds exactly
    event_id = next(id for n in itertools.count() if digest(id := f"evt_{n}") % 2**11 == 0)
    share = digest(event_id) / 2**64
    assert not in_sample(event_id, share)
    assert in_sample(event_id, math.nextafter(share, 1))


EVENTS = 20_000


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["gateway", "broker", "sequence"])
def test_the_share_is_kept(kind: str, share: float) -> None:
    """Of 20,000 ids, ours or a host's own numbers, the share is chosen to within six standard
    deviations of the binomial distribution: once in half a billion runs it would not be."""
    made = Ids()
    make = {"gateway": made.gateway, "broker": made.broker}.get(kind)
    names = [make() if make else f"order-{n}" for n in range(EVENTS)]
    chosen = sum(in_sample(name, share) for name in names)
    assert abs(chosen - EVENTS * share) <= 6 * math.sqrt(EVENTS * share * (1 - share))
