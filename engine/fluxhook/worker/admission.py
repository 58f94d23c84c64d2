"""Breaker and rate limit of an endpoint: the pure policies, applied to words that all workers share."""

from __future__ import annotations

from fluxhook._native.shared import Words
from fluxhook.policy import breaker, rate
from fluxhook.transport.datadir import BREAKER, FAILING, RATE
from fluxhook.worker.endpoint_queue import EndpointQueue

__all__ = ["Admission"]


class Admission:
    """Decides whether an endpoint may be sent to now. Each move is one compare-and-swap."""

    def __init__(self, words: Words) -> None:
        self._words = words

    def permit(self, queue: EndpointQueue, now_ns: int) -> breaker.Action:
        """Send, Probe (one request, whose result must carry the token), or Hold."""
        action = self._step(queue, "permit", now_ns)
        assert action is not None
        return action

    def success(self, queue: EndpointQueue, now_ns: int, probe: int) -> None:
        word = self._words.load(queue.id, BREAKER)
        if word:
            new = breaker.after_success(word, queue.failure_threshold)
            if new is None or not self._words.swap(queue.id, BREAKER, word, new):
                self._step(queue, "success", now_ns, probe)
            self._words.store(queue.id, FAILING, 0)

    def failure(self, queue: EndpointQueue, now_ns: int, probe: int) -> None:
        # With the breaker at rest this is the first failure after a success, whatever the word says:
        # a success of another worker may just now be about to clear it.
        word = self._words.load(queue.id, BREAKER)
        if not word or not self._words.load(queue.id, FAILING):
            self._words.store(queue.id, FAILING, now_ns)
        new = breaker.after_failure(word, queue.failure_threshold)
        if new is None or not self._words.swap(queue.id, BREAKER, word, new):
            self._step(queue, "failure", now_ns, probe)

    def release(self, queue: EndpointQueue, now_ns: int, probe: int) -> None:
        """Give the permit back: it was not used, or its result says nothing about the endpoint."""
        if probe:
            self._step(queue, "release", now_ns, probe)

    def admit(self, queue: EndpointQueue, now_ns: int) -> int:
        """Return 0 if the rate limit lets one request go now, else how long to wait in nanoseconds."""
        limit = queue.endpoint.rate_limit
        if limit is None:
            return 0
        while True:
            word = self._words.load(queue.id, RATE)
            new, wait_ns = rate.admit(word, now_ns, limit.interval_ns, limit.burst)
            if new == word or self._words.swap(queue.id, RATE, word, new):
                return wait_ns

    def _step(
        self, queue: EndpointQueue, event: breaker.Event, now_ns: int, probe: int = 0
    ) -> breaker.Action | None:
        while True:
            word = self._words.load(queue.id, BREAKER)
            state, action = breaker.step(
                breaker.unpack(word),
                event,
                now_ns,
                breaker=queue.endpoint.circuit_breaker,
                probe_timeout_ns=queue.probe_timeout_ns,
                probe=probe,
            )
            new = breaker.pack(state)
            if new == word or self._words.swap(queue.id, BREAKER, word, new):
                return action
