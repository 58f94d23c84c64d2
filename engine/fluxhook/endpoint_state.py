"""An endpoint's state, as every view shows it, and when what waits for it can be attempted next."""

from __future__ import annotations

from typing import Final, NamedTuple

from fluxhook.config.schema import Endpoint
from fluxhook.policy import breaker
from fluxhook.transport.engine_words import EngineWords
from fluxhook.transport.snapshot import Snapshot

__all__ = ["EndpointState", "endpoint_state"]

_STATES: Final = {"closed": "active", "open": "open", "half_open": "half-open"}


class EndpointState(NamedTuple):
    """An endpoint's state, and when an open breaker lets its next request go, in engine time.

    None where it is not open, or lets one go already. The state is a word of `EndpointStats.state`.
    """

    state: str
    probe_ns: int | None = None

    def next_ns(self, due_ns: int, now_ns: int) -> int | None:
        """Return when a delivery that is due then can be attempted; None where nobody knows, since
        nothing is sent, or at once."""
        if self.state == "active":
            return due_ns
        if self.state not in ("open", "half-open"):
            return None
        next_ns = max(due_ns, self.probe_ns or 0)
        return next_ns if next_ns > now_ns else None


def endpoint_state(
    snapshot: Snapshot, endpoint: Endpoint | None, words: EngineWords | None, now_ns: int
) -> EndpointState:
    """Return the state of an endpoint of the snapshot; of None, which is one that was removed.

    Without `words` its breaker counts as closed. Raises IllegalMove where the breaker's is damaged.
    """
    if endpoint is None:
        return EndpointState("removed")
    name = endpoint.name
    if name in snapshot.disabled:
        return EndpointState("disabled")
    if name in snapshot.held:
        return EndpointState("misconfigured")
    if endpoint.paused:
        return EndpointState("paused")
    state = breaker.CLOSED if words is None else words.breaker(snapshot.ids[name])
    probe_ns = breaker.probe_ns(state, endpoint.circuit_breaker)
    return EndpointState(_STATES[state.name], probe_ns if probe_ns and probe_ns > now_ns else None)
