"""Acting on what waits: retry it now, close the breaker that holds it; after a question that says how
many."""

from __future__ import annotations

from fluxhook.admin.dashboard import words
from fluxhook.admin.dashboard.session.viewer import Viewer, complain, tell
from fluxhook.admin.dashboard.widgets.dialogs import confirm
from fluxhook.admin.models import RetryRequest
from fluxhook.errors import FluxhookError

__all__ = ["close_breaker", "retry_now"]


async def retry_now(viewer: Viewer, ref: str, name: str) -> None:
    """Ask, and have all that waits for an endpoint attempted now."""
    try:
        n = await viewer.ask(viewer.service.count_waiting, ref)
    except FluxhookError as error:
        complain(error)
        return
    if not n:
        tell(f"Nothing of {name} waits for its time.")
        return
    agreed = await confirm(
        f"Retry {_deliveries(n)} of {name} now?",
        "Each is attempted as soon as the endpoint's limits let it. The attempt counts as ever: where "
        "it fails, the next one comes in its time, or it was the last.",
        "Retry now",
    )
    if not agreed:
        return
    done, cursor = 0, None
    try:
        while True:
            made = await viewer.change(viewer.service.retry, ref, RetryRequest(cursor=cursor))
            done, cursor = done + made.done, made.next_cursor
            if cursor is None:
                break
    except FluxhookError as error:
        complain(error)
    else:
        tell(f"{_deliveries(done)} of {name} {'is' if done == 1 else 'are'} attempted now.")


async def close_breaker(viewer: Viewer, ref: str, name: str) -> None:
    """Ask, and have an endpoint sent to again at once."""
    try:
        n = await viewer.ask(viewer.service.count_waiting, ref, "breaker_open")
    except FluxhookError as error:
        complain(error)
        return
    agreed = await confirm(
        f"Close the breaker of {name} now?",
        f"Requests go at once, {_deliveries(n)} that it held back among them. If they fail, it opens "
        "again as ever.",
        "Close breaker",
    )
    if agreed:
        await viewer.attempt("The breaker was closed.", viewer.service.close_breaker, ref)


def _deliveries(n: int) -> str:
    return f"{words.count(n)} {'delivery' if n == 1 else 'deliveries'}"
