"""Debian's Prometheus: `promtool`, and a server that scrapes what a test serves."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.receiver import find_program

from support.rig import until

__all__ = ["Prometheus", "promtool"]

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
