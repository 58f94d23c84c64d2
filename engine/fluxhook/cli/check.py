"""`fluxhook check`: whether a configuration can be used, and what it will do."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.table import Table

from fluxhook.cli import options
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.forecast import endpoint_facts, engine_facts, plan
from fluxhook.cli.output import out, plural, print_error, print_json, print_notice, safe
from fluxhook.config import codec
from fluxhook.config.load import Loaded, load
from fluxhook.config.pem import has_private_key
from fluxhook.config.schema import Config
from fluxhook.config.url import shown_url
from fluxhook.errors import ConfigError
from fluxhook.supervisor.children import worker_count
from fluxhook.transport.build import problems

__all__ = ["command"]


@click.command()
@click.argument("file", metavar="FILE")
@options.allow_network
@options.as_json
@click.pass_context
def command(ctx: click.Context, file: str, allow_networks: tuple[str, ...], as_json: bool) -> None:
    """Say what a configuration will do, or everything that is wrong with it.

    Reads FILE as `fluxhook serve` would, with the files, packages and keys that its endpoints need, and
    starts nothing. (`serve` holds an endpoint that cannot be used, and serves the others.) Secrets are
    never shown.
    """
    try:
        loaded = load(file, allow_networks=allow_networks)
        if unusable := problems(loaded.config, "webhook."):
            raise ConfigError(unusable)
    except ConfigError as error:
        if as_json:
            found = [problem._asdict() for problem in error.problems]
            print_json({"file": file, "valid": False, "problems": found, "more": error.more})
        else:
            print_error(error)
        ctx.exit(ExitCode.CONFIG)
    if as_json:
        print_json(_plain(file, loaded))
        return
    console = out()
    config, notices = loaded
    console.print("✓ ", style="bold green", end="")
    console.print(f"{safe(file)} is valid: {plural(len(config.endpoints), 'endpoint')}", end="")
    console.print(f", {plural(len(notices), 'notice')}" if notices else "")
    workers = worker_count(config)
    for endpoint in config.endpoints:
        title = f"{safe(endpoint.name)}  {safe(shown_url(endpoint.url))}"
        _facts(console, title, endpoint_facts(endpoint, workers))
    _facts(console, "engine", engine_facts(config))
    for notice in notices:
        print_notice(notice)


def _facts(console: Console, title: str, facts: dict[str, str]) -> None:
    console.print()
    console.print(title, style="bold", soft_wrap=True)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in facts.items():
        table.add_row(f"  {name}", safe(fact, 4000))
    console.print(table)


def _plain(file: str, loaded: Loaded) -> dict[str, Any]:
    """Return the whole configuration, defaults filled in, and what follows from it."""
    config = loaded.config
    return {
        "file": file,
        "valid": True,
        "notices": [notice._asdict() for notice in loaded.notices],
        "config": _redacted(config),
        "plan": plan(config),
    }


def _redacted(config: Config) -> Any:
    plain = codec.to_plain(config)
    for token in plain["admin"]["tokens"]:
        token["token"] = "***"
    del plain["defaults"]  # they are in the endpoints
    for endpoint in plain["endpoints"]:
        endpoint["url"] = shown_url(endpoint["url"])
        endpoint["secrets"] = ["***"] * len(endpoint["secrets"])
        endpoint["headers"] = dict.fromkeys(endpoint["headers"], "***")
        for name, value in endpoint["tls"].items():
            if value is not None and has_private_key(value):
                endpoint["tls"][name] = "***"
        if endpoint["proxy"] is not None:
            endpoint["proxy"] = shown_url(endpoint["proxy"])
    return plain
