"""An endpoint's state, as every view shows it, and when what waits for it can be attempted next."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec

from fluxhook.config.schema import Endpoint
from fluxhook.policy import breaker
from fluxhook.policy.failing import Health, is_failing
from fluxhook.transport.engine_words import EngineWords
from fluxhook.transport.snapshot import Snapshot

__all__ = ["EndpointState", "StateName", "endpoint_state"]

#: active: it is sent to. failing: so it is, but its events die or none succeeds (policy/failing.py).
#: open, half-open: its breaker. misconfigured: it cannot be built, and its events are held. removed: it
#: is not configured any more. unknown: a damaged file would tell.
StateName = Literal[
    "active",
    "failing",
    "half-open",
    "open",
    "paused",
    "misconfigured",
    "disabled",
    "removed",
    "unknown",
]

_NOTHING_KNOWN: Final = Health()
_STATES: Final[dict[str, StateName]] = {
    "closed": "active",
    "open": "open",
    "half_open": "half-open",
}


class EndpointState(NamedTuple):
    """An endpoint's state, and when an open breaker lets its next request go, in engine time.

    None where it is not open, or lets one go already.
    """

    state: StateName
    probe_ns: int | None = None

    def next_ns(self, due_ns: int, now_ns: int) -> int | None:
        """Return when a delivery that is due then can be attempted; None where nobody knows, since
        nothing is sent, or at once."""
        if self.state in ("active", "failing"):
            return due_ns
        if self.state not in ("open", "half-open"):
            return None
        next_ns = max(due_ns, self.probe_ns or 0)
        return next_ns if next_ns > now_ns else None

    def past_due_ns(self, due_ns: int, now_ns: int) -> int:
        """Return how late a delivery is that was due then. What an open breaker holds is not late
        before the breaker lets a request go, and where nothing is sent, nothing is late."""
        if self.state not in ("active", "failing", "open", "half-open"):
            return 0
        return max(0, now_ns - max(due_ns, self.probe_ns or 0))


def endpoint_state(
    snapshot: Snapshot,
    endpoint: Endpoint | None,
    words: EngineWords | None,
    now_ns: int,
    health: Health = _NOTHING_KNOWN,
) -> EndpointState:
    """Return the state of an endpoint of the snapshot; of None, which is one that was removed.

    Without `words` its breaker counts as closed. `health` has what counters and store know of it; its
    times are taken from the words. Raises IllegalMove where the breaker's word is damaged.
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
    id = snapshot.ids[name]
    state = breaker.CLOSED if words is None else words.breaker(id)
    if words is not None and state.name == "closed":
        health = msgspec.structs.replace(
            health, failing_ns=words.failing_ns(id), died_ns=words.died_ns(id)
        )
        if is_failing(health, now_ns):
            return EndpointState("failing")
    probe_ns = breaker.probe_ns(state, endpoint.circuit_breaker)
    return EndpointState(_STATES[state.name], probe_ns if probe_ns and probe_ns > now_ns else None)
