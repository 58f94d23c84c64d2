"""Ids and timestamps."""

from __future__ import annotations

import json
import os
import random
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.events.identity import Ids, Timestamps, id_fault, is_plain_id


def test_gateway_id() -> None:
    """A gateway's id is `evt_` and 20 lower-case hexadecimal digits."""
    assert all(re.fullmatch("evt_[0-9a-f]{20}", Ids().gateway()) for _ in range(1000))


def test_broker_id() -> None:
    """A broker's id is the text of a UUID of version 4 and the variant of RFC 9562."""
    for _ in range(1000):
        text = Ids().broker()
        assert str(uuid.UUID(text)) == text
        assert (uuid.UUID(text).version, uuid.UUID(text).variant) == (4, uuid.RFC_4122)


def test_ids_differ() -> None:
    """No id is given twice, whatever threads ask and whether the host seeds its own generator."""
    ids = Ids()

    def many(_: int) -> list[str]:
        random.seed(7)
        return [make() for make in (ids.gateway, ids.broker) for _ in range(5000)]

    with ThreadPoolExecutor(4) as pool:
        texts = [text for part in pool.map(many, range(4)) for text in part]
    assert len(set(texts)) == len(texts) == 40_000


def test_child_of_a_fork_has_other_ids() -> None:
    """After a fork, parent and child never draw the same id."""
    ids = Ids()
    ids.gateway()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, ids.gateway().encode())
        os._exit(0)
    os.close(write)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    theirs = os.read(read, 100).decode()
    os.close(read)
    assert theirs.startswith("evt_")
    assert theirs != ids.gateway()


@given(st.integers(0, 253_402_300_799))
def test_timestamp(now_s: int) -> None:
    """A timestamp is RFC 3339 in UTC, whole seconds, with a Z; asking again gives the same text."""
    timestamps = Timestamps()
    text = timestamps(now_s)
    assert text == datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20)
    assert timestamps(now_s) is text


def test_the_current_second() -> None:
    """`now` tells the second whose text it gives."""
    timestamps = Timestamps()
    before = int(time.time())
    second, text = timestamps.now()
    assert before <= second <= time.time()
    assert text == timestamps(second)


def test_timestamp_follows_the_second() -> None:
    """A new second, earlier or later, gives a new text."""
    timestamps = Timestamps()
    assert [timestamps(s) for s in (1, 0, 1)] == [
        "1970-01-01T00:00:01Z",
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:00:01Z",
    ]


@pytest.mark.parametrize("text", ["a", "evt_1", "550e8400-e29b-41d4-a716-446655440000", "x" * 128])
def test_ids_of_hosts(text: str) -> None:
    """A host may bring an id of 1 to 128 visible ASCII characters."""
    assert id_fault(text) is None


@given(st.text() | st.text(st.characters(max_codepoint=127)))
def test_plain_ids(text: str) -> None:
    """Plain is an id of a host that is the same in JSON."""
    assert is_plain_id(text) == (id_fault(text) is None and json.dumps(text) == f'"{text}"')


@pytest.mark.parametrize("text", ["", "a.b", "a b", "a\nb", "a\0", "é", "x" * 129, 5, None])
def test_bad_ids_of_hosts(text: Any) -> None:
    """An id that breaks a header, or holds Standard Webhooks' dot, is refused."""
    assert "is not an event id" in (id_fault(text) or "")
