"""Several ASGI applications in one server: each gets lifespan events of its own.

Source: ASGI specification 3.0, "Lifespan protocol".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fluxhook.logs.log import Log

__all__ = ["AsgiApp", "run_lifespans"]

#: (scope, receive, send)
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

log = Log("admin")


class _Lifespan:
    """One application's lifespan, driven message by message."""

    def __init__(self, app: AsgiApp, scope: dict[str, Any]) -> None:
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        own = {**scope, "state": {}}
        self._task = asyncio.ensure_future(app(own, self._inbox.get, self._outbox.put))
        # Whatever it raises after it has said that it failed is said already.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def tell(self, event: str) -> str | None:
        """Send `startup` or `shutdown`; return what is said against it, or None once it is complete."""
        await self._inbox.put({"type": f"lifespan.{event}"})
        answer = asyncio.ensure_future(self._outbox.get())
        await asyncio.wait({answer, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            return f"it ended: {self._task.exception()!r}"
        message = answer.result()
        return str(message.get("message", "")) if message["type"].endswith(".failed") else None


async def run_lifespans(
    apps: Sequence[AsgiApp],
    scope: dict[str, Any],
    receive: Any,
    send: Any,
    *,
    can_do_without: Callable[[AsgiApp, str], bool] = lambda app, fault: False,
) -> None:
    """Start the applications in their order and stop them in the other.

    If one cannot start, `can_do_without` hears of it and why; unless it returns True, those before it
    are stopped, and the server does not start.
    """
    await receive()
    begun: list[_Lifespan] = []
    for app in apps:
        one = _Lifespan(app, scope)
        fault = await one.tell("startup")
        if fault is None:
            begun.append(one)
        elif not can_do_without(app, fault):
            await _stop(begun)
            await send({"type": "lifespan.startup.failed", "message": fault})
            return
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await _stop(begun)
    await send({"type": "lifespan.shutdown.complete"})


async def _stop(begun: list[_Lifespan]) -> None:
    for one in reversed(begun):
        fault = await one.tell("shutdown")
        if fault is not None:
            log.error("a part of the admin process did not end well: %s", fault)
