"""`fluxhook webhook test`."""

from __future__ import annotations

import shlex
import time
from typing import Any, Final

import click
import msgspec

from fluxhook.admin.models import DeliveryDetail, TestSent
from fluxhook.cli import options
from fluxhook.cli.api_client import Api, reference, segment
from fluxhook.cli.complete import complete_type
from fluxhook.cli.delivery_view import attempts
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.output import out, print_json, safe
from fluxhook.cli.remote import Remote
from fluxhook.events.nesting import bounded

__all__ = ["command"]

#: between two looks, doubled up to the second
MIN_POLL_S, MAX_POLL_S = 0.02, 0.25
_ENDED: Final = ("delivered", "dead", "dropped")

_decode_object: Final = bounded(msgspec.json.Decoder(dict[str, Any]).decode)


@click.command()
@options.webhook
@click.option(
    "--type",
    "event_type",
    metavar="TYPE",
    default="webhook.test",
    show_default=True,
    shell_complete=complete_type,
    help="The event's type.",
)
@click.option("--data", metavar="JSON", help="Its data, a JSON object.")
@click.option(
    "--wait",
    "wait_s",
    type=options.Seconds(min=0),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="For the outcome of the first attempt.",
)
@options.as_json
@options.remote
@click.pass_context
def command(
    ctx: click.Context,
    remote: Remote,
    name: str,
    event_type: str,
    data: str | None,
    wait_s: float,
    as_json: bool,
) -> None:
    """Send a test event, and say what became of it.

    It goes to this webhook alone, whatever that subscribes to. Behind an open breaker it waits, and the
    command says until when. The exit code tells whether the first attempt succeeded.
    """
    body = {"type": event_type} | ({} if data is None else {"data": _object(data)})
    api = remote.connect()
    sent = api.post(f"/v1/webhooks/{reference(name)}/test", TestSent, body)
    # Nothing is attempted before an open breaker lets it go, which may take longer than anybody waits.
    delivery = _outcome(api, sent.delivery_id, 0.0 if sent.held_until else wait_s)
    if as_json:
        print_json(delivery)
    elif sent.held_until and not delivery.history:
        _print_held(delivery, sent.held_until, name, remote.options)
    else:
        _print(delivery, wait_s, remote.options)
    ctx.exit(ExitCode.OK if delivery.state == "delivered" else ExitCode.NOT_DELIVERED)


def _object(text: str) -> dict[str, Any]:
    try:
        return _decode_object(text.encode())
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise click.UsageError(f"--data is not a JSON object: {error}.") from None


def _outcome(api: Api, delivery_id: str, wait_s: float) -> DeliveryDetail:
    """Return the delivery after its first attempt, or as it is when the time is over."""
    give_up_at, pause_s = time.monotonic() + wait_s, MIN_POLL_S
    while True:
        delivery = api.get(f"/v1/deliveries/{segment(delivery_id)}", DeliveryDetail)
        done = delivery.history or delivery.state in _ENDED
        left_s = give_up_at - time.monotonic()
        if done or left_s <= 0:
            return delivery
        time.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, MAX_POLL_S)


def _print_held(delivery: DeliveryDetail, until: str, name: str, options: str) -> None:
    console = out()
    said = f"the breaker of {delivery.endpoint} is open: the event is attempted at {until}"
    console.print("✗ ", style="bold red", end="")
    console.print(safe(said), soft_wrap=True)
    console.print(
        f"  fluxhook webhook close-breaker {shlex.quote(name)}{options} has it sent now",
        style="dim",
        soft_wrap=True,
    )
    console.print(f"  fluxhook deliveries show {delivery.id}{options}", style="dim", soft_wrap=True)


def _print(delivery: DeliveryDetail, wait_s: float, options: str) -> None:
    console = out()
    good = delivery.state == "delivered"
    console.print("✓ " if good else "✗ ", style="bold green" if good else "bold red", end="")
    if good:
        said = f"delivered to {delivery.endpoint}"
    elif not delivery.history and delivery.state not in _ENDED:
        why = f" ({delivery.cause})" if delivery.cause else ""
        said = f"no attempt within {wait_s:g} s{why}"
    else:
        said = f"not delivered to {delivery.endpoint}: {delivery.cause}"
    console.print(safe(said), soft_wrap=True)
    for line in attempts(delivery):
        console.print(line, soft_wrap=True)
    if delivery.due_at is not None and delivery.history:
        console.print(f"  the next attempt is due at {delivery.due_at}")
    if not good:
        console.print(
            f"  fluxhook deliveries show {delivery.id}{options}", style="dim", soft_wrap=True
        )
