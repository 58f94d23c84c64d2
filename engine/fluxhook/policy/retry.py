"""When a failed attempt is repeated, and whether.

"FluxGate implements exponential backoff with jitter [...] The default schedule attempts delivery at
15s, 2m, 10m, and 1h after the initial failure" (FluxGate); "initial_interval * multiplier^attempt,
capped by max_interval" (FluxMQ). So the entries of a schedule count from the first failure, and the
intervals of a backoff each from the failure before.
"""

from __future__ import annotations

import email.utils
import math
from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Final

from fluxhook.config.schema import Retry
from fluxhook.config.units import Duration

__all__ = ["asked_delay_s", "max_attempts", "next_delay_ns"]

#: FluxMQ's default, used where neither `max_attempts` nor a schedule says otherwise.
DEFAULT_MAX_ATTEMPTS: Final = 3

_SECOND: Final = 1_000_000_000
#: What a longer Retry-After is taken for: the largest integer that every reader of JSON has exactly.
_MAX_ASKED_S: Final = 2**53 - 1


def next_delay_ns(
    retry: Retry,
    failed_attempts: int,
    u: float,
    retry_after_s: int | None = None,
    *,
    since_first_ns: int = 0,
) -> int | None:
    """Return how long to wait after the latest failure; None: the attempts are exhausted.

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


def asked_delay_s(head: Iterable[bytes], now_s: float) -> int | None:
    """Return how long an answer asks to wait (Retry-After, RFC 9110 section 10.2.3), in whole seconds.

    `head` are the lines of all heads that arrived, those of a proxy and of interim answers too; only
    the last head counts. None where it asks for no wait, or in a way that cannot be read. Of several
    fields the longest wait counts.
    """
    longest = 0
    for line in head:
        name, _, value = line.partition(b":")
        if name.startswith(b"HTTP/"):
            longest = 0
        elif name.lower() == b"retry-after":
            longest = max(longest, _delay_s(value.decode("latin-1").strip(), now_s))
    return min(longest, _MAX_ASKED_S) or None


def _delay_s(value: str, now_s: float) -> int:
    if value.isascii() and value.isdigit():
        digits = value.lstrip("0")
        return int(digits or 0) if len(digits) <= 16 else _MAX_ASKED_S
    try:
        date = email.utils.parsedate_to_datetime(value)
        return math.ceil(date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now_s)
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0


def max_attempts(retry: Retry) -> int:
    """Return the bound on attempts, the first included. An empty schedule means no retry."""
    if retry.schedule is not None and (retry.max_attempts is None or not retry.schedule):
        return len(retry.schedule) + 1
    return DEFAULT_MAX_ATTEMPTS if retry.max_attempts is None else retry.max_attempts


def _scheduled_ns(schedule: Sequence[Duration], n: int) -> int:
    """Return when retry n is due after the first failure. Beyond the schedule its last step repeats."""
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
