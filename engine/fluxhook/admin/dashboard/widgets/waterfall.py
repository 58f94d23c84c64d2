"""An attempt's time as bars, one below the other: where it went."""

from __future__ import annotations

from typing import NamedTuple

from fluxhook.admin.dashboard.widgets.dom import tag, text
from fluxhook.admin.dashboard.words import milliseconds
from fluxhook.admin.models import Timings

__all__ = ["Stage", "show_waterfall", "stages"]


class Stage(NamedTuple):
    """A part of an attempt, in milliseconds since its beginning."""

    name: str
    kind: str
    from_ms: float
    to_ms: float


def stages(timings: Timings) -> list[Stage]:
    """Return what happened, in its order; a kept connection has neither a look-up nor a handshake.

    >>> t = Timings(dns_ms=None, connect_ms=1.0, tls_ms=None, first_byte_ms=3.0, total_ms=3.5)
    >>> [(stage.name, stage.from_ms, stage.to_ms) for stage in stages(t)]
    [('Connect', 0.0, 1.0), ('Waiting', 1.0, 3.0), ('Answer', 3.0, 3.5)]
    """
    found, at = [], 0.0
    for name, kind, end in (
        ("Name look-up", "dns", timings.dns_ms),
        ("Connect", "connect", timings.connect_ms),
        ("TLS", "tls", timings.tls_ms),
        ("Waiting", "wait", timings.first_byte_ms),
        ("Answer" if timings.first_byte_ms else "Waiting", "answer", timings.total_ms),
    ):
        if end is not None and end > at:
            found.append(Stage(name, kind, at, end))
            at = end
    return found


def show_waterfall(timings: Timings, scale_ms: float) -> None:
    """Draw the stages; `scale_ms` is as long as the whole width, the same for all attempts of a
    delivery."""
    with tag("dl", "waterfall"):
        for stage in stages(timings):
            text("dt", stage.name)
            with tag("dd"):
                with tag("span", "track", aria_hidden="true"):
                    bar = tag("span", f"stage {stage.kind}")
                left = 100 * stage.from_ms / scale_ms
                width = 100 * (stage.to_ms - stage.from_ms) / scale_ms
                bar.style(f"left:{left:.2f}%;width:{width:.2f}%")
                text("span", milliseconds(stage.to_ms - stage.from_ms), "figure")
