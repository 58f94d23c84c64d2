"""A secret that was made for somebody: shown once, and never again."""

from __future__ import annotations

from fluxhook.admin.dashboard.widgets.dom import tag, text

__all__ = ["show_secret"]


def show_secret(secret: str, advice: str) -> None:
    with tag("div", "secret"):
        text("p", f"This is the secret. It is shown only now. {advice}")
        with tag("div", "secret-line"):
            code = text("code", secret)
            tag("fh-copy", of=f"#{code.html_id}")
