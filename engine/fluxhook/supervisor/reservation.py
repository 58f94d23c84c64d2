"""How much disk an engine's files take, which is known before any of them is made.

Files are created whole (transport/datadir.py), so that a full disk is an error when a file is made and
never a fault when it is used. `store.db`, the two trails and the history are not among them: they grow.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from fluxhook._native.ring import ring_bytes
from fluxhook._native.shared import matrix_bytes
from fluxhook.config.schema import Config
from fluxhook.errors import EngineError
from fluxhook.scheduler.operational_events import own_config
from fluxhook.supervisor.children import worker_count
from fluxhook.transport import datadir as d
from fluxhook.transport import thresholds
from fluxhook.transport.engine_words import rows_for
from fluxhook.transport.snapshot import Snapshot

__all__ = [
    "CHANNEL_RECORDS",
    "EVENTS_IN_CHANNEL",
    "Reservation",
    "channel_bytes",
    "check_room",
    "mib",
    "reservation",
]

#: a ring between worker and scheduler: its records, its bytes unless `ring_bytes` is less, and how many
#: events of the largest size it holds at least
CHANNEL_RECORDS: Final = 16_384
CHANNEL_BYTES: Final = 16 << 20
EVENTS_IN_CHANNEL: Final = 8


class Reservation(NamedTuple):
    """Bytes on disk: of the words, of each worker, of the engine's own publisher, of each other one."""

    words: int
    workers: int
    worker: int
    own: int
    publisher: int

    @property
    def engine(self) -> int:
        return self.words + self.workers * self.worker + self.own

    @property
    def total(self) -> int:
        """Of the engine and one publisher, without whom there are no events."""
        return self.engine + self.publisher

    def __str__(self) -> str:
        """Return the sizes, and the options that make them so."""
        return (
            f"{mib(self.total)}: {mib(self.worker)} for each worker (workers: {self.workers}, "
            f"max_endpoints, max_event_bytes, ring_bytes), {mib(self.publisher)} for each publisher "
            f"(ring_bytes, queue_size, max_endpoints), {mib(self.words + self.own)} besides"
        )


def channel_bytes(config: Config) -> int:
    """Return the size of a ring between worker and scheduler."""
    least = EVENTS_IN_CHANNEL * int(config.max_event_bytes)
    return max(min(CHANNEL_BYTES, int(config.ring_bytes)), least)


def reservation(config: Config) -> Reservation:
    workers = worker_count(config)
    words = matrix_bytes(rows_for(config.max_endpoints), d.WORD_FIELDS)
    words += matrix_bytes(thresholds.ROWS, thresholds.FIELDS)
    worker = 2 * ring_bytes(CHANNEL_RECORDS, channel_bytes(config))
    for fields in (d.WORKER_FIELDS, d.STAGE_FIELDS):
        worker += matrix_bytes(config.max_endpoints, fields)
    return Reservation(words, workers, worker, _publisher(own_config(config)), _publisher(config))


def check_room(datadir: d.DataDir, wanted: Reservation) -> None:
    """Raise EngineError where the disk has no room for the files of a first start."""
    free = _free_bytes(datadir.path)
    if free < wanted.total:
        raise EngineError(
            f"the data directory {datadir.path} needs {mib(wanted.total)}, and its disk has "
            f"{mib(free)} left: make room, or make it smaller; it takes {wanted}"
        )


def mib(n_bytes: int) -> str:
    """Return a size as people read it.

    >>> mib(1_572_864), mib(3 << 30)
    ('1.5 MiB', '3.0 GiB')
    """
    return f"{n_bytes / 2**20:,.1f} MiB" if n_bytes < 2**30 else f"{n_bytes / 2**30:,.1f} GiB"


def _publisher(config: Config) -> int:
    workers = worker_count(config)
    sizes = Snapshot(version=0, workers=workers, config=config, ids={})
    counters = matrix_bytes(config.max_endpoints, d.PUBLISHER_FIELDS)
    return counters + workers * ring_bytes(sizes.ring_queue_size, sizes.ring_bytes)


def _free_bytes(path: Path) -> int:
    """Return what this user may take of the disk on which a path is, or will be."""
    place = next(p for p in (path, *path.parents) if p.exists())
    disk = os.statvfs(place)
    return disk.f_bavail * disk.f_frsize
