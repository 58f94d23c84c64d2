"""`fluxhook events types`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click

from fluxhook.admin.event_types import event_types
from fluxhook.admin.models import EventType
from fluxhook.cli import options
from fluxhook.cli.output import at_most, out, print_lines, safe, table
from fluxhook.cli.remote import Remote
from fluxhook.errors import FluxhookError
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.snapshot import Snapshot

__all__ = ["command"]

_TITLES: Final = {
    "gateway": "gateway",
    "broker": "broker",
    "host": "the host's own",
}


@click.command()
@click.argument("word", metavar="[WORD]", required=False)
@options.limit(None, of="the first N")
@options.as_json_lines
@options.remote
def command(remote: Remote, word: str | None, last: int | None, as_json: bool) -> None:
    """List event types with their fields; with WORD, those whose name has it.

    Both catalogs are known without an engine; the host's own types are those of the data directory,
    or of the engine behind --api. The version is that of the data: fields may come to it with a minor
    number, and only a new major one, of Fluxhook too, takes or changes any. --json has the JSON schema
    of each one's data.
    """
    if remote.url is None:
        known = event_types(_own(remote.data_dir))
    else:
        known = list(remote.connect().pages("/v1/event-types", EventType, whole=True))
    found = [one for one in known if word is None or word in one.type]
    if as_json:
        print_lines(found[:last])
    else:
        _print(at_most(found, last))


def _own(data_dir: str) -> tuple[str, ...]:
    """Return those that the configuration adds; none without one."""
    try:
        return Snapshot.load(DataDir(data_dir)).config.event_types
    except (FluxhookError, OSError):
        return ()


def _print(types: list[EventType]) -> None:
    console = out()
    if not types:
        console.print("no such type")
        return
    listed = table("type", "catalog", "version", "data")
    for one in types:
        listed.add_row(
            safe(one.type),
            _TITLES[one.catalog],
            safe(one.version or ""),
            safe(_fields(one.schema), 4000),
        )
    console.print(listed)
    if any(one.topic for one in types):
        with_topic = ", ".join(safe(one.type) for one in types if one.topic)
        said = f"Topic filters bind those with a topic or a topic filter: {with_topic}"
        console.print(said, style="dim")


def _fields(schema: Mapping[str, Any] | None) -> str:
    """Return `name: type` of each; a question mark for one that may be left out."""
    if schema is None:
        return "any JSON object"
    definitions = schema.get("$defs", {})
    body = definitions.get(str(schema.get("$ref", "")).rpartition("/")[2], schema)
    required = body.get("required", ())
    return ", ".join(
        f"{name}{'' if name in required else '?'}: {_type(field, definitions)}"
        for name, field in body.get("properties", {}).items()
    )


def _type(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "enum" in field:
        return " | ".join(map(repr, field["enum"]))
    if "anyOf" in field:
        return " | ".join(_type(one, definitions) for one in field["anyOf"])
    if "$ref" in field:
        return _type(definitions.get(field["$ref"].rpartition("/")[2], {}), definitions)
    return str(field.get("format") or field.get("type", "any"))
