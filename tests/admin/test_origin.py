"""Who asks for a change, as the trail of changes says it."""

from __future__ import annotations

import pytest

from fluxhook.admin.auth import Access, header
from fluxhook.admin.origin import origin_of
from fluxhook.config.schema import Token

ALICE, BOB = "alice-0123456789-0123456789", "bob-0123456789-0123456789"
ACCESS = Access(
    lambda: [Token(token=ALICE, name="alice"), Token(token=BOB, name="bob")], loopback=True
)


@pytest.mark.parametrize("second", [BOB, "no-token-of-ours-0123456789"])
def test_the_token_that_lets_a_request_through_is_the_one_that_is_named(second: str) -> None:
    """A second Authorization header neither hides who asks nor lends another name."""
    given = [(b"authorization", f"Bearer {token}".encode()) for token in (ALICE, second)]
    scope = {"headers": given, "client": ("192.0.2.1", 40000), "server": ("192.0.2.2", 8080)}
    ACCESS.require("write", header(scope, b"authorization"))
    assert origin_of(ACCESS, scope).actor == "alice"
