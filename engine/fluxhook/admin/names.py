"""Names of endpoints in paths: what was percent-encoded is part of a name, whatever it looks like."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote, unquote

__all__ = ["encoded_path", "masked_path", "unmasked"]

#: Stand where a router must not see a slash, or a word of ours; no name holds control characters.
_SLASH: Final = "\x1f"
_WORD: Final = "\x1e"
#: `/v1/webhooks/status` is the status of all, `/v1/webhooks/%73tatus` an endpoint of that name
_WORDS: Final = frozenset(("status",))


def masked_path(scope: Any) -> str:
    """The path of an ASGI request for a router that splits it at slashes."""
    path: str = scope["path"]
    raw = (scope.get("raw_path") or b"").decode("latin-1")
    if "%" not in raw or unquote(raw) != path:  # not every server says it
        return path
    return "/".join(map(_masked, raw.split("/")))


def _masked(segment: str) -> str:
    plain = unquote(segment)
    return _WORD + plain if plain in _WORDS and plain != segment else plain.replace("/", _SLASH)


def unmasked(name: str) -> str:
    """The name as it was meant."""
    return name.replace(_SLASH, "/").replace(_WORD, "")


def encoded_path(path: str) -> str:
    """A path that may be masked, as it stands in a URL."""
    return quote(path.replace(_WORD, "")).replace(quote(_SLASH), quote("/", safe=""))
