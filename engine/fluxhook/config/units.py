"""Durations, sizes, rates and thresholds as the configuration writes them.

Each has `parse`, which raises ValueError with a whole sentence, and a `str()` that `parse` reads
back.
"""

from __future__ import annotations

import decimal
import functools
import re
from typing import Final, NoReturn

__all__ = [
    "MAX_INT64",
    "Duration",
    "Rate",
    "Size",
    "Threshold",
    "go_nanoseconds",
    "whole_number",
]

#: Times, sizes and counters are signed 64-bit words in shared memory and in SQLite.
MAX_INT64: Final = 2**63 - 1

#: Go's time.ParseDuration (FluxMQ's notation), both code points of the micro sign included.
_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_TERM: Final = re.compile(r"(?=\.?[0-9])([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_BYTES: Final = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE: Final = re.compile(r"([0-9]+) ?([A-Za-z]*)", re.ASCII)
_EXPONENT: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?[eE][+]?[0-9]{1,2}", re.ASCII)
_RATE: Final = re.compile(r"([0-9]+)/(s|m|h)(?: burst ([0-9]+))?", re.ASCII)
_THRESHOLD: Final = re.compile(r"([0-9]+)/(s|m|h)(?: over (.+))?", re.ASCII | re.DOTALL)
_SPANS: Final = {unit: _NS[unit] for unit in ("s", "m", "h")}
#: Requests a second, and at once. Arbitrary, and more than one host sends; it keeps the interval of
#: a rate above zero, and a burst at 1/h within a 64-bit word of nanoseconds.
_MAX_RATE: Final = 1_000_000
#: Arbitrary, but for the number of events, which a threshold's 22-bit counters hold four times.
_MIN_WINDOW, _MAX_WINDOW, _MAX_IN_WINDOW = _NS["ms"] * 100, _NS["h"] * 24, 1_000_000
#: Longer texts are refused unread: Python refuses to read numbers of thousands of digits.
_MAX_TEXT: Final = 64


def whole_number(text: str) -> int | None:
    """Return the whole number that a float's text spells, as Helm renders each number above a million:
    1e+06.

    >>> whole_number("1.048576e+06"), whole_number("1.5")
    (1048576, None)
    """
    try:
        value = decimal.Decimal(text)
    except decimal.InvalidOperation:
        return None
    if not value.is_finite() or abs(value) > MAX_INT64 or value != value.to_integral_value():
        return None
    return int(value)


def go_nanoseconds(text: object) -> int:
    """Return what Go's time.ParseDuration makes of a text, a negative duration included.

    What is finer than a nanosecond is cut off, as there. Raises ValueError for any other text.

    >>> go_nanoseconds("-1.5h"), go_nanoseconds(".5us"), go_nanoseconds("1m30s")
    (-5400000000000, 500, 90000000000)
    """
    if not isinstance(text, str) or len(text) > _MAX_TEXT:
        raise ValueError(f"{text!r:.80} is not a duration")
    unsigned = text[1:] if text[:1] in ("+", "-") else text
    if unsigned == "0":
        return 0
    if re.fullmatch(r"[0-9.]+", unsigned, re.ASCII):
        raise ValueError(f"{text!r} has no unit")
    ns = end = 0
    while match := _TERM.match(unsigned, end):
        whole, fraction, unit = match.groups(default="")
        ns += int(whole + fraction) * _NS[unit] // 10 ** len(fraction)
        end = match.end()
    if not end or end < len(unsigned):
        raise ValueError(f"{text!r} is not a duration")
    return -ns if text.startswith("-") else ns


class _Frozen:
    """Values that cannot be changed once made; `_key` decides equality and hash."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} cannot be changed")

    def _key(self) -> tuple[int, ...]:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self._key()


@functools.total_ordering
class Duration(_Frozen):
    """A span of time, zero or more whole nanoseconds, at most 2**63 - 1 of them (292 years).

    >>> Duration.parse("1h30m").seconds
    5400.0
    >>> str(Duration.parse("1500ms"))
    '1.5s'
    """

    __slots__ = ("ns",)
    ns: int

    def __init__(self, ns: int) -> None:
        """Make a duration of `ns` nanoseconds. Raise ValueError below zero and above 2**63 - 1."""
        if ns < 0:
            raise ValueError(f"{ns} ns is negative")
        if ns > MAX_INT64:
            raise ValueError("a duration must be below 292 years")
        object.__setattr__(self, "ns", ns)

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Read a `text` in Go's notation: "250ms", "3s", "2m", "1h30m", "+1.5s", ".5h", "100us", "0".

        Raise ValueError for anything else, with what is wrong with it.
        """
        ns = go_nanoseconds(text)
        if ns < 0:
            raise ValueError(f"{text!r} is negative")
        return cls(ns)

    @property
    def ms(self) -> float:
        """The duration in milliseconds."""
        return self.ns / 1e6

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return self.ns / 1e9

    def _key(self) -> tuple[int, ...]:
        return (self.ns,)

    def __lt__(self, other: Duration) -> bool:
        return self.ns < other.ns if isinstance(other, Duration) else NotImplemented

    def __bool__(self) -> bool:
        return self.ns > 0

    def __str__(self) -> str:
        """Return the shortest text in falling units: `1h30m`, `1m30s`, `1.5s`, `250ms`, `100us`,
        `0s`."""
        return _written(self.ns)

    def __repr__(self) -> str:
        return f"Duration.parse({str(self)!r})"


@functools.lru_cache(maxsize=1024)  # each change writes a dozen of them for each endpoint
def _written(ns: int) -> str:
    minutes, ns = divmod(ns, _NS["m"])
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h" * (hours > 0) + f"{minutes}m" * (minutes > 0)
    if not ns:
        return text or "0s"
    unit = "s" if text else next(u for u in ("s", "ms", "us", "ns") if ns >= _NS[u])
    whole, rest = divmod(ns, _NS[unit])
    fraction = f"{rest:0{len(str(_NS[unit])) - 1}}".rstrip("0") if rest else ""
    return f"{text}{whole}{fraction and '.'}{fraction}{unit}"


class Size(int):
    """A number of bytes, zero or more; an int in all but its text.

    >>> Size.parse("64KiB") + 1
    65537
    >>> str(Size(65536))
    '64KiB'
    """

    def __new__(cls, n_bytes: int) -> Size:
        if n_bytes < 0:
            raise ValueError(f"{int(n_bytes)} is negative")
        if n_bytes > MAX_INT64:
            raise ValueError("a size must be below 8 EiB")
        return super().__new__(cls, n_bytes)

    @classmethod
    def parse(cls, value: object) -> Size:
        """Read a `value`: a whole number of bytes, or a text such as "512B", "64KiB", "1 MiB", "2GiB".

        Raise ValueError for anything else; "KB" and the like are refused, since they have two meanings.
        """
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value % 1 == 0:
            return cls(int(value))
        if not isinstance(value, str) or len(value) > _MAX_TEXT:
            raise ValueError(f"{value!r:.80} is not a size")
        if value.startswith("-"):
            raise ValueError(f"{value!r} is negative")
        match = _SIZE.fullmatch(value)
        if match is None:
            if _EXPONENT.fullmatch(value) and (number := whole_number(value)) is not None:
                return cls(number)
            raise ValueError(f"{value!r} is not a size")
        digits, unit = match.groups()
        if unit not in _BYTES:
            # "KB" is 1000 bytes to some and 1024 to others.
            raise ValueError(f"{value!r} has the unknown unit {unit!r}")
        return cls(int(digits) * _BYTES[unit])

    def __str__(self) -> str:
        """Return the text in the largest unit that divides it."""
        n = int(self)
        for unit in ("TiB", "GiB", "MiB", "KiB"):
            if n and n % _BYTES[unit] == 0:
                return f"{n // _BYTES[unit]}{unit}"
        return f"{n:d}"

    def __repr__(self) -> str:
        return f"Size({int(self)})"


class Rate(_Frozen):
    """At most `count` in a span of time, with `burst` at once.

    `burst` defaults to one second's worth, at least 1.

    >>> Rate.parse("6000/m").per_second
    100.0
    >>> Rate.parse({"rate": "100/s", "burst": 20})
    Rate.parse('100/s burst 20')
    """

    __slots__ = ("burst", "count", "span_ns")
    count: int
    span_ns: int
    burst: int

    def __init__(self, count: int, span_ns: int = _NS["s"], burst: int | None = None) -> None:
        """Make a rate of `count` in `span_ns` nanoseconds (a second, a minute or an hour), `burst` at
        once.

        Raise ValueError for another span, and for numbers that let nothing through or are out of range.
        """
        if span_ns not in _SPANS.values():
            raise ValueError(f"a rate counts per second, minute or hour, not per {span_ns} ns")
        if count < 1:
            raise ValueError(f"a rate of {count} lets nothing through")
        if count * _NS["s"] > span_ns * _MAX_RATE:
            raise ValueError(f"a rate of {count} in {Duration(span_ns)} is over {_MAX_RATE}/s")
        if burst is None:
            burst = max(1, count * _NS["s"] // span_ns)
        if not 1 <= burst <= _MAX_RATE:
            raise ValueError(f"a burst of {burst} is not between 1 and {_MAX_RATE}")
        for name, value in zip(("count", "span_ns", "burst"), (count, span_ns, burst), strict=True):
            object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, value: object) -> Rate:
        """Read a `value`: "100/s", "6000/m", "10/h burst 5", or a mapping {"rate": "10/h", "burst": 5}.

        Raise ValueError for anything else, with what is wrong with it.
        """
        text = value
        if isinstance(value, dict):
            if unknown := sorted(map(str, value.keys() - {"rate", "burst"})):
                raise ValueError(f"a rate has no {unknown[0]!r}")
            text = value.get("rate")
            if "burst" in value:
                burst = str(value["burst"])
                text = f"{text} burst {burst if burst.isdigit() else whole_number(burst)}"
        match = _RATE.fullmatch(text) if isinstance(text, str) and len(text) <= _MAX_TEXT else None
        if match is None:
            raise ValueError(f"{value!r:.80} is not a rate")
        return cls(int(match[1]), _NS[match[2]], int(match[3]) if match[3] else None)

    @property
    def per_second(self) -> float:
        """The rate as a number in each second."""
        return self.count * _NS["s"] / self.span_ns

    @property
    def interval_ns(self) -> int:
        """The time between two at an even rate, in whole nanoseconds."""
        return self.span_ns // self.count

    def _key(self) -> tuple[int, ...]:
        return self.count, self.span_ns, self.burst

    def __str__(self) -> str:
        unit = next(unit for unit, ns in _SPANS.items() if ns == self.span_ns)
        default = self == Rate(self.count, self.span_ns)
        return f"{self.count}/{unit}" + ("" if default else f" burst {self.burst}")

    def __repr__(self) -> str:
        return f"Rate.parse({str(self)!r})"


class Threshold(_Frozen):
    """More than `count` in a span of time, looked at through a sliding window.

    The window is the rate's own second, minute or hour, or as given: a longer one sees less of short
    surges, a shorter one is quicker.

    >>> Threshold.parse("100/s").limit
    100
    >>> Threshold.parse({"rate": "100/s", "window": "10s"})
    Threshold.parse('100/s over 10s')
    """

    __slots__ = ("count", "span_ns", "window_ns")
    count: int
    span_ns: int
    window_ns: int

    def __init__(self, count: int, span_ns: int = _NS["s"], window_ns: int | None = None) -> None:
        """Make a threshold of `count` in `span_ns` nanoseconds (a second, a minute or an hour).

        It is looked at through a window of `window_ns` nanoseconds, by default the span. Raise
        ValueError for another span, and for a window or numbers that are out of range.
        """
        if span_ns not in _SPANS.values():
            raise ValueError(f"a threshold counts per second, minute or hour, not per {span_ns} ns")
        if count < 1:
            raise ValueError(f"a threshold of {count} filters nothing")
        if window_ns is None:
            window_ns = span_ns
        window = Duration(window_ns)
        if not _MIN_WINDOW <= window_ns <= _MAX_WINDOW:
            low, high = Duration(_MIN_WINDOW), Duration(_MAX_WINDOW)
            raise ValueError(f"a window of {window} is not between {low} and {high}")
        for name, value in (("count", count), ("span_ns", span_ns), ("window_ns", window_ns)):
            object.__setattr__(self, name, value)
        if not 1 <= self.limit <= _MAX_IN_WINDOW:
            raise ValueError(
                f"{count} in {Duration(span_ns)} are {self.limit} in a window of {window}, "
                f"not between 1 and {_MAX_IN_WINDOW}"
            )

    @classmethod
    def parse(cls, value: object) -> Threshold:
        """Read a `value`: "100/s", "100/s over 10s", or a mapping {"rate": "100/s", "window": "10s"}.

        Raise ValueError for anything else, with what is wrong with it.
        """
        text = value
        if isinstance(value, dict):
            if unknown := sorted(map(str, value.keys() - {"rate", "window"})):
                raise ValueError(f"a threshold has no {unknown[0]!r}")
            text = value.get("rate")
            if "window" in value:
                text = f"{text} over {value['window']}"
        short = isinstance(text, str) and len(text) <= _MAX_TEXT
        match = _THRESHOLD.fullmatch(str(text)) if short else None
        if match is None:
            raise ValueError(f"{value!r:.80} is not a threshold")
        window_ns = Duration.parse(match[3]).ns if match[3] else None
        return cls(int(match[1]), _NS[match[2]], window_ns)

    @property
    def limit(self) -> int:
        """The largest number of events in a window that does not exceed the threshold."""
        return self.count * self.window_ns // self.span_ns

    def _key(self) -> tuple[int, ...]:
        return self.count, self.span_ns, self.window_ns

    def __str__(self) -> str:
        unit = next(unit for unit, ns in _SPANS.items() if ns == self.span_ns)
        over = "" if self.window_ns == self.span_ns else f" over {Duration(self.window_ns)}"
        return f"{self.count}/{unit}{over}"

    def __repr__(self) -> str:
        return f"Threshold.parse({str(self)!r})"
