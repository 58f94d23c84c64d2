"""The grammar of event types and of the patterns that subscribe to them, and near misses."""

from __future__ import annotations

import difflib
import functools
import itertools
import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
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
    "types_of",
]

#: Arbitrary; the longest of both catalogs has 23.
MAX_TYPE: Final = 128
#: Words that a slip is compared with, and their length; arbitrary: all of it takes some milliseconds.
_MAX_NEAR: Final = 500
_MAX_WORD: Final = 64
_TYPE: Final = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)*", re.ASCII)


def declared_fault(name: str) -> str | None:
    """Return what is wrong with a type under `event_types`, or None: words of letters, 0-9 and _, and
    dots."""
    if len(name) > MAX_TYPE:
        return f"an event type has at most {MAX_TYPE} characters, not {len(name)}"
    if not _TYPE.fullmatch(name.lower()) or not name.isascii():
        return f"{name!r} is not an event type: words of letters, 0-9 and _, with dots between them"
    return None


def type_fault(name: str, declared: Collection[str] = ()) -> str | None:
    """Return what is wrong with an event type, or None. Capitals, which are a slip most often, stand
    in a type only if it was declared; they are never matched to small letters."""
    if fault := declared_fault(name):
        return fault
    if _TYPE.fullmatch(name) or name in declared:
        return None
    return (
        f"{name!r} is not an event type: words of a-z, 0-9 and _, with dots between them; "
        "one with capitals is listed under event_types"
    )


def pattern_fault(pattern: str, declared: Collection[str] = ()) -> str | None:
    """Return what is wrong with a pattern, or None: a type, a namespace `a.*`, or `*`."""
    if pattern == "*":
        return None
    fault = type_fault(pattern.removesuffix(".*"), declared)
    if fault and pattern.endswith(".*") and types_of(pattern, frozenset(declared)):
        return None
    return fault


def matches(pattern: str, name: str) -> bool:
    """Return whether a sound pattern matches a type. `a.*` matches `a.b` and `a.b.c`, not `a`.

    The publisher asks the compiled matcher; this is for configurations.
    """
    return pattern in ("*", name) or (pattern.endswith(".*") and name.startswith(pattern[:-1]))


def overlap(pattern: str, other: str) -> bool:
    """Return whether a type may match both of two sound patterns."""
    return any(
        matches(one, two) or (two.endswith(".*") and matches(one, two[:-1] + "x"))
        for one, two in ((pattern, other), (other, pattern))
    )


@functools.lru_cache(maxsize=4096)
def types_of(pattern: str, known: frozenset[str]) -> Sequence[str]:
    """Return the known types that a pattern matches."""
    if pattern == "*":
        return tuple(known)
    if not pattern.endswith(".*"):
        return (pattern,) if pattern in known else ()
    ordered, stem = _ordered(known), pattern[:-1]
    below = itertools.islice(ordered, bisect_left(ordered, stem), None)
    return tuple(itertools.takewhile(lambda name: name.startswith(stem), below))


@functools.lru_cache(maxsize=1)
def _ordered(known: frozenset[str]) -> list[str]:
    return sorted(known)


@functools.lru_cache(maxsize=1024)
def pattern_hint(pattern: str, known: frozenset[str]) -> str:
    """Return ` (did you mean ...?)` with types and namespaces near to a pattern, or nothing."""
    word, spaces = pattern.lower(), namespaces(known)
    if f"{word}.*" in spaces:
        return f" (did you mean {word}.*?)"
    return ("" if word.endswith(".*") else hint(word, known)) or hint(word, spaces)


def namespaces(known: Iterable[str]) -> set[str]:
    """Return the namespaces that hold a type, as patterns: `rate.*` and `rate.limit.*` for
    `rate.limit.exceeded`."""
    return {f"{name[:i]}.*" for name in known for i, letter in enumerate(name) if letter == "."}


def hint(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean ...?)` with the nearest of the known words, or nothing: with very many
    of them, too."""
    words = set(itertools.islice(known, _MAX_NEAR + 1))
    if len(words) > _MAX_NEAR or len(word) > _MAX_WORD:
        return ""
    near = difflib.get_close_matches(
        word, sorted(one for one in words if len(one) <= _MAX_WORD), n=3, cutoff=0.7
    )
    return f" (did you mean {' or '.join(near)}?)" if near else ""
