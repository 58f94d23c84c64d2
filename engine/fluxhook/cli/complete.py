"""What a shell completes: names of webhooks, and event types."""

from __future__ import annotations

import contextlib
import os

import click
from click.shell_completion import CompletionItem

from fluxhook.errors import FluxhookError
from fluxhook.events.catalog import TYPES
from fluxhook.events.names import namespaces

__all__ = ["complete_endpoint", "complete_pattern", "complete_type"]


def complete_endpoint(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete from the data directory, so that no engine is needed; a bad one completes nothing."""
    from fluxhook.admin.references import written
    from fluxhook.transport.datadir import DataDir
    from fluxhook.transport.snapshot import Snapshot

    names: list[str] = []
    directory = ctx.params.get("data_dir")
    with contextlib.suppress(FluxhookError, OSError):
        if directory is not None:
            config = Snapshot.load(DataDir(os.fspath(directory))).config
            names = [written(endpoint.name) for endpoint in config.endpoints]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_type(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(name) for name in TYPES if name.startswith(incomplete)]


def complete_pattern(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete types and their namespaces."""
    names = sorted({*TYPES, *namespaces(TYPES)})
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
