"""One request at libcurl: what it was lent, and what came of it.

libcurl tells a Retry-After only up to six hours, and none in a number beyond 64 bits. To read the heads
of answers ourselves costs a call for each line. So that is done where it may matter: until a target's
first success, from a failure to the next success, and always where longer waits are honoured.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import pycurl

from fluxhook.policy.outcome import TransportCause, curl_cause
from fluxhook.policy.proxy import ProxyUse, is_proxys_answer, is_proxys_failure
from fluxhook.policy.retry import asked_delay_s
from fluxhook.text import decoded
from fluxhook.transport.messages import Attempt
from fluxhook.transport.target import Options, Target

__all__ = ["RESENT_US", "STATUS", "TOTAL_US", "Transfer", "TransferStages"]

#: what a report keeps of an answer
ANSWER_EXCERPT_BYTES = 512

# What `Transfer.getinfo` is asked for with each request.
#: the status of the answer, 0 if none arrived
STATUS: int = pycurl.RESPONSE_CODE
#: microseconds from the start to the end
TOTAL_US: int = pycurl.TOTAL_TIME_T
#: Not 0 if libcurl tried more than one connection, up to six: where one that was kept alive ends before
#: an answer, it silently sends the request again. The receiver may have seen it each time. (It takes
#: the time up to the last try for that of redirects, which there are none of here. NUM_CONNECTS is 0 if
#: the last try found another connection kept alive.)
RESENT_US: int = pycurl.REDIRECT_TIME_T


class TransferStages(NamedTuple):
    """Microseconds; 0 where a stage did not happen."""

    dns_us: int
    connect_us: int
    tls_us: int
    #: from when the request could be sent to the first byte of the answer
    first_byte_us: int


class Transfer:
    """One easy handle, lent to one request at a time. `tag` is the caller's own."""

    __slots__ = (
        "answer",
        "cleans",
        "curl",
        "denied",
        "denied_cause",
        "fresh",
        "getinfo",
        "head",
        "heeds",
        "looks_up",
        "opened",
        "options",
        "ready",
        "rewritten",
        "setopt",
        "started_ns",
        "tag",
        "target",
    )

    def __init__(self, curl: pycurl.Curl) -> None:
        self.curl = curl
        self.setopt = curl.setopt
        self.getinfo = curl.getinfo
        self.answer: list[bytes] = []
        #: the lines of the answer's head, if the request `heeds` it
        self.head: list[bytes] = []
        self.heeds = False
        #: why no socket was opened, as a sentence and as a cause; "" if one was
        self.denied = ""
        self.denied_cause: TransportCause = "egress_denied"
        #: whether the request only looks a name up, and opens no connection
        self.looks_up = False
        #: whether a connection was opened for the request
        self.opened = False
        #: whether the request does not take old entries of the DNS cache, and removes them
        self.cleans = True
        #: whether the request opens a connection of its own
        self.fresh = False
        self.options: Options = ()
        #: libcurl was told a request line once, and has to be told each
        self.rewritten = False
        #: where the request goes, and the target for which nothing has to be set before the next one
        self.target: Target | None = None
        self.ready: Target | None = None
        self.tag: Any = None
        self.started_ns = 0

    @property
    def status(self) -> int:
        return int(self.getinfo(STATUS))

    @property
    def connected(self) -> bool:
        """Return whether the connection had come about, TLS included: some of the request was sent.
        (libcurl's times do not tell: it sets the later ones when it gives up.)"""
        return int(self.getinfo(pycurl.REQUEST_SIZE)) > 0

    def attempt(self, cause: str, error: str, worker: int, status: int | None = None) -> Attempt:
        """Return the whole record of the request, as libcurl measured it (CURLINFO_*_TIME_T).
        `status` is given where it is not what libcurl took it for; 0: the receiver did not answer."""
        info = self.getinfo
        if status is None:
            status = self.status
        retry_after: int | None
        if not status:  # a proxy may have asked for it
            retry_after = None
        elif self.head:
            retry_after = asked_delay_s(self.head, time.time())
        else:
            retry_after = int(info(pycurl.RETRY_AFTER)) or None
        # On a connection that was there already none of these stages happened.
        fresh = self.opened or not status
        return Attempt(
            started_ns=self.started_ns,
            status=status,
            cause=cause,
            error=self.denied or error,
            dns_us=int(info(pycurl.NAMELOOKUP_TIME_T)) if fresh else 0,
            connect_us=int(info(pycurl.CONNECT_TIME_T)) if fresh else 0,
            tls_us=int(info(pycurl.APPCONNECT_TIME_T)) if fresh else 0,
            # libcurl sets this time on failure too
            first_byte_us=int(info(pycurl.STARTTRANSFER_TIME_T)) if status else 0,
            total_us=int(info(TOTAL_US)),
            retry_after_s=retry_after,
            answer=b"".join(self.answer)[:ANSWER_EXCERPT_BYTES],
            worker=worker,
        )

    def failure(self, code: int, message: str) -> tuple[int, TransportCause | None, str]:
        """Return what a request that did not succeed came to: the status of the receiver's answer, or
        0, the cause where there is none, and the error. `code` and `message` are those of `step`."""
        if self.denied:
            return 0, self.denied_cause, self.denied
        status = self.status
        cause = curl_cause(code, connected=self.connected, message=message) if code else None
        if cause == "protocol" and not _is_whole(self.head):
            status = 0  # a head that is no HTTP answers nothing
        use = self.target.proxy_use if self.target else None
        if use == "forward" and status >= 200 and is_proxys_answer(status, _fields(self.head)):
            return 0, "proxy", f"the proxy answered {status}"
        if use and cause and status < 200 and self._failed_at_proxy(use, cause):
            return 0, "proxy", message
        return status, cause, message

    def _failed_at_proxy(self, use: ProxyUse, cause: TransportCause) -> bool:
        info = self.getinfo
        return is_proxys_failure(
            use,
            cause,
            connected_us=info(pycurl.CONNECT_TIME_T),
            requested=self.connected,
            connect_status=info(pycurl.HTTP_CONNECTCODE),
        )

    def stages(self) -> TransferStages:
        """Return how long each stage of the request took, not since when as in `attempt`."""
        info = self.getinfo
        dns_us = connect_us = tls_us = first_us = 0
        if self.opened:
            dns_us = int(info(pycurl.NAMELOOKUP_TIME_T))
            connect_us = int(info(pycurl.CONNECT_TIME_T))
            tls_us = int(info(pycurl.APPCONNECT_TIME_T))
        if self.status:
            first_us = int(info(pycurl.STARTTRANSFER_TIME_T))
            first_us -= int(info(pycurl.PRETRANSFER_TIME_T))
        return TransferStages(
            dns_us,
            max(0, connect_us - dns_us),
            max(0, tls_us - connect_us),
            max(0, first_us),
        )


def _fields(lines: list[bytes]) -> dict[str, str]:
    """Return the fields of the last of the heads; of equal names the last one's value."""
    fields: dict[str, str] = {}
    for line in map(decoded, lines):
        if line.startswith("HTTP/"):
            fields.clear()
        name, colon, value = line.partition(":")
        if colon:
            fields[name.strip().lower()] = value.strip()
    return fields


def _is_whole(lines: list[bytes]) -> bool:
    """Return whether the last of the heads ended, as far as is known."""
    whole = True
    for line in lines:
        whole = not line.strip() or (whole and not line.startswith(b"HTTP/"))
    return whole
