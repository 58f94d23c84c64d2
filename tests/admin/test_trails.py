"""The two trails as they are read: by the page, and by people."""

from __future__ import annotations

from typing import Any

import pytest

from fluxhook.admin.trails import said_of
from fluxhook.store.audit import ChangeEntry


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"before": {"timeout": "3s"}, "after": {"timeout": "5s"}}, "timeout: 3s -> 5s"),
        ({"before": {"ttl": None}, "after": {"ttl": "1m"}}, "ttl: none -> 1m"),
        ({"after": {"events": ["a", "b"], "count": 0}}, "events: a, b; count: 0"),
        ({"before": {"url": "https://x/"}}, "no url (was https://x/)"),
        ({"after": {"more": True}, "error": "full"}, "not made: full; more: true"),
        ({}, ""),
    ],
)
def test_an_entry_is_said_on_one_line(fields: dict[str, Any], said: str) -> None:
    """With what was there before and after, written as in the YAML file."""
    entry = ChangeEntry(n=1, at="x", actor="ops", via="api", action="webhook.update", **fields)
    assert said_of(entry) == said
