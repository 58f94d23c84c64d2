"""The one who looks at a page: what the token allows, and the service's functions, asked in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fastapi import Request
from nicegui import ui

from fluxhook.admin.auth import ALL_SCOPES, Access
from fluxhook.admin.dashboard.session.guard import SESSION
from fluxhook.admin.dashboard.session.sessions import Session
from fluxhook.admin.history import Point
from fluxhook.admin.models import Status
from fluxhook.admin.origin import local_actor
from fluxhook.admin.problem_details import RequestError, problem_of
from fluxhook.admin.sampler import Sampler
from fluxhook.admin.service import Service
from fluxhook.config.schema import Scope
from fluxhook.control import Origin
from fluxhook.errors import ConfigError, FluxhookError

__all__ = ["DashboardContext", "Viewer", "complain", "complaint", "faults_of", "tell"]

P = ParamSpec("P")
R = TypeVar("R")


class DashboardContext:
    """What all pages share."""

    def __init__(self, service: Service, access: Access, sampler: Sampler) -> None:
        self.service = service
        self.access = access
        self.sampler = sampler


class Viewer:
    """One page in one browser."""

    def __init__(self, context: DashboardContext, request: Request) -> None:
        self.service = context.service.asked_by(self._origin)
        self._access = context.access
        self._sampler = context.sampler
        self._session: Session | None = request.scope.get(SESSION)
        #: of the connection that asked for the page, which need not be there any more at a change
        self._local_actor = "" if self._named else local_actor(request.scope)

    @property
    def _named(self) -> str:
        """Return the name of the token; empty where there is none, or one of no configuration."""
        return "" if self._session is None else self._access.owner(self._session.token)

    def _origin(self) -> Origin:
        """Return who asks for a change, for the trail of changes."""
        return Origin(self._named or self._local_actor, "dashboard")

    @property
    def scopes(self) -> frozenset[Scope]:
        """The scopes that the token has at this moment; the configuration may have changed since."""
        if self._access.open:
            return ALL_SCOPES
        session = self._session
        if session is None or session.ended.is_set():
            return frozenset()
        return self._access.scopes_of(session.token)

    @property
    def may_write(self) -> bool:
        return "write" in self.scopes

    @property
    def logged_in(self) -> bool:
        return self._session is not None

    async def ask(self, question: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function of the service that reads. Raise what it raises."""
        self._require("read")
        return await asyncio.to_thread(question, *args, **kwargs)

    async def status(self) -> Status:
        """Return how the engine does, as of a moment ago. Raise RequestError, and what the service
        raises."""
        self._require("read")
        return await self._sampler.status()

    def line(self, endpoint: int | None = None) -> list[Point]:
        """Return the last hour of an endpoint, or of all."""
        return self._sampler.line(endpoint)

    def now(self, endpoint: int | None = None) -> Point | None:
        """Return the rates of this moment, of an endpoint or of all."""
        return self._sampler.now(endpoint)

    def expire(self) -> None:
        """Make the next status be of now: something was changed."""
        self._sampler.expire()

    async def change(self, action: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function of the service that changes something. Raise what it raises, and
        RequestError without the scope."""
        self._require("write")
        if self._session is not None:
            self._session.use()
        return await asyncio.to_thread(action, *args, **kwargs)

    async def attempt(
        self, done: str, action: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R | None:
        """Do as `change`, and say what came of it. None if it failed, or came to nothing."""
        try:
            result = await self.change(action, *args, **kwargs)
        except FluxhookError as error:
            complain(error)
            return None
        if done:
            tell(done)
        return result

    def _require(self, scope: Scope) -> None:
        if scope not in self.scopes:
            raise RequestError("insufficient-scope", f"Your token does not have the scope {scope}.")


def tell(message: str) -> None:
    """Show a passing note at the edge of the page."""
    ui.notify(message, position="bottom-right", classes="note", timeout=4000)


def complain(error: FluxhookError) -> None:
    """Say what went wrong; it stays until it is closed."""
    ui.notify(
        complaint(error),
        position="bottom-right",
        classes="note bad",
        timeout=0,
        close_button="Close",
    )


def faults_of(error: FluxhookError) -> list[tuple[str, str, str]]:
    """Return what a form shows of an error: paths, messages and remedies."""
    if isinstance(error, ConfigError):
        return [(path, message, remedy) for path, message, remedy in error.problems]
    if isinstance(error, RequestError) and error.faults:
        return [(fault.field, fault.message, fault.remedy) for fault in error.faults]
    return [("", complaint(error), "")]


def complaint(error: FluxhookError) -> str:
    if isinstance(error, ConfigError):
        return "; ".join(f"{path}: {message}; {remedy}" for path, message, remedy in error.problems)
    return problem_of(error, "")[0].detail
