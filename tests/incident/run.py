"""One incident from its beginning to its end, seen by every view: `make incident`.

    python tests/incident/run.py [--out build/incident] [--divisor 1] [--minutes 6]

1. Plays the incident: twelve endpoints, most of them in trouble, until nothing moves any more.
2. Reads every view of it, and photographs every page of the dashboard.
3. Does what operators do: mends receivers and the configuration, closes a breaker, retries, resumes,
   purges and replays.
4. Reads every view again, ends the engine, and reads its log to the end.

Each figure of each endpoint must be the same in all views that show it. The tables of both moments are
printed; the exit status is 1 where a view differs. Log, metrics, status, tables and pictures are kept.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from playwright.sync_api import Browser, Page  # noqa: E402

from incident import alerts, pages, views  # noqa: E402
from incident.figures import Row, View, compare, table  # noqa: E402
from support.incident_scene import DEADLINE_S, LONG, IncidentScene  # noqa: E402
from support.rig import until  # noqa: E402

#: for the sums of the log, which it says once a minute
_LOG_S: Final = 75.0
#: every page of the dashboard, by the name of its pictures
_PAGES: Final = {
    "overview": "/",
    "endpoints": "/endpoints",
    "new-endpoint": "/endpoints/new",
    "endpoint-failing": "/endpoints/too-large",
    "endpoint-open": "/endpoints/breaker-open",
    "endpoint-misconfigured": "/endpoints/misconfigured",
    "endpoint-disabled": "/endpoints/disabled",
    "endpoint-long": f"/endpoints/{LONG}",
    "deliveries": "/deliveries",
    "retries": "/retries",
    "dead-letters": "/dead-letters",
    "dead-letters-of-one": "/dead-letters?endpoint=answers-70-percent",
    "problems": "/lists",
    "audit": "/audit",
    "changes": "/audit/changes",
}
#: those that look different once all is well again
_MENDED: Final = {
    name: _PAGES[name] for name in ("overview", "endpoint-open", "dead-letters", "audit", "changes")
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make incident", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "incident")
    parser.add_argument("--divisor", type=int, default=1, help="one event in so many")
    parser.add_argument("--minutes", type=float, default=6.0, help="it ends after so many")
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.alarm(int(options.minutes * 60))
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="incident-") as folder, pages.chromium() as browser:
        scene = IncidentScene(Path(folder), divisor=options.divisor)
        try:
            with scene:
                rows = run(scene, browser, options.out)
        finally:
            shutil.copy(scene.log, options.out / "log.jsonl")
    differing = [row for row in rows if row.differing]
    for row in differing:
        print(f"{row.endpoint}: {row.figure} is {row.agreed}, but {row.differing}")
    print(f"{len(rows)} figures, {len(differing)} of them differ; {options.out} has all of it")
    return 1 if differing else 0


def run(scene: IncidentScene, browser: Browser, out: Path) -> list[Row]:
    """Play the incident and its end; return the rows of both moments."""
    wait_for_history(scene)
    metrics = [scene.get("/metrics").text]
    with _timed("the incident"):
        expected = scene.play()
    rows = _look(scene, browser, out / "incident", views.expected_view(expected), metrics)
    with _timed("what operators do"):
        mended = scene.mend()
    script = views.expected_view(mended, mended=True)
    return rows + _look(scene, browser, out / "mended", script, metrics, end=True)


def _look(
    scene: IncidentScene,
    browser: Browser,
    out: Path,
    script: View,
    metrics: list[str],
    *,
    end: bool = False,
) -> list[Row]:
    """Read every view, write and print the table.

    `metrics` are the pages of the moments before, to which this one is added. `end`: end the engine
    before its log is read.
    """
    out.mkdir()
    with _timed("the views"), pages.opened(browser, scene) as page:
        wait_for_history(scene)
        metrics.append(scene.get("/metrics").text)
        found = read(scene, script, metrics, out) | look(scene, page, scene.names)
    with _timed("the pictures"):
        _photograph(scene, browser, out / "pages", _MENDED if end else _PAGES)
    keep(scene, out)
    with _timed("the log"):
        if end:
            scene.end()
        else:
            died = {name: one["died by cause"] for name, one in found["python"].items()}
            _wait_for_log(scene, died)
        found["log"] = views.log_view(scene)
    rows = compare(found)
    text = table(rows, found)
    (out / "table.txt").write_text(text + "\n")
    print(f"\n---- {out.name} ----\n{text}\n", flush=True)
    return rows


def read(
    scene: IncidentScene, script: View, metrics: Sequence[str], folder: Path
) -> dict[str, View]:
    """Return every view but the log and the dashboard; `metrics` are the pages until now."""
    return {
        "script": script,
        "receiver": views.receiver_view(scene),
        "python": views.python_view(scene),
        "metrics": views.metrics_view(metrics[-1]),
        "alerts": alerts.alerts_view(metrics, scene.names, folder),
        "api": views.api_view(scene),
        "api lists": views.list_view(scene),
        "history": views.history_view(scene),
        "cli json": views.json_view(scene),
        "cli --api": views.json_view(scene, "--api", scene.url),
        "cli table": views.table_view(scene.command("status"), scene.names),
        "cli lists": views.listed_view(scene),
    }


def look(scene: IncidentScene, page: Page, names: list[str]) -> dict[str, View]:
    """Return what the dashboard's pages show, among them those of the endpoints that are named."""
    dying = [name for name, one in scene.status().items() if one["dead"]]
    return {
        "overview": pages.endpoints_view(page),
        "page": pages.endpoint_pages_view(page, names),
        "lists": pages.lists_view(page, scene.names, dying),
    }


def keep(scene: IncidentScene, out: Path) -> None:
    """Write what machines and people read."""
    for name, path in (
        ("metrics.txt", "/metrics"),
        ("status.json", "/v1/webhooks/status"),
        ("history.json", "/v1/history"),
        ("changes.json", "/v1/changes"),
    ):
        (out / name).write_bytes(scene.get(path).content)
    for columns in (80, 160):
        text = scene.command("status", columns=columns)
        (out / f"status-{columns}.txt").write_text(text)
    (out / "webhooks.txt").write_text(scene.command("webhook", "list", columns=160))


def _photograph(
    scene: IncidentScene, browser: Browser, folder: Path, paths: Mapping[str, str]
) -> None:
    (latest,) = scene.get("/v1/deliveries?limit=1").json()["items"]
    with pages.opened(browser, scene) as page:
        for name, path in {**paths, "delivery": f"/deliveries/{latest['id']}"}.items():
            answer = page.goto(path)
            assert answer is not None, path
            assert answer.status == 200, path
            page.locator("h1").first.wait_for(state="attached")
            pages.photograph(page, folder, name)


def wait_for_history(scene: IncidentScene) -> None:
    """Return once the history has points of two moments from now on."""
    before = len(views.history_points(scene))
    until(lambda: len(views.history_points(scene)) >= max(before + 1, 2), "history", DEADLINE_S)


def _wait_for_log(scene: IncidentScene, died: Mapping[str, str]) -> None:
    """Return once the log has said all deaths, or at the deadline: then its view differs."""

    def said() -> bool:
        found = views.log_view(scene)
        return all(found[name]["died by cause"] == causes for name, causes in died.items())

    end = time.monotonic() + _LOG_S
    while not said() and time.monotonic() < end:
        time.sleep(0.5)


@contextmanager
def _timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)


def _out_of_time(*_: object) -> None:
    raise TimeoutError("the incident did not come to its end in time")


if __name__ == "__main__":
    sys.exit(main())
