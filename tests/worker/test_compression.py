"""`compression`: what is sent is what was signed, and a receiver gets the event's bytes back."""

from __future__ import annotations

import json

import pytest

from fluxhook import Retry, verify
from fluxhook.config.schema import Batch, Compression
from fluxhook.policy.compression import MIN_BYTES
from fluxhook.receiver import Behaviour
from support.rig import Rig, seconds

LARGE = {"text": "the same words again and again. " * 100}


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_large_bodies_are_compressed(rig: Rig, compression: Compression) -> None:
    """The signature is of the bytes as they are sent, and these are the same at each attempt."""
    rig.receiver.behave(Behaviour(fail_first=1), "/a")
    endpoint = rig.endpoint("a", compression=compression, signature="fluxgate", secrets=("s3cret",))
    with rig.engine(endpoint) as engine:
        engine.emit("order.paid", LARGE)
        assert engine.drain(10), engine.stats()
        assert engine.stats().endpoint("a").delivered == 1
    first, second = rig.receiver.requests("/a")
    assert first.headers["content-encoding"] == compression
    assert first.encoded is not None
    assert first.encoded == second.encoded
    assert len(first.encoded) < len(first.body) / 5
    verify(first.encoded, first.headers, "s3cret")
    assert json.loads(first.body)["data"] == LARGE


def test_small_bodies_are_sent_as_they_are(rig: Rig) -> None:
    """Below MIN_BYTES; the header is not there then."""
    with rig.engine(rig.endpoint("a", compression="gzip")) as engine:
        engine.emit("order.paid", {"text": "x"})
        engine.emit("order.paid", {"text": "x" * MIN_BYTES})
        assert engine.drain(10), engine.stats()
    coded = {
        len(request.body) >= MIN_BYTES: "content-encoding" in request.headers
        for request in rig.receiver.requests("/a")
    }
    assert coded == {False: False, True: True}


def test_a_batch_is_compressed_whole(rig: Rig) -> None:
    """Small events are worth it together; under the standard profile too."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    endpoint = rig.endpoint(
        "a",
        batch=Batch(max_events=50, max_delay=seconds(0.2)),
        compression="gzip",
        signature="standard",
        secrets=(secret,),
        retry=Retry(max_attempts=1),
    )
    with rig.engine(endpoint) as engine:
        for i in range(50):
            engine.emit("order.paid", {"i": i})
        assert engine.drain(10), engine.stats()
        assert engine.stats().endpoint("a").delivered == 50
    requests = rig.receiver.requests("/a")
    assert sum(len(json.loads(request.body)) for request in requests) == 50
    for request in requests:
        sent = request.body if request.encoded is None else request.encoded
        verify(sent, request.headers, secret, profile="standard")
    assert any(request.encoded for request in requests)
