"""`fluxhook audit`: what was given up and erased, and who changed what."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TypeVar

import click

from fluxhook.admin.paging import parse_moment
from fluxhook.admin.problem_details import RequestError
from fluxhook.admin.references import reference
from fluxhook.admin.trails import said_of
from fluxhook.cli import options
from fluxhook.cli.output import out, plural, print_lines, safe, table
from fluxhook.cli.remote import Remote
from fluxhook.errors import EngineNotRunning
from fluxhook.store.audit import AuditEntry, ChangeEntry, read_audit, read_changes, timestamp
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.snapshot import Snapshot

__all__ = ["command"]

E = TypeVar("E")


@click.command()
@click.option("--changes", is_flag=True, help="Show who changed what instead.")
@options.as_json_lines
@options.endpoint
@click.option("--event", "event_id", metavar="ID", help="Only this event's.")
@click.option("--actor", metavar="NAME", help="Only the changes of this one, with --changes.")
@click.option(
    "--since",
    metavar="TIME",
    help="Only entries from TIME on, such as 2026-02-05T12:00:00Z, or 15m for that long ago.",
)
@options.limit(None)
@options.remote
def command(
    remote: Remote,
    changes: bool,
    as_json: bool,
    endpoint: str | None,
    event_id: str | None,
    actor: str | None,
    since: str | None,
    last: int | None,
) -> None:
    """Show what was given up and erased or, with --changes, who changed what.

    An event that could not be delivered is kept for `retention`, then its entry is written here and
    the event is erased. A change of the engine has its entry before it is made: who asked for it, by
    what way, and what was there before and after, without secrets.

    The oldest entry comes first. Reads the data directory, whether its engine runs or not; with --api,
    asks the engine there.
    """
    if changes and event_id is not None:
        raise click.UsageError("--event is for what was erased; leave out --changes.")
    if actor is not None and not changes:
        raise click.UsageError("--actor is for changes; add --changes.")
    if changes:
        made = _changes(remote, endpoint, actor, since, last)
        if as_json:
            print_lines(made)
        else:
            _print_changes(list(made))
        return
    entries = _erased(remote, endpoint, event_id, since, last)
    if as_json:
        print_lines(entries)
    else:
        _print(list(entries))


def _erased(
    remote: Remote, endpoint: str | None, event_id: str | None, since: str | None, last: int | None
) -> Iterable[AuditEntry]:
    if remote.url is not None:
        newest_first = remote.connect().pages(
            "/v1/audit", AuditEntry, last=last, endpoint=endpoint, event_id=event_id, since=since
        )
        return reversed(list(newest_first))
    datadir, named, low = _local(remote, endpoint, since)
    return _newest(
        (
            entry
            for entry in read_audit(datadir.audit)
            if named in (None, entry.endpoint)
            and event_id in (None, entry.event_id)
            and entry.at >= low
        ),
        last,
    )


def _changes(
    remote: Remote, endpoint: str | None, actor: str | None, since: str | None, last: int | None
) -> Iterable[ChangeEntry]:
    if remote.url is not None:
        newest_first = remote.connect().pages(
            "/v1/changes", ChangeEntry, last=last, endpoint=endpoint, actor=actor, since=since
        )
        return reversed(list(newest_first))
    datadir, named, low = _local(remote, endpoint, since)
    return _newest(
        (
            entry
            for entry in read_changes(datadir.audit)
            if (named is None or entry.concerns(named))
            and actor in (None, entry.actor)
            and entry.at >= low
        ),
        last,
    )


def _local(
    remote: Remote, endpoint: str | None, since: str | None
) -> tuple[DataDir, str | None, str]:
    """Return the data directory, the name of the endpoint, and the time of the earliest entry."""
    datadir = DataDir(remote.data_dir)
    if not datadir.snapshot.exists():
        raise EngineNotRunning(f"no fluxhook engine was ever started on {datadir.path}")
    try:
        since_ns = parse_moment(since, "--since")
    except RequestError as error:
        (fault,) = error.faults
        raise click.UsageError(f"{error}; {fault.remedy}.") from None
    named = None if endpoint is None else _named(datadir, endpoint)
    return datadir, named, "" if since_ns is None else timestamp(since_ns)


def _newest(entries: Iterable[E], last: int | None) -> Iterable[E]:
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


def _print_changes(entries: list[ChangeEntry]) -> None:
    console = out()
    if not entries:
        console.print("Nothing was changed.")
        return
    listed = table("at", "actor", "via", "action", "target", "what")
    for entry in entries:
        texts = (entry.at, entry.actor, entry.via, entry.action, entry.target)
        listed.add_row(*map(safe, texts), safe(said_of(entry)))
    console.print(listed)
    console.print(plural(len(entries), "entry", "entries"))
