"""The schema of each event type's data, and its version.

"A versioned data object": the version is `major.minor`. A field that is added raises the minor number.
Whatever a receiver could stumble over (a field that is gone, may be missing, or has another type)
raises the major one, and comes with a new major version of Fluxhook only: "The payload structure
remains stable across minor gateway releases, with breaking changes only introduced in major version
bumps." The golden file `tests/golden/schemas.json` holds each version still.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fluxhook.events.catalog import TYPES

__all__ = ["VERSIONS", "dataschema", "schema"]

#: of each type in the catalogs; a host's own types are versioned by the host
VERSIONS: Final[dict[str, str]] = dict.fromkeys(TYPES, "1.0")


def dataschema(event_type: str) -> str | None:
    """Return the URI that names what a receiver can rely on: the type and its major version, such as
    `urn:fluxhook:event:route.error:v1`; None for a type in neither catalog.

    CloudEvents 1.0 section 3.1: "Incompatible changes to the schema SHOULD be reflected by a different
    URI." It names the schema and leads nowhere.
    """
    version = VERSIONS.get(event_type)
    if version is None:
        return None
    return f"urn:fluxhook:event:{event_type}:v{version.partition('.')[0]}"


def schema(event_type: str) -> dict[str, Any] | None:
    """Return the JSON schema of a type's data; None where it may be any JSON object."""
    data = TYPES.get(event_type)
    if data is None:
        return None
    return {"$id": dataschema(event_type), **msgspec.json.schema(data)}
