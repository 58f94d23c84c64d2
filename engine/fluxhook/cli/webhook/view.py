"""Webhooks as people read them, from the API's answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from fluxhook.cli.output import err, facts, number, out, print_notice, safe, table
from fluxhook.cli.status_view import deaths, endpoint_state, percent

__all__ = ["print_created", "print_list", "print_secret", "print_webhook"]

#: what is said first, and in this order
_HEAD: Final = (
    "id",
    "source",
    "state",
    "disabled_reason",
    "misconfigured_reason",
    "dead",
    "dead_cause",
    "event_success_rate",
    "created_at",
    "updated_at",
    "expiring_secrets",
    "secrets_expire_at",
)
_ELSEWHERE: Final = ("name", "notices", "secret", "dead_by_cause")


def print_list(webhooks: list[dict[str, Any]], options: str) -> None:
    """Print a line for each; `options` are those that name this engine in another command."""
    console = out()
    if not webhooks:
        console.print(f"There are no webhooks. `fluxhook webhook create{options}` makes one.")
        return
    listed = table(
        "name",
        "id",
        "state",
        "dead",
        "most died of",
        "events ok",
        "source",
        "events",
        "url",
        right=("dead", "events ok"),
    )
    for webhook in webhooks:
        listed.add_row(
            safe(webhook["name"]),
            webhook["id"],
            endpoint_state(webhook["state"]),
            Text(number(dead := webhook.get("dead", 0)), style="red" if dead else ""),
            safe(webhook.get("dead_cause", "")),
            percent(webhook.get("event_success_rate")),
            webhook["source"],
            safe(_text(webhook["events"]) or "all"),
            safe(webhook["url"]),
        )
    console.print(listed)


def print_webhook(webhook: Mapping[str, Any]) -> None:
    """Print its state, and every option that has a value."""
    console = out()
    _title(console, webhook)
    head: dict[str, str | Text] = {
        name.replace("_", " "): _text(webhook.get(name))
        for name in _HEAD
        if webhook.get(name) or name == "event_success_rate"
    }
    head["state"] = endpoint_state(webhook["state"])
    if dead := webhook.get("dead"):
        head |= {"dead": number(dead), "dead cause": deaths(webhook["dead_by_cause"])}
    head["event success rate"] = percent(webhook.get("event_success_rate"))
    console.print(facts(head))
    console.print()
    rest = {k: v for k, v in webhook.items() if k not in (*_HEAD, *_ELSEWHERE)}
    console.print(facts({name: _text(value) for name, value in _flat(rest, "")}))
    for notice in webhook.get("notices", ()):
        print_notice(notice)


def print_created(webhook: Mapping[str, Any], done: str) -> None:
    """Print what was created or changed, in short; a generated secret this once."""
    console = out()
    console.print("✓ ", style="bold green", end="")
    console.print(f"{safe(webhook['name'])} {done}", soft_wrap=True)
    said = {name: _text(webhook.get(name)) for name in ("id", "url", "events", "signature")}
    console.print(facts({**said, "state": endpoint_state(webhook["state"])}))
    print_secret(webhook.get("secret"))
    for notice in webhook.get("notices", ()):
        print_notice(notice)


def print_secret(secret: str | None) -> None:
    if secret is not None:
        out().print(f"  secret     {secret}", soft_wrap=True)
        err().print("  it is shown only now: keep it where the receiver reads it", style="yellow")


def _title(console: Console, webhook: Mapping[str, Any]) -> None:
    console.print(safe(webhook["name"]), style="bold", soft_wrap=True)


def _flat(values: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    """Yield nested fields by their paths."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None or value == {} else str(value)
