"""The shared words by name (transport/datadir.py has what each of them means).

    word        whose
    BREAKER     the workers'; the supervisor's scheduler clears it, and the supervisor a damaged one
    RATE        the workers'; the supervisor clears one that cannot be
    FAILING     the workers'; the scheduler clears it, and the supervisor one that cannot be
    STORED      the scheduler's
    DIED        the scheduler's; the supervisor clears one that cannot be
    UNBUILT     the workers' to set, the supervisor's to clear
    UNMETERED   the publishers'
    VERSION     the supervisor's
    RINGS       the publishers'
    TRACES      the supervisor's to begin with, the publishers' to set to TRACED
    FAILING_WRITES, RESTARTS  the supervisor's

What is done once for an event is done on the matrix itself, without a call of Python.
"""

from __future__ import annotations

from collections.abc import Collection

from fluxhook._native.shared import Words
from fluxhook.policy import breaker
from fluxhook.transport import datadir as d

__all__ = ["EngineWords", "rows_for"]


def rows_for(max_endpoints: int) -> int:
    """Return how many rows the words of an engine have."""
    return max_endpoints + 1


class EngineWords:
    """The words of one engine: a row for each endpoint that there can be, and a last one for itself."""

    def __init__(self, words: Words) -> None:
        self.matrix = words
        #: the engine's own row comes after those of the endpoints
        self.max_endpoints = self.engine_row = words.rows - 1
        self._load, self._store, self._add = words.load, words.store, words.add

    def close(self) -> None:
        self.matrix.close()

    # ---- of the engine ---------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Of the snapshot in force; 0 before the first."""
        return self._load(self.engine_row, d.VERSION)

    def publish_version(self, version: int) -> None:
        self._store(self.engine_row, d.VERSION, version)

    def spoil_version(self) -> None:
        """Have every process look for the snapshot anew."""
        self._add(self.engine_row, d.VERSION, 1)

    @property
    def rings(self) -> int:
        """The number of times that a ring was added."""
        return self._load(self.engine_row, d.RINGS)

    def add_ring(self) -> None:
        self._add(self.engine_row, d.RINGS, 1)

    @property
    def traces(self) -> int:
        """Return whether events may have a trace context: 0, UNTRACED or TRACED."""
        return self._load(self.engine_row, d.TRACES)

    @property
    def outages(self) -> dict[str, bool]:
        """Return what cannot be written now."""
        word = self._load(self.engine_row, d.FAILING_WRITES)
        return {name: bool(word >> bit & 1) for bit, name in enumerate(d.OUTAGES)}

    def publish_outages(self, names: Collection[str]) -> None:
        """Tell everybody what cannot be written now, of `datadir.OUTAGES`."""
        word = sum(1 << bit for bit, name in enumerate(d.OUTAGES) if name in names)
        self._store(self.engine_row, d.FAILING_WRITES, word)

    @property
    def worker_restarts(self) -> int:
        """The number of times that a worker was replaced."""
        return self._load(self.engine_row, d.RESTARTS)

    def count_restart(self) -> None:
        self._add(self.engine_row, d.RESTARTS, 1)

    def understand_traces(self) -> None:
        """Tell publishers that this engine knows of trace contexts."""
        if not self.traces:
            self._store(self.engine_row, d.TRACES, d.UNTRACED)

    def announce_traces(self) -> None:
        """Tell workers that events may have a trace context, before there is one: they look at this
        word when a ring was added, and so look for nothing of the kind until then."""
        self._store(self.engine_row, d.TRACES, d.TRACED)
        self.add_ring()

    # ---- of an endpoint --------------------------------------------------------------------

    def breaker(self, endpoint: int) -> breaker.State:
        """Raise IllegalMove for a word that no breaker can have written."""
        return breaker.unpack(self._load(endpoint, d.BREAKER))

    def clear_breaker(self, endpoint: int) -> None:
        """Close the breaker; no failure until now counts any more.

        Where its word is 0, a success looks no further, so the endpoint must not be left as one that
        fails. That is cleared second: a failure in between sets it again, and the next one finds it.
        """
        self._store(endpoint, d.BREAKER, 0)
        self.clear_failing(endpoint)

    def failing_ns(self, endpoint: int) -> int:
        """Return since when every attempt has failed; 0: the last one has not."""
        return self._load(endpoint, d.FAILING)

    def clear_failing(self, endpoint: int) -> None:
        self._store(endpoint, d.FAILING, 0)

    def died_ns(self, endpoint: int) -> int:
        """Return when an event died last, other than by order; 0: none did."""
        return self._load(endpoint, d.DIED)

    def publish_died(self, endpoint: int, at_ns: int) -> None:
        self._store(endpoint, d.DIED, at_ns)

    def begin_anew(self, endpoint: int) -> None:
        """Forget failures and deaths until now: they do not count any more."""
        self.clear_breaker(endpoint)
        self.publish_died(endpoint, 0)

    def tat_ns(self, endpoint: int) -> int:
        """Return the theoretical arrival time of the rate limit (policy/rate.py)."""
        return self._load(endpoint, d.RATE)

    def clear_rate(self, endpoint: int) -> None:
        self._store(endpoint, d.RATE, 0)

    def stored(self, endpoint: int) -> int:
        """Return how many deliveries are in the store, waiting or blocked."""
        return self._load(endpoint, d.STORED)

    def publish_stored(self, endpoint: int, count: int) -> None:
        self._store(endpoint, d.STORED, count)

    def unmetered(self, endpoint: int) -> int:
        """Return how many events were forwarded because the table of thresholds was full."""
        return self._load(endpoint, d.UNMETERED)

    def unbuilt(self, endpoint: int) -> bool:
        """Return whether a worker could not build it."""
        return bool(self._load(endpoint, d.UNBUILT))

    def clear_unbuilt(self, endpoint: int) -> None:
        self._store(endpoint, d.UNBUILT, 0)
