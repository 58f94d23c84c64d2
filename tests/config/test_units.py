"""Durations, sizes, rates and thresholds."""

from __future__ import annotations

import doctest
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.strategies import durations, rates, sizes, thresholds
from fluxhook.config import secret, units
from fluxhook.config.units import MAX_INT64, Duration, Rate, Size, Threshold


@pytest.mark.parametrize(
    ("text", "ns", "canonical"),
    [
        ("250ms", 250_000_000, "250ms"),
        ("3s", 3_000_000_000, "3s"),
        ("2m", 120_000_000_000, "2m"),
        ("1h30m", 5_400_000_000_000, "1h30m"),
        ("1.5s", 1_500_000_000, "1.5s"),
        ("0s", 0, "0s"),
        ("0", 0, "0s"),
        ("100us", 100_000, "100us"),
        ("100µs", 100_000, "100us"),
        ("100μs", 100_000, "100us"),
        ("1ns", 1, "1ns"),
        ("60s", 60_000_000_000, "1m"),
        ("90s", 90_000_000_000, "1m30s"),
        ("24h", 86_400_000_000_000, "24h"),
        ("1m0.5s", 60_500_000_000, "1m0.5s"),
        ("0.001ms", 1_000, "1us"),
        ("1h0m0s", 3_600_000_000_000, "1h"),
        ("+0", 0, "0s"),
        ("-0s", 0, "0s"),
        ("+1.5h", 5_400_000_000_000, "1h30m"),
        (".5s", 500_000_000, "500ms"),
        ("1.s", 1_000_000_000, "1s"),
        ("1.9ns", 1, "1ns"),
        ("0.1ns", 0, "0s"),
    ],
)
def test_duration_notation(text: str, ns: int, canonical: str) -> None:
    """Go's notation is read, and written in its shortest form."""
    assert Duration.parse(text).ns == ns
    assert str(Duration.parse(text)) == canonical


@pytest.mark.parametrize(
    ("value", "piece"),
    [
        ("", "is not a duration"),
        ("3", "has no unit"),
        ("1.5", "has no unit"),
        ("-3s", "is negative"),
        ("3x", "is not a duration"),
        ("3 s", "is not a duration"),
        (".s", "is not a duration"),
        ("--3s", "is not a duration"),
        ("3s-1s", "is not a duration"),
        ("s", "is not a duration"),
        ("3s!", "is not a duration"),
        ("\uff11s", "is not a duration"),
        ("300000000h", "below 292 years"),
        ("9" * 60 + "h", "below 292 years"),
        ("9" * 5000 + "h", "is not a duration"),
        (5, "5 is not a duration"),
        (None, "is not a duration"),
    ],
)
def test_bad_durations(value: Any, piece: str) -> None:
    """Anything else is refused with a sentence that holds the value."""
    with pytest.raises(ValueError, match=piece):
        Duration.parse(value)


@given(durations)
def test_durations_round_trip(duration: Duration) -> None:
    """A duration's text reads back as the same duration; so does its pickle."""
    assert Duration.parse(str(duration)) == duration
    assert eval(repr(duration)) == duration
    assert pickle.loads(pickle.dumps(duration)) == duration


@given(durations, durations)
def test_durations_are_ordered_values(a: Duration, b: Duration) -> None:
    """Durations compare as their nanoseconds do, and equal ones hash alike."""
    assert (a < b, a <= b, a == b) == (a.ns < b.ns, a.ns <= b.ns, a.ns == b.ns)
    assert hash(a) == hash(Duration(a.ns))
    assert bool(a) == (a.ns > 0)


def test_duration_units() -> None:
    """A duration is read in the unit that the reader names."""
    duration = Duration.parse("1.5s")
    assert (duration.ns, duration.ms, duration.seconds) == (1_500_000_000, 1500.0, 1.5)
    assert duration != 1_500_000_000


