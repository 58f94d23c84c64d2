"""/healthz, /readyz and /metrics, for those who watch the engine."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from litestar import Response, get
from litestar.di import NamedDependency

from fluxhook.admin.document import rules
from fluxhook.admin.metrics import CONTENT_TYPE, Metrics
from fluxhook.admin.models import Health
from fluxhook.admin.service import Service

__all__ = ["HANDLERS"]

_TAGS = ["health"]


@get("/healthz", opt=rules(None), tags=_TAGS, summary="Alive?", sync_to_thread=False)
def healthz() -> Health:
    """Say that this process answers."""
    return Health()


@get(
    "/readyz",
    opt=rules(None, ("engine-not-running", "engine-unavailable", "store-failing")),
    tags=_TAGS,
    summary="Ready?",
)
async def readyz(
    service: NamedDependency[Service], health_threads: NamedDependency[Executor]
) -> Health:
    """Say that the engine runs, at least one of its workers serves, and its store can be read."""
    await asyncio.get_running_loop().run_in_executor(health_threads, service.check_ready)
    return Health()


@get(
    "/metrics",
    opt=rules("read", ("engine-not-running", "engine-unavailable", "store-failing")),
    media_type=CONTENT_TYPE,
    tags=_TAGS,
    summary="Metrics",
    sync_to_thread=True,
)
def metrics(service: NamedDependency[Service]) -> Response[bytes]:
    """Show all metrics in the text format of Prometheus."""
    own_series = service.snapshot.config.admin.metrics_endpoints
    made = Metrics(service.stats, own_series, service.ignored_trace_headers)
    return Response(made.page(), media_type=CONTENT_TYPE)


HANDLERS = (healthz, readyz, metrics)
