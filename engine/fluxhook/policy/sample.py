"""Sampling: a share of the events, chosen by their ids."""

from __future__ import annotations

import hashlib

__all__ = ["in_sample"]


def in_sample(event_id: str, share: float) -> bool:
    """Return whether an event belongs to the share, 0 to 1: the same for an id at any time and
    anywhere.

    A smaller share is a part of a larger one, so endpoints that sample see the same events.
    """
    digest = hashlib.blake2b(event_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2.0**64
