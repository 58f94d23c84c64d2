"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from fluxhook.runtime.engine import DEFAULT_DATA_DIR

__all__ = ["DATA_DIR_VARIABLE", "allow_network", "as_json", "data_dir"]

F = TypeVar("F", bound=Callable[..., Any])
DATA_DIR_VARIABLE = "FLUXHOOK_DATA_DIR"


def data_dir(function: F) -> F:
    """Of an engine that was started before."""
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False),
        metavar="DIR",
        default=DEFAULT_DATA_DIR,
        show_default=True,
        envvar=DATA_DIR_VARIABLE,
        show_envvar=True,
        help="The engine's data directory.",
    )(function)


def allow_network(function: F) -> F:
    return click.option(
        "--allow-network",
        "allow_networks",
        metavar="CIDR",
        multiple=True,
        help="Let deliveries reach a private or special network, as 127.0.0.0/8; repeatable. "
        "Adds to the file's allow_networks.",
    )(function)


def as_json(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)
