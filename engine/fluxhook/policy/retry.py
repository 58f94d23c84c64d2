"""When a failed attempt is repeated, and whether.

"FluxGate implements exponential backoff with jitter [...] The default schedule attempts delivery at
15s, 2m, 10m, and 1h after the initial failure" (FluxGate); "initial_interval * multiplier^attempt,
capped by max_interval" (FluxMQ). So the entries of a schedule count from the first failure, and the
intervals of a backoff each from the failure before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fluxhook.config.schema import Retry
from fluxhook.config.units import Duration

__all__ = ["max_attempts", "next_delay_ns"]

#: FluxMQ's default, used where neither `max_attempts` nor a schedule says otherwise.
DEFAULT_MAX_ATTEMPTS: Final = 3

_SECOND: Final = 1_000_000_000


def next_delay_ns(
    retry: Retry,
    failed_attempts: int,
    u: float,
    retry_after_s: int | None = None,
    *,
    since_first_ns: int = 0,
) -> int | None:
    """How long to wait after the latest failure; None: the attempts are exhausted.

    `failed_attempts` counts all attempts so far, 1 after the first. `u` in [0, 1) is the chance in
    jitter: a delay is shortened by up to `jitter` of itself, so that it never passes its cap.
    `retry_after_s` is what the receiver asked for: a floor, cut to `max_retry_after`, no jitter.
    `since_first_ns` is the time from the first failure to the latest.
    """
    if failed_attempts < 1:
        raise ValueError("there is no retry before the first failure")
    if failed_attempts >= max_attempts(retry):
        return None
    n = failed_attempts - 1
    if retry.schedule is None:
        delay_ns = _exponential_ns(retry, n)
        since_first_ns = 0
    else:
        delay_ns = _scheduled_ns(retry.schedule, n)
    delay_ns = max(0, delay_ns - int(delay_ns * retry.jitter * u) - since_first_ns)
    if retry_after_s is None:
        return delay_ns
    return max(delay_ns, min(retry_after_s * _SECOND, retry.max_retry_after.ns))


def max_attempts(retry: Retry) -> int:
    """The bound on attempts, the first included. An empty schedule means no retry."""
    if retry.schedule is not None and (retry.max_attempts is None or not retry.schedule):
        return len(retry.schedule) + 1
    return DEFAULT_MAX_ATTEMPTS if retry.max_attempts is None else retry.max_attempts


def _scheduled_ns(schedule: Sequence[Duration], n: int) -> int:
    """When retry n is due after the first failure. Beyond the schedule its last step repeats."""
    last = len(schedule) - 1
    if n <= last:
        return schedule[n].ns
    step_ns = schedule[last].ns - (schedule[last - 1].ns if last else 0)
    return schedule[last].ns + (n - last) * step_ns


def _exponential_ns(retry: Retry, n: int) -> int:
    try:
        # min() before int(): the product may be infinite
        return int(min(retry.initial_interval.ns * retry.multiplier**n, retry.max_interval.ns))
    except OverflowError:
        return retry.max_interval.ns
