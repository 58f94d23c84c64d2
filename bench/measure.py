"""Statistics of repeats: percentiles, medians, spread, and whether a figure is steady."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

__all__ = ["MAX_SPREAD", "MIN_REPEATS", "Figures", "Summary", "percentile", "spread", "steady"]

#: what one repeat measured, by name
Figures = dict[str, float]

#: a figure is steady if the middle half of its repeats lies within this share of their median...
MAX_SPREAD = 0.10
#: ... of at least so many; both are arbitrary
MIN_REPEATS = 3


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which `share` of an ascending sequence lies (nearest rank, upwards)."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def quartiles(values: Iterable[float]) -> tuple[float, float]:
    """Return the first and the third, interpolated linearly between neighbours."""
    ordered = sorted(values)

    def at(share: float) -> float:
        place = (len(ordered) - 1) * share
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

    return at(0.25), at(0.75)


def spread(values: Sequence[float]) -> float:
    """Return the range of the middle half as a share of the median (IQR / median); 0 for a median of
    0."""
    middle = median(values)
    low, high = quartiles(values)
    return (high - low) / abs(middle) if middle else 0.0


def steady(values: Sequence[float], repeats: int = MIN_REPEATS) -> bool:
    """Return whether there are enough repeats, and they agree."""
    return len(values) >= repeats and spread(values) <= MAX_SPREAD


class Summary(NamedTuple):
    """One figure over the repeats of a row."""

    median: float
    least: float
    greatest: float
    spread: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        return cls(median(values), min(values), max(values), spread(values), len(values))


def summarize(runs: Sequence[Figures]) -> dict[str, Summary]:
    """Summarize each figure that any repeat measured."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: Summary.of([run[name] for run in runs if name in run]) for name in names}
