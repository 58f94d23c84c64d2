"""`http_version: "2"`, against nginx."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluxhook import Endpoint, EndpointStats, Tls
from support.nginx import Nginx, Seen
from support.receiver import ReceiverProcess
from support.rig import Rig, until

EVENTS = 500


@pytest.fixture(scope="module")
def nginx() -> Iterator[Nginx]:
    with Nginx() as nginx:
        yield nginx


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with ReceiverProcess() as receiver:  # nothing comes to it
        rig = Rig(receiver, tmp_path / "data")
        try:
            yield rig
        finally:
            rig.close()


def deliver(rig: Rig, nginx: Nginx, url: str, **options: Any) -> tuple[Seen, EndpointStats]:
    """Send the events; return what nginx saw of them, and what the engine counted."""
    before = nginx.seen()
    endpoint: Endpoint = rig.endpoint("a", url=url, **options)
    with rig.engine(endpoint) as engine:
        for i in range(EVENTS):
            assert engine.emit("order.paid", {"i": i}) == 1
        assert engine.drain(30), engine.stats()
        until(lambda: nginx.seen().protocols.total() - before.protocols.total() >= EVENTS)
        stats = engine.stats().endpoint("a")
    after = nginx.seen()
    assert (stats.delivered, stats.failed_attempts, stats.balance) == (EVENTS, 0, 0)
    return Seen(after.protocols - before.protocols, after.connections - before.connections), stats


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_requests_share_connections(rig: Rig, nginx: Nginx, scheme: str) -> None:
    """64 at a time on one connection, over TLS and without; nothing is sent twice."""
    url = nginx.h2 if scheme == "https" else nginx.h2c
    seen, stats = deliver(rig, nginx, url, http_version="2", tls=Tls(ca=nginx.ca))
    assert seen.protocols == {"HTTP/2.0": EVENTS}
    assert len(seen.connections) == 1
    assert stats.resent == 0
    assert stats.reuse == 1 - 1 / EVENTS


def test_more_than_a_connection_takes_open_another(rig: Rig, nginx: Nginx) -> None:
    """A connection takes 100 requests at a time (libcurl), so 300 at a time need a few."""
    seen, _ = deliver(rig, nginx, nginx.h2c, http_version="2", concurrency=300)
    assert seen.protocols == {"HTTP/2.0": EVENTS}
    assert len(seen.connections) <= 5


def test_a_server_without_http2_gets_http_1_1(rig: Rig, nginx: Nginx) -> None:
    """Over TLS the server chooses (ALPN)."""
    seen, _ = deliver(rig, nginx, nginx.tls, http_version="2", tls=Tls(ca=nginx.ca))
    assert seen.protocols.keys() == {"HTTP/1.1"}


def test_http_1_1_is_the_default(rig: Rig, nginx: Nginx) -> None:
    """A server that could do better is not asked."""
    seen, _ = deliver(rig, nginx, nginx.h2, tls=Tls(ca=nginx.ca))
    assert seen.protocols.keys() == {"HTTP/1.1"}


def test_a_connection_that_the_server_ends_costs_no_event(rig: Rig) -> None:
    """GOAWAY after every 20 requests: the others go on with a new connection."""
    with Nginx(per_connection=20) as nginx:
        before = nginx.seen()
        endpoint = rig.endpoint("a", url=nginx.h2c, http_version="2")
        with rig.engine(endpoint) as engine:
            for i in range(EVENTS):
                engine.emit("order.paid", {"i": i})
            assert engine.drain(30), engine.stats()
            stats = engine.stats().endpoint("a")
        assert (stats.delivered, stats.balance) == (EVENTS, 0)
        until(lambda: nginx.seen().protocols.total() - before.protocols.total() >= EVENTS)
        assert len(nginx.seen().connections) >= EVENTS // 20
