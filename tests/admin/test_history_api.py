"""GET /v1/history: the last hour, for those who do not look at the dashboard."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from admin.conftest import ApiSite, client_of, problem, until
from fluxhook.admin.history import INTERVAL_S


def test_a_webhook_has_its_points(site: ApiSite) -> None:
    """Its own, beside those of all together; the first rates come within seconds."""

    def history(**query: str) -> dict[str, Any]:
        answer: httpx.Response = site.client.get("/v1/history", params=query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    site.emit("filed.happened")
    until(lambda: any(point["delivered"] for point in history(endpoint="filed")["points"]))
    one, every = history(endpoint="id:wh_0"), history()
    assert (one["webhook"], every["webhook"]) == ("filed", None)
    assert one["interval_s"] == INTERVAL_S
    for first, second in zip(one["points"], every["points"], strict=False):
        assert first.keys() == second.keys()
        assert first["at"] == second["at"]
    assert every["points"][0]["accepted"] is None
    busy = next(point for point in every["points"] if point["delivered"])
    assert 0 < busy["p50_ms"] <= busy["p99_ms"]
    assert history(since="0s")["points"] == []


def test_a_second_admin_process_only_reads(site: ApiSite) -> None:
    """It begins with no history, and writes none between that of the first."""
    before = site.client.get("/v1/history").json()["points"]
    with client_of(site.data_dir) as another:
        assert len(another.get("/v1/history").json()["points"]) <= 1
    after = site.client.get("/v1/history").json()["points"]
    assert after[: len(before)] == before


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [
        ({"endpoint": "nobody"}, 404, "unknown-webhook"),
        ({"since": "yesterday"}, 422, "invalid-request"),
        ({"endpoint": ""}, 422, "invalid-request"),
        ({"limit": "3"}, 422, "invalid-request"),
    ],
)
def test_what_is_asked_wrongly_is_said_so(
    site: ApiSite, query: dict[str, str], status: int, kind: str
) -> None:
    """As every list says it."""
    problem(site.client.get("/v1/history", params=query), status, kind)
