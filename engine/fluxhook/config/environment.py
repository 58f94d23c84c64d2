"""`${NAME}` in secrets, tokens, header values, URLs and TLS paths: replaced by an environment variable.

FluxMQ's documentation asks for it: `Authorization: "${WEBHOOK_AUTH_TOKEN}"`; and the URL of a chat's
webhook is a secret as a whole. `$$` is a plain dollar sign; a dollar sign before anything else stands
for itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from fluxhook.config.findings import Findings

__all__ = ["expand", "expand_tokens"]

_REFERENCE: Final = re.compile(r"\$\$|\$\{([^}]*)(\}?)")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def expand(
    layer: Mapping[str, Any], path: str, environ: Mapping[str, str], findings: Findings
) -> dict[str, Any]:
    """Return the endpoint's mapping with the references replaced in its URL, proxy, secrets, header
    values and TLS paths.

    A variable that is not set is a problem that names it. What is not a text is left alone.
    """

    def text(value: Any, where: str) -> Any:
        return _expanded(value, where, environ, findings)

    expanded = dict(layer)
    for name in ("secret", "url", "proxy"):
        if name in expanded:
            expanded[name] = text(expanded[name], f"{path}.{name}")
    if isinstance(tls := expanded.get("tls"), dict):
        expanded["tls"] = {k: text(v, f"{path}.tls.{k}") for k, v in tls.items()}
    if isinstance(secrets := expanded.get("secrets"), list):
        expanded["secrets"] = [text(s, f"{path}.secrets[{i}]") for i, s in enumerate(secrets)]
    if isinstance(headers := expanded.get("headers"), dict):
        expanded["headers"] = {k: text(v, f"{path}.headers.{k}") for k, v in headers.items()}
    return expanded


def expand_tokens(
    section: Mapping[str, Any], path: str, environ: Mapping[str, str], findings: Findings
) -> dict[str, Any]:
    """Return the section with the references in the tokens of its `admin` replaced."""
    admin = section.get("admin")
    if not isinstance(admin, dict) or not isinstance(tokens := admin.get("tokens"), list):
        return dict(section)
    expanded = [
        {
            **token,
            "token": _expanded(token["token"], f"{path}.tokens[{i}].token", environ, findings),
        }
        if isinstance(token, dict) and "token" in token
        else token
        for i, token in enumerate(tokens)
    ]
    return {**section, "admin": {**admin, "tokens": expanded}}


def _expanded(value: Any, where: str, environ: Mapping[str, str], findings: Findings) -> Any:
    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "$"
        if not match[2] or not _NAME.fullmatch(name):
            # The name is not shown: where a brace is left open, it is the rest of a secret.
            findings.problem(
                where, "has a ${ without a variable's name and }", "write ${NAME}, or $${"
            )
        elif name in environ:
            return environ[name]
        else:
            findings.problem(
                where,
                f"the environment variable {name} is not set",
                f"set {name}, or write $${{{name}}} for the text itself",
            )
        return match[0]

    # Not `Plain`: what came from the environment is a text, whatever it looks like.
    return _REFERENCE.sub(replace, value) if isinstance(value, str) and "$" in value else value
