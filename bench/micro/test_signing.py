"""What a signature costs, beside the standard library's one-shot hmac.

    python -m pytest bench/micro/test_signing.py --benchmark-only

572 bytes is the body that the project's other benchmarks send.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from fluxhook._native.signing import Signer

KEY = b"k" * 32
PREFIX = b"1700000000."
SIZES = (0, 100, 572, 4_096, 65_536)


@pytest.mark.parametrize("size", SIZES)
class TestOneMac:
    def test_signer_hex(self, benchmark: Any, size: int) -> None:
        """A body signed with a prepared key."""
        benchmark.group = f"one MAC, {size}-byte body"
        benchmark(Signer(KEY).hex, PREFIX, b"x" * size)

    def test_hmac_digest(self, benchmark: Any, size: int) -> None:
        """The same by hmac.digest, which prepares the key each time and wants one message."""
        benchmark.group = f"one MAC, {size}-byte body"
        body = b"x" * size
        benchmark(lambda: hmac.digest(KEY, PREFIX + body, "sha256").hex().encode())

    def test_sha256_alone(self, benchmark: Any, size: int) -> None:
        """The floor: a plain SHA-256 of as many bytes."""
        benchmark.group = f"one MAC, {size}-byte body"
        benchmark(hashlib.sha256, PREFIX + b"x" * size)
