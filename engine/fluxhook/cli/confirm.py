"""Asking before what cannot be undone."""

from __future__ import annotations

import sys

import click

__all__ = ["confirm"]


def confirm(question: str, yes: bool) -> None:
    """Continue only if the user at the terminal agrees, or `yes` was given."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask at; add --yes to do it.")
    click.confirm(question, abort=True, err=True)
