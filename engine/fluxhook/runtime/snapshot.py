"""The routing snapshot: the configuration as every process of the engine sees it.

The supervisor writes `config.json` whole, beside it, renames it into place, and then stores the
version in the shared words; whoever finds another version there than his own reads the file again.
"""

from __future__ import annotations

import msgspec

from fluxhook.config import codec
from fluxhook.config.schema import Config, Endpoint
from fluxhook.errors import EngineNotRunning, FluxhookError, LayoutError
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
    names. `twins` has the written name of each of the file's endpoints that shares it with another."""

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
    clock: Clock = Clock()

    def endpoints(self) -> dict[int, Endpoint]:
        """The endpoints that events go to, by id; those that are held are paused. Under
        `enabled: false` all of them are."""
        return {
            self.ids[endpoint.name]: msgspec.structs.replace(endpoint, paused=True)
            if endpoint.name in self.held or not self.config.enabled
            else endpoint
            for endpoint in self.config.endpoints
            if endpoint.name not in self.disabled
        }

    def endpoint(self, name: str) -> Endpoint | None:
        """As it is configured; None if it is not."""
        return next((e for e in self.config.endpoints if e.name == name), None)

    @property
    def ring_queue_size(self) -> int:
        return ring_queue_size(self.config, self.workers)

    @property
    def ring_bytes(self) -> int:
        return ring_bytes(self.config, self.workers)

    def home(self, endpoint: Endpoint) -> int | None:
        """The one worker that serves an endpoint; None: any worker may.

        An ordered endpoint has one home, for its order; one with fewer connections than there are
        workers too, so that the workers together keep the limit.
        """
        if endpoint.ordered or endpoint.concurrency < self.workers:
            return self.ids[endpoint.name] % self.workers
        return None

    def share(self, endpoint: Endpoint, worker: int) -> int:
        """Return how many requests at a time a worker may make to an endpoint; all workers' shares
        together are its `concurrency`."""
        if endpoint.ordered and endpoint.order_key is None:
            return 1
        if self.home(endpoint) is not None:
            return endpoint.concurrency
        share, over = divmod(endpoint.concurrency, self.workers)
        return share + (worker < over)

    def save(self, datadir: DataDir) -> None:
        """Raises OSError; then the former one is in force."""
        text = codec.encode(self)
        try:
            replace_file(datadir.snapshot, text)
        except OSError as e:
            if e.errno not in FULL:
                raise
            overwrite_file(datadir.snapshot, text)

    @classmethod
    def load(cls, datadir: DataDir) -> Snapshot:
        """Raises EngineNotRunning where there is none, LayoutError where it cannot be read."""
        try:
            return codec.decode(read_file(datadir.snapshot), cls)
        except FileNotFoundError:
            raise EngineNotRunning(
                f"no fluxhook engine was ever started on {datadir.path}"
            ) from None
        except OSError as e:
            raise LayoutError(unusable(e, datadir.snapshot)) from e
        except (msgspec.MsgspecError, ValueError, FluxhookError) as e:
            raise LayoutError(
                f"{datadir.snapshot} is damaged ({e}); start the engine anew, which writes it again"
            ) from e


def ring_queue_size(config: Config, workers: int) -> int:
    """A publisher's `queue_size`, divided among its rings, rounded up."""
    return -(-config.queue_size // workers)


def ring_bytes(config: Config, workers: int) -> int:
    return int(config.ring_bytes) // workers & ~7  # records are aligned to 8 bytes
