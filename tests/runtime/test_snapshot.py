"""What follows from a snapshot of the configuration."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fluxhook import Config, Endpoint
from fluxhook.runtime.snapshot import Snapshot


@given(st.integers(1, 63), st.integers(1, 65_536))
def test_the_workers_share_all_of_the_concurrency(workers: int, concurrency: int) -> None:
    """No request that the endpoint may get is lost to a division; the shares differ by one at most."""
    endpoint = Endpoint(name="a", url="https://a.example/", concurrency=concurrency)
    config = Config(endpoints=(endpoint,), workers=workers)
    snapshot = Snapshot(version=1, workers=workers, config=config, ids={"a": 7})
    shares = [snapshot.share(endpoint, worker) for worker in range(workers)]
    if snapshot.home(endpoint) is None:
        assert sum(shares) == concurrency
        assert max(shares) - min(shares) <= 1
    else:
        assert shares[snapshot.home(endpoint) or 0] == concurrency
