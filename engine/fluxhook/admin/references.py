"""How a webhook is named: `billing`, or `wh_7` where no webhook has that name, or `id:wh_7`.

A name that begins with `id:` is written with the colon percent-encoded (`id%3Awh_7`). In a path what is
percent-encoded is part of a name, whatever it looks like. Elsewhere (queries, bodies, the command line)
only what begins with `id%` is decoded, so that every other name is written as it is.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

__all__ = [
    "Reference",
    "by_id",
    "encoded_path",
    "masked_path",
    "path_reference",
    "reference",
    "written",
]

#: Stand where a router must not see a slash, or before what is a name and no word of ours; no name
#: holds control characters.
_SLASH: Final = "\x1f"
_NAME: Final = "\x1e"
#: `/v1/webhooks/status` is the status of all, `/v1/webhooks/%73tatus` an endpoint of that name
_WORDS: Final = frozenset(("status",))
_BY_ID: Final = "id:"
_ENCODED: Final = "id%"
_ID: Final = re.compile(r"wh_(0|[1-9][0-9]{0,8})", re.ASCII)


class Reference(NamedTuple):
    """A name goes first; each is None where it cannot be meant."""

    name: str | None
    id: int | None


def reference(text: str) -> Reference:
    """Return what a text in a query, a body or on the command line refers to."""
    if text.startswith(_BY_ID):
        return Reference(None, _number(text.removeprefix(_BY_ID)))
    name = unquote(text) if text.startswith(_ENCODED) else text
    return Reference(name, _number(text))


def written(name: str) -> str:
    """Return a name as `reference` reads it.

    >>> written("billing"), written("id:wh_7")
    ('billing', 'id%3Awh_7')
    """
    if not name.startswith((_BY_ID, _ENCODED)):
        return name
    return name.replace("%", "%25").replace(_BY_ID, f"{_ENCODED}3A", 1)


def by_id(id: str) -> str:
    """Return an id such as wh_7 as every reader of names takes it, whatever names there are."""
    return _BY_ID + id


def path_reference(segment: str) -> Reference:
    """Return what a segment of a masked path refers to."""
    if segment.startswith(_BY_ID):
        return Reference(None, _number(segment.removeprefix(_BY_ID)))
    name = segment.removeprefix(_NAME).replace(_SLASH, "/")
    return Reference(name, _number(segment))


def _number(text: str) -> int | None:
    match = _ID.fullmatch(text)
    return int(match[1]) if match else None


def masked_path(scope: Any) -> str:
    """Return the path of an ASGI request for a router that splits it at slashes."""
    path: str = scope["path"]
    raw = (scope.get("raw_path") or b"").decode("latin-1")
    if "%" not in raw or unquote(raw) != path:  # not every server says it
        return path
    return "/".join(map(_masked, raw.split("/")))


def _masked(segment: str) -> str:
    plain = unquote(segment)
    encoded = plain != segment and (
        plain in _WORDS or (plain.startswith(_BY_ID) and not segment.startswith(_BY_ID))
    )
    return (_NAME if encoded else "") + plain.replace("/", _SLASH)


def encoded_path(path: str) -> str:
    """Return a path that may be masked, as it stands in a URL."""
    return "/".join(map(_encoded, path.split("/")))


def _encoded(segment: str) -> str:
    plain = segment.removeprefix(_NAME).replace(_SLASH, "/")
    return quote(plain, safe="" if segment.startswith(_NAME) else ":")
