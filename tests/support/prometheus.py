"""Debian's Prometheus: `promtool`, and a server that scrapes what a test serves."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from bench.receiver import find_program
from prometheus_client.parser import text_string_to_metric_families

from support.rig import until

__all__ = ["Prometheus", "fired", "promtool", "scraped"]

#: of one page of metrics, by what Prometheus calls a series
Scrape = dict[str, float]

_CONFIG = """
global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: fluxhook
    static_configs: [{{targets: ["{target}"]}}]
"""


def promtool(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    command = [find_program("promtool", "prometheus"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def scraped(page: str) -> Scrape:
    """Return the series of a page of metrics, as the job `fluxhook` has them; buckets aside."""
    values = {'up{job="fluxhook",instance="gw"}': 1.0}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if "fluxhook" in sample.name and not sample.name.endswith(("_bucket", "_created")):
                labels = {"job": "fluxhook", "instance": "gw", **sample.labels}
                text = ",".join(f'{name}="{value}"' for name, value in labels.items())
                values[f"{sample.name}{{{text}}}"] = sample.value
    return values


def fired(
    scrapes: Sequence[Scrape],
    rules: Path,
    folder: Path,
    *,
    at_s: int,
    since_s: int | None = None,
    scrape_s: int = 15,
) -> list[dict[str, str]]:
    """Return the labels of the alerts that fire at a time, or at any time since another one, if these
    were scraped one after the other. promtool moves the clock."""
    names = sorted({name for values in scrapes for name in values})
    series = [
        {
            "series": name,
            "values": " ".join(repr(values[name]) if name in values else "_" for values in scrapes),
        }
        for name in names
    ]
    firing = 'ALERTS{alertstate="firing"}'
    if since_s is not None:
        firing = f"count_over_time({firing}[{at_s - since_s}s])"
    # It shows what it has got where it was told to expect what cannot be.
    check = {
        "expr": firing,
        "eval_time": f"{at_s}s",
        "exp_samples": [{"labels": "{}", "value": -1}],
    }
    test = {"interval": f"{scrape_s}s", "input_series": series, "promql_expr_test": [check]}
    document = {"rule_files": [str(rules)], "evaluation_interval": "15s", "tests": [test]}
    (folder / "scraped.yaml").write_text(yaml.safe_dump(document, width=10**9))
    done = promtool("test", "rules", "scraped.yaml", cwd=folder)
    said = done.stdout + done.stderr
    assert "exp:" in said, said
    alerts = re.findall(r"\{([^{}]*)\}", said.partition("got:")[2])
    return [dict(re.findall(r'(\w+)="([^"]*)"', labels)) for labels in alerts]


class Prometheus:
    """A server of its own, with rules, that scrapes `target` (host:port) twice a second. A context
    manager."""

    def __init__(self, target: str, rules: Path) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="prometheus-")
        folder = Path(self._temporary.name)
        config = folder / "prometheus.yml"
        config.write_text(_CONFIG.format(rules=rules, target=target))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self._process = subprocess.Popen(
            [
                find_program("prometheus", "prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self._url.removeprefix('http://')}",
                "--log.level=error",
            ]
        )
        try:
            until(self._answers, "Prometheus answers")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._process.kill()  # what it keeps is a temporary folder
        self._process.wait()
        self._temporary.cleanup()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return what an expression comes to now; fail where it is none."""
        result: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return result

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of its API."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def _answers(self) -> bool:
        assert self._process.poll() is None, "Prometheus ended"
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5):
                return True
        except OSError:
            return False
