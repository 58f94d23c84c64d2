"""The endpoints as the snapshot has them, and what the parts of the scheduler share of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fluxhook.config.schema import Endpoint
from fluxhook.logs.log import Log
from fluxhook.store import Store
from fluxhook.transport.engine_words import EngineWords
from fluxhook.transport.snapshot import Snapshot

__all__ = ["Endpoints", "blocks"]

log = Log("endpoint")

#: how long an endpoint is left alone at which an error of ours came up
FAULT_BACKOFF_NS: Final = 10_000_000_000


class Endpoints:
    """Endpoints by id. A removed or disabled one is none."""

    def __init__(self, store: Store, words: EngineWords, snapshot: Snapshot) -> None:
        self._store = store
        self._words = words
        #: endpoints at which an error of ours came up, and until when they are left alone
        self.faulty: dict[int, int] = {}
        #: of all that ever were: what waits for one that was removed is still to be named
        self._names = {row.id: row.name for row in store.endpoints()}
        self.configure(snapshot)
        self.publish_stored(store.pending)

    def configure(self, snapshot: Snapshot) -> None:
        """Take over a changed configuration."""
        self.snapshot = snapshot
        self.by_id = snapshot.endpoints()
        self._names.update({id: name for name, id in snapshot.ids.items()})

    def get(self, endpoint_id: int) -> Endpoint | None:
        return self.by_id.get(endpoint_id)

    def name(self, endpoint_id: int) -> str:
        return self._names.get(endpoint_id, str(endpoint_id))

    def is_disabled(self, endpoint_id: int) -> bool:
        return any(self.snapshot.ids.get(name) == endpoint_id for name in self.snapshot.disabled)

    def publish_stored(self, endpoint_ids: Iterable[int]) -> None:
        """Tell the workers how many deliveries of these are in the store, as of the last commit."""
        for endpoint_id in endpoint_ids:
            self._words.publish_stored(endpoint_id, self._store.pending.get(endpoint_id, 0))

    # ---- errors of ours --------------------------------------------------------------------

    def left_alone_until_ns(self, endpoint_id: int) -> int:
        """Return until when nothing is done for it, after an error of ours; 0: there was none."""
        return self.faulty.get(endpoint_id, 0)

    def fault(self, endpoint_id: int, error: Exception, now_ns: int) -> None:
        """Note an error of ours in the work for one endpoint, which is left alone for a while."""
        self.faulty[endpoint_id] = now_ns + FAULT_BACKOFF_NS
        name, for_s = self.name(endpoint_id), FAULT_BACKOFF_NS // 1_000_000_000
        log.error(
            "endpoint %s: its deliveries wait for %d s, after an error of ours", name, for_s,
            exc_info=error, event="internal_error", endpoint=name, for_s=for_s,
        )  # fmt: skip
        with self._store.transaction() as transaction:
            transaction.count(endpoint_id, "faults")


def blocks(endpoint: Endpoint) -> bool:
    """Return whether a failing delivery of an endpoint holds up those behind it."""
    return endpoint.ordered and endpoint.on_head_failure == "block"
