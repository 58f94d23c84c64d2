"""Tokens that nobody has: reported, slowed, and no way to lock anybody out."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import httpx
import pytest

from admin.conftest import ALL, BASE_URL, problem
from fluxhook.admin import failed_tokens as module
from fluxhook.admin.app import create_app
from fluxhook.admin.failed_tokens import (
    FREE,
    MAX_DELAY_S,
    MAX_PEERS,
    FailedTokens,
    delay_s,
    peer_of,
)
from fluxhook.admin.problem_details import RequestError

WRONG = "wrong-token-0123456789"


def test_the_delay_doubles_up_to_a_bound() -> None:
    """The first few are free: somebody mistyped."""
    assert [delay_s(n) for n in range(FREE + 1)] == [0.0] * (FREE + 1)
    assert [delay_s(FREE + n) for n in (1, 2, 3)] == [0.25, 0.5, 1.0]
    assert delay_s(10**9) == MAX_DELAY_S


@pytest.mark.parametrize(
    ("client", "peer"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("2001:db8:1:2:3::9", 1), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.7", 1), "192.0.2.7"),
        (("fe80::1%eth0", 1), "fe80::/64"),
        (("x\nERROR forged", 1), "unknown"),
        (None, "unknown"),
    ],
)
def test_a_peer_is_an_address(client: object, peer: str) -> None:
    """Of IPv6 the network; what a proxy's header makes up is nobody."""
    assert peer_of(client) == peer


def test_memory_and_lines_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Few lines for many failures, and a bounded number of peers; after a time one begins anew."""
    now = 0.0
    tokens = FailedTokens(lambda: now)
    counts = [tokens.count("192.0.2.1") for _ in range(3)]
    now += module.FORGET_S + 1
    assert [*counts, tokens.count("192.0.2.1")] == [1, 2, 3, 1]
    for n in range(2 * MAX_PEERS):
        tokens.count(f"peer-{n}")
    assert len(tokens.peers) == MAX_PEERS


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More is refused at once."""
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    tokens = FailedTokens()
    for _ in range(FREE):
        tokens.count("192.0.2.1")

    async def ask() -> None:
        waiting = [asyncio.ensure_future(tokens.slow_down("192.0.2.1", "x")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(RequestError) as refused:
            await tokens.slow_down("192.0.2.1", "x")
        assert refused.value.kind == "too-many-failures"
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert tokens.waiting == 0

    asyncio.run(ask())


def test_the_right_token_is_never_held_up(
    stopped: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the same address, while wrong ones wait; and those take no room of the API's. The log has
    the address and the path, and no token."""
    monkeypatch.setattr(module, "delay_s", lambda failures: 3600.0 if failures > 1 else 0.0)
    app = create_app(stopped)

    async def attack() -> None:
        transport = httpx.ASGITransport(app, client=("192.0.2.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
            wrong, right = ({"Authorization": f"Bearer {token}"} for token in (WRONG, ALL))
            problem(await client.get("/v1/audit", headers=wrong), 401, "unauthorized")
            slow = [
                asyncio.ensure_future(client.get("/v1/audit%0Ax", headers=wrong)),
                asyncio.ensure_future(client.get("/v1/webhooks/a%20b", headers=wrong)),
            ]
            while app.failed_tokens.waiting < 1:
                await asyncio.sleep(0)
            assert not app.load.under_way
            assert (await client.get("/v1/audit", headers=right)).status_code == 200
            assert (await client.get("/healthz", headers=wrong)).status_code == 200
            for one in slow:
                one.cancel()
            await asyncio.gather(*slow, return_exceptions=True)

    with caplog.at_level(logging.WARNING):
        asyncio.run(attack())
    app.service.close()
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "a token that is not known came from 192.0.2.7, for GET /v1/audit"
    assert said[1].endswith("for GET /v1/webhooks/a%20b, 2 times by now")
    assert WRONG not in caplog.text
