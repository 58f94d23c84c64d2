"""What several tests of the benchmark share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture
def affinity() -> Iterator[None]:
    """A stage and a contender pin the process that they are started by."""
    cores = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, cores)