@pytest.mark.parametrize("value", [Duration(1), Rate(1), Threshold(1)])
def test_units_cannot_be_changed(value: Duration | Rate | Threshold) -> None:
    """A value that structs share does not change under them."""
    with pytest.raises(AttributeError, match="cannot be changed"):
        setattr(value, "ns", 2)  # noqa: B010
    with pytest.raises(AttributeError, match="cannot be changed"):
        delattr(value, "ns")


@pytest.mark.parametrize(
    ("value", "n_bytes", "canonical"),
    [
        (1024, 1024, "1KiB"),
        ("1024", 1024, "1KiB"),
        ("64KiB", 65_536, "64KiB"),
        ("1MiB", 1_048_576, "1MiB"),
        ("2 GiB", 2**31, "2GiB"),
        ("1TiB", 2**40, "1TiB"),
        ("512B", 512, "512"),
        ("1025", 1025, "1025"),
        (0, 0, "0"),
    ],
)
def test_size_notation(value: Any, n_bytes: int, canonical: str) -> None:
    """Sizes are whole bytes or binary units, and ints in every calculation."""
    size = Size.parse(value)
    assert size == n_bytes
    assert size // 2 + 1 == n_bytes // 2 + 1
    assert str(size) == canonical


@pytest.mark.parametrize(
    ("value", "piece"),
    [
        (-1, "-1 is negative"),
        ("-1KiB", "is negative"),
        ("64KB", "unknown unit 'KB'"),
        ("1.5MiB", "is not a size"),
        ("KiB", "is not a size"),
        ("", "is not a size"),
        ("9" * 20, "below 8 EiB"),
        ("9" * 5000, "is not a size"),
        (2**63, "below 8 EiB"),
        (1.5, "is not a size"),
        (True, "is not a size"),
        (None, "is not a size"),
    ],
)
def test_bad_sizes(value: Any, piece: str) -> None:
    """Anything else is refused; so are units that mean 1000 to some and 1024 to others."""
    with pytest.raises(ValueError, match=piece):
        Size.parse(value)


@given(sizes)
def test_sizes_round_trip(size: Size) -> None:
    """A size's text reads back as the same size."""
    assert Size.parse(str(size)) == size
    assert eval(repr(size)) == size


@pytest.mark.parametrize(
    ("value", "per_second", "burst", "interval_ns"),
    [
        ("100/s", 100.0, 100, 10_000_000),
        ("6000/m", 100.0, 100, 10_000_000),
        ("10/h", 10 / 3600, 1, 360_000_000_000),
        ("10/h burst 5", 10 / 3600, 5, 360_000_000_000),
        ({"rate": "100/s", "burst": 20}, 100.0, 20, 10_000_000),
        ({"rate": "100/s", "burst": "20"}, 100.0, 20, 10_000_000),
        ({"rate": "100/s"}, 100.0, 100, 10_000_000),
        ("1000000/s", 1e6, 1_000_000, 1_000),
    ],
)
def test_rate_notation(value: Any, per_second: float, burst: int, interval_ns: int) -> None:
    """A rate has a pace and a burst, by default one second's worth."""
    rate = Rate.parse(value)
    assert rate.per_second == pytest.approx(per_second)
    assert (rate.burst, rate.interval_ns) == (burst, interval_ns)


@pytest.mark.parametrize(
    ("value", "piece"),
    [
        ("100", "is not a rate"),
        ("100/d", "is not a rate"),
        ("-1/s", "is not a rate"),
        ("0/s", "lets nothing through"),
        ("1000001/s", "over 1000000/s"),
        ("1/s burst 0", "burst of 0"),
        ("1/s burst 1000001", "burst of 1000001"),
        ({"rate": "1/s", "burst": -1}, "is not a rate"),
        ({"rate": "1/s", "brust": 1}, "a rate has no 'brust'"),
        ({"burst": 1}, "is not a rate"),
        ({}, "is not a rate"),
        ("9" * 5000 + "/s", "is not a rate"),
        (100, "100 is not a rate"),
        (None, "is not a rate"),
    ],
)
def test_bad_rates(value: Any, piece: str) -> None:
    """Anything else is refused with a sentence."""
    with pytest.raises(ValueError, match=piece):
        Rate.parse(value)


