"""How `fluxhook listen` shows what arrives: a line each, for people or as JSON."""

from __future__ import annotations

import asyncio
import time

import msgspec
from rich.text import Text

from fluxhook.cli.output import number, out, plural, print_json, safe
from fluxhook.events.nesting import bounded
from fluxhook.receiver import Received
from fluxhook.text import decoded

__all__ = ["Printer", "ReceivedDelivery"]

#: event ids remembered, to tell what comes again; arbitrary
REMEMBERED = 100_000


class _Names(msgspec.Struct):
    """What the envelopes call an event's type and id."""

    type: str = ""
    id: str = ""
    event_type: str = ""
    event_id: str = ""


_decode_names = bounded(msgspec.json.Decoder(_Names).decode)


class ReceivedDelivery(msgspec.Struct, omit_defaults=True):
    """One line of --json."""

    at: str
    type: str
    id: str
    #: how often this id has come
    seen: int
    verified: bool | None
    #: of the answer; 0: there was none
    status: int
    bytes: int
    path: str
    #: why the signature was refused, or how the receiver failed
    reason: str = ""
    headers: dict[str, str] | None = None
    body: str | None = None


class _Summary(msgspec.Struct):
    received: int = 0
    events: int = 0
    verified: int = 0
    refused: int = 0
    #: answered with success
    accepted: int = 0
    bytes: int = 0
    seconds: float = 0.0


class Printer:
    """Prints what arrives, and counts it.

    `ended` is set `answer_s` after `count` deliveries, so that the last answer leaves, or after an
    `error`.
    """

    def __init__(self, count: int | None, answer_s: float, *, verbose: bool, as_json: bool) -> None:
        self.ended = asyncio.Event()
        self.error: Exception | None = None
        self._count = count
        self._answer_s = answer_s
        self._verbose = verbose
        self._json = as_json
        self._console = out()
        self._times: dict[str, int] = {}
        self._summary = _Summary()
        self._since = 0.0

    def begin(self, url: str, verifies: bool) -> None:
        if self._json:
            print_json({"listening": url})
            return
        self._console.print("listening ", style="bold", end="")
        self._console.print(f"on {url}; Ctrl-C ends", end="")
        self._console.print("" if verifies else "; without a --secret nothing is verified")

    def receive(self, received: Received) -> None:
        """Print a request; the receiver calls this."""
        if self.ended.is_set() or self._summary.received == self._count:
            return
        delivery = self._describe(received)
        try:
            self._print(delivery)
        except OSError as error:  # nobody reads; let the receiver not answer 500 and go on
            self.error = error
            self.ended.set()
            return
        s = self._summary
        self._since = self._since or time.monotonic()
        s.seconds = time.monotonic() - self._since
        s.received += 1
        s.events += delivery.seen == 1
        s.verified += delivery.verified is True
        s.refused += delivery.verified is False
        s.accepted += 200 <= delivery.status <= 299
        s.bytes += delivery.bytes
        if s.received == self._count:
            asyncio.get_running_loop().call_later(self._answer_s, self.ended.set)

    def summarize(self) -> None:
        s = self._summary
        if self._json:
            print_json({"summary": s})
            return
        parts = [f"{plural(s.received, 'delivery', 'deliveries')} of {plural(s.events, 'event')}"]
        parts += [f"{number(s.accepted)} answered with success"]
        parts += [f"{number(s.verified)} verified"] if s.verified else []
        parts += [f"{number(s.refused)} with a bad signature"] if s.refused else []
        if s.seconds > 0.1:
            parts += [f"{number(s.received / s.seconds)} deliveries/s"]
        self._console.print(", ".join(parts), style="bold")

    def _describe(self, received: Received) -> ReceivedDelivery:
        try:
            names = _decode_names(received.body)
        except (msgspec.MsgspecError, UnicodeError):
            names = _Names()
        event_id = names.id or names.event_id or received.headers.get("webhook-id", "")
        seconds, ns = divmod(received.at_ns, 1_000_000_000)
        return ReceivedDelivery(
            at=time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{ns // 1_000_000:03}Z",
            type=names.type or names.event_type,
            id=event_id,
            seen=self._seen(event_id),
            verified=received.verified,
            status=received.status,
            bytes=len(received.body),
            path=received.path,
            reason=received.reason,
            headers=received.headers if self._verbose else None,
            body=decoded(received.body) if self._verbose else None,
        )

    def _seen(self, event_id: str) -> int:
        if not event_id:
            return 1
        times = self._times[event_id] = self._times.pop(event_id, 0) + 1
        if len(self._times) > REMEMBERED:
            del self._times[next(iter(self._times))]
        return times

    def _print(self, d: ReceivedDelivery) -> None:
        if self._json:
            print_json(d)
            return
        verdict = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("·", "dim")}[d.verified]
        success = 200 <= d.status <= 299
        line = Text.assemble(
            (d.at[11:-1], "dim"),
            " ",
            verdict,
            " ",
            (f"{d.status or '---'}", "green" if success else "red"),
            f" {safe(d.type, 128) or '(no event type)':<20} {safe(d.id, 128):<36}",
            (f" {number(d.bytes)} B {safe(d.path, 200)}", "dim"),
            (f" seen {d.seen} times" if d.seen > 1 else "", "yellow"),
            (f"  {safe(d.reason)}" if d.reason else "", "red"),
        )
        self._console.print(line, soft_wrap=True)
        for name, value in (d.headers or {}).items():
            self._console.print(f"    {safe(name)}: {safe(value)}", style="dim", soft_wrap=True)
        if d.body:
            self._console.print(f"    {safe(d.body, 100_000)}", soft_wrap=True)
