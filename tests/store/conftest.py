from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluxhook.store import DeliveryStore
from fluxhook.transport.messages import Attempt, EventHead

NOW = 1_700_000_000_000_000_000

Add = Callable[..., int]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[DeliveryStore]:
    """An open store with the endpoints 0 and 1."""
    with DeliveryStore.open(path) as store:
        store.ensure_endpoints(["zero", "one"])
        yield store


@pytest.fixture
def add(store: DeliveryStore) -> Add:
    """Add a delivery in a transaction of its own, due at NOW unless told; return its id: 1, 2, ..."""
    ids = itertools.count(1)

    def add(endpoint: int = 0, due_ns: int = NOW, key: str | None = None, n: int = 1) -> int:
        with store.transaction() as transaction:
            for id in itertools.islice(ids, n):
                event = EventHead(f"evt_{id}", "route.error", "a/b", key or "")
                body = b"body %d" % id
                transaction.add(
                    id,
                    endpoint,
                    event,
                    body,
                    accepted_ns=NOW,
                    due_ns=due_ns,
                    ordered=key is not None,
                )
        return id

    return add


@pytest.fixture
def attempt() -> Attempt:
    return Attempt(NOW, 503, "5xx", "no", 1, 2, 3, 4, 5, 6, b"Unavailable", 7)
