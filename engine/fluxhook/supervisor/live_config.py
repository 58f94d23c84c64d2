"""The configuration in force: what the file and the run time ask for, less what cannot be built."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

import msgspec

from fluxhook.config.definition import default_endpoint
from fluxhook.config.difference import difference, shortened
from fluxhook.config.schema import Config, Endpoint
from fluxhook.config.shown import config_difference, endpoint_difference
from fluxhook.config.twins import recognize
from fluxhook.config.units import Size
from fluxhook.errors import ConfigError, FluxhookError, Problem
from fluxhook.logs import setup
from fluxhook.logs.log import Log
from fluxhook.store import DeliveryStore, StoreError
from fluxhook.supervisor.change_log import ENGINE, FILE, ChangeLog
from fluxhook.supervisor.judge import Judge
from fluxhook.supervisor.subscriptions import Subscriptions
from fluxhook.transport import datadir as d
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.engine_words import EngineWords
from fluxhook.transport.files import FULL
from fluxhook.transport.outage import Outage
from fluxhook.transport.snapshot import Snapshot

__all__ = ["LiveConfig"]

log = Log("config")


class LiveConfig:
    """Makes snapshots and publishes them.

    `snapshot` is what is in force; at first that is what the engine before this one published.
    `workers` is the number that the next snapshot names.
    """

    def __init__(
        self,
        datadir: d.DataDir,
        words: EngineWords,
        store: DeliveryStore,
        clock: EngineClock,
        config: Config,
        former: Snapshot,
        trail: ChangeLog,
        *,
        workers: int,
        max_event_bytes: int,
    ) -> None:
        """Take `max_event_bytes`, what the rings between worker and scheduler take."""
        self.snapshot = former
        self.workers = workers
        #: called with each snapshot that is published
        self.on_publish: Callable[[Snapshot], None] = lambda snapshot: None
        #: something changed that could not be published yet
        self.stale = False
        self._datadir = datadir
        self._words = words
        self._store = store
        self._clock = clock
        self._trail = trail
        self._max_event_bytes = max_event_bytes
        self._judge = Judge()
        self._twins: dict[str, str] = {}
        self.subscriptions = Subscriptions(store, self._recognized(self._fitted(config)), clock)
        self._outage = Outage("the endpoints are published again")
        #: endpoints that were disabled get another chance, which is not on the disk yet
        self._to_enable = True

    # ---- changes ---------------------------------------------------------------------------

    def load(self, config: Config) -> None:
        """Make a configuration of the file the one that every process uses from now on.

        Loading one is the operator's word that its endpoints are to be used: an endpoint whose
        receiver asked to be left alone (410) gets another chance. Raises FluxhookError; then the former
        one stays.
        """
        former = self.snapshot.config
        before, twins = self.subscriptions.config, self._twins
        self.subscriptions.configure(self._recognized(self._fitted(config)))
        try:
            self.publish()
        except FluxhookError:
            self.subscriptions.configure(before)
            self._twins = twins
            raise
        self._note_config("config.reload", before, self.subscriptions.config)
        if self._enable_all():
            self.publish()
        self._tell_applied("reloaded", former)

    def start(self) -> None:
        """Publish for the first time. Raises FluxhookError."""
        former = self.snapshot
        try:
            self._tidy()
        except StoreError as e:
            log.warning("%s; it is tried again every second", e)
        started = self.publish()
        self._tell_applied("applied", former.config)
        if former.version:
            self._note_config("config.start", _of_file(former), _of_file(started))

    def refresh(self, now: float, *, disabled: bool) -> None:
        """Publish anew what has changed by itself: a secret expired, a file came, an endpoint was
        `disabled`. To be called every second."""
        try:
            self.stale |= disabled
            tidied = self._tidy()
            rebuilt = self._suspect_unbuilt(now) or self._judge.look(now)
            if tidied or rebuilt or self.stale:
                self.publish()
        except FluxhookError as e:
            self.stale = True
            self._outage.failed(
                f"the endpoints cannot be published anew, a second later again: {e}"
            )
        else:
            self._outage.worked()

    def _tell_applied(self, how: str, former: Config) -> None:
        """Log what is in force now, and what of it is new."""
        version, config = self.snapshot.version, self.snapshot.config
        found = difference(former, config)
        log.info(
            "configuration %s: version %d, %d endpoints; %s",
            how, version, len(config.endpoints), found,
            event="config_applied", version=version, count=len(config.endpoints),
            added=shortened(found.added), removed=shortened(found.removed),
            changed=shortened([f"{name}: {', '.join(paths)}" for name, paths in found.changed.items()]),
            options=shortened(found.options),
        )  # fmt: skip

    def _fitted(self, config: Config) -> Config:
        """Return it with a `max_event_bytes` that the rings between worker and scheduler take: `emit`
        refuses what is larger."""
        if config.max_event_bytes <= self._max_event_bytes:
            return config
        log.warning(
            "max_event_bytes stays at %s until the next start: the rings of the workers have that size",
            Size(self._max_event_bytes),
        )
        return msgspec.structs.replace(config, max_event_bytes=Size(self._max_event_bytes))

    def _recognized(self, config: Config) -> Config:
        """Return it with endpoints of the same name under the names that they had."""
        former = self.snapshot
        theirs = [e for e in former.config.endpoints if e.name not in former.created]
        endpoints, self._twins = recognize(config.endpoints, theirs, former.twins)
        return msgspec.structs.replace(config, endpoints=endpoints)

    def _tidy(self) -> bool:
        """Have the store forget what is over; return whether there was any. Raises StoreError where the
        disk is full."""
        expired = self.subscriptions.expire(self._clock.now_ns(), self._note_expired)
        enabled = self._to_enable and self._enable_all()
        self._to_enable = False
        return expired or enabled

    def _enable_all(self) -> bool:
        """Enable the endpoints that are disabled; return whether there were any."""
        disabled = [row for row in self._store.endpoints() if row.disabled_ns is not None]
        for row in disabled:
            self._store.enable_endpoint(row.id)
            self._words.begin_anew(row.id)  # or its first failure would disable it again
            self._trail.note(
                FILE, "webhook.enable", target=row.name, endpoint=row.name,
                before={"disabled": row.disabled_reason}, after={"disabled": False},
            )  # fmt: skip
        return bool(disabled)

    def _note_config(self, action: str, before: Config, after: Config) -> None:
        """Record that a configuration is in force; one that the engine was started with again, as it
        was, is no change."""
        old, new = config_difference(before, after, default_endpoint(after))
        if old or new or action == "config.reload":
            self._trail.note(FILE, action, before=old, after=new)

    def _note_expired(self, before: Endpoint | None, after: Endpoint | None) -> None:
        """Note that former secrets of an endpoint sign no more."""
        if before is not None:
            old, new = endpoint_difference(before, after, before)
            self._trail.note(
                ENGINE, "webhook.secret-expired", target=before.name, endpoint=before.name,
                before=old, after=new,
            )  # fmt: skip

    def _suspect_unbuilt(self, now: float) -> bool:
        """Have the endpoints held that a worker could not build; return whether there are some."""
        found = [name for name, id in self.snapshot.ids.items() if self._words.unbuilt(id)]
        for name in found:
            self._words.clear_unbuilt(self.snapshot.ids[name])
            self._judge.suspect(name, now)
        return bool(found)

    # ---- publishing ------------------------------------------------------------------------

    def publish(self) -> Snapshot:
        """Have every process use the present configuration. Raises ConfigError where it is too large,
        StoreError where the disk fails; then `refresh` tries again."""
        self.stale = True
        snapshot = self._make()
        try:
            snapshot.save(self._datadir)
        except OSError as e:
            remedy = "; make room on its disk" if e.errno in FULL else ""
            raise StoreError(
                f"{self._datadir.snapshot} cannot be written: {e.strerror}{remedy}"
            ) from e
        setup.choose(snapshot.config.log.format, snapshot.config.log.level)
        self.snapshot = snapshot
        self._words.publish_version(snapshot.version)
        self._ring_doorbells()
        self.on_publish(snapshot)
        self.stale = False
        return snapshot

    def _make(self) -> Snapshot:
        config = self.subscriptions.effective()
        ids = self._store.ensure_endpoints([endpoint.name for endpoint in config.endpoints])
        if ids and max(ids.values()) >= self._words.max_endpoints:
            raise ConfigError(
                Problem(
                    "max_endpoints",
                    f"{len(ids)} endpoints do not fit in {self._words.max_endpoints}",
                    "start a new data directory with a larger max_endpoints",
                )
            )
        self._judge.judge(config.endpoints, self.subscriptions.refused, time.monotonic())
        rows = self._store.endpoints()
        return Snapshot(
            version=self._next_version(),
            workers=self.workers,
            config=config,
            ids=ids,
            disabled=frozenset(e.name for e in rows if e.disabled_ns is not None),
            created=self.subscriptions.created,
            held=self._judge.held,
            files=self._judge.files,
            known=max((e.id for e in rows), default=-1) + 1,
            clock=self._clock.known,
            twins=self._twins,
        ).with_rings_of(self.snapshot)

    def _next_version(self) -> int:
        """Return one that nobody has seen. A supervisor that was killed before it stored the version of
        the file that it had written left the file ahead."""
        return max(self._words.version, self.snapshot.version) + 1

    def _ring_doorbells(self) -> None:
        for index in range(self.workers):
            fd = d.open_doorbell(self._datadir.doorbell(index))
            with contextlib.suppress(BlockingIOError):
                os.write(fd, b"\0")
            os.close(fd)


def _of_file(snapshot: Snapshot) -> Config:
    """Return the configuration with the endpoints of the file alone."""
    config = snapshot.config
    own = tuple(e for e in config.endpoints if e.name not in snapshot.created)
    return msgspec.structs.replace(config, endpoints=own)
