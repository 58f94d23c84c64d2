"""`fluxhook audit`: what was given up and erased."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import click

from fluxhook.admin.references import reference
from fluxhook.cli import options
from fluxhook.cli.output import out, plural, print_lines, safe, table
from fluxhook.cli.remote import Remote
from fluxhook.errors import EngineNotRunning
from fluxhook.store.audit import AuditEntry, read_audit
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.snapshot import Snapshot

__all__ = ["command"]


@click.command()
@options.as_json_lines
@options.endpoint
@click.option("--event", "event_id", metavar="ID", help="Only this event's.")
@click.option(
    "-n",
    "--last",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only the newest N.",
)
@options.remote
def command(
    remote: Remote, as_json: bool, endpoint: str | None, event_id: str | None, last: int | None
) -> None:
    """Show what was given up and erased.

    An event that could not be delivered is kept for `retention`, then its entry is written here and
    the event is erased. The oldest entry comes first. Reads the data directory, whether its engine
    runs or not; with --api, asks the engine there.
    """
    entries: Iterable[AuditEntry]
    if remote.url is None:
        entries = _read(remote.data_dir, endpoint, event_id, last)
    else:
        newest_first = remote.connect().pages(
            "/v1/audit", AuditEntry, last=last, endpoint=endpoint, event_id=event_id
        )
        entries = reversed(list(newest_first))
    if as_json:
        print_lines(entries)
    else:
        _print(list(entries))


def _read(
    data_dir: str, endpoint: str | None, event_id: str | None, last: int | None
) -> Iterable[AuditEntry]:
    datadir = DataDir(data_dir)
    if not datadir.snapshot.exists():
        raise EngineNotRunning(f"no fluxhook engine was ever started on {datadir.path}")
    if endpoint is not None:
        endpoint = _named(datadir, endpoint)
    entries = (
        entry
        for entry in read_audit(datadir.audit)
        if endpoint in (None, entry.endpoint) and event_id in (None, entry.event_id)
    )
    return entries if last is None else deque(entries, maxlen=last)


def _named(datadir: DataDir, text: str) -> str:
    """Return the name that a text refers to; the trail has names only."""
    meant = reference(text)
    if meant.name is not None:
        return meant.name
    ids = Snapshot.load(datadir).ids
    return next((name for name, id in ids.items() if id == meant.id), text)


def _print(entries: list[AuditEntry]) -> None:
    console = out()
    if not entries:
        console.print("Nothing was given up and erased.")
        return
    listed = table(
        "erased at", "endpoint", "type", "event", "attempts", "cause", "error", right=("attempts",)
    )
    for entry in entries:
        texts = (entry.at, entry.endpoint, entry.type, entry.event_id)
        ends = (entry.cause, entry.error)
        listed.add_row(*map(safe, texts), str(entry.attempts), *map(safe, ends))
    console.print(listed)
    console.print(plural(len(entries), "entry", "entries"))
