"""A client of the admin API: each request is one answer of its type, or one clear failure."""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from fluxhook._version import VERSION
from fluxhook.admin import references
from fluxhook.admin.models import MAX_PAGE, Page
from fluxhook.admin.problem_details import ProblemDetails
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.failure import Failure
from fluxhook.cli.output import plural
from fluxhook.config import codec
from fluxhook.config.listen_address import Listen
from fluxhook.config.url import shown_url
from fluxhook.errors import Problem
from fluxhook.events.nesting import bounded

__all__ = ["TIMEOUT_S", "Api", "reference", "segment"]

T = TypeVar("T")

#: longer than the engine's own limit for a change (`control.Control`), which answers first
TIMEOUT_S: Final = 30.0

_CODES: Final = {
    "unauthorized": ExitCode.DENIED,
    "insufficient-scope": ExitCode.DENIED,
    "too-many-failures": ExitCode.DENIED,
    "foreign-host": ExitCode.DENIED,
    "malformed-request": ExitCode.USAGE,
    "uri-too-long": ExitCode.USAGE,
    "not-found": ExitCode.NOT_FOUND,
    "unknown-webhook": ExitCode.NOT_FOUND,
    "unknown-delivery": ExitCode.NOT_FOUND,
    "conflict": ExitCode.CONFLICT,
    "invalid-configuration": ExitCode.CONFIG,
    "invalid-request": ExitCode.USAGE,
    "invalid-event": ExitCode.REFUSED,
    "event-too-large": ExitCode.REFUSED,
    "content-too-large": ExitCode.REFUSED,
    "queue-full": ExitCode.QUEUE_FULL,
    "engine-not-running": ExitCode.NOT_RUNNING,
    "engine-unavailable": ExitCode.UNREACHABLE,
    "store-failing": ExitCode.UNREACHABLE,
    "overloaded": ExitCode.UNREACHABLE,
    "request-timeout": ExitCode.UNREACHABLE,
}
_REMEDIES: Final = {
    "unauthorized": "with --api, give a token in --token-file or FLUXHOOK_TOKEN",
    "insufficient-scope": "give another token in --token-file or FLUXHOOK_TOKEN",
    "foreign-host": "call it by 127.0.0.1, or configure admin.tokens and give one",
    "unknown-webhook": "`fluxhook webhook list{options}` shows all there are",
    "engine-not-running": "start it on its host: `fluxhook serve -c FILE`, or what embeds it",
    "engine-unavailable": "try again in a moment; the engine's log says more",
    "store-failing": "look at the disk, and at the engine's log",
    "overloaded": "try again in a second",
}
#: what the API says in words of HTTP, which nobody wrote on the command line
_MESSAGES: Final = {
    "unauthorized": "the admin API wants a token that it knows",
    "foreign-host": "the admin API answers on its own machine only, as it has no tokens",
    "malformed-request": "the admin API cannot read the request",
    "uri-too-long": "the filters are too long together",
    "content-too-large": "what was given is too large: more than admin.max_body",
    "request-timeout": "the admin API got the request too slowly",
    "not-found": "the admin API there does not have this: it may be of another version",
    "method-not-allowed": "the admin API there does not have this: it may be of another version",
}
#: an answer of somebody who is not the API, and what most likely stands behind it
_FOREIGN: Final = {
    401: "something before it asks for a name and a password",
    403: "something before it does not let us through",
    404: "there is no admin API below this path",
    407: "the proxy wants a password",
    413: "something before it refuses so large a request",
    429: "something before it has too many requests",
    502: "the proxy before it does not reach it",
    503: "something before it is not available",
    504: "the proxy before it waited in vain for its answer",
}


