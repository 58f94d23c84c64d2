"""The queue of one endpoint, by itself."""

from __future__ import annotations

from typing import Any, cast

from fluxhook import Endpoint
from fluxhook.worker.endpoint_queue import Backlog, EndpointQueue

ENDPOINT = Endpoint(name="a", url="http://192.0.2.1/", signature="none")


def queue(backlog: Backlog) -> EndpointQueue:
    made = EndpointQueue(7, backlog)
    made.configure(ENDPOINT, 8, cast(Any, None), None, 0)
    return made


def test_a_removed_queue_leaves_its_successor_alone() -> None:
    """An endpoint that was removed and came back has another queue under its id. What a request of
    before does with the old one takes nothing of the new one out of sight."""
    backlog = Backlog()
    before, after = queue(backlog), queue(backlog)
    after.add(cast(Any, object()))
    before.emptied()
    assert backlog.queues() == [after]
    assert backlog.count == 1
