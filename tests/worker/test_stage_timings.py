"""Where the time of a delivery goes, and how often a connection is used again, as the stats tell it."""

from __future__ import annotations

import json
from pathlib import Path

from fluxhook import Retry, Tls
from fluxhook.config.schema import Batch
from fluxhook.receiver import Behaviour
from fluxhook.transport.datadir import SAMPLED_ONE_IN, STAGES
from support.receiver import ReceiverProcess
from support.rig import Rig, seconds
from support.tls import self_signed


def test_stages_are_sampled(rig: Rig) -> None:
    """Each is measured for one request in 16 and for each new connection; the total for all."""
    events = 40 * SAMPLED_ONE_IN
    with rig.engine(rig.endpoint("a", concurrency=4)) as engine:
        for i in range(events):
            engine.emit("order.paid", {"i": i})
        assert engine.drain(20), engine.stats()
        stats = engine.stats().endpoint("a")
    assert stats.stages.keys() == {*STAGES, "total"} - {"tls"}
    assert all(0 < stage["p50"] <= stage["p95"] <= stage["p99"] for stage in stats.stages.values())
    assert stats.stages["total"] == stats.latency_ms
    samples = {name: sum(buckets) for name, buckets in stats.stage_histograms.items()}
    assert samples["queue"] == samples["sign"] == events // SAMPLED_ONE_IN
    assert samples["dns"] == samples["connect"] == 4
    assert events // SAMPLED_ONE_IN <= samples["first_byte"] <= events // SAMPLED_ONE_IN + 4
    assert stats.reuse == 1 - 4 / events


def test_the_tls_handshake_is_a_stage(rig: Rig, tmp_path: Path) -> None:
    """Of each connection that is opened, and of no other."""
    identity = self_signed(tmp_path, "receiver")
    with ReceiverProcess(tls=identity) as receiver:
        endpoint = rig.endpoint(
            "a", url=f"{receiver.url}/a", tls=Tls(ca=identity.cert), concurrency=2
        )
        with rig.engine(endpoint) as engine:
            for i in range(20):
                engine.emit("order.paid", {"i": i})
            assert engine.drain(10), engine.stats()
            stats = engine.stats().endpoint("a")
    assert sum(stats.stage_histograms["tls"]) == sum(stats.stage_histograms["connect"]) == 2
    assert stats.stages["tls"]["p50"] > 0


def test_reuse_counts_requests_and_failures_too(rig: Rig) -> None:
    """A receiver that closes after each answer: no connection is ever used again."""
    rig.receiver.behave(Behaviour(fail_first=3, headers={"Connection": "close"}), "/a")
    with rig.engine(rig.endpoint("a", concurrency=1)) as engine:
        assert engine.stats().endpoint("a").reuse is None
        for i in range(10):
            engine.emit("order.paid", {"i": i})
        assert engine.drain(10), engine.stats()
        stats = engine.stats().endpoint("a")
    assert (stats.delivered, stats.failed_attempts) == (10, 3)
    assert stats.reuse == 0.0


def test_a_batch_is_one_request(rig: Rig) -> None:
    """Ten events in one POST that failed once: two requests on one connection."""
    rig.receiver.behave(Behaviour(fail_first=1), "/a")
    batch = Batch(max_events=10, max_delay=seconds(0.5))
    retry = Retry(max_attempts=2, initial_interval=seconds(0.01))
    with rig.engine(rig.endpoint("a", batch=batch, retry=retry)) as engine:
        for i in range(10):
            engine.emit("order.paid", {"i": i})
        assert engine.drain(10), engine.stats()
        stats = engine.stats().endpoint("a")
    requests = [len(json.loads(request.body)) for request in rig.receiver.requests("/a")]
    assert stats.failed_attempts == requests[0]
    assert stats.delivered == 10
    assert sum(stats.histogram) == len(requests) - 1
    assert stats.reuse == 1 - 1 / len(requests)
