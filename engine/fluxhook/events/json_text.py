"""JSON text from outside: what is wrong with one that cannot be read."""

from __future__ import annotations

import re
from typing import Final

from fluxhook.events.nesting import TooDeep

__all__ = ["json_fault"]

#: Each escape, so that a backslash that is escaped itself begins none; pairs of surrogates are one.
_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\."
)
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def json_fault(text: bytes | str, error: Exception) -> str:
    """Says what the decoder meant: `error` is what msgspec raised on the text."""
    if isinstance(error, TooDeep):
        return str(error)
    encoded = text if isinstance(text, bytes) else text.encode(errors="replace")
    for escape in _ESCAPE.finditer(encoded):
        if _SURROGATE.fullmatch(escape[0]):
            name = escape[0].decode()
            return f"{name} at byte {escape.start()} is half of a pair, a lone surrogate"
    return str(error)
