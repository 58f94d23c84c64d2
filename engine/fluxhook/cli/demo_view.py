"""How the demo looks: a table that changes in place, or plain lines where no terminal is."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fluxhook.cli.demo_load import NAMES
from fluxhook.cli.demo_receiver import Report
from fluxhook.cli.output import number
from fluxhook.cli.status_view import endpoint_state
from fluxhook.stats import Stats

__all__ = ["View"]

#: between two looks: of a terminal, and of plain lines
LIVE_S, PLAIN_S = 0.25, 2.0


class View:
    """Shows the run. Use it in a `with` block; `quiet` shows nothing."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._quiet = quiet
        self._console = console
        self._live = (
            Live(console=console, auto_refresh=False, transient=True)
            if console.is_terminal and not quiet
            else None
        )
        self._started = self._shown = time.monotonic()
        self._delivered = 0
        self._rate = 0.0

    def __enter__(self) -> View:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def begin(self, data_dir: str) -> None:
        if not self._quiet:
            said = f"An engine in {data_dir} and three receivers: {', '.join(NAMES)}"
            self._console.print(said, soft_wrap=True)

    @property
    def due(self) -> bool:
        interval_s = LIVE_S if self._live is not None else PLAIN_S
        return not self._quiet and time.monotonic() - self._shown >= interval_s

    def show(
        self, phase: str, share: float, emitted: int, stats: Stats, reports: Mapping[str, Report]
    ) -> None:
        """Show the state now that `share` of the whole run is over."""
        now = time.monotonic()
        delivered = sum(endpoint.delivered for endpoint in stats.endpoints)
        self._rate = (delivered - self._delivered) / (now - self._shown)
        self._delivered, self._shown = delivered, now
        if self._live is not None:
            self._live.update(self._frame(phase, share, emitted, stats, reports), refresh=True)
            return
        parts = [f"{now - self._started:4.0f} s  {phase:<48} emitted {number(emitted):>7}"]
        parts += [
            f"{e.name} {number(e.delivered)} of {number(e.accepted)} ({e.state})"
            for e in stats.endpoints
        ]
        self._console.print("   ".join(parts), soft_wrap=True)

    def _frame(
        self, phase: str, share: float, emitted: int, stats: Stats, reports: Mapping[str, Report]
    ) -> Group:
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        table.add_column("endpoint")
        table.add_column("state", min_width=9)
        for column in ("accepted", "delivered", "dead", "pending", "failed\nattempts", "requests"):
            table.add_column(column, justify="right", min_width=7)
        for name in NAMES:
            e = stats.endpoint(name)
            table.add_row(
                name,
                endpoint_state(e.state),
                number(e.accepted),
                number(e.delivered),
                number(e.dead),
                number(e.pending),
                number(e.failed_attempts),
                number(reports[name].requests),
            )
        elapsed = time.monotonic() - self._started
        headline = Text.assemble(
            (f"{phase}", "bold cyan"),
            f"  {elapsed:.0f} s  {number(emitted)} events emitted  {number(self._rate)} deliveries/s",
        )
        return Group(headline, ProgressBar(total=1.0, completed=share, width=60), "", table)
