"""Who may do what: bearer tokens with scopes, and what a browser must not be tricked into.

Without a configured token the API is open to this machine. Then anything that a browser here is made
to send must be recognized: a page of another site (Origin, Sec-Fetch-Site), and a foreign name that
was pointed at 127.0.0.1 (DNS rebinding; the Host header still bears it).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, get_args

from fluxhook.admin.problem_details import RequestError
from fluxhook.config.listen_address import Listen
from fluxhook.config.schema import Scope, Token

__all__ = ["ALL_SCOPES", "Access", "header", "is_foreign", "judge_browser"]

ALL_SCOPES: Final[frozenset[Scope]] = frozenset(get_args(Scope))
_REALM: Final = 'Bearer realm="fluxhook"'
_ORIGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#@\s]+)")


class Access:
    """The tokens of the moment. `tokens` is asked each time, so that a reload takes effect at once.

    `own_token` is the process's own, with all scopes; "" for none. Safe to share among threads.
    """

    def __init__(
        self,
        tokens: Callable[[], Sequence[Token]],
        *,
        loopback: bool,
        own_token: str = "",
        required: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take functions, as tokens can change; `required` says if a token is needed although there
        are none."""
        self._tokens = tokens
        self._loopback = loopback
        self._own = own_token
        self._required = required

    @property
    def open(self) -> bool:
        """True if a request without a token may do everything."""
        return self._loopback and not self._tokens() and not self._required()

    def scopes_of(self, token: str) -> frozenset[Scope]:
        """Return what a token allows; empty if it is none. Take the same time for every wrong one."""
        found: frozenset[Scope] = frozenset()
        given = token.encode("utf-8", "replace")
        for known in self._tokens():
            if hmac.compare_digest(given, known.token.encode()):
                found |= frozenset(known.scopes)
        if self._own and hmac.compare_digest(given, self._own.encode()):
            found = ALL_SCOPES
        return found

    def owner_of(self, authorization: str | None) -> str:
        """Return the name of the token in an Authorization header, or something of its own for one that
        has none, which tells nothing of it; "" without a token of the configuration."""
        return "" if authorization is None else self.owner(_bearer(authorization))

    def owner(self, token: str) -> str:
        """Return the same for a token."""
        given = token.encode("utf-8", "replace")
        for known in self._tokens():
            if hmac.compare_digest(given, known.token.encode()):
                return known.name or f"token {hashlib.sha256(given).hexdigest()[:8]}"
        return ""

    def is_unknown(self, authorization: str | None) -> bool:
        """Return whether a header gives a token that is none."""
        return authorization is not None and not self.scopes_of(_bearer(authorization))

    def client(self, authorization: str | None) -> str:
        """Return a name for who makes a request, which tells nothing of the token; "" without one."""
        token = "" if authorization is None else _bearer(authorization)
        if not self.scopes_of(token):
            return ""
        if self._own and hmac.compare_digest(token.encode("utf-8", "replace"), self._own.encode()):
            return "own"  # it is another one in each process
        return hashlib.sha256(token.encode()).hexdigest()

    def require(self, scope: Scope, authorization: str | None) -> None:
        """Raise RequestError unless the Authorization header's token has the scope."""
        if authorization is None:
            if self.open:
                return
            raise RequestError(
                "unauthorized",
                "This needs the header `Authorization: Bearer <token>`, with a token of "
                "admin.tokens in the configuration.",
                headers={"WWW-Authenticate": _REALM},
            )
        scopes = self.scopes_of(_bearer(authorization))
        if not scopes:
            raise RequestError(
                "unauthorized",
                "The token is not known; give one of admin.tokens in the configuration.",
                headers={"WWW-Authenticate": f'{_REALM}, error="invalid_token"'},
            )
        if scope not in scopes:
            raise RequestError(
                "insufficient-scope",
                f"The token lacks the scope {scope!r}; it has {', '.join(sorted(scopes))}.",
                headers={
                    "WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{scope}"'
                },
            )


def header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """Return a header of an ASGI request: of several the first, so that all who judge a request judge
    by the same one."""
    value = next((value for key, value in scope["headers"] if key == name), None)
    return None if value is None else value.decode("latin-1")


def _bearer(authorization: str) -> str:
    """Return the token in an Authorization header (RFC 6750 section 2.1)."""
    method, _, token = authorization.partition(" ")
    return token.strip() if method.lower() == "bearer" else ""


def judge_browser(headers: Mapping[str, str], method: str) -> RequestError | None:
    """Return why an open API refuses a request, or None. `headers` have names in lower case."""
    host = headers.get("host", "")
    if not Listen(_without_port(host), 0).loopback:
        return RequestError(
            "foreign-host",
            f"The Host header is {host!r:.80}, and without admin.tokens only localhost and loopback "
            "addresses are answered; configure a token, or call http://127.0.0.1.",
        )
    site = headers.get("sec-fetch-site", "none")
    # A link to us that somebody follows: it shows, and changes nothing.
    followed = (
        method == "GET"
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )
    origin = headers.get("origin")
    if is_foreign(origin, host) or (site not in ("same-origin", "none") and not followed):
        return RequestError(
            "cross-origin",
            f"A page of {origin or 'another site'!r:.80} made this request; without admin.tokens "
            "only our own pages may.",
        )
    return None


def is_foreign(origin: str | None, host: str) -> bool:
    """Return whether an Origin header, if there is one, is that of another host or port. One that
    cannot be read is (RFC 6454 section 7)."""
    if origin is None:
        return False
    match = _ORIGIN.fullmatch(origin)
    return match is None or match[1].lower() != host.lower()


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
