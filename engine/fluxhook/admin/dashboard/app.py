"""The dashboard as one ASGI application, to be mounted beside the API.

NiceGUI keeps its pages in the process, so there is one dashboard per process; its lifespan has to run.
"""

from __future__ import annotations

import logging
from typing import Final, Protocol

from fastapi import FastAPI
from nicegui import __version__ as nicegui_version
from nicegui import ui
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fluxhook.admin.auth import Access
from fluxhook.admin.dashboard.pages import (
    audit,
    changes,
    create,
    dead_letters,
    deliveries,
    delivery,
    edit,
    endpoint,
    endpoints,
    lists,
    overview,
    retries,
)
from fluxhook.admin.dashboard.session.guard import STATIC, Guard
from fluxhook.admin.dashboard.session.viewer import DashboardContext
from fluxhook.admin.failed_tokens import FailedTokens
from fluxhook.admin.sampler import Sampler
from fluxhook.admin.service import Service

__all__ = ["AdminProcess", "create_dashboard"]

#: `/endpoints/new` stands before `/endpoints/{ref}`
_PAGES: Final = (
    overview,
    endpoints,
    create,
    endpoint,
    edit,
    deliveries,
    delivery,
    retries,
    dead_letters,
    lists,
    audit,
    changes,
)
#: files of the library, whose paths have its version
_LASTING: Final = tuple(
    f"/_nicegui/{nicegui_version}/{kind}/"
    for kind in ("static", "libraries", "components", "resources", "esm")
)


class AdminProcess(Protocol):
    """What the dashboard needs of the admin process."""

    @property
    def service(self) -> Service: ...
    @property
    def access(self) -> Access: ...
    @property
    def sampler(self) -> Sampler: ...
    @property
    def failed_tokens(self) -> FailedTokens: ...


def create_dashboard(admin: AdminProcess) -> ASGIApp:
    """Return the pages, behind their guard. Call it once in a process."""
    # Strangers could fill the log with what is not found, or was never a session.
    for name, level in (("nicegui", logging.ERROR), ("engineio.server", logging.CRITICAL)):
        logging.getLogger(name).setLevel(level)
    context = DashboardContext(admin.service, admin.access, admin.sampler)
    for page in _PAGES:
        page.register(context)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.mount("/_dashboard", StaticFiles(directory=STATIC))
    ui.run_with(
        app,
        title="Fluxhook",
        favicon=STATIC / "icon.svg",
        dark=False,  # the style sheet has both themes, and the library's own stays out of the way
        language="en-US",
        binding_refresh_interval=None,  # nothing is bound, so nothing has to be looked at
        tailwind=False,
        show_welcome_message=False,
    )
    return Guard(_below_its_root(app), admin.access, admin.failed_tokens)


def _below_its_root(app: ASGIApp) -> ASGIApp:
    """Return the application with paths that begin with `root_path`, as it takes them (ASGI 3.0, "HTTP
    Connection Scope")."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        root = scope.get("root_path", "")
        if root:
            if scope["path"].startswith(_LASTING):
                send = _lasting(send)
            raw = root.encode() + scope["raw_path"]
            scope = {**scope, "path": root + scope["path"], "raw_path": raw}
        await app(scope, receive, send)

    return call


def _lasting(send: Send) -> Send:
    """Have a browser keep what it is sent: the library says so of paths without a root alone."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            keep = (b"cache-control", b"public, max-age=31536000, immutable")
            message["headers"] = [*message.get("headers", ()), keep]
        await send(message)

    return sending
