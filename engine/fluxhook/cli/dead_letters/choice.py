"""Which dead letters a command is about: those named, or all that match."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fluxhook.admin.models import Progress as Step
from fluxhook.admin.models import Status
from fluxhook.cli import options
from fluxhook.cli.api_client import Api
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.failure import Failure
from fluxhook.cli.output import err, number

__all__ = ["Choice", "choice", "count", "each", "walk"]

#: dead letters of one request, so that the bar moves; the API takes no more at a time
STEP: Final = 500


class Choice(NamedTuple):
    """`ids`, or all that match `filters`; without any of these, all."""

    ids: tuple[str, ...]
    filters: dict[str, str]


def choice(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ids and filters to a command, which gets them as `which`."""

    @click.argument("ids", metavar="[ID]...", nargs=-1)
    @options.endpoint
    @options.event_type
    @click.option("--cause", metavar="CAUSE", help="Only those that failed by it, as server_error.")
    @options.span("those that died")
    @click.option("--all", "everything", is_flag=True, help="All dead letters of all webhooks.")
    @functools.wraps(function)
    def call(
        *arguments: Any,
        ids: tuple[str, ...],
        endpoint: str | None,
        event_type: str | None,
        cause: str | None,
        since: str | None,
        until: str | None,
        everything: bool,
        **values: Any,
    ) -> Any:
        given = {
            "endpoint": endpoint,
            "type": event_type,
            "cause": cause,
            "since": since,
            "until": until,
        }
        filters = {name: value for name, value in given.items() if value is not None}
        if bool(ids) + bool(filters) + everything != 1:
            raise click.UsageError(
                "Which ones? Give their IDs, or filters such as --endpoint, or --all."
            )
        return function(*arguments, which=Choice(ids, filters), **values)

    return call


def count(api: Api, which: Choice) -> int | None:
    """Return how many there are; None where the API would have to count them."""
    if which.ids:
        return len(which.ids)
    if which.filters.keys() - {"endpoint"}:
        return None
    status = api.get("/v1/webhooks/status", Status)
    if not which.filters:
        return status.totals.dead
    named = which.filters["endpoint"]
    return next((w.dead for w in status.webhooks if named in (w.name, w.id)), None)


def each(ids: Sequence[str], act: Callable[[str], object]) -> int:
    """Act on each and return how many that were. What is not there, or cannot be acted on, is reported
    after all others."""
    refused = []
    for id in ids:
        try:
            act(id)
        except Failure as failure:
            if failure.code not in (ExitCode.NOT_FOUND, ExitCode.CONFLICT):
                raise
            refused.append(failure)
    if refused:
        done = f"{len(ids) - len(refused)} of {len(ids)} done"
        said = list(map(str, refused))
        raise Failure("\n".join(said if len(ids) == 1 else [f"{done}:", *said]), refused[-1].code)
    return len(ids)


def walk(api: Api, path: str, body: dict[str, Any], total: int | None) -> int:
    """Ask step by step until nothing is left, and show on a terminal how far it is; return how many
    were done."""
    console, done = err(), 0
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[said]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(path.rpartition("/")[2], total=total, said="")
        for step in _steps(api, path, body):
            done += step
            bar.update(task, completed=done, said=number(done))
    return done


def _steps(api: Api, path: str, body: dict[str, Any]) -> Iterator[int]:
    cursor: dict[str, str] = {}
    while True:
        step = api.post(path, Step, {**body, **cursor, "limit": STEP})
        yield step.done
        if step.next_cursor is None:
            return
        cursor = {"cursor": step.next_cursor}
