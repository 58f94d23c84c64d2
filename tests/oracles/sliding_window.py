"""The sliding window that remembers every event: what two counters stand in for."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction


@dataclass
class SlidingWindow:
    """Exact, and as large as its events are many."""

    window_ns: int
    times_ns: list[int] = field(default_factory=list)

    def add(self, now_ns: int) -> int:
        """The events in the window that ends now, this one included."""
        self.times_ns.append(now_ns)
        return sum(now_ns - self.window_ns < t <= now_ns for t in self.times_ns)

    def error_bounds(self) -> tuple[Fraction, Fraction]:
        """Return how far below and above the exact number an estimate may be that takes the fixed
        window before the latest event's for even."""
        number, elapsed_ns = divmod(self.times_ns[-1], self.window_ns)
        before = sum(t // self.window_ns == number - 1 for t in self.times_ns)
        gone = Fraction(elapsed_ns, self.window_ns)
        return (gone * before + 1 if before else Fraction(0)), (1 - gone) * before
