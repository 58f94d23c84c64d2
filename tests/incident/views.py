"""Each view of an engine, read as a program or a person reads it: log, metrics, API, command line,
Python, and what the receivers took. The dashboard is in pages.py.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from fluxhook.stats import EndpointStats, read_stats
from incident import alerts
from incident.figures import ALL, View, causes, count, milliseconds, ratio, share
from support.incident_scene import LONG, Expected, IncidentScene

__all__ = [
    "api_view",
    "expected_view",
    "history_points",
    "history_view",
    "json_view",
    "list_view",
    "listed_view",
    "log_lines",
    "log_view",
    "metrics_view",
    "python_view",
    "receiver_view",
    "table_view",
]

#: fields of the API and of the command line's JSON that are a number each
_COUNTS: Final = {
    "accepted": "accepted",
    "filtered": "filtered",
    "delivered": "delivered",
    "dead": "dead",
    "pending": "pending",
    "queued": "queued",
    "stored": "stored",
    "refused": "refused",
    "aggregated": "aggregated",
    "skipped": "skipped",
    "failed attempts": "failed_attempts",
    "signature rejections": "signature_rejections",
    "size rejections": "size_rejections",
}
#: states that are no trouble
_WELL: Final = ("active", "paused")


def expected_view(expected: Mapping[str, Expected], *, mended: bool = False) -> View:
    """Return what the script says: what was sent, and what has to come of it. `mended`: the log goes on
    having what was in trouble before."""
    view: View = {}
    for name, one in expected.items():
        dropped = sum(one.dropped.values())
        view[name] = {
            "state": one.state,
            "accepted": count(one.accepted),
            "filtered": count(one.filtered),
            "delivered": count(one.delivered),
            "dead": count(one.dead),
            "dropped": count(dropped),
            "pending": count(one.pending),
            "events ok": ratio(one.delivered, one.dead + dropped),
        }
        if one.failed_attempts is not None:
            view[name]["failed attempts"] = count(one.failed_attempts)
            view[name]["attempts ok"] = ratio(one.delivered, one.failed_attempts)
        if one.dead_by_cause is not None:
            view[name]["dead by cause"] = causes(one.dead_by_cause)
        if one.died_by_cause is not None:
            view[name]["died by cause"] = causes(one.died_by_cause)
        view[name]["alerts"] = alerts.of(one.alerts)
        if not mended:
            view[name]["trouble"] = "no" if one.state in _WELL else "yes"
    return view


def receiver_view(scene: IncidentScene) -> View:
    """Return the events that receivers took, each counted by its id."""
    view: View = {}
    for name in scene.names:
        if name != LONG:
            distinct, total = scene.receiver.distinct(f"/{name}"), scene.receiver.total(f"/{name}")
            view[name] = {"delivered": count(distinct), "attempts that succeeded": count(total)}
    return view


# ---- the log ---------------------------------------------------------------------------------


def log_lines(scene: IncidentScene) -> list[dict[str, Any]]:
    """Return the lines of the log that are JSON: the program's own words to its terminal are not."""
    lines = scene.log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def log_view(scene: IncidentScene) -> View:
    """Return of what events died, by the sums; and the states that the log names."""
    died: dict[str, dict[str, int]] = {name: defaultdict(int) for name in scene.names}
    states: dict[str, str] = {}
    trouble = dict.fromkeys(scene.names, "no")
    for line in log_lines(scene):
        name, event = line.get("endpoint"), line.get("event")
        if name not in died:
            continue
        if line["level"] in ("warning", "error"):
            trouble[name] = "yes"
        match event:
            case "dead_letters":
                died[name][line["cause"]] += line["count"]
            case "breaker_opened":
                states[name] = "open"
            case "endpoint_held":
                states[name] = "misconfigured"
            case "endpoint_disabled":
                states[name] = "disabled"
            case "breaker_closed" | "recovered" | "endpoint_built":
                states.pop(name, None)
            case "change" if line["action"] in ("webhook.resume", "webhook.enable"):
                states.pop(name, None)
    view: View = {
        name: {"died by cause": causes(by_cause), "trouble": trouble[name]}
        for name, by_cause in died.items()
    }
    for name, state in states.items():
        view[name]["state"] = state
    _add_changes(view, (line for line in log_lines(scene) if line.get("event") == "change"))
    return view


