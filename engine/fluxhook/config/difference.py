"""What is different between two configurations, by the names of endpoints and options: no value, since
that may be a secret."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from fluxhook.config.option import options, value_at
from fluxhook.config.schema import Config, Endpoint

__all__ = ["Difference", "difference", "shortened"]

#: names in a line; arbitrary
_SHOWN: Final = 20


class Difference(NamedTuple):
    """`options` are the engine's own; `changed` has those of each endpoint that is in both."""

    options: list[str]
    added: list[str]
    removed: list[str]
    changed: dict[str, list[str]]

    def __str__(self) -> str:
        """Return a text such as `added a; changed b (timeout, url); options queue_size`."""
        changed = [f"{name} ({', '.join(paths)})" for name, paths in self.changed.items()]
        parts = {
            "added": self.added,
            "removed": self.removed,
            "changed": changed,
            "options": self.options,
        }
        said = [f"{what} {', '.join(shortened(names))}" for what, names in parts.items() if names]
        return "; ".join(said) or "nothing changed"


def difference(before: Config, after: Config) -> Difference:
    """Return what is different."""
    old = {endpoint.name: endpoint for endpoint in before.endpoints}
    new = {endpoint.name: endpoint for endpoint in after.endpoints}
    both = {name: _different(old[name], new[name], Endpoint) for name in new if name in old}
    return Difference(
        [path for path in _different(before, after, Config) if path != "endpoints"],
        [name for name in new if name not in old],
        [name for name in old if name not in new],
        {name: paths for name, paths in both.items() if paths},
    )


def shortened(names: list[str]) -> list[str]:
    """Return the first of many names, and how many more there are."""
    more = len(names) - _SHOWN
    return names if more <= 0 else [*names[:_SHOWN], f"and {more} more"]


def _different(
    before: msgspec.Struct, after: msgspec.Struct, kind: type[msgspec.Struct]
) -> list[str]:
    if before == after:
        return []
    paths = (option.path for option in options(kind))
    return [path for path in paths if value_at(before, path) != value_at(after, path)]
