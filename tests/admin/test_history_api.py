"""GET /v1/history: the last hour, for those who do not look at the dashboard."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from admin.conftest import ApiSite, client_of, problem, until
from fluxhook.admin.history import INTERVAL_S


def test_a_webhook_has_its_points(site: ApiSite) -> None:
    """Of itself, and all together; the first rates come within seconds, whoever looks."""
    site.create("watched")
    site.emit("watched.happened")

    def points(**query: str) -> list[dict[str, Any]]:
        answer: httpx.Response = site.client.get("/v1/history", params=query)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["interval_s"] == INTERVAL_S
        assert body["webhook"] == query.get("endpoint")
        found: list[dict[str, Any]] = body["points"]
        return found

    until(lambda: any(point["accepted"] for point in points(endpoint="watched")))
    (first, *_) = points(endpoint="watched")
    every = points()
    assert every[-1].keys() == first.keys()
    assert first["at"] in [point["at"] for point in every]
    assert every[0]["accepted"] is None
    assert points(since="0s") == []
    with client_of(site.data_dir) as another:
        assert len(another.get("/v1/history").json()["points"]) <= 1


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
