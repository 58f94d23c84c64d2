"""Pages of the two trails: what was given up and erased, and who changed what; the newest first."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from fluxhook.admin.models import Page
from fluxhook.admin.paging import delivery_filter, parse_cursor, write_cursor
from fluxhook.config.option import written
from fluxhook.store.audit import AuditEntry, ChangeEntry, read_audit, read_changes, timestamp
from fluxhook.store.queries import DeliveryFilter

__all__ = ["EVERY_CHANGE", "ChangeFilter", "changes_page", "erased_page", "said_of"]


class ChangeFilter(NamedTuple):
    """Which changes: all that are given must hold. Times are as in a request (admin/paging.py)."""

    endpoint: str | None = None
    actor: str | None = None
    action: str | None = None
    since: str | None = None
    until: str | None = None


EVERY_CHANGE: Final = ChangeFilter()


def erased_page(
    folder: Path, which: DeliveryFilter, action: str | None, cursor: str | None, limit: int
) -> Page[AuditEntry]:
    """Return what was given up and erased. The filter's times are those of the entries."""
    key = parse_cursor(cursor, "audit", (str, int))
    # Entries have no number of their own, and files rotate away: the key is the time of the last one,
    # and how many of that very time were shown.
    last, shown = (str(key[0]), int(key[1])) if key is not None else ("", 0)
    low = "" if which.since_ns is None else timestamp(which.since_ns)
    high = None if which.until_ns is None else timestamp(which.until_ns)

    def wanted(entry: AuditEntry) -> bool:
        return (
            entry.at >= low
            and (high is None or entry.at < high)
            and which.endpoint in (None, entry.endpoint)
            and which.type in (None, entry.type)
            and which.event_id in (None, entry.event_id)
            and action in (None, entry.action)
            and (not last or entry.at <= last)
        )

    # One more than a page: it tells whether there is another.
    trail = read_audit(folder, newest_first=True)
    entries = list(islice(filter(wanted, trail), shown, limit + shown + 1))
    if len(entries) <= limit:
        return Page(entries)
    entries = entries[:limit]
    at = entries[-1].at
    same = sum(entry.at == at for entry in entries) + (shown if at == last else 0)
    return Page(entries, write_cursor("audit", at, same))


def changes_page(
    folder: Path, which: ChangeFilter, cursor: str | None, limit: int
) -> Page[ChangeEntry]:
    """Return who changed what. Raise RequestError for a time that is none."""
    span = delivery_filter(since=which.since, until=which.until)
    key = parse_cursor(cursor, "changes", (int,))
    before = None if key is None else int(key[0])
    low = "" if span.since_ns is None else timestamp(span.since_ns)
    high = None if span.until_ns is None else timestamp(span.until_ns)

    def wanted(entry: ChangeEntry) -> bool:
        return (
            (before is None or entry.n < before)
            and entry.at >= low
            and (high is None or entry.at < high)
            and (which.endpoint is None or entry.concerns(which.endpoint))
            and which.actor in (None, entry.actor)
            and which.action in (None, entry.action)
        )

    trail = read_changes(folder, newest_first=True)
    entries = list(islice(filter(wanted, trail), limit + 1))
    if len(entries) <= limit:
        return Page(entries)
    entries = entries[:limit]
    return Page(entries, write_cursor("changes", entries[-1].n))


def said_of(entry: ChangeEntry) -> str:
    """Return what an entry says of a change, on one line: `timeout: 3s -> 5s; no ttl (was 1m)`."""
    said = [f"not made: {entry.error}"] if entry.error else []
    for name in {**entry.before, **entry.after}:
        was, now = (written(side.get(name)) or "none" for side in (entry.before, entry.after))
        if name not in entry.before:
            said.append(f"{name}: {now}")
        elif name not in entry.after:
            said.append(f"no {name} (was {was})")
        else:
            said.append(f"{name}: {was} -> {now}")
    return "; ".join(said)
