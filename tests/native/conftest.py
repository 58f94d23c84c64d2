"""What several tests of the compiled layer build once."""

from __future__ import annotations

import pytest

from native.stepped import Stepped


@pytest.fixture(scope="session")
def stepped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stepped:
    """The ring with steps to die at; compiled anew only if its sources have changed."""
    pytest.importorskip("Cython", reason="the ring is built anew for these tests")
    cache = getattr(request.config, "cache", None)  # absent under -p no:cacheprovider
    return Stepped(cache.mkdir("stepped-ring") if cache else tmp_path_factory.mktemp("stepped"))
