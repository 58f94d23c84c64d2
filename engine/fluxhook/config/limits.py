"""The least and the most that each number of the configuration may be, and the most entries of each
list and mapping, as the schema declares them. A file, the API and Python have the same limits;
docs/limits.md lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from fluxhook.config.findings import Findings
from fluxhook.config.option import Limit, options
from fluxhook.config.schema import Config, Endpoint, Token

__all__ = ["ENTRIES", "LIMITS", "MAX_KEYS", "Limit", "check_limits", "too_many", "too_many_keys"]

_OPTIONS: Final = (*options(Config), *options(Token), *options(Endpoint))

LIMITS: Final[dict[type[msgspec.Struct], dict[str, Limit]]] = {}
#: Arbitrary, and far above any use: they bound what a definition costs those who read it, and each
#: event that is judged by it.
ENTRIES: Final[dict[type[msgspec.Struct], dict[str, int]]] = {}
for _option in _OPTIONS:
    if _option.limit is not None:
        LIMITS.setdefault(_option.owner, {})[_option.name] = _option.limit
    if _option.entries is not None:
        ENTRIES.setdefault(_option.owner, {})[_option.name] = _option.entries

#: of a mapping of options, in which there are not half as many
MAX_KEYS: Final = 100


def too_many(
    kind: type[msgspec.Struct], name: str, value: object, path: str, findings: Findings
) -> bool:
    """Report a list or mapping in a field that has more entries than it may; True if it has."""
    most = ENTRIES.get(kind, {}).get(name)
    if most is None or not isinstance(value, (list, tuple, dict)) or len(value) <= most:
        return False
    findings.problem(path, f"has {len(value):,d} entries", f"write at most {most:,d}")
    return True


def too_many_keys(value: Mapping[Any, Any], path: str, findings: Findings) -> bool:
    """Report a mapping of options that has more than MAX_KEYS; True if it has."""
    if len(value) > MAX_KEYS:
        findings.problem(path, f"has {len(value):,d} keys", f"write at most {MAX_KEYS}")
        return True
    return False


def check_limits(struct: msgspec.Struct, path: str, findings: Findings) -> None:
    """Report each number of this struct that is out of its range.

    `path` ends in a dot or is empty.
    """
    for name, (low, high, or_off) in LIMITS.get(type(struct), {}).items():
        value = getattr(struct, name)
        if value is None or low <= value <= high or (or_off and not value):
            continue
        remedy = f"write a value from {low} to {high}" + ", or 0s to turn it off" * or_off
        findings.problem(path + name, f"{value} is out of range", remedy)
