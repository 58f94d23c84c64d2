"""A real Prometheus scrapes a real engine: every expression of the rules and of the dashboard comes to
something, and every metric is one that there is."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from functools import partial
from typing import Any, Final, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cli.conftest import AdminServer
from deploy.test_alerts import ROOT, RULES, rules
from fluxhook import Breaker, Config, Endpoint, Engine, Retry, Size
from fluxhook.receiver import Behaviour
from support.prometheus import Prometheus
from support.receiver import ReceiverProcess
from support.rig import NEVER, QUICK, seconds, until

BOARD: Final = ROOT / "deploy/grafana/fluxhook.json"
_NAME: Final = re.compile(r"\b(?:fluxhook|process)_\w+\b(?!\.)")


class Watched(NamedTuple):
    """The Prometheus that watches an engine, and one page of that engine's metrics."""

    prometheus: Prometheus
    page: str


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Have an engine deliver, and meet receivers that refuse, fail and reject signatures."""
    data_dir = tmp_path_factory.mktemp("watched") / "data"
    statuses = {"good": 200, "dead": 422, "refusing": 401, "tripped": 503, "old": 503}
    options: dict[str, dict[str, Any]] = {
        "dead": {"retry": Retry(max_attempts=1)},
        "refusing": {"retry": Retry(max_attempts=1)},
        "tripped": {"circuit_breaker": Breaker(failure_threshold=2, reset_timeout=seconds(3600))},
        "old": {"ttl": seconds(0.2), "circuit_breaker": NEVER},
    }
    with ReceiverProcess() as receiver:
        endpoints = []
        for name, status in statuses.items():
            receiver.behave(Behaviour(status=status), f"/{name}")
            own: dict[str, Any] = {"retry": QUICK} | options.get(name, {})
            url, events = f"{receiver.url}/{name}", (f"{name}.*",)
            endpoints.append(Endpoint(name=name, url=url, events=events, signature="none", **own))
        config = Config(
            endpoints=tuple(endpoints),
            workers=1,
            allow_networks=("127.0.0.0/8",),
            ring_bytes=Size(2**22),
        )
        with Engine(config, data_dir) as engine:

            def emit() -> None:
                for name in statuses:
                    engine.emit_many([(f"{name}.x", {})] * 5)

            emit()
            until(lambda: engine.stats().endpoint("old").dropped, "an event is too old")
            admin = AdminServer(data_dir)
            try:
                with Prometheus(admin.url.removeprefix("http://"), RULES) as prometheus:
                    until(lambda: prometheus.query("fluxhook_dead_total"))
                    emit()
                    rising = 'increase(fluxhook_dead_total{endpoint="dead"}[10s]) > 0'
                    until(lambda: prometheus.query(rising))
                    with urllib.request.urlopen(f"{admin.url}/metrics") as answer:
                        page = answer.read().decode()
                    yield Watched(prometheus, page)
            finally:
                admin.close()


def exported(page: str) -> set[str]:
    """Return the names of all series of a page."""
    families = text_string_to_metric_families(page)
    return {sample.name for family in families for sample in family.samples}


def expressions(board: Any) -> list[str]:
    """Return those of a dashboard's panels and annotations, with the variables filled in."""
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    found += [one["expr"] for one in board["annotations"]["list"]]
    return [e.replace("$endpoint", ".*").replace("$__rate_interval", "30s") for e in found]


BOARD_JSON: Final = json.loads(BOARD.read_text())


@pytest.mark.parametrize("expression", expressions(BOARD_JSON)[:-1])
def test_every_panel_shows_something(watched: Watched, expression: str) -> None:
    """Prometheus takes the expression, and it has a value."""
    assert "$" not in expression
    assert until(lambda: watched.prometheus.query(expression), expression, 10)


def test_firing_alerts_are_marked(watched: Watched) -> None:
    """The dashboard's annotations are the alerts; here events die."""
    (expression,) = expressions(BOARD_JSON)[-1:]
    until(lambda: watched.prometheus.query(expression), "an alert fires")
    fired = {row["metric"]["alertname"] for row in watched.prometheus.query(expression)}
    assert fired <= rules().keys()


@pytest.mark.parametrize("alert", sorted(rules()))
def test_every_rule_can_be_evaluated(watched: Watched, alert: str) -> None:
    """Whatever it comes to here: each metric in it has values, and Prometheus runs it without an
    error."""
    expression = rules()[alert]["expr"]
    for name in set(_NAME.findall(expression)):
        until(
            partial(watched.prometheus.query, name), name
        )  # it is empty after a scrape that failed
    watched.prometheus.query(expression)
    groups = watched.prometheus.ask("rules")["groups"]
    (rule,) = [rule for group in groups for rule in group["rules"] if rule["name"] == alert]
    until(lambda: _health(watched.prometheus, alert) == "ok", f"{alert}: {rule}", 20)


def _health(prometheus: Prometheus, alert: str) -> str:
    groups = prometheus.ask("rules")["groups"]
    (found,) = [r["health"] for group in groups for r in group["rules"] if r["name"] == alert]
    return str(found)


def test_every_metric_that_is_named_exists(watched: Watched) -> None:
    """In the rules, in the dashboard and in the guides."""
    there = exported(watched.page)
    texts = [RULES.read_text(), " ".join(expressions(BOARD_JSON))]
    texts += [(ROOT / "docs" / name).read_text() for name in ("alerts.md", "metrics.md")]
    named = {name for text in texts for name in _NAME.findall(text)} - {"process_"}
    assert named
    assert {name for name in named if not _is_there(name, there)} == set()


def _is_there(name: str, there: set[str]) -> bool:
    return name in there or f"{name}_bucket" in there


def test_every_metric_is_shown_and_explained(watched: Watched) -> None:
    """The dashboard and the guide have all that the engine exports."""
    own = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for name in exported(watched.page)
        if name.startswith("fluxhook_") and not name.endswith("_created")
    }
    guide = (ROOT / "docs/metrics.md").read_text()
    board = BOARD.read_text()
    assert {name for name in own if name not in guide} == set()
    assert {name for name in own if name not in board} == {"fluxhook_misconfigured_endpoints"}


def test_the_dashboard_is_whole() -> None:
    """Its panels have ids of their own and a place, and ask the chosen data source."""
    panels = BOARD_JSON["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}"
    names = [variable["name"] for variable in BOARD_JSON["templating"]["list"]]
    assert names == ["datasource", "endpoint"]
