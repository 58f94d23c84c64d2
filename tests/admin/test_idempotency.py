"""What is remembered of Idempotency-Keys: for one request at a time, and within bounds."""

from __future__ import annotations

import re
import uuid

import pytest

from fluxhook.admin import idempotency
from fluxhook.admin.idempotency import Idempotency, derived_id
from fluxhook.admin.models import Accepted
from fluxhook.admin.problems import RequestError


def fill(keys: Idempotency, key: str, n: int) -> None:
    """A request of n events under a key."""
    record = keys.take(key)
    for i in range(n):
        record.add(b"%d" % i, Accepted(f"{key}-{i}", 1))
    record.finish(n)
    keys.give_back(record)


def test_a_key_is_taken_by_one_request_at_a_time() -> None:
    """The other is told to wait, and finds the answer afterwards."""
    keys = Idempotency()
    record = keys.take("k")
    with pytest.raises(RequestError) as refused:
        keys.take("k")
    assert refused.value.kind == "request-in-progress"
    record.add(b"{}", Accepted("e", 1))
    keys.give_back(record)
    again = keys.take("k")
    assert again.known(0, b"{}") == Accepted("e", 1)


def test_nothing_is_remembered_of_what_accepted_nothing() -> None:
    """A refused request may be corrected under the same key."""
    keys = Idempotency()
    keys.give_back(keys.take("k"))
    assert keys.take("k").accepted == []


@pytest.mark.parametrize(("limit", "most"), [("_MAX_KEYS", 3), ("_MAX_EVENTS", 6)])
def test_memory_is_bounded(limit: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys that were used longest ago are forgotten; one that is used again is young again."""
    monkeypatch.setattr(idempotency, limit, most)
    keys = Idempotency()
    for key in "abc":
        fill(keys, key, 2)
    keys.give_back(keys.take("a"))
    fill(keys, "d", 2)
    remembered = [key for key in "abcd" if keys.take(key).accepted]
    assert remembered == ["a", "c", "d"]


def test_ids_are_made_of_the_key_and_the_place() -> None:
    """Each in its catalog's form, and no two alike."""
    ids = {derived_id(key, i, "gateway") for key in ("a", "b", "1:a") for i in range(20)}
    assert len(ids) == 60
    assert all(re.fullmatch(r"evt_[0-9a-f]{20}", id) for id in ids)
    assert derived_id("a", 0, "gateway") == derived_id("a", 0, "gateway")
    assert uuid.UUID(derived_id("a", 0, "broker")).version == 5
