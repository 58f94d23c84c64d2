"""The page that asks for the token: plain HTML, so that only fonts and looks are served before it."""

from __future__ import annotations

from html import escape
from typing import Final

import nicegui

__all__ = ["login_page", "safe_target"]

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in - Fluxhook</title>
<link rel="icon" href="{root}/_dashboard/icon.svg">
<link rel="stylesheet" href="{root}/_nicegui/{version}/static/fonts.css">
<link rel="stylesheet" href="{root}/_dashboard/dashboard.css">
<script src="{root}/_dashboard/dashboard.js"></script>
</head>
<body class="login">
<main>
<h1><img src="{root}/_dashboard/icon.svg" alt="" width="28" height="28"> Fluxhook</h1>
<form method="post" action="{root}/login" class="card">
<input type="hidden" name="next" value="{target}">
<div class="field">
<label for="token">Access token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus
 spellcheck="false" aria-describedby="token-help{described}"{invalid}>
{error}
<p class="help" id="token-help">One of <code>admin.tokens</code> in the engine's configuration.</p>
</div>
<button class="button primary" type="submit">Log in</button>
</form>
</main>
</body>
</html>
"""


def login_page(root: str, target: str, error: str = "") -> str:
    """Return the page; its links begin with `root`, `target` is where to go afterwards, `error` what
    was wrong with the token."""
    return _PAGE.format(
        root=escape(root),
        version=nicegui.__version__,
        target=escape(target),
        described=" token-error" if error else "",
        invalid=' aria-invalid="true"' if error else "",
        error=f'<p class="error" id="token-error" role="alert">{escape(error)}</p>'
        if error
        else "",
    )


def safe_target(target: str) -> str:
    """Return a path of ours, or "/": nobody is sent to another site."""
    if not target.startswith("/") or target.startswith(("//", "/\\", "/login", "/logout")):
        return "/"
    return target if target.isprintable() else "/"
