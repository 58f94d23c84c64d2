from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.scheduler_harness import SchedulerHarness
from support.stored import endpoint


@pytest.fixture
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SchedulerHarness]:
    """One with an endpoint "a"; an indirect parameter has more options of it."""
    with SchedulerHarness(tmp_path / "data", endpoint(**getattr(request, "param", {}))) as harness:
        yield harness
