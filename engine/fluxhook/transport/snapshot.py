"""The routing snapshot: the configuration as every process of the engine sees it.

The supervisor writes `config.json` whole, beside it, renames it into place, and then stores the version
in the shared words; a process that finds another version there than its own reads the file again.
"""

from __future__ import annotations

import msgspec

from fluxhook.config import codec
from fluxhook.config.check import EVENTS_PER_RING
from fluxhook.config.schema import Config, Endpoint
from fluxhook.errors import EngineNotRunning, FluxhookError, LayoutError
from fluxhook.events.factory import EventFactory
from fluxhook.policy.clock import Clock
from fluxhook.transport.datadir import DataDir, unusable
from fluxhook.transport.files import FULL, overwrite_file, read_file, replace_file

__all__ = ["Snapshot", "ring_bytes", "ring_queue_size"]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """`ids` gives every endpoint's id; `disabled` names those that get nothing, because their receiver
    answered 410 or did nothing but fail; `created` those that are not the configuration file's. `held`
    says why, for each endpoint that cannot be built: its events wait. `files` has a number for each
    endpoint that names files, another one when they have changed. Ids from `known` on belong to
    endpoints that a later snapshot will have first. `clock` is the engine's, of the boot that it
    names. `twins` has the written name of each of the file's endpoints that shares it with another.
    `assigned_rings` has the rings of endpoints that one worker serves, where they are not their ids
    modulo the workers; in the file it is `homes`."""

    version: int
    workers: int
    config: Config
    ids: dict[str, int]
    disabled: frozenset[str] = frozenset()
    created: frozenset[str] = frozenset()
    held: dict[str, str] = {}
    files: dict[str, int] = {}
    known: int | None = None
    twins: dict[str, str] = {}
    assigned_rings: dict[int, int] = msgspec.field(default_factory=dict, name="homes")
    clock: Clock = Clock()

    def endpoints(self) -> dict[int, Endpoint]:
        """Return the endpoints that events go to, by id; those that are held are paused. Under
        `enabled: false` all of them are."""
        return {
            self.ids[endpoint.name]: msgspec.structs.replace(endpoint, paused=True)
            if endpoint.name in self.held or not self.config.enabled
            else endpoint
            for endpoint in self.config.endpoints
            if endpoint.name not in self.disabled
        }

    def endpoint(self, name: str) -> Endpoint | None:
        """Return the endpoint as it is configured; None if it is not."""
        return next((e for e in self.config.endpoints if e.name == name), None)

    def event_factory(self) -> EventFactory:
        """Return what makes events as this configuration wants them."""
        config = self.config
        return EventFactory(
            gateway_node=config.gateway_node or "",
            broker_id=config.broker_id or "",
            native_envelope=config.native_envelope,
            include_payload=config.include_payload,
            event_types=config.event_types,
            max_bytes=int(config.max_event_bytes),
        )

    @property
    def rings(self) -> int:
        """Return how many rings a publisher has. Ring n is read by worker n modulo the workers."""
        return max(self.workers, max(self.assigned_rings.values(), default=0) + 1)

    @property
    def ring_queue_size(self) -> int:
        return ring_queue_size(self.config, self.rings)

    @property
    def ring_bytes(self) -> int:
        """A ring's share; no less than the largest events take, if those of the workers alone hold
        them."""
        least = EVENTS_PER_RING * int(self.config.max_event_bytes)
        least = min(ring_bytes(self.config, self.workers), least)
        return max(ring_bytes(self.config, self.rings), least)

    def assigned_ring(self, endpoint: Endpoint) -> int | None:
        """Return the one ring that events for an endpoint are put into, and with it the worker that
        serves it; None: any.

        An ordered endpoint is assigned to one worker, for its order; one with fewer connections than
        there are workers too, so that the workers together keep the limit.
        """
        if endpoint.ordered or endpoint.concurrency < self.workers:
            id = self.ids[endpoint.name]
            return self.assigned_rings.get(id, id % self.workers)
        return None

    def assigned_worker(self, endpoint: Endpoint) -> int | None:
        """Return the one worker that serves an endpoint; None: any may."""
        ring = self.assigned_ring(endpoint)
        return None if ring is None else ring % self.workers

    def with_rings_of(self, former: Snapshot) -> Snapshot:
        """Return this snapshot with each endpoint that one worker serves in the ring in which it was:
        what waits there comes before what is put from now on."""
        before = {former.ids[e.name]: former.assigned_ring(e) for e in former.config.endpoints}
        kept = {}
        for endpoint in self.config.endpoints:
            id = self.ids[endpoint.name]
            ring = before.get(id)
            if ring is not None and self.assigned_ring(endpoint) not in (None, ring):
                kept[id] = ring
        return msgspec.structs.replace(self, assigned_rings=kept)

    def share(self, endpoint: Endpoint, worker: int) -> int:
        """Return how many requests at a time a worker may make to an endpoint; all workers' shares
        together are its `concurrency`, or one where order allows no more. None go from a worker other
        than the one that serves it, which may have events from when it was any worker's."""
        assigned = self.assigned_worker(endpoint)
        if assigned is None:
            share, over = divmod(endpoint.concurrency, self.workers)
            return share + (worker < over)
        if worker != assigned:
            return 0
        return 1 if endpoint.ordered and endpoint.order_key is None else endpoint.concurrency

    def save(self, datadir: DataDir) -> None:
        """Write the file. Raise OSError; then the former one is in force."""
        text = codec.encode(self)
        try:
            replace_file(datadir.snapshot, text)
        except OSError as e:
            if e.errno not in FULL:
                raise
            overwrite_file(datadir.snapshot, text)

    @classmethod
    def load(cls, datadir: DataDir) -> Snapshot:
        """Read the file. Raise EngineNotRunning where there is none, LayoutError where it cannot be
        read."""
        try:
            return codec.decode(read_file(datadir.snapshot), cls)
        except FileNotFoundError:
            raise EngineNotRunning(
                f"no fluxhook engine was ever started on {datadir.path}"
            ) from None
        except OSError as e:
            raise LayoutError(unusable(e, datadir.snapshot)) from e
        except (msgspec.MsgspecError, ValueError, FluxhookError) as e:
            if "unknown field" in str(e):
                raise LayoutError(
                    f"{datadir.snapshot} was written by a later version of Fluxhook ({e}); give this "
                    "program the version that the engine has (docs/upgrade.md)"
                ) from e
            raise LayoutError(
                f"{datadir.snapshot} is damaged ({e}); start the engine anew, which writes it again"
            ) from e


def ring_queue_size(config: Config, rings: int) -> int:
    """Return a publisher's `queue_size`, divided among its rings, rounded up."""
    return -(-config.queue_size // rings)


def ring_bytes(config: Config, rings: int) -> int:
    """Return a ring's share of `ring_bytes`."""
    return int(config.ring_bytes) // rings & ~7  # records are aligned to 8 bytes
