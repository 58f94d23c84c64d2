"""Who asks for a change, for the trail of changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fluxhook.admin.auth import Access, header
from fluxhook.admin.failed_tokens import peer_of
from fluxhook.control import Origin
from fluxhook.store.audit import Via
from fluxhook.transport.peer import tcp_user

__all__ = ["local_actor", "origin_of"]

#: the User-Agent of the command line (cli/api_client.py) begins with it
_CLI: Final = "fluxhook/"


def origin_of(access: Access, scope: Mapping[str, Any]) -> Origin:
    """Return the origin of a request: the name of its token or, where it has none of the
    configuration's, the user who has connected."""
    named = access.owner_of(header(scope, b"authorization"))
    via: Via = "cli" if (header(scope, b"user-agent") or "").startswith(_CLI) else "api"
    return Origin(named or local_actor(scope), via)


def local_actor(scope: Mapping[str, Any]) -> str:
    """Return the user of this machine who has a connection; its address where it is another's."""
    client = scope.get("client")
    return tcp_user(client, scope.get("server")) or peer_of(client)
