"""Signer against the standard library's hmac and the published vectors."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fluxhook._native.signing import Signer

VECTORS = json.loads((Path(__file__).parents[1] / "vectors.json").read_text())
MACS = [v for v in VECTORS["signatures"] if v["scheme"] != "standard-ed25519"]

# No rule here is about time: a busy machine may take over Hypothesis's 200 ms for a megabyte.
UNTIMED = settings(deadline=None)

# SHA-256 works on blocks of 64 bytes: keys and messages straddle that length.
keys = st.binary(min_size=1, max_size=200)
texts = st.binary(max_size=300)


@UNTIMED
@given(keys, texts, texts)
@example(b"k" * 63, b"", b"")
@example(b"k" * 64, b"1.", b"b" * 54)
@example(b"k" * 65, b"1.", b"b" * 62)
@example(b"\0", b"\0", b"\0")
@example(b"k", b"1.", b"long" * 250_000)
def test_agrees_with_hmac(key: bytes, prefix: bytes, body: bytes) -> None:
    """digest, hex and base64 are the HMAC-SHA256 of prefix + body, for keys of any length."""
    expected = hmac.digest(key, prefix + body, hashlib.sha256)
    signer = Signer(key)
    for _ in range(2):  # a message leaves no trace in the signer
        assert signer.digest(prefix, body) == expected
        assert signer.hex(prefix, body) == expected.hex().encode()
        assert signer.base64(prefix, body) == base64.b64encode(expected)


@pytest.mark.parametrize("vector", MACS, ids=lambda v: v["scheme"])
def test_published_vectors(vector: dict[str, Any]) -> None:
    """The MACs in the vectors of Standard Webhooks, Stripe and GitHub come out."""
    body = vector["payload"].encode()
    match vector["scheme"]:
        case "standard":
            signer = Signer(base64.b64decode(vector["secret"].removeprefix("whsec_")))
            prefix = f"{vector['id']}.{vector['timestamp']}."
            assert b"v1," + signer.base64(prefix.encode(), body) == vector["signature"].encode()
        case "stripe":
            mac = Signer(vector["secret"].encode()).hex(f"{vector['timestamp']}.".encode(), body)
            assert mac.decode() == vector["signature"].rpartition("v1=")[2]
        case "github":
            mac = Signer(vector["secret"].encode()).hex(b"", body)
            assert b"sha256=" + mac == vector["signature"].encode()
        case unknown:
            pytest.fail(f"no test for {unknown}")


def test_empty_key_is_refused() -> None:
    """A key that everyone knows signs nothing."""
    with pytest.raises(ValueError, match="key is empty"):
        Signer(b"")


def test_key_does_not_leak() -> None:
    """Neither repr nor an attribute, a copy or a pickle gives the key away."""
    signer = Signer(b"hunter2")
    assert "hunter2" not in repr(signer) + str(signer)
    public = [name for name in dir(signer) if not name.startswith("_")]
    assert public == ["base64", "digest", "hex"]
    for leak in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError):
            leak(signer)


@pytest.mark.parametrize(
    "call",
    [
        lambda s: type(s)("key"),
        lambda s: type(s)(None),
        lambda s: s.hex("1.", b""),
        lambda s: s.hex(b"1.", None),
        lambda s: s.digest(b"1.", bytearray(b"x")),
        lambda s: s.base64(memoryview(b"1."), b""),
    ],
)
def test_only_bytes_are_signed(call: Callable[[Any], object]) -> None:
    """Text has no one byte form, and a buffer could change under the hash: both are TypeErrors."""
    with pytest.raises(TypeError):
        call(Signer(b"key"))


def test_threads_share_a_signer() -> None:
    """Threads that sign with one Signer at the same time get the MACs of their own messages."""
    signer = Signer(b"k" * 32)
    messages = [(f"{i}.".encode(), bytes([i]) * 5_000) for i in range(200)]
    expected = [
        hmac.new(b"k" * 32, p + b, hashlib.sha256).hexdigest().encode() for p, b in messages
    ]
    results = []

    def work() -> None:
        for _ in range(2):
            results.append([signer.hex(p, b) for p, b in messages])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 8
