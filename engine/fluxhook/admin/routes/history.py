"""/v1/history: the last hour, as the dashboard draws it."""

from __future__ import annotations

import asyncio

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromQuery

from fluxhook.admin.document import rules
from fluxhook.admin.models import History
from fluxhook.admin.paging import parse_moment
from fluxhook.admin.sampler import Sampler
from fluxhook.admin.service import Service
from fluxhook.admin.views import history_view

__all__ = ["HANDLERS"]


@get(
    "/v1/history",
    opt=rules("read", ("unknown-webhook",)),
    tags=["status"],
    summary="The last hour",
)
async def show_history(
    service: NamedDependency[Service],
    sampler: NamedDependency[Sampler],
    endpoint: FromQuery[str] = "",
    since: FromQuery[str] = "",
) -> History:
    """Show rates, latencies and what waited, of one webhook or of all together: a point every ten
    seconds, for an hour, the earliest first. Where nothing is known there is no point, or a null in
    it. Latencies are interpolated within the buckets in which attempts are counted, which are up to
    half as wide as their lower limit."""
    since_s = (parse_moment(since or None, "since") or 0) / 1e9
    if not endpoint:
        return history_view(None, sampler.line(None, since_s))
    webhook = await asyncio.to_thread(service.webhook, endpoint)
    number = int(webhook.id.removeprefix("wh_"))
    return history_view(webhook.name, sampler.line(number, since_s))


HANDLERS = (show_history,)
