"""What follows from a snapshot of the configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook import Config, Endpoint
from fluxhook.errors import LayoutError
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.snapshot import Snapshot


@given(st.integers(1, 63), st.one_of(st.integers(1, 70), st.integers(1, 65_536)))
def test_the_workers_share_all_of_the_concurrency(workers: int, concurrency: int) -> None:
    """No request that the endpoint may get is lost to a division, and none is added to them; the shares
    differ by one at most, or one worker has all."""
    endpoint = Endpoint(name="a", url="https://a.example/", concurrency=concurrency)
    config = Config(endpoints=(endpoint,), workers=workers)
    snapshot = Snapshot(version=1, workers=workers, config=config, ids={"a": 7})
    shares = [snapshot.share(endpoint, worker) for worker in range(workers)]
    assert sum(shares) == concurrency
    if snapshot.assigned_ring(endpoint) is None:
        assert max(shares) - min(shares) <= 1
    else:
        assert shares[snapshot.assigned_ring(endpoint) or 0] == concurrency


@given(st.integers(1, 63), st.integers(1, 70), st.integers(0, 200), st.booleans())
def test_order_has_one_worker(workers: int, concurrency: int, id: int, keyed: bool) -> None:
    """That of the endpoint's ring, with one request at a time unless there are keys."""
    endpoint = Endpoint(
        name="a",
        url="https://a.example/",
        ordered=True,
        order_key="k" if keyed else None,
        concurrency=concurrency,
    )
    config = Config(endpoints=(endpoint,), workers=workers)
    snapshot = Snapshot(version=1, workers=workers, config=config, ids={"a": id})
    shares = {w: n for w in range(workers) if (n := snapshot.share(endpoint, w))}
    assert shares == {id % workers: concurrency if keyed else 1}


@given(
    st.lists(st.integers(1, 63), min_size=2, max_size=6),
    st.integers(0, 200),
    st.sampled_from([{"ordered": True}, {"ordered": True, "order_key": "k"}, {"concurrency": 1}]),
)
def test_an_endpoint_keeps_its_ring(counts: list[int], id: int, options: dict[str, object]) -> None:
    """However the number of workers changes, what is put for an endpoint with one worker goes into the
    ring in which the events before it are, and a publisher has that ring, of a size that its largest
    events fit in."""
    endpoint = Endpoint(name="a", url="https://a.example/", **options)  # type: ignore[arg-type]
    former, first = None, None
    for version, workers in enumerate(counts):
        config = Config(endpoints=(endpoint,), workers=workers)
        snapshot = Snapshot(version=version, workers=workers, config=config, ids={"a": id})
        if former is not None:
            snapshot = snapshot.with_rings_of(former)
        former = snapshot
        assert snapshot.rings >= workers
        assert snapshot.ring_bytes >= config.ring_bytes // snapshot.rings - 8
        ring = snapshot.assigned_ring(endpoint)
        if ring is None:  # with one worker it is everybody's
            first = None
            continue
        assert ring < snapshot.rings
        assert first in (None, ring)
        first = ring


def test_the_file_has_the_words_that_it_always_had(tmp_path: Path) -> None:
    """An engine of another version may follow on the same data directory."""
    config = Config(endpoints=(Endpoint(name="a", url="https://a.example/", ordered=True),))
    snapshot = Snapshot(version=1, workers=2, config=config, ids={"a": 0}, assigned_rings={0: 5})
    datadir = DataDir(tmp_path)
    snapshot.save(datadir)
    assert json.loads(datadir.snapshot.read_bytes())["homes"] == {"0": 5}
    assert Snapshot.load(datadir).assigned_ring(config.endpoints[0]) == 5


def test_an_option_of_a_later_version(tmp_path: Path) -> None:
    """A program that knows less than the engine is told so, and not that the file is damaged: nobody
    can say what an option that it does not know would have it do."""
    datadir = DataDir(tmp_path)
    endpoint = Endpoint(name="a", url="https://a.example/")
    Snapshot(version=1, workers=1, config=Config(endpoints=(endpoint,)), ids={"a": 0}).save(datadir)
    written = json.loads(datadir.snapshot.read_bytes())
    written["config"]["endpoints"][0]["of_later"] = True
    datadir.snapshot.write_text(json.dumps(written))
    with pytest.raises(LayoutError, match=r"later version .*`of_later`.* that the engine has"):
        Snapshot.load(datadir)
