"""How deep JSON and data may nest, found out before a library recurses into them.

Libraries recurse, and stop at a depth that differs between interpreters: by the recursion limit up to
Python 3.11, by the size of the C stack from 3.12 on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import msgspec

from fluxhook._native.event import nests_over

__all__ = [
    "MAX_DEPTH",
    "MAX_TEXT_DEPTH",
    "TooDeep",
    "bounded",
    "decode_json",
    "is_deeper",
]

#: levels of objects and lists in a configuration, and in a request that changes it; arbitrary, far
#: above any real one
MAX_DEPTH: Final = 64
#: levels of any JSON text that we read; arbitrary, half of what Python 3.11 can decode. What may nest
#: less is judged by its own limit once it is decoded.
MAX_TEXT_DEPTH: Final = 512

T = TypeVar("T")


class TooDeep(msgspec.DecodeError):
    """A JSON text has too many levels; the first one that is too many begins at `offset`."""

    def __init__(self, offset: int) -> None:
        super().__init__(
            f"JSON is nested too deeply, over {MAX_TEXT_DEPTH} levels, at byte {offset}"
        )


def bounded(decode: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """Return `decode` with a check of the depth before it, which raises TooDeep (a DecodeError)."""

    def checked(text: bytes) -> T:
        if (offset := nests_over(text, MAX_TEXT_DEPTH)) >= 0:
            raise TooDeep(offset)
        return decode(text)

    return checked


_decode: Final = bounded(msgspec.json.Decoder().decode)


def decode_json(text: str | bytes) -> Any:
    """Decode JSON of any form. Raises msgspec.DecodeError (TooDeep is one), UnicodeError."""
    return _decode(text.encode() if isinstance(text, str) else text)


def is_deeper(value: object, levels: int) -> bool:
    """Return whether plain data has more levels of containers, as it does where it holds itself."""
    # Depth first: what holds itself twice would fill the memory by its breadth.
    ways: list[Iterator[object]] = [iter((value,))]
    while ways:
        for item in ways[-1]:
            if isinstance(item, dict):
                below: Iterable[object] = item.values()
            elif isinstance(item, (list, tuple, set, frozenset)):
                below = item
            elif isinstance(item, msgspec.Struct):
                below = [getattr(item, name) for name in item.__struct_fields__]
            else:
                continue
            if len(ways) > levels:
                return True
            ways.append(iter(below))
            break
        else:
            ways.pop()
    return False
