"""Giving an endpoint a new secret, in a window: for how long the former one signs beside it, and the
new one, shown once."""

from __future__ import annotations

from typing import Final

from fluxhook.admin.dashboard.session.viewer import Viewer, faults_of
from fluxhook.admin.dashboard.widgets.dialogs import window
from fluxhook.admin.dashboard.widgets.dom import button, focus, tag, text, time
from fluxhook.admin.dashboard.widgets.forms import Form
from fluxhook.admin.dashboard.widgets.shown_secret import show_secret
from fluxhook.admin.models import RotatedSecret, RotateRequest, Webhook
from fluxhook.admin.payload import struct_of
from fluxhook.admin.references import by_id
from fluxhook.errors import FluxhookError

__all__ = ["rotate"]

#: what the API takes where nothing is said
_OVERLAP: Final = "24h"


async def rotate(viewer: Viewer, webhook: Webhook) -> bool:
    """Ask for a rotation, and return whether the endpoint has a new secret. Escape and the other
    button leave it as it was."""
    done = False
    with window(f"Rotate the secret of {webhook.name}") as dialog, tag("div", "stack") as place:

        async def submit(values: dict[str, str]) -> None:
            nonlocal done
            given = {name: value for name, value in values.items() if value}
            try:
                request = struct_of(RotateRequest, given)
                made = await viewer.change(viewer.service.rotate_secret, by_id(webhook.id), request)
            except FluxhookError as error:
                form.show_faults(faults_of(error))
                return
            done = True
            place.clear()
            dialog.props["persistent"] = True  # a click beside it must not lose the secret
            with place:
                _rotated(made, request)
                with tag("div", "buttons"):
                    button("Done", "", "primary").on("click", lambda: dialog.submit(True))

        form = Form("Rotate the secret", submit, {"overlap": _OVERLAP})
        with form:
            form.field(
                "overlap",
                "The present secret signs on for",
                autofocus=True,
                hint="Beside the new one, while the receiver changes over; 0s ends it at once.",
            )
            form.field(
                "secret",
                "New secret",
                type="password",
                hint="Leave it empty to have one generated; it is shown once, after this.",
            )
            with tag("div", "buttons"):
                button("Rotate secret", "", "primary", type="submit")
                button("Cancel").on("click", lambda: dialog.submit(False))
    await dialog
    dialog.delete()  # and with it the secret
    return done


def _rotated(made: RotatedSecret, request: RotateRequest) -> None:
    with tag("p", role="status", tabindex="-1") as said:
        if request.overlap is not None and not request.overlap.ns:
            text("span", "The new secret signs. The former one ended at once.")
        else:
            text("span", "The new secret signs. The former one does so beside it, until ")
            time(made.former_expires_at, dated=True)
    focus(said)
    if made.secret is not None:
        show_secret(made.secret, "Give it to the receiver.")
