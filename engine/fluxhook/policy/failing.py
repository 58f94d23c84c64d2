"""Whether an endpoint is failing although its breaker is closed: its events die, or none succeeds.

The breaker asks whether requests are worth sending. It does not see an event that dies without one,
such as one over `max_payload`, it ignores causes that say nothing of the receiver, and it waits for a
row of failures. An endpoint whose breaker is closed is *failing* as long as one of these holds:

- **its events die**: one has died within RECENT_NS, other than because its endpoint was removed or
  disabled;
- **none has succeeded yet**: an attempt has failed, and nothing was ever delivered;
- **none succeeds any more**: every attempt has failed for LASTING_NS;
- **the breaker looks away**: its latest failed attempt had a cause that the breaker ignores
  (`egress_denied`, `internal`), and an event from before it still waits in the store.

So a receiver that fails now and then is not failing while retries succeed. An endpoint at which one
event died is active again after RECENT_NS, and at once where the operator resumes it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fluxhook.policy.outcome import CAUSES

__all__ = ["LASTING_NS", "RECENT_NS", "Health", "is_failing", "is_ignored"]

#: Arbitrary: long enough that an endpoint which loses an event every few minutes does not change its
#: state in between, short enough that an operator sees soon that what was mended is mended.
RECENT_NS: Final = 15 * 60 * 1_000_000_000
#: Arbitrary: longer than most restarts of a receiver take.
LASTING_NS: Final = 60 * 1_000_000_000


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an endpoint's deliveries. Times are engine time."""

    delivered: int = 0
    failed_attempts: int = 0
    #: since when every attempt has failed, of those that the breaker counts; 0: the last one has not
    failing_ns: int = 0
    #: when an event died last; 0: none did
    died_ns: int = 0
    #: the cause of the latest failure
    last_cause: str = ""
    #: an event that was accepted before the latest failure waits in the store
    waits_since: bool = False


def is_failing(health: Health, now_ns: int) -> bool:
    """Return whether an endpoint with a closed breaker is failing; see above for the rule."""
    if health.died_ns and now_ns - health.died_ns < RECENT_NS:
        return True
    if health.failed_attempts and not health.delivered:
        return True
    if health.failing_ns and now_ns - health.failing_ns >= LASTING_NS:
        return True
    return health.waits_since and is_ignored(health.last_cause)


def is_ignored(cause: str) -> bool:
    """Return whether the breaker ignores attempts that fail of this."""
    row = CAUSES.get(cause)
    return row is not None and row.breaker == "ignore"
