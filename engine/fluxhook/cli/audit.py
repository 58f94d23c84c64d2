"""`fluxhook audit`: what was given up and erased."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import click
import msgspec
from rich.table import Table

from fluxhook.cli import options
from fluxhook.cli.output import out, plural, safe
from fluxhook.errors import EngineNotRunning
from fluxhook.store.audit import AuditEntry, read_audit
from fluxhook.transport.datadir import DataDir

__all__ = ["command"]


@click.command()
@options.data_dir
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
@click.option("--endpoint", metavar="NAME", help="Only this endpoint's.")
@click.option("--event", "event_id", metavar="ID", help="Only this event's.")
@click.option(
    "-n",
    "--last",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only the newest N.",
)
def command(
    data_dir: str, as_json: bool, endpoint: str | None, event_id: str | None, last: int | None
) -> None:
    """Show what was given up and erased.

    An event that could not be delivered is kept for `retention`, then its entry is written here and
    the event is erased. The oldest entry comes first. Works whether the engine runs or not.
    """
    datadir = DataDir(data_dir)
    if not datadir.snapshot.exists():
        raise EngineNotRunning(f"no fluxhook engine was ever started on {datadir.path}")
    entries: Iterable[AuditEntry] = (
        entry
        for entry in read_audit(datadir.audit)
        if endpoint in (None, entry.endpoint) and event_id in (None, entry.event_id)
    )
    if last is not None:
        entries = deque(entries, maxlen=last)
    if as_json:
        for entry in entries:
            click.echo(msgspec.json.encode(entry))
    else:
        _print(list(entries))


def _print(entries: list[AuditEntry]) -> None:
    console = out()
    if not entries:
        console.print("Nothing was given up and erased.")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("erased at", "endpoint", "type", "event", "attempts", "cause", "error"):
        table.add_column(title, overflow="fold", justify="right" if title == "attempts" else "left")
    for entry in entries:
        texts = (entry.at, entry.endpoint, entry.type, entry.event_id)
        ends = (entry.cause, entry.error)
        table.add_row(*map(safe, texts), str(entry.attempts), *map(safe, ends))
    console.print(table)
    console.print(plural(len(entries), "entry", "entries"))
