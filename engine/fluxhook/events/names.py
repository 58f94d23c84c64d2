"""The grammar of event types and of the patterns that subscribe to them, and near misses."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Collection, Iterable
from typing import Final

__all__ = [
    "MAX_TYPE",
    "declared_fault",
    "hint",
    "matches",
    "namespaces",
    "overlap",
    "pattern_fault",
    "pattern_hint",
    "type_fault",
    "unmatched",
]

#: Arbitrary; the longest of both catalogs has 23.
MAX_TYPE: Final = 128
_TYPE: Final = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)*", re.ASCII)


def declared_fault(name: str) -> str | None:
    """What is wrong with a type under `event_types`, or None: words of letters, 0-9 and _, and dots."""
    if len(name) > MAX_TYPE:
        return f"an event type has at most {MAX_TYPE} characters, not {len(name)}"
    if not _TYPE.fullmatch(name.lower()) or not name.isascii():
        return f"{name!r} is not an event type: words of letters, 0-9 and _, with dots between them"
    return None


def type_fault(name: str, declared: Collection[str] = ()) -> str | None:
    """What is wrong with an event type, or None. Capitals, which are a slip most often, stand in a type
    only if it was declared; they are never matched to small letters."""
    if fault := declared_fault(name):
        return fault
    if _TYPE.fullmatch(name) or name in declared:
        return None
    return (
        f"{name!r} is not an event type: words of a-z, 0-9 and _, with dots between them; "
        "one with capitals is listed under event_types"
    )


def pattern_fault(pattern: str, declared: Collection[str] = ()) -> str | None:
    """What is wrong with a pattern, or None: a type, a namespace `a.*`, or `*`."""
    if pattern == "*" or (pattern.endswith(".*") and any(matches(pattern, n) for n in declared)):
        return None
    return type_fault(pattern.removesuffix(".*"), declared)


def matches(pattern: str, name: str) -> bool:
    """Whether a sound pattern matches a type. `a.*` matches `a.b` and `a.b.c`, not `a`.

    The publisher asks the compiled matcher; this is for configurations.
    """
    return pattern in ("*", name) or (pattern.endswith(".*") and name.startswith(pattern[:-1]))


def overlap(pattern: str, other: str) -> bool:
    """Return whether a type may match both of two sound patterns."""
    return any(
        matches(one, two) or (two.endswith(".*") and matches(one, two[:-1] + "x"))
        for one, two in ((pattern, other), (other, pattern))
    )


def unmatched(pattern: str, known: frozenset[str]) -> str | None:
    """What to say of a sound pattern that matches none of the known types; None if it matches one."""
    if any(matches(pattern, name) for name in known):
        return None
    return f"no known event type matches {pattern!r}{pattern_hint(pattern, known)}"


@functools.lru_cache(maxsize=1024)
def pattern_hint(pattern: str, known: frozenset[str]) -> str:
    """` (did you mean ...?)` with types and namespaces near to a pattern, or nothing."""
    word, spaces = pattern.lower(), namespaces(known)
    if f"{word}.*" in spaces:
        return f" (did you mean {word}.*?)"
    return hint(word, spaces if word.endswith(".*") else {*known, *spaces})


def namespaces(known: Iterable[str]) -> set[str]:
    """The namespaces that hold a type, as patterns: `rate.*` and `rate.limit.*` for
    `rate.limit.exceeded`."""
    return {f"{name[:i]}.*" for name in known for i, letter in enumerate(name) if letter == "."}


def hint(word: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)` with the nearest of the known words, or nothing."""
    # Beyond the length of any name of ours a comparison only costs time.
    near = difflib.get_close_matches(word[:MAX_TYPE], sorted(set(known)), n=3, cutoff=0.7)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
