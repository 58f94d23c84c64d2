"""What is remembered of Idempotency-Keys: for one request at a time, and within bounds."""

from __future__ import annotations

import re
import uuid

import pytest

from fluxhook.admin import idempotency
from fluxhook.admin.idempotency import Answers, Idempotency, derived_id
from fluxhook.admin.models import Accepted
from fluxhook.admin.problem_details import RequestError


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


def test_a_key_belongs_to_its_client() -> None:
    """Two clients with the same key do not meet: neither in what is remembered, nor in the ids."""
    keys = Idempotency()
    mine = keys.take("k", "me")
    other = keys.take("k", "you")
    mine.add(b"{}", Accepted("e", 1))
    keys.give_back(mine)
    keys.give_back(other)
    assert keys.take("k", "me").accepted == [Accepted("e", 1)]
    assert keys.take("k", "you").accepted == []
    ids = {derived_id("k", 0, "gateway", client) for client in ("", "me", "you")}
    ids |= {derived_id("me:k", 0, "gateway"), derived_id("k", 0, "gateway", "me:0")}
    assert len(ids) == 5


class TestAnswers:
    def test_a_request_is_made_once(self) -> None:
        """The repeat has the same answer; another body, path or client is another request."""
        answers, made = Answers(), iter(range(100))

        def ask(
            client: str = "me", path: str = "/p", key: str | None = "k", body: bytes = b"1"
        ) -> int:
            return answers.once(client, path, key, body, lambda: next(made))

        assert [ask(), ask(), ask()] == [0, 0, 0]
        assert [ask(client="you"), ask(path="/q"), ask(key="l")] == [1, 2, 3]
        assert [ask(key=None), ask(key=None)] == [4, 5]
        with pytest.raises(RequestError) as refused:
            ask(body=b"2")
        assert refused.value.kind == "idempotency-key-reused"
        for bad in ("", "x" * 256, "a\nb"):
            with pytest.raises(RequestError) as refused:
                ask(key=bad)
            assert refused.value.kind == "invalid-request"

    def test_one_at_a_time(self) -> None:
        """The second is told to wait while the first is under way."""
        answers = Answers()

        def within() -> str:
            with pytest.raises(RequestError) as refused:
                answers.once("me", "/p", "k", b"1", str)
            assert refused.value.kind == "request-in-progress"
            return "made"

        assert answers.once("me", "/p", "k", b"1", within) == "made"

    def test_a_refusal_is_not_remembered(self) -> None:
        """It may be corrected under the same key."""
        answers = Answers()
        with pytest.raises(ValueError, match="no"):
            answers.once("me", "/p", "k", b"1", lambda: int("no"))
        assert answers.once("me", "/p", "k", b"2", lambda: 2) == 2

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The oldest answers are forgotten."""
        monkeypatch.setattr(idempotency, "MAX_ANSWERS", 3)
        answers, made = Answers(), iter(range(100))
        for n in range(9):
            answers.once("me", "/p", str(n), b"", lambda: next(made))
        for n in (6, 7, 8):
            assert answers.once("me", "/p", str(n), b"", lambda: next(made)) == n
        assert answers.once("me", "/p", "5", b"", lambda: next(made)) == 9
