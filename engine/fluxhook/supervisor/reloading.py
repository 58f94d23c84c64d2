"""A new configuration of the file, while the engine runs (SIGHUP).

Another number of workers takes a while: workers whose rings others will read leave first, and what they
reported is applied before the new configuration is in force.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from dataclasses import dataclass

import msgspec

from fluxhook.config.schema import Config
from fluxhook.config.units import Size
from fluxhook.errors import FluxhookError
from fluxhook.logs.log import Log
from fluxhook.scheduler.scheduler import Scheduler
from fluxhook.supervisor.children import Children, worker_count
from fluxhook.supervisor.live_config import LiveConfig
from fluxhook.supervisor.preparation import PATIENCE_S, Preparation
from fluxhook.transport.datadir import DataDir

__all__ = ["Reloading"]

log = Log("config")


@dataclass
class _Change:
    """Another number of workers, from when those have left that cannot stay as they are."""

    config: Config
    count: int
    leavers: set[int]
    #: when those that are still there are killed
    until: float


class Reloading:
    """Puts a new configuration in force, at once or step by step.

    Where that cannot be done the log says why, and the former one stays.
    """

    def __init__(
        self,
        read: Callable[[], Config] | None,
        datadir: DataDir,
        preparation: Preparation,
        live: LiveConfig,
        scheduler: Scheduler,
        children: Children,
    ) -> None:
        """Take `read`, which reads the configuration again."""
        self._read = read
        self._datadir = datadir
        self._preparation = preparation
        self._live = live
        self._scheduler = scheduler
        self._children = children
        #: of an event that the rings between workers and scheduler take
        self._most_bytes = Size(preparation.max_event_bytes)
        self._change: _Change | None = None

    @property
    def leavers(self) -> Set[int]:
        """Return the workers that get no successor for now."""
        return self._change.leavers if self._change is not None else frozenset()

    @property
    def under_way(self) -> bool:
        return self._change is not None

    def reload(self) -> None:
        """Read the configuration again, and begin to use it."""
        try:
            if self._read is None:
                log.info(
                    "SIGHUP: this engine has no configuration file; the TLS files are read again"
                )
                self._live.publish()
                return
            config = self._within_bounds(self._read())
            if worker_count(config) != self._live.workers or self._change is not None:
                self._begin(config)
                return
            self._live.load(config)
        except FluxhookError as e:
            log.error(
                "the configuration was not reloaded, the old one stays: %s",
                "; ".join(str(e).splitlines()), event="config_refused",
            )  # fmt: skip

    def _within_bounds(self, config: Config) -> Config:
        """Return it with what only the next start can change as it is."""
        if config.max_event_bytes > self._most_bytes:
            log.warning(
                "max_event_bytes stays %s: what is more needs larger rings, with the next start",
                self._most_bytes,
            )
            config = msgspec.structs.replace(config, max_event_bytes=self._most_bytes)
        if config.max_endpoints != self._live.snapshot.config.max_endpoints:
            log.warning("max_endpoints changes with the next start only")
            config = msgspec.structs.replace(config, max_endpoints=self._preparation.max_endpoints)
        return config

    # ---- another number of workers ---------------------------------------------------------

    def _begin(self, config: Config) -> None:
        """Ask the workers to leave whose rings others will read. Raises EngineError where the files of
        new workers cannot be made."""
        count = worker_count(config)
        self._preparation.prepare_workers(config, count)
        leavers = self._moved(count)
        until = time.monotonic() + config.shutdown_timeout.seconds
        if self._change is not None:
            leavers |= self._change.leavers
            until = min(until, self._change.until)
        self._change = _Change(config, count, leavers, until)
        self._scheduler.spare_workers(leavers)
        self._children.leave(leavers)
        log.info(
            "workers: %d from now on, instead of %d%s", count, self._live.workers,
            f"; {len(leavers)} of them finish what they have begun" if leavers else "",
            event="workers_changed", count=count,
        )  # fmt: skip

    def _moved(self, count: int) -> set[int]:
        """Return the workers that are no more among so many, and those with a ring that another one
        reads then."""
        now = self._live.workers
        found = (int(path.stem) + 1 for path in self._datadir.rings.glob("*/*.ring"))
        rings = range(max(self._live.snapshot.rings, max(found, default=0)))
        moved = {index % now for index in rings if index % count != index % now}
        return moved | set(range(count, now))

    def advance(self, now: float) -> bool:
        """Put a change in force once those have left that must, and all that they reported is stored.
        Return True when that is done, or has failed."""
        change = self._change
        if change is None:
            return False
        if left := change.leavers & self._children.running.keys():
            if now >= change.until:
                self._children.kill(left)
                change.until = now + PATIENCE_S
            return False
        for index in change.leavers:
            self._preparation.finish(index)
        if not self._scheduler.applied(change.leavers):
            return False
        self._change = None
        before, self._live.workers = self._live.workers, change.count
        try:
            self._scheduler.change_workers(change.count)
            self._live.load(change.config)
        except (FluxhookError, OSError) as e:
            log.error(
                "the configuration was not reloaded, the old one stays: %s",
                "; ".join(str(e).splitlines()), event="config_refused",
            )  # fmt: skip
            self._live.workers = before
            self._scheduler.change_workers(before)
        self._children.want(range(self._live.workers))
        return True
