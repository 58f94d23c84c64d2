"""The rings between workers and scheduler take every event that the configuration allows."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from fluxhook import Config, Endpoint, Size
from fluxhook._native import ring
from fluxhook.supervisor.supervisor import Supervisor

CONFIG = Config(
    endpoints=(Endpoint(name="a", url="https://a.example.com/", signature="none"),), workers=1
)


def capacities(path: Path) -> set[int]:
    return {ring.geometry(str(file))[1] for file in (path / "workers/0").glob("*.ring")}


def test_a_larger_max_event_bytes_has_larger_rings(tmp_path: Path) -> None:
    """An event of more than half of a ring could never be reported, and would stay where it is."""
    Supervisor(tmp_path, CONFIG).close()
    assert capacities(tmp_path) == {16 << 20}
    larger = replace(CONFIG, max_event_bytes=Size.parse("10MiB"), ring_bytes=Size.parse("256MiB"))
    Supervisor(tmp_path, larger).close()
    assert capacities(tmp_path) == {80 << 20}
    Supervisor(tmp_path, CONFIG).close()
    assert capacities(tmp_path) == {80 << 20}


def test_a_reload_allows_no_more_than_they_take(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so, and has the rest of the configuration."""
    wanted = replace(CONFIG, max_event_bytes=Size.parse("10MiB"), drop_policy="newest")
    supervisor = Supervisor(tmp_path, CONFIG, reload=lambda: wanted)
    supervisor.reloading.reload()
    assert supervisor.snapshot.config.max_event_bytes == Size.parse("2MiB")
    assert supervisor.snapshot.config.drop_policy == "newest"
    assert "max_event_bytes stays" in caplog.text
    supervisor.close()
