"""The ids of deliveries: when one was made, and who made it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.store.delivery_id import PER_US, SCHEDULER, DeliveryIds, first_at, made_ns

NOW = 1_700_000_000_000_000_000


@given(st.lists(st.integers(NOW, NOW + 10_000), min_size=1, max_size=50), st.data())
def test_no_two_are_the_same(times_ns: list[int], data: st.DataObject) -> None:
    """That holds for all makers, however often in a microsecond. Those of one maker ascend, also where
    it is given an earlier time."""
    makers = {n: DeliveryIds(n) for n in (0, 1, 62, SCHEDULER)}
    made: dict[int, list[int]] = {n: [] for n in makers}
    for now_ns in times_ns:
        n = data.draw(st.sampled_from(sorted(makers)))
        made[n].append(makers[n].next(now_ns))
        assert made_ns(made[n][-1]) >= now_ns // 1000 * 1000
    ids = [id for some in made.values() for id in some]
    assert len(set(ids)) == len(ids)
    assert all(some == sorted(some) for some in made.values())


@pytest.mark.parametrize("maker", [0, 17, SCHEDULER])
def test_the_time_of_an_id(maker: int) -> None:
    """To the microsecond; none of a later one is below the first of that."""
    id = DeliveryIds(maker).next(NOW + 1999)
    assert made_ns(id) == NOW + 1000
    assert first_at(NOW + 1999) <= id < first_at(NOW + 2000) == first_at(NOW + 1000) + PER_US


def test_ids_are_what_they_were() -> None:
    """The bits of every stored delivery, and of links to it."""
    assert DeliveryIds(5).next(NOW) == NOW // 1000 << 6 | 5
    assert DeliveryIds(SCHEDULER).next(NOW) == NOW // 1000 << 6 | 63
