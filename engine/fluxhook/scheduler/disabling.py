"""Disabling an endpoint whose receiver asked for it (410), or that has done nothing but fail."""

from __future__ import annotations

from collections.abc import Callable

from fluxhook.config.schema import Endpoint
from fluxhook.logs.log import Log
from fluxhook.policy.outcome import CAUSES
from fluxhook.scheduler import step_limits
from fluxhook.scheduler.endpoints import Endpoints
from fluxhook.scheduler.operational_events import OperationalEvents
from fluxhook.store import Store
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.engine_words import EngineWords

__all__ = ["Disabling"]

log = Log("endpoint")


class Disabling:
    """Notes which endpoints are to be disabled as reports are applied, and disables them once these are
    committed."""

    def __init__(
        self,
        store: Store,
        words: EngineWords,
        clock: EngineClock,
        endpoints: Endpoints,
        events: OperationalEvents,
    ) -> None:
        self._store = store
        self._words = words
        self._clock = clock
        self._endpoints = endpoints
        self._events = events
        #: is told the name and the reason of each endpoint that was disabled
        self.on_disabled: Callable[[str, str], None] = lambda name, reason: None
        #: the reason of each, and since when it has failed
        self.to_disable: dict[int, tuple[str, int]] = {}
        #: endpoints disabled in the store and not yet in the snapshot
        self._unpublished: set[int] = set()

    def attempt_failed(self, endpoint_id: int, endpoint: Endpoint, cause: str, now_ns: int) -> None:
        """Note the endpoint if this failed attempt is reason enough."""
        gone = cause == "gone" and endpoint.disable_on_gone
        if not gone and endpoint.disable_after is None:
            return
        failing_ns = self._words.failing_ns(endpoint_id) or now_ns
        if gone:
            reason = CAUSES[cause].user
        elif endpoint.disable_after and now_ns - failing_ns >= endpoint.disable_after.ns:
            reason = (
                f"Every attempt has failed for {endpoint.disable_after}; the last one: {cause}."
            )
        else:
            return
        if endpoint_id not in self._unpublished:
            self.to_disable.setdefault(endpoint_id, (reason, failing_ns))

    def disable(self, now_ns: int) -> bool:
        """Disable the endpoints that were noted, each in a transaction of its own; True if there are
        more."""
        noted = list(self.to_disable.items())
        for endpoint_id, (reason, failing_ns) in noted[: step_limits.TRANSACTIONS]:
            self._store.disable_endpoint(endpoint_id, self._clock.wall_ns(now_ns), reason)
            del self.to_disable[endpoint_id]
            self._unpublished.add(endpoint_id)
            name = self._endpoints.name(endpoint_id)
            self._events.endpoint_disabled(name, reason, self._clock.wall_ns(failing_ns))
            log.warning(
                "endpoint %s is disabled: %s", name, reason,
                event="endpoint_disabled", endpoint=name, reason=reason,
                for_s=max(0, now_ns - failing_ns) / 1e9,
            )  # fmt: skip
            self.on_disabled(name, reason)
        return len(noted) > step_limits.TRANSACTIONS

    def take_disabled(self) -> bool:
        """Return whether an endpoint was disabled since the last call: the snapshot is to say so."""
        disabled = bool(self._unpublished)
        self._unpublished.clear()
        return disabled

    def begin_anew(self, endpoint_id: int) -> None:
        """Forget the failures of an endpoint until now: they do not count any more."""
        self.to_disable.pop(endpoint_id, None)
        self._words.begin_anew(endpoint_id)
