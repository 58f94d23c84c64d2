"""Where the dashboard has the page of an endpoint."""

from __future__ import annotations

from fluxhook.admin.references import by_id

__all__ = ["endpoint_path"]


def endpoint_path(id: str) -> str:
    """Return the path of an endpoint's page.

    >>> endpoint_path("wh_7")
    '/endpoints/id:wh_7'
    """
    return f"/endpoints/{by_id(id)}"
