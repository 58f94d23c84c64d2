"""What an attempt came to: delivered, to be tried again, or dead; and why, in one stable word.

The final status line decides. A receiver that answered 2xx has accepted the event, whatever became
of the rest of its answer: one that is over the size cap, stalls or breaks off is cut and counts as
delivered, for trying again would only hand the receiver a duplicate. Likewise a 500 stays a 500. A
transport cause counts only where no final status (200 or above) arrived, or one that is no success in a
head that is no HTTP.

The breaker counts every failure but those that say nothing about the endpoint: a single event that
is too large for it, an address that we refuse to reach, and our own faults.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, Literal, NamedTuple

import msgspec

__all__ = [
    "CAUSES",
    "GIVEN_UP",
    "NOT_ATTEMPTED",
    "Cause",
    "Outcome",
    "TransportCause",
    "classify",
    "curl_cause",
    "was_answered",
]

TransportCause = Literal[
    "dns",
    "proxy",
    "refused",
    "connect_timeout",
    "timeout",
    "reset",
    "tls",
    "protocol",
    "response_too_large",
    "egress_denied",
    "internal",
]
#: how the breaker takes it; "ignore" is its event `release`
BreakerView = Literal["success", "failure", "ignore"]
Rejection = Literal["signature", "size"]


class Cause(NamedTuple):
    """What follows from a cause. `user` is the sentence that people read."""

    user: str
    #: the `retry_on` token that has it tried again; "status": its status or the status's class;
    #: None: never
    retried_by: Literal["transport", "timeout", "status"] | None = "status"
    breaker: BreakerView = "failure"
    rejection: Rejection | None = None


#: Every cause of an attempt. The words are stable: store, metrics and API show them.
CAUSES: Final[dict[str, Cause]] = {
    "delivered": Cause("The receiver accepted the event with a 2xx status.", None, "success"),
    "redirect": Cause(
        "The receiver answered with a redirect (3xx), and redirects are not followed."
    ),
    "unauthorized": Cause(
        "The receiver did not accept the signature or the credentials (401 or 403).",
        rejection="signature",
    ),
    "gone": Cause("The receiver says that it is gone for good (410)."),
    "content_too_large": Cause(
        "The event is too large for the receiver (413).", breaker="ignore", rejection="size"
    ),
    "too_many_requests": Cause("The receiver asked for fewer requests (429)."),
    "client_error": Cause("The receiver refused the request (another 4xx status)."),
    "server_error": Cause("The receiver failed (5xx)."),
    "dns": Cause("The host name could not be resolved.", "transport"),
    "proxy": Cause("The proxy could not be reached, or refused the request.", "transport"),
    "refused": Cause("No connection: the port is closed or the host unreachable.", "transport"),
    "connect_timeout": Cause("No connection came about within the time allowed.", "timeout"),
    "timeout": Cause("The receiver did not answer within the time allowed.", "timeout"),
    "reset": Cause("The connection was lost before an answer arrived.", "transport"),
    "tls": Cause("No secure connection: the handshake or the certificate failed.", "transport"),
    "protocol": Cause("The answer is not HTTP, or has a status outside 200 to 599.", "transport"),
    "response_too_large": Cause("The head of the answer is over the size cap.", "transport"),
    "egress_denied": Cause(
        "The address is private or special, and the configuration does not allow it.",
        "transport",
        "ignore",
    ),
    "internal": Cause("A fault on our side; the error text says more.", "transport", "ignore"),
}

#: Why a delivery was deferred, dropped or given up without an attempt.
NOT_ATTEMPTED: Final[dict[str, str]] = {
    "breaker_open": "Held back: the endpoint's breaker is open.",
    "paused": "Held back: the endpoint is paused.",
    "misconfigured": "Held back: the endpoint cannot be used as it is configured; its status says why.",
    "suspect": "Held back: a worker ended while it had the event at hand; it is tried by itself.",
    "disabled": "Given up: the endpoint is disabled; its status says why.",
    "rate_limit": "Held back: the endpoint is over its rate limit.",
    "over_share": "Held back: too much was waiting for the endpoint, and others need the room.",
    "other_worker": "Held back: one worker serves the endpoint now, and another had the event.",
    "payload_too_large": "Given up: the event is over the endpoint's max_payload or max_event_bytes.",
    "expired": "Dropped: the event is older than the endpoint's ttl.",
    "poison": "Given up: two workers ended at this event. It can be replayed.",
    "unreadable": "Dropped: what a worker reported could not be read; it is kept in damaged/.",
    "removed": "Given up: the endpoint is not configured any more.",
    "retention": "Given up: the event could not be delivered within the retention.",
    "purged": "Dropped: the dead letter was kept for the retention, then erased.",
    "queue_full": "Dropped: the queue was full, and drop_policy chose this event.",
}


#: Causes by which events die although nothing went wrong with them: their endpoint is used no more.
GIVEN_UP: Final = frozenset(("disabled", "removed"))


class Outcome(msgspec.Struct, frozen=True):
    """What to do with a delivery after an attempt."""

    verdict: Literal["delivered", "retry", "dead"]
    cause: str
    breaker: BreakerView
    rejection: Rejection | None


_DELIVERED: Final = Outcome("delivered", "delivered", "success", None)

#: Statuses with a cause of their own; the others go by their class.
_STATUS_CAUSES: Final = {
    401: "unauthorized",
    403: "unauthorized",
    410: "gone",
    413: "content_too_large",
    429: "too_many_requests",
}
_CLASS_CAUSES: Final = {3: "redirect", 4: "client_error", 5: "server_error"}


def classify(
    status: int,
    cause: TransportCause | None,
    retry_on: Collection[str],
    *,
    disable_on_gone: bool = False,
) -> Outcome:
    """Return what an attempt came to. `status` is 0 where no status line arrived.

    `retry_on` holds "transport", "timeout", classes such as "5xx" and statuses such as "429"; what
    it does not name is dead at once. With `disable_on_gone` so is what a 410 answered, whatever
    `retry_on` says: the endpoint is disabled.
    """
    if 200 <= status <= 299:
        return _DELIVERED
    word: str
    if status >= 300:
        word = _STATUS_CAUSES.get(status) or _CLASS_CAUSES.get(status // 100, "protocol")
    else:
        word = cause or "protocol"
    row = CAUSES[word]
    if row.retried_by == "status":
        again = f"{status // 100}xx" in retry_on or str(status) in retry_on
    else:
        again = row.retried_by in retry_on
    again = again and not (disable_on_gone and word == "gone")
    return Outcome("retry" if again else "dead", word, row.breaker, row.rejection)


def was_answered(cause: str) -> bool:
    """Return whether the receiver answered the attempt, as far as its cause tells."""
    row = CAUSES.get(cause)
    return row is None or row.retried_by in ("status", None)


#: libcurl's error codes (curl/curl.h), as numbers so that no pycurl is needed here. What is missing
#: is a fault of ours: an option that libcurl refused, a callback that raised, no memory.
_CURL_CAUSES: Final[dict[int, TransportCause]] = {
    1: "protocol",  # CURLE_UNSUPPORTED_PROTOCOL: an answer that is not HTTP
    5: "proxy",  # CURLE_COULDNT_RESOLVE_PROXY
    6: "dns",  # CURLE_COULDNT_RESOLVE_HOST
    7: "refused",  # CURLE_COULDNT_CONNECT
    8: "protocol",  # CURLE_WEIRD_SERVER_REPLY
    16: "protocol",  # CURLE_HTTP2
    18: "reset",  # CURLE_PARTIAL_FILE
    28: "timeout",  # CURLE_OPERATION_TIMEDOUT
    35: "tls",  # CURLE_SSL_CONNECT_ERROR
    43: "tls",  # CURLE_BAD_FUNCTION_ARGUMENT: a client key that OpenSSL cannot use
    52: "reset",  # CURLE_GOT_NOTHING
    53: "tls",  # CURLE_SSL_ENGINE_NOTFOUND
    54: "tls",  # CURLE_SSL_ENGINE_SETFAILED
    55: "reset",  # CURLE_SEND_ERROR
    56: "reset",  # CURLE_RECV_ERROR
    58: "tls",  # CURLE_SSL_CERTPROBLEM
    59: "tls",  # CURLE_SSL_CIPHER
    60: "tls",  # CURLE_PEER_FAILED_VERIFICATION
    61: "protocol",  # CURLE_BAD_CONTENT_ENCODING
    63: "response_too_large",  # CURLE_FILESIZE_EXCEEDED
    65: "reset",  # CURLE_SEND_FAIL_REWIND
    66: "tls",  # CURLE_SSL_ENGINE_INITFAILED
    77: "tls",  # CURLE_SSL_CACERT_BADFILE
    80: "tls",  # CURLE_SSL_SHUTDOWN_FAILED
    82: "tls",  # CURLE_SSL_CRL_BADFILE
    83: "tls",  # CURLE_SSL_ISSUER_ERROR
    90: "tls",  # CURLE_SSL_PINNEDPUBKEYNOTMATCH
    91: "tls",  # CURLE_SSL_INVALIDCERTSTATUS
    92: "protocol",  # CURLE_HTTP2_STREAM
    95: "protocol",  # CURLE_HTTP3
    96: "refused",  # CURLE_QUIC_CONNECT_ERROR
    97: "proxy",  # CURLE_PROXY
    98: "tls",  # CURLE_SSL_CLIENTCERT
    100: "response_too_large",  # CURLE_TOO_LARGE
    101: "tls",  # CURLE_ECH_REQUIRED
}


#: OpenSSL's words for the alert by which the other side ends TLS (RFC 8446 section 6.2)
_ALERT: Final = re.compile(r"SSL routines:.*\balert\b")


def curl_cause(code: int, *, connected: bool, message: str = "") -> TransportCause:
    """Return the cause behind a libcurl error code (`pycurl.E_*`) and message.

    libcurl has one code for all timeouts; `connected` (CURLINFO_PRETRANSFER_TIME_T is not 0, or the
    connection was reused) tells whether the connection, TLS included, had come about. To libcurl it has
    also where the receiver then refuses the client certificate (TLS 1.3): the message tells. A refusal
    by the egress guard looks like `refused` to libcurl: the caller knows better and says
    `egress_denied`.
    """
    cause = _CURL_CAUSES.get(code, "internal")
    if cause == "reset" and _ALERT.search(message):
        return "tls"
    return "connect_timeout" if cause == "timeout" and not connected else cause
