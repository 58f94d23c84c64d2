"""Breaker and rate limit of an endpoint: the pure policies, applied to words that all workers share."""

from __future__ import annotations

from fluxhook._native.ring import Words
from fluxhook.policy import breaker, rate
from fluxhook.transport.datadir import BREAKER, FAILING, RATE
from fluxhook.worker.endpoint_queue import Lane

__all__ = ["Gate"]


class Gate:
    """Decides whether an endpoint may be sent to now. Each move is one compare-and-swap."""

    def __init__(self, words: Words) -> None:
        self._words = words

    def permit(self, lane: Lane, now_ns: int) -> breaker.Action:
        """Send, Probe (one request, whose result must carry the token), or Hold."""
        action = self._step(lane, "permit", now_ns)
        assert action is not None
        return action

    def success(self, lane: Lane, now_ns: int, probe: int) -> None:
        word = self._words.load(lane.id, BREAKER)
        if word:
            # While the breaker is closed its word is the number of failures (policy/breaker.py).
            if word >= lane.failure_threshold or not self._words.swap(lane.id, BREAKER, word, 0):
                self._step(lane, "success", now_ns, probe)
            self._words.store(lane.id, FAILING, 0)

    def failure(self, lane: Lane, now_ns: int, probe: int) -> None:
        # With the breaker at rest this is the first failure after a success, whatever the word says:
        # a success of another worker may just now be about to clear it.
        word = self._words.load(lane.id, BREAKER)
        if not word or not self._words.load(lane.id, FAILING):
            self._words.store(lane.id, FAILING, now_ns)
        if word + 1 >= lane.failure_threshold or not self._words.swap(
            lane.id, BREAKER, word, word + 1
        ):
            self._step(lane, "failure", now_ns, probe)

    def release(self, lane: Lane, now_ns: int, probe: int) -> None:
        """The permit was not used, or its result says nothing about the endpoint."""
        if probe:
            self._step(lane, "release", now_ns, probe)

    def admit(self, lane: Lane, now_ns: int) -> int:
        """0 if the rate limit lets one request go now, else how long to wait in nanoseconds."""
        limit = lane.endpoint.rate_limit
        if limit is None:
            return 0
        while True:
            word = self._words.load(lane.id, RATE)
            new, wait_ns = rate.admit(word, now_ns, limit.interval_ns, limit.burst)
            if new == word or self._words.swap(lane.id, RATE, word, new):
                return wait_ns

    def _step(
        self, lane: Lane, event: breaker.Event, now_ns: int, probe: int = 0
    ) -> breaker.Action | None:
        while True:
            word = self._words.load(lane.id, BREAKER)
            state, action = breaker.step(
                breaker.unpack(word),
                event,
                now_ns,
                breaker=lane.endpoint.circuit_breaker,
                probe_timeout_ns=lane.probe_timeout_ns,
                probe=probe,
            )
            new = breaker.pack(state)
            if new == word or self._words.swap(lane.id, BREAKER, word, new):
                return action