@pytest.mark.parametrize(
    ("value", "limit", "window_s"),
    [
        ("100/s", 100, 1),
        ("6000/m", 6000, 60),
        ("10/h", 10, 3600),
        ("100/s over 10s", 1000, 10),
        ("6000/m over 1s", 100, 1),
        ("10/s over 250ms", 2, 0.25),
        ({"rate": "100/s", "window": "10s"}, 1000, 10),
        ({"rate": "100/s"}, 100, 1),
    ],
)
def test_threshold_notation(value: Any, limit: int, window_s: float) -> None:
    """A threshold has a window, by default its rate's span, and a number of events in it."""
    threshold = Threshold.parse(value)
    assert (threshold.limit, threshold.window_ns) == (limit, window_s * 1e9)


@pytest.mark.parametrize(
    ("value", "piece"),
    [
        ("100", "is not a threshold"),
        ("100/d", "is not a threshold"),
        ("100/s burst 5", "is not a threshold"),
        ("0/s", "filters nothing"),
        ("100/s over 10", "'10' has no unit"),
        ("100/s over 99ms", "a window of 99ms is not between 100ms and 24h"),
        ("100/s over 25h", "a window of 25h is not between"),
        ("10/h over 1s", "10 in 1h are 0 in a window of 1s, not between 1 and"),
        ("100001/s over 10s", "are 1000010 in a window of 10s"),
        ({"rate": "1/s", "windw": "1s"}, "a threshold has no 'windw'"),
        ({"window": "1s"}, "is not a threshold"),
        ({}, "is not a threshold"),
        ("9" * 5000 + "/s", "is not a threshold"),
        (100, "100 is not a threshold"),
    ],
)
def test_bad_thresholds(value: Any, piece: str) -> None:
    """Anything else is refused with a sentence."""
    with pytest.raises(ValueError, match=piece):
        Threshold.parse(value)


@given(thresholds)
def test_thresholds_round_trip(threshold: Threshold) -> None:
    """A threshold's text reads back as the same threshold."""
    assert Threshold.parse(str(threshold)) == threshold
    assert eval(repr(threshold)) == threshold
    assert pickle.loads(pickle.dumps(threshold)) == threshold


@pytest.mark.parametrize(
    "make",
    [lambda: Duration(-1), lambda: Size(-1), lambda: Rate(1, 5), lambda: Threshold(1, 5)],
)
def test_values_out_of_range(make: Any) -> None:
    """No unit can be built out of its range."""
    with pytest.raises(ValueError, match=r"negative|per second"):
        make()


def test_durations_end() -> None:
    """The longest duration is the largest 64-bit word."""
    assert Duration(MAX_INT64) == Duration.parse(f"{MAX_INT64}ns")
    with pytest.raises(ValueError, match="292 years"):
        Duration(MAX_INT64 + 1)


@given(rates)
def test_rates_round_trip(rate: Rate) -> None:
    """A rate's text reads back as the same rate."""
    assert Rate.parse(str(rate)) == rate
    assert eval(repr(rate)) == rate
    assert pickle.loads(pickle.dumps(rate)) == rate


@given(st.text() | st.integers() | st.none() | st.floats() | st.lists(st.text()))
def test_parsing_raises_nothing_but_value_errors(value: Any) -> None:
    """Whatever stands in a file, a unit reads it or raises ValueError."""
    for kind in (Duration, Size, Rate, Threshold):
        try:
            kind.parse(value)
        except ValueError:
            continue


def test_examples() -> None:
    """Every example in a docstring is true."""
    assert [doctest.testmod(module).failed for module in (units, secret)] == [0, 0]
