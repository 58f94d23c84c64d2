"""`fluxhook emit`: one event from the arguments, or many from lines of JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, BinaryIO, Final

import click
import msgspec

from fluxhook.cli import options
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.lines import MAX_LINE_BYTES, Bar, Lines
from fluxhook.cli.output import err, number, out, plural, print_json, print_notice, safe
from fluxhook.cli.ready import WAIT_S, wait_until_ready
from fluxhook.cli.remote import Remote
from fluxhook.errors import EventError, QueueFull
from fluxhook.events.catalog import TYPES
from fluxhook.events.json_text import json_fault
from fluxhook.events.names import hint
from fluxhook.events.nesting import TooDeep, bounded, decode_json
from fluxhook.publisher.publisher import OwnPublisher, Publisher
from fluxhook.stats import is_running
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.snapshot import Snapshot

__all__ = ["command"]

#: refused lines that are shown, and that are kept for --json; both arbitrary
SHOWN, KEPT = 20, 1000


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """One line of the input."""

    type: str
    data: dict[str, Any] | None = None
    topic: str | None = None
    id: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None


_decode_line: Final = bounded(msgspec.json.Decoder(_Line).decode)
_decode_object: Final = bounded(msgspec.json.Decoder(dict[str, Any]).decode)


class _Refused(msgspec.Struct):
    line: int
    reason: str


class _Tally(msgspec.Struct):
    """What became of the events. An event counts once, a delivery once for each endpoint."""

    events: int = 0
    accepted_deliveries: int = 0
    without_subscriber: int = 0
    #: events that every endpoint which subscribed to them held back: where, sample, threshold
    filtered: int = 0
    #: events that the queue had no room for, for all or some of their endpoints
    queue_full: int = 0
    #: the line at which the queue was full and no engine there to empty it; what follows was not read
    stopped_at_line: int | None = None
    #: lines that hold no valid event
    refused_lines: int = 0
    #: the first of both kinds
    refused: list[_Refused] = []

    @property
    def exit_code(self) -> ExitCode:
        if self.refused_lines:
            return ExitCode.REFUSED
        return ExitCode.QUEUE_FULL if self.queue_full else ExitCode.OK

    def refuse(self, line: int, reason: str) -> None:
        self.refused_lines += 1
        self.keep(line, reason)

    def keep(self, line: int, reason: str) -> None:
        if len(self.refused) < KEPT:
            self.refused.append(_Refused(line, reason))


@click.command()
@click.argument("event_type", metavar="[TYPE]", required=False)
@click.option("--data", metavar="JSON", help="The event's data, a JSON object.")
@click.option(
    "--field",
    "fields",
    metavar="KEY=VALUE",
    multiple=True,
    help="One field of the data, repeatable. VALUE is JSON if it can be read as such, else a text.",
)
@click.option("--topic", metavar="TOPIC", help="The topic name; by default the data's own.")
@click.option("--id", "event_id", metavar="ID", help="An event id of your own.")
@click.option("--traceparent", metavar="CONTEXT", help="The trace that the event belongs to (W3C).")
@click.option("--tracestate", metavar="MEMBERS", help="What tracing systems add to --traceparent.")
@click.option(
    "--file",
    "file",
    type=click.File("rb", lazy=False),
    help="Read events from FILE, one JSON object a line; - is standard input.",
)
@click.option(
    "--wait",
    is_flag=True,
    help=f"Wait for the engine first, for up to {WAIT_S:g} s, as `fluxhook wait` does.",
)
@options.data_dir
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    event_type: str | None,
    data: str | None,
    fields: tuple[str, ...],
    topic: str | None,
    event_id: str | None,
    traceparent: str | None,
    tracestate: str | None,
    file: BinaryIO | None,
    wait: bool,
    data_dir: str,
    as_json: bool,
) -> None:
    """Hand events to an engine, running or not.

    With TYPE, one event. Without, lines of JSON from FILE or standard input:

    \b
      {"type": "route.error", "data": {...}}
      {"type": "message.published", "data": {...}, "topic": "a/b", "id": "e-1"}

    A line that is refused is reported with its number and the reason, and all others go in. Where
    the queue is full, emit waits for the engine, for up to block_timeout an event.
    """
    if event_type is not None and file is not None:
        raise click.UsageError("Give a TYPE or a --file, not both.")
    own = {"id": event_id, "traceparent": traceparent, "tracestate": tracestate}
    if event_type is None and (data or fields or topic or any(own.values())):
        raise click.UsageError(
            "--data, --field, --topic, --id, --traceparent and --tracestate need a TYPE."
        )
    content = _data(data, fields)
    source = file if event_type is not None else file or _standard_input()
    tally = _Tally()
    if wait:
        given = options.engine_options(ctx, "--data-dir")
        wait_until_ready(Remote(None, "", data_dir, given), WAIT_S)
    datadir = DataDir(data_dir)
    with OwnPublisher(data_dir, drop_policy="block") as publisher:
        try:
            if event_type is not None:
                _emit_one(publisher, tally, _Line(event_type, content, topic, **own))
            elif source is not None:
                _emit_lines(publisher, tally, source, lambda: is_running(datadir))
        finally:
            if tally.events or source is not None:
                _report(tally, as_json)
    if tally.accepted_deliveries and not is_running(datadir):
        print_notice("no engine runs here; what was accepted waits for the next")
    if event_type is not None and tally.without_subscriber:
        known = {*TYPES, *Snapshot.load(datadir).config.event_types}
        near = hint(event_type, known) if event_type not in known else ""
        print_notice(f"no endpoint subscribed to {event_type}{near}, or not to its topic")
    if event_type is not None and tally.filtered:
        print_notice(f"{event_type} was held back by where, sample or threshold of each endpoint")
    ctx.exit(tally.exit_code)


def _standard_input() -> BinaryIO:
    if sys.stdin is None or sys.stdin.isatty():
        raise click.UsageError("Give a TYPE, or lines of JSON in a --file or on standard input.")
    return sys.stdin.buffer


def _data(data: str | None, fields: tuple[str, ...]) -> dict[str, Any] | None:
    if data is None:
        return dict(map(_field, fields)) if fields else None
    if fields:
        raise click.UsageError("Give --data or --field, not both.")
    try:
        return _decode_object(data.encode())
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise click.UsageError(f"--data is not a JSON object: {json_fault(data, error)}.") from None


def _field(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.UsageError(f"--field {text!r:.80} is not KEY=VALUE.")
    try:
        return key, decode_json(value)
    except TooDeep as error:
        raise click.UsageError(f"--field {key}: {error}.") from None
    except (msgspec.MsgspecError, UnicodeError):
        return key, value


def _emit_one(
    publisher: Publisher,
    tally: _Tally,
    line: _Line,
) -> None:
    """Emit one event. Raise EventError for a bad event, and QueueFull, which is counted."""
    try:
        n = publisher.emit(
            line.type,
            line.data,
            topic=line.topic,
            event_id=line.id,
            traceparent=line.traceparent,
            tracestate=line.tracestate,
            raise_on_full=True,
        )
    except QueueFull as full:
        tally.events += 1
        tally.queue_full += 1
        tally.accepted_deliveries += full.accepted
        raise
    tally.events += 1
    tally.accepted_deliveries += n
    if n == 0:
        for_somebody = publisher.prepare(line.type, line.data, topic=line.topic).ids
        tally.filtered += bool(for_somebody)
        tally.without_subscriber += not for_somebody


def _emit_lines(
    publisher: Publisher, tally: _Tally, file: BinaryIO, running: Callable[[], bool]
) -> None:
    lines = Lines(file)
    with Bar(err(), lines) as bar:
        for text in lines:
            if bar.due:
                bar.update(f"{number(tally.events)} events, {number(tally.refused_lines)} refused")
            if text.isspace():
                continue
            try:
                if len(text) > MAX_LINE_BYTES:
                    raise EventError(f"the line is over {MAX_LINE_BYTES} bytes")
                _emit_one(publisher, tally, _decode_line(text))
            except EventError as error:
                tally.refuse(lines.number, str(error))
            except (msgspec.MsgspecError, UnicodeError) as error:
                tally.refuse(lines.number, json_fault(text, error))
            except QueueFull as full:
                tally.keep(lines.number, str(full))
                if not running():
                    tally.stopped_at_line = lines.number
                    return


def _report(tally: _Tally, as_json: bool) -> None:
    if as_json:
        print_json(tally)
        return
    rest = [
        f"{number(n)} {what}"
        for n, what in (
            (tally.without_subscriber, "without subscriber"),
            (tally.filtered, "held back by filters"),
            (tally.queue_full, "refused by a full queue"),
        )
        if n
    ]
    deliveries = plural(tally.accepted_deliveries, "delivery", "deliveries")
    out().print(f"{plural(tally.events, 'event')}: {', '.join([f'{deliveries} accepted', *rest])}")
    console = err()
    if tally.refused:
        count = tally.refused_lines + tally.queue_full
        console.print(f"{plural(count, 'line')} refused:", style="bold red")
        for refused in tally.refused[:SHOWN]:
            console.print(f"  line {refused.line}: {safe(refused.reason, 200)}", soft_wrap=True)
        if count > SHOWN:
            console.print(f"  and {number(count - SHOWN)} more")
    if tally.stopped_at_line is not None:
        said = f"stopped at line {tally.stopped_at_line}: the queue is full, and no engine runs"
        console.print(said, style="bold red")