_decode_problem: Final = bounded(msgspec.json.Decoder(ProblemDetails).decode)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token to whom it names."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Api:
    """Requests to one admin API. Every method raises Failure; none of them shows the token.

    `pinned` is a PEM file: the server must have that very certificate, for whatever name. `absent`
    says why nobody listens at the URL; `options` are those of the command line that lead here.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        pinned: str | None = None,
        absent: Callable[[], Failure] | None = None,
        timeout_s: float = TIMEOUT_S,
        options: str = "",
    ) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._absent = absent
        self._timeout_s = timeout_s
        self._options = options
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if Listen(urlsplit(url).hostname or "", 0).loopback:
            handlers.append(urllib.request.ProxyHandler({}))  # what is here is behind no proxy
        if pinned is not None:
            handlers.append(urllib.request.HTTPSHandler(context=_pinning(pinned)))
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str, kind: type[T], **filters: str | int | None) -> T:
        query = urlencode({name: value for name, value in filters.items() if value is not None})
        return self._decode(self._ask("GET", f"{path}?{query}" if query else path), kind)

    def pages(
        self,
        path: str,
        kind: type[T],
        *,
        last: int | None = None,
        page: int = MAX_PAGE,
        whole: bool = False,
        **filters: str | None,
    ) -> Iterator[T]:
        """Yield the items of a list, at most `last` of them, in pages of `page`. `whole`: the list
        comes as one page and takes no limit."""
        cursor: str | None = None
        while last is None or last > 0:
            limit = None if whole else min(last or page, page)
            got = self.get(path, Page[kind], limit=limit, cursor=cursor, **filters)  # type: ignore[valid-type]
            yield from got.items
            cursor = got.next_cursor
            if cursor is None:
                return
            last = None if last is None else last - len(got.items)

    def post(self, path: str, kind: type[T], body: Any = None) -> T:
        return self._decode(self._ask("POST", path, b"" if body is None else _encode(body)), kind)

    def patch(self, path: str, kind: type[T], patch: dict[str, Any]) -> T:
        """Send a JSON merge patch (RFC 7396)."""
        answer = self._ask("PATCH", path, _encode(patch), "application/merge-patch+json")
        return self._decode(answer, kind)

    def delete(self, path: str) -> None:
        self._ask("DELETE", path)

    # ---- within ----------------------------------------------------------------------------

    def _ask(
        self, method: str, path: str, body: bytes | None = None, media: str = "application/json"
    ) -> bytes:
        request = urllib.request.Request(f"{self.url}{path}", body, method=method)
        request.add_header("Accept", "application/json")
        request.add_header("User-Agent", f"fluxhook/{VERSION}")
        if body is not None:
            request.add_header("Content-Type", media)
        if self._token:
            # Unredirected: nor to a proxy, in its CONNECT.
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error)
        except (OSError, http.client.HTTPException) as error:
            self._unreachable(error)

    def _decode(self, content: bytes, kind: type[T]) -> T:
        decode = bounded(msgspec.json.Decoder(kind, dec_hook=codec.decode_hook).decode)
        try:
            return decode(content)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise self._foreign(f"its answer cannot be read: {error}") from None

    def _refused(self, error: urllib.error.HTTPError) -> NoReturn:
        """Raise the error that an answer without success means."""
        if 300 <= error.code < 400:
            where = shown_url(error.headers.get("Location", "elsewhere"))
            raise self._foreign(f"it redirects to {where}; redirects are not followed")
        try:
            problem = _decode_problem(error.read())
        except (msgspec.MsgspecError, UnicodeError, OSError, http.client.HTTPException):
            why = _FOREIGN.get(error.code, "what answers there is not the admin API")
            raise self._foreign(why) from None
        kind = problem.type.rpartition(":")[2]
        faults = [Problem(one.field, one.message, one.remedy) for one in problem.errors]
        message = _MESSAGES.get(kind, problem.detail)
        if faults:
            noun = "webhook" if kind == "invalid-configuration" else "request"
            message = f"the {noun} has {plural(len(faults), 'problem')}"
        raise Failure(
            message,
            _CODES.get(kind, ExitCode.FAILURE),
            problems=faults,
            remedy=_REMEDIES.get(kind, "").format(options=self._options),
        )

    def _foreign(self, why: str) -> Failure:
        return Failure(
            f"{self.url} does not answer as fluxhook's admin API: {why}",
            ExitCode.UNREACHABLE,
            remedy="look at the URL, and at what stands between here and there",
        )

    def _unreachable(self, error: OSError | http.client.HTTPException) -> NoReturn:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ConnectionRefusedError):
            if self._absent is not None:
                raise self._absent() from None
            why, remedy = "nobody listens there", "is it running, and is the port right?"
        elif isinstance(reason, socket.gaierror):
            why, remedy = "the host name cannot be resolved", "look at its spelling"
        elif isinstance(reason, TimeoutError):
            why = (
                f"no answer within {self._timeout_s:g} s; a change may have been made all the same"
            )
            remedy = "try again later"
        elif isinstance(reason, ssl.SSLCertVerificationError):
            why = f"its certificate is not trusted: {reason.verify_message}"
            remedy = "name the authority's PEM file in SSL_CERT_FILE"
        elif isinstance(reason, ssl.SSLError):
            why = f"TLS failed: {reason.reason or reason}"
            remedy = "if it speaks plain HTTP, write http://"
        elif isinstance(reason, (ConnectionError, http.client.BadStatusLine)):
            why, remedy = "it closed the connection", "if it speaks TLS, write https://"
        elif isinstance(reason, http.client.HTTPException):
            raise self._foreign("its answer breaks off, or cannot be read") from None
        else:
            why, remedy = getattr(reason, "strerror", None) or str(reason), "look at the URL"
        raise Failure(
            f"{self.url} cannot be reached: {why}", ExitCode.UNREACHABLE, remedy=remedy
        ) from None


def reference(text: str) -> str:
    """Return what names a webhook on the command line as one part of a path."""
    name = references.reference(text).name
    return quote(text, safe=":") if name is None else segment(name)


def segment(name: str) -> str:
    """Return a name as one part of a path."""
    if not name:
        raise Failure("a name must not be empty", ExitCode.USAGE)
    # "." and ".." would be taken for steps (RFC 3986 section 5.2.4), and `status` for a route.
    if not name.strip(".") or name == "status":
        return f"%{ord(name[0]):02X}{quote(name[1:]).replace('.', '%2E')}"
    return quote(name, safe="")


def _encode(body: Any) -> bytes:
    return msgspec.json.encode(body, enc_hook=codec.encode_hook)


def _pinning(certificate: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=certificate)
    except (OSError, ssl.SSLError) as error:
        raise Failure(f"the API's certificate {certificate} cannot be read: {error}") from None
    context.check_hostname = False  # it is known by itself
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # From 3.13 on Python would refuse what `openssl req -x509` makes, which names no key usage.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
