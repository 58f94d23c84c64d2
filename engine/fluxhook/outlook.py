"""When what waits for an endpoint can be attempted next, as every view shows it."""

from __future__ import annotations

from typing import Final, NamedTuple

from fluxhook._native.ring import Words
from fluxhook.config.schema import Endpoint
from fluxhook.policy import breaker
from fluxhook.transport import datadir as d
from fluxhook.transport.snapshot import Snapshot

__all__ = ["Outlook", "outlook"]

_STATES: Final = {"closed": "active", "open": "open", "half_open": "half-open"}


class Outlook(NamedTuple):
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


def outlook(
    snapshot: Snapshot, endpoint: Endpoint | None, words: Words | None, now_ns: int
) -> Outlook:
    """Return the outlook of an endpoint of the snapshot; of None, which is one that was removed.

    Without `words` its breaker counts as closed. Raises IllegalMove where the breaker's is damaged.
    """
    if endpoint is None:
        return Outlook("removed")
    name = endpoint.name
    if name in snapshot.disabled:
        return Outlook("disabled")
    if name in snapshot.held:
        return Outlook("misconfigured")
    if endpoint.paused:
        return Outlook("paused")
    word = 0 if words is None else words.load(snapshot.ids[name], d.BREAKER)
    state = breaker.unpack(word)
    probe_ns = breaker.probe_ns(state, endpoint.circuit_breaker)
    return Outlook(_STATES[state.name], probe_ns if probe_ns and probe_ns > now_ns else None)
