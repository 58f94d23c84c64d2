"""/healthz, /readyz and /metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from litestar.testing import TestClient
from prometheus_client.parser import text_string_to_metric_families

from admin.conftest import READ, ApiSite, client_of, problem, until
from fluxhook import Config
from fluxhook.endpoint_state import StateName
from fluxhook.receiver import Behaviour
from fluxhook.supervisor.supervisor import Supervisor
from fluxhook.transport.datadir import FileLock


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_process_without_an_engine_is_alive_and_not_ready(guarded: TestClient[Any]) -> None:
    """/readyz says why, with 503; neither needs a token."""
    assert guarded.get("/healthz").json() == {"status": "ok"}
    body = problem(guarded.get("/readyz"), 503, "engine-not-running")
    assert "no engine runs" in body["detail"]


def test_with_an_engine_it_is_ready(site: ApiSite) -> None:
    """The engine runs, a worker of it serves, and the store can be read."""
    assert until(lambda: site.client.get("/readyz").json() == {"status": "ok"})


def test_without_a_worker_that_serves_it_is_not_ready(tmp_path: Path) -> None:
    """A supervisor alone delivers nothing: 503 until a worker serves, and again when none does."""
    supervisor = Supervisor(tmp_path, Config(workers=2))
    try:
        with client_of(tmp_path) as client:
            body = problem(client.get("/readyz"), 503, "engine-unavailable")
            assert "no worker" in body["detail"]
            serving = FileLock(supervisor.datadir.serving(1))  # as a worker does
            assert client.get("/readyz").status_code == 200
            assert client.get("/v1/webhooks/status").json()["serving"] == 1
            assert ("fluxhook_workers_serving", frozenset[tuple[str, str]]()) in samples(
                client.get("/metrics").text
            )
            serving.release()
            problem(client.get("/readyz"), 503, "engine-unavailable")
    finally:
        supervisor.close()


def test_questions_are_answered_without_an_engine(guarded: TestClient[Any]) -> None:
    """Everything in the files can be read; a change says that no engine runs."""
    headers = {"Authorization": f"Bearer {READ}"}
    for path in ("/v1/webhooks", "/v1/webhooks/status", "/v1/deliveries", "/v1/audit", "/metrics"):
        assert guarded.get(path, headers=headers).status_code == 200
    headers = {"Authorization": "Bearer own-token-0123456789"}
    for method, path in (
        ("POST", "/v1/webhooks/ops/pause"),
        ("DELETE", "/v1/webhooks/ops"),
        ("POST", "/v1/webhooks/ops/test"),
    ):
        problem(guarded.request(method, path, headers=headers), 503, "engine-not-running")


def test_metrics_count_what_happened(site: ApiSite) -> None:
    """Prometheus's own parser reads them, and they are what the status says."""
    site.receiver.behave(Behaviour(fail_first=1, fail_status=401), "/measured")
    site.create("measured", retry={"max_attempts": 1})
    site.emit("measured.a")
    until(lambda: site.items("/v1/dead-letters", endpoint="measured"))
    site.emit("measured.b", "measured.c")
    site.receiver.wait_for(2, "/measured")
    until(lambda: site.client.get("/v1/webhooks/measured/status").json()["delivered"] == 2)
    answer = site.client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = samples(answer.text)

    def value(name: str, **labels: str) -> float:
        return found[name, frozenset({"endpoint": "measured", **labels}.items())]

    assert value("fluxhook_events_accepted_total") == 3
    assert value("fluxhook_deliveries_total", outcome="delivered") == 2
    assert value("fluxhook_dead_letters") == 1
    assert value("fluxhook_delivery_attempts_failed_total") == 1
    assert value("fluxhook_signature_rejections_total") == 1
    assert value("fluxhook_pending", where="ring") == value("fluxhook_pending", where="store") == 0
    assert value("fluxhook_oldest_pending_seconds") == 0
    assert value("fluxhook_dead_total", cause="unauthorized") == 1
    assert value("fluxhook_held") == value("fluxhook_past_due_seconds") == 0
    states = [state for state in get_args(StateName) if state != "removed"]
    assert [s for s in states if value("fluxhook_endpoint_state", state=s)] == ["failing"]
    assert value("fluxhook_connection_reuse_ratio") < 1
    assert value("fluxhook_request_stage_duration_seconds_count", stage="connect") >= 1
    assert value("fluxhook_delivery_duration_seconds_count") == 2
    assert value("fluxhook_delivery_duration_seconds_bucket", le="+Inf") == 2
    assert 0 < value("fluxhook_delivery_duration_seconds_sum") < 20
    assert found["fluxhook_up", frozenset()] == 1
    assert any(name == "fluxhook_build_info" for name, _ in found)
    assert any(name == "process_resident_memory_bytes" for name, _ in found)
    publishers = [labels for name, labels in found if name == "fluxhook_publisher_accepted_total"]
    assert publishers


def test_names_follow_the_conventions(site: ApiSite) -> None:
    """Counters end in _total, every family has a help text, buckets ascend."""
    for family in text_string_to_metric_families(site.client.get("/metrics").text):
        if not family.name.startswith("fluxhook_"):
            continue
        assert family.documentation
        assert family.type != "counter" or all(
            sample.name.endswith("_total") for sample in family.samples
        )
        assert family.type in ("counter", "gauge", "histogram")
        series: dict[tuple[str, ...], list[float]] = {}
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                of = tuple(v for name, v in sample.labels.items() if name != "le")
                series.setdefault(of, []).append(sample.value)
        assert all(values == sorted(values) for values in series.values())