# ---- metrics ---------------------------------------------------------------------------------


def metrics_view(page: str) -> View:
    """Return what a page of metrics says, by the parser of Prometheus's own client."""
    found: dict[str, dict[str, dict[tuple[str, ...], float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = dict(sample.labels)
            name = labels.pop("endpoint", None)
            if name is not None:
                found[name][sample.name][tuple(labels.values())] = sample.value
    return {name: _of_metrics(metrics) for name, metrics in found.items()}


def _of_metrics(metrics: Mapping[str, dict[tuple[str, ...], float]]) -> dict[str, str]:
    def one(name: str, *labels: str) -> float:
        return metrics[f"fluxhook_{name}"][labels]

    def by_label(name: str) -> dict[str, float]:
        return {labels[0]: n for labels, n in metrics[f"fluxhook_{name}"].items()}

    delivered, failed = one("deliveries_total", "delivered"), one("delivery_attempts_failed_total")
    dropped, dead = one("deliveries_total", "dropped"), one("dead_letters")
    states = [state for state, n in by_label("endpoint_state").items() if n]
    return {
        "state": " ".join(states),
        "accepted": count(one("events_accepted_total")),
        "filtered": count(one("events_filtered_total")),
        "refused": count(one("events_refused_total")),
        "aggregated": count(one("events_aggregated_total")),
        "delivered": count(delivered),
        "dead": count(dead),
        "died by cause": causes(by_label("dead_total")),
        "dropped": count(dropped),
        "dropped by policy": causes(by_label("dropped_total")),
        "pending": count(sum(by_label("pending").values())),
        "queued": count(one("pending", "ring")),
        "stored": count(one("pending", "store")),
        "skipped": count(one("deliveries_skipped_total")),
        "failed attempts": count(failed),
        "attempts that succeeded": count(one("delivery_duration_seconds_count")),
        "signature rejections": count(one("signature_rejections_total")),
        "size rejections": count(one("size_rejections_total")),
        "events ok": ratio(int(delivered), int(dead + dropped)),
        "attempts ok": ratio(int(delivered), int(failed)),
    }


# ---- Python, and JSON ------------------------------------------------------------------------


def python_view(scene: IncidentScene) -> View:
    """Return what `read_stats` says."""
    return {one.name: _of_stats(one) for one in read_stats(scene.data_dir).endpoints}


def _of_stats(one: EndpointStats) -> dict[str, str]:
    assert one.balance == 0, one
    return {
        "attempts that succeeded": count(sum(one.histogram)),
        **_of_status({name: getattr(one, name) for name in dir(one) if name[0] != "_"}),
        "last error": one.last_error.cause if one.last_error else "none",
        "next probe": _minute(one.next_probe_ns),
    }


def api_view(scene: IncidentScene) -> View:
    """Return what GET /v1/webhooks/status says."""
    status = _get(scene, "/v1/webhooks/status")
    totals = status["totals"]
    view = {one["name"]: _of_status(one) | _of_times(one) for one in status["webhooks"]}
    view[ALL] = {name: count(totals[field]) for name, field in _COUNTS.items() if field in totals}
    return view | {ALL: view[ALL] | {"dropped": count(totals["dropped"])}}


def json_view(scene: IncidentScene, *remote: str) -> View:
    """Return what `fluxhook status --json` says, of the data directory or by the API."""
    status = json.loads(scene.command("status", "--json", *remote))
    view = {}
    for one in status.get("endpoints") or status["webhooks"]:
        view[one["name"]] = _of_status(one)
    totals = status["totals"]
    view[ALL] = {name: count(totals[field]) for name, field in _COUNTS.items() if field in totals}
    return view


def _of_status(one: Mapping[str, Any]) -> dict[str, str]:
    return {
        "state": one["state"],
        **{name: count(one[field]) for name, field in _COUNTS.items()},
        "dead by cause": causes(one["dead_by_cause"]),
        "dead cause": one["dead_cause"] or "none",
        "died by cause": causes(one["died_by_cause"]),
        "dropped": count(sum(one["dropped"].values())),
        "dropped by policy": causes(one["dropped"]),
        "events ok": share(one["event_success_rate"]),
        "attempts ok": share(one["success_rate"]),
        "p95": milliseconds(one["latency_ms"]["p95"]) if one["latency_ms"] else "none",
        "reason": (one["misconfigured_reason"] or one["disabled_reason"])[:40] or "none",
    }


def _of_times(one: Mapping[str, Any]) -> dict[str, str]:
    at = one["next_probe_at"]
    return {
        "last error": one["last_error"]["cause"] if one["last_error"] else "none",
        "next probe": _minute(at and int(datetime.fromisoformat(at).timestamp()) * 10**9),
    }


def _minute(ns: int | None) -> str:
    return "none" if ns is None else f"{datetime.fromtimestamp(ns // 10**9):%H:%M:%S}"


# ---- lists -----------------------------------------------------------------------------------


def list_view(scene: IncidentScene) -> View:
    """Return what the API's lists come to: webhooks, dead letters counted one by one, and deliveries
    that wait."""
    view: View = {
        one["name"]: {
            "state": one["state"],
            "dead by cause": causes(one["dead_by_cause"]),
            "dead cause": one["dead_cause"] or "none",
            "events ok": share(one["event_success_rate"]),
        }
        for one in _get(scene, "/v1/webhooks")["items"]
    }
    dead, waiting = dict.fromkeys(view, 0), dict.fromkeys(view, 0)
    for one in _pages(scene, "/v1/dead-letters?limit=500"):
        dead[one["endpoint"]] += 1
    for state in ("waiting", "blocked"):
        for one in _pages(scene, f"/v1/deliveries?limit=500&state={state}"):
            waiting[one["endpoint"]] += 1
    for name, figures in view.items():
        figures |= {"dead": count(dead[name]), "stored": count(waiting[name])}
    view[ALL] = {"dead": count(sum(dead.values()))}
    _add_changes(view, _pages(scene, "/v1/changes?limit=500"))
    return view


def listed_view(scene: IncidentScene) -> View:
    """Return what the command line lists: webhooks as JSON and as a table, and dead letters one by
    one."""
    lines = scene.command("webhook", "list", "--json").splitlines()
    listed = {one["name"]: one for one in map(json.loads, lines)}
    dead: dict[str, dict[str, int]] = {name: defaultdict(int) for name in listed}
    for line in scene.command("dead-letters", "list", "--json", "--last", "10000").splitlines():
        one = json.loads(line)
        dead[one["endpoint"]][one["cause"]] += 1
    shown = {
        row["name"]: row
        for row in _text_table(scene.command("webhook", "list"))
        if row["name"] in listed
    }
    assert shown.keys() == listed.keys()
    view: View = {}
    for name, row in shown.items():
        view[name] = {
            "state": row["state"],
            "dead": row["dead"],
            "dead by cause": causes(dead[name]),
            "dead cause": row["most died of"] or "none",
            "events ok": row["events ok"] or "none",
        }
        assert (row["state"], row["dead"]) == (listed[name]["state"], f"{listed[name]['dead']:,}")
    trail = scene.command("audit", "--changes", "--json").splitlines()
    _add_changes(view, map(json.loads, trail))
    return view


def _pages(scene: IncidentScene, path: str) -> Iterator[dict[str, Any]]:
    cursor: str | None = ""
    while cursor is not None:
        page = _get(scene, path + (f"&cursor={cursor}" if cursor else ""))
        yield from page["items"]
        cursor = page["next_cursor"]


def _get(scene: IncidentScene, path: str) -> Any:
    return scene.get(path).json()


def _add_changes(view: View, entries: Iterable[Mapping[str, Any]]) -> None:
    """Add what was changed, by whom and by which way, to the endpoints; what is of several, to all."""
    found: dict[str, list[str]] = {name: [] for name in (*view, ALL)}
    for one in entries:
        name = one.get("endpoint") or one.get("target") or ALL
        action = one["action"].removeprefix("webhook.").removeprefix("dead-letters.")
        found[name].append(f"{action} by {one['actor']} ({one['via']})")
    for name, changes in found.items():
        view.setdefault(name, {})["changes"] = "; ".join(sorted(changes)) or "none"


# ---- the history -----------------------------------------------------------------------------


def history_points(scene: IncidentScene) -> list[dict[str, Any]]:
    """Return the points of all endpoints together."""
    points: list[dict[str, Any]] = _get(scene, "/v1/history")["points"]
    return points


def history_view(scene: IncidentScene) -> View:
    """Return what the points of /v1/history add up to, from the first on, which was before all
    events."""
    view: View = {}
    for name in scene.names:
        points = _get(scene, f"/v1/history?endpoint={name}")["points"]
        times = [datetime.fromisoformat(point["at"]).timestamp() for point in points]
        sums = dict.fromkeys(("accepted", "delivered", "failed", "dead"), 0.0)
        for before, at, point in zip(times, times[1:], points[1:], strict=False):
            for field in sums:
                sums[field] += point[field] * (at - before)
        view[name] = {
            "accepted": count(round(sums["accepted"])),
            "delivered": count(round(sums["delivered"])),
            "failed attempts": count(round(sums["failed"])),
            "pending": count(points[-1]["pending"]),
        }
    view[ALL] = {"pending": count(history_points(scene)[-1]["pending"])}
    return view


# ---- the table of `fluxhook status` ----------------------------------------------------------

_NOTES: Final = {
    "failed attempts": "failed attempts",
    "filtered": "filtered",
    "queued": "queued",
    "stored": "stored",
    "skipped": "skipped",
    "signature rejections": "signature rejections",
    "size rejections": "size rejections",
}


def table_view(text: str, names: list[str]) -> View:
    """Return what `fluxhook status` prints: its table, and the notes below."""
    view: View = {}
    for row in _text_table(text):
        name = row["endpoint"]
        if name in (*names, "total"):
            view[ALL if name == "total" else name] = {
                figure: row[figure]
                for figure in ("accepted", "delivered", "dead", "dropped", "pending")
            }
        if name in names:
            view[name]["state"] = row["state"]
            view[name]["events ok"] = row["events ok"] or "none"
            view[name]["attempts ok"] = row["attempts ok"] or "none"
            latencies = row["p50/p95/p99 ms"].split("/")
            p95 = latencies[1].replace(",", "") if len(latencies) == 3 else ""
            view[name]["p95"] = milliseconds(float(p95)) if p95 else "none"
    for name in names:
        notes = next((line for line in text.splitlines() if line.startswith(f"{name}: ")), "")
        view[name] |= _of_notes(notes.removeprefix(f"{name}: "))
    return view


def _of_notes(notes: str) -> dict[str, str]:
    """Return the figures below the table, which are left out where they are 0."""
    figures = {}
    for figure, words in _NOTES.items():
        found = re.search(rf"(?:^|, )([\d,]+) {words}(?:,|$)", notes)
        figures[figure] = found[1] if found else "0"
    dead = re.search(r"(?:^|, )dead: ((?:\w+ [\d,]*\d(?:, (?=\w+ [\d,]*\d))?)+)", notes)
    by_cause = re.findall(r"([a-z_]+) ([\d,]*\d)", dead[1]) if dead else []
    figures["dead by cause"] = causes({c: int(n.replace(",", "")) for c, n in by_cause})
    dropped = re.findall(r"([\d,]*\d) dropped \((\w+)\)", notes)
    figures["dropped by policy"] = causes({p: int(n.replace(",", "")) for n, p in dropped})
    last = re.search(r"last error .* ago \((\w+)", notes)
    figures["last error"] = last[1] if last else "none"
    return figures


def _text_table(text: str) -> Iterator[dict[str, str]]:
    """Yield the rows of the first table by the names of its columns, between which two blanks or more
    stand in every line."""
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if re.match(r"\S.*  +state  +", line))
    head, *rest = lines[first:]
    starts = re.search(r"\S", head)
    assert starts is not None
    body = []
    for line in rest:
        body.append(line)
        if line.startswith("total "):
            break
    width = max(map(len, [head, *body]))
    padded = [line.ljust(width) for line in [head, *body]]
    blank = [all(line[i] == " " for line in padded) for i in range(width)]
    edges = [
        i for i in range(width) if not blank[i] and (i == 0 or blank[i - 2 : i] == [True, True])
    ]
    spans = list(zip(edges, [*edges[1:], width], strict=True))
    names = [head[a:b].strip() for a, b in spans]
    for line in body:
        yield {name: line[a:b].strip() for name, (a, b) in zip(names, spans, strict=True)}
