"""When a failed attempt is repeated, and whether.

"FluxGate implements exponential backoff with jitter [...] The default schedule attempts delivery at
15s, 2m, 10m, and 1h after the initial failure" (FluxGate); "initial_interval * multiplier^attempt,
capped by max_interval" (FluxMQ). Each delay of a schedule counts from the failure before it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from fluxhook.config.schema import Retry

__all__ = ["max_attempts", "next_delay_ns", "parse_retry_after"]

#: FluxMQ's default, used where neither `max_attempts` nor a schedule says otherwise.
DEFAULT_MAX_ATTEMPTS: Final = 3

_SECOND: Final = 1_000_000_000


def next_delay_ns(
    retry: Retry, failed_attempts: int, u: float, retry_after_s: int | None = None
) -> int | None:
    """How long to wait after the latest failure; None: the attempts are exhausted.

    `failed_attempts` counts all attempts so far, 1 after the first. `u` in [0, 1) is the chance in
    jitter: a delay is shortened by up to `jitter` of itself, so that it never passes its cap.
    `retry_after_s` is what the receiver asked for: a floor, cut to `max_retry_after`, no jitter.
    """
    if failed_attempts < 1:
        raise ValueError("there is no retry before the first failure")
    if failed_attempts >= max_attempts(retry):
        return None
    n = failed_attempts - 1
    if retry.schedule is None:
        delay_ns = _exponential_ns(retry, n)
    else:
        delay_ns = retry.schedule[min(n, len(retry.schedule) - 1)].ns
    delay_ns -= int(delay_ns * retry.jitter * u)
    if retry_after_s is None:
        return delay_ns
    return max(delay_ns, min(retry_after_s * _SECOND, retry.max_retry_after.ns))


def max_attempts(retry: Retry) -> int:
    """The bound on attempts, the first included. An empty schedule means no retry."""
    if retry.schedule is not None and (retry.max_attempts is None or not retry.schedule):
        return len(retry.schedule) + 1
    return DEFAULT_MAX_ATTEMPTS if retry.max_attempts is None else retry.max_attempts


def _exponential_ns(retry: Retry, n: int) -> int:
    try:
        # min() before int(): the product may be infinite
        return int(min(retry.initial_interval.ns * retry.multiplier**n, retry.max_interval.ns))
    except OverflowError:
        return retry.max_interval.ns


#: What HTTP takes for a number of seconds too large to represent (RFC 9111 section 1.2.2).
_MANY_SECONDS: Final = 2**31

_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"
_CLOCK: Final = r"(?P<H>\d\d):(?P<M>\d\d):(?P<S>\d\d)"
#: RFC 9110 section 5.6.7: IMF-fixdate, and the two obsolete forms that a recipient must accept too.
_HTTP_DATES: Final = (
    re.compile(rf"[A-Z][a-z]{{2}}, (?P<d>\d\d) (?P<m>[A-Z][a-z]{{2}}) (?P<Y>\d{{4}}) {_CLOCK} GMT"),
    re.compile(rf"[A-Z][a-z]+day, (?P<d>\d\d)-(?P<m>[A-Z][a-z]{{2}})-(?P<Y>\d\d) {_CLOCK} GMT"),
    re.compile(rf"[A-Z][a-z]{{2}} (?P<m>[A-Z][a-z]{{2}}) (?P<d>[ \d]\d) {_CLOCK} (?P<Y>\d{{4}})"),
)


def parse_retry_after(value: str, now_ns: int) -> int | None:
    """The seconds that a Retry-After header asks for (RFC 9110 section 10.2.3); None: not valid.

    A date in the past is 0; a fraction of a second counts as a whole one.
    """
    value = value.strip(" \t")
    if not value.isascii():
        return None
    if value.isdigit():
        digits = value.lstrip("0") or "0"
        return min(int(digits), _MANY_SECONDS) if len(digits) <= 10 else _MANY_SECONDS
    date_s = _http_date_s(value, now_ns)
    return None if date_s is None else max(0, -((now_ns - date_s * _SECOND) // _SECOND))


def _http_date_s(value: str, now_ns: int) -> int | None:
    """An HTTP-date as seconds since the epoch; None: not valid."""
    match = next(filter(None, (form.fullmatch(value) for form in _HTTP_DATES)), None)
    if match is None or match["m"] not in _MONTHS:
        return None
    year = int(match["Y"])
    if len(match["Y"]) == 2:
        # RFC 9110 section 5.6.7: what seems over 50 years ahead is in the past
        latest = datetime.fromtimestamp(now_ns // _SECOND, UTC).year + 50
        year = latest - (latest - year) % 100
    month = _MONTHS.index(match["m"]) // 3 + 1
    day, hour, minute, second = (int(match[part]) for part in "dHMS")
    try:
        return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())
    except ValueError:
        return None
