"""HTTP: one libcurl multi handle, driven by epoll, and a pool of easy handles.

The order of calls is the measured one. Once per handle: everything that never changes. Once per
endpoint that a handle is lent to: its `Target`. Per request: headers, body, add_handle. Per wake:
one socket_action starts what was added, one poll waits, one info_read collects.

libcurl looks through its whole DNS cache for old entries with each request that ends, which costs more
than all the rest where there are a thousand hosts. So most requests take entries of any age and remove
none, but one in every second refuses and removes what is older than DNS_TTL_S; after a pause all do,
until the first of them has ended. So no connection opens to an address that was looked up more than a
few seconds longer ago.

A connection is not used again where it may carry something else than the answer to its next request:

    bytes came before the request was written   retired: they would be taken for its answer. Over TLS
                                                libcurl may have read them already; then the request
                                                ends while it is started, and goes out once more
    a request on it timed out                   libcurl closes it; one that requests share (HTTP/2) is
                                                retired if nothing at all arrived meanwhile
    a request failed without an answer          its target's requests open connections of their own
                                                (FRESH_CONNECT) until one of these has brought an answer

To retire is to shut the socket down, whose descriptor is ours: libcurl closes it when it next looks; a
request that is written to it before that fails at once, unsent, and libcurl takes another connection.

Where a proxy connects to the receiver, no socket of ours shows its address. So a receiver's name is
looked up here first, by a request that opens no connection: each address is judged, and one that may
not be reached is enough to refuse. What has no address here is the proxy's to find. It looks the name
up itself, later and perhaps elsewhere: what it reaches in the end is for its own rules.

libcurl tells a Retry-After only up to six hours, and none in a number beyond 64 bits. To read the heads
of answers ourselves costs a call for each line. So that is done where it may matter: until a target's
first success, from a failure to the next success, and always where longer waits are honoured.
"""

from __future__ import annotations

import contextlib
import re
import resource
import select
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import pycurl

from fluxhook._version import VERSION
from fluxhook.config.url import url_host, url_hostname
from fluxhook.policy.outcome import TransportCause, curl_cause
from fluxhook.policy.proxy import ProxyUse, is_proxys_answer, is_proxys_failure, proxy_use
from fluxhook.policy.retry import asked_delay_s
from fluxhook.text import decoded, repaired
from fluxhook.transport.records import Attempt
from fluxhook.transport.tls import MemoryFile, TlsMaterial

__all__ = [
    "RESENT_US",
    "STATUS",
    "TOTAL_US",
    "Sender",
    "Stages",
    "Target",
    "Transfer",
    "one_of_each",
]

USER_AGENT = f"Fluxhook/{VERSION}"
#: what is read of an answer before the rest is refused; nobody needs more than an error page
MAX_ANSWER_BYTES = 65_536
#: libcurl's own default, in seconds
DNS_TTL_S = 60
#: after which the system's file of authorities is read again, at the next connection; libcurl's default
#: is a day, in which the system may have replaced it
AUTHORITIES_TTL_S = 30
#: how often old entries are removed, and after what time without that none is trusted
_CLEANING_NS, _PAUSE_NS = 1_000_000_000, 3_000_000_000
#: the longest Retry-After that libcurl tells, in seconds (RETRY_AFTER_MAX in its lib/http.c)
_TOLD_RETRY_AFTER_S = 21_600
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

#: CURLOPT_CA_CACHE_TIMEOUT, for which pycurl has no name
_CA_CACHE_TIMEOUT = 321
_POLL_IN, _POLL_OUT, _POLL_REMOVE = pycurl.POLL_IN, pycurl.POLL_OUT, pycurl.POLL_REMOVE
_SOCKET_BAD: int = pycurl.SOCKET_BAD
_PREREQ_OK: int = pycurl.PREREQFUNC_OK
_PREREQ_ABORT: int = pycurl.PREREQFUNC_ABORT
_SELECT_IN, _SELECT_OUT, _SELECT_ERR = 1, 2, 4  # CURL_CSELECT_*
_HTTP_1 = (pycurl.CURL_HTTP_VERSION_1_0, pycurl.CURL_HTTP_VERSION_1_1)
#: milliseconds since data was last sent, and since some last arrived: tcpi_last_data_sent and
#: tcpi_last_data_recv in struct tcp_info (linux/tcp.h)
_LAST_DATA = struct.Struct("=44xI4xI")
#: the kernel's clock for it has this resolution at least (CONFIG_HZ=250, the usual one)
_TICK_MS = 4


_Options = tuple[tuple[int, Any], ...]


@lru_cache(1024)
def one_of_each(value: Any) -> Any:
    """Of equal tuples always the same object: `is` compares them, and those of a thousand endpoints
    take the room of one in the processor's cache."""
    return value


@contextlib.contextmanager
def _lent(fd: int) -> Iterator[socket.socket]:
    """Lend a descriptor of libcurl's as a socket. Raises OSError if it is none any more."""
    connection = socket.socket(fileno=fd)
    try:
        yield connection
    finally:
        connection.detach()


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


def _last_data_ms(connection: socket.socket) -> tuple[int, int]:
    """Return for how long nothing was sent, and for how long nothing has arrived, in milliseconds."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA.size)
    sent_ms, arrived_ms = _LAST_DATA.unpack(info)
    return sent_ms, arrived_ms


#: scheme and authority, path, and query of a sound URL
_PARTS = re.compile(rb"([^:]*://[^/?]*)([^?]*)(.*)", re.DOTALL)
#: libcurl writes the escapes of a path in capitals, which to a receiver may be another path
_REWRITTEN = re.compile(rb"%(?:[a-f]|.[a-f])")


def _lookup_url(url: str) -> bytes:
    """A URL of the same host; empty where it is an address, which was judged in the configuration."""
    return b"" if url_host(url) else f"http://{url_hostname(url)}/".encode()


class Target:
    """How an endpoint is reached. Compared by identity, so keep one for each endpoint.

    Targets with equal `options` (all but the URL) are the cheap case when a handle goes from one to
    the other. With `http2` requests share connections: over https:// where the server agrees (ALPN),
    over http:// in any case, for there it has to know (RFC 9113 section 3.3).
    """

    __slots__ = (
        "distrusted",
        "heeded",
        "heeded_always",
        "looked_up",
        "lookup_url",
        "options",
        "proxy_use",
        "request_target",
        "rewritten",
        "secure",
        "shares",
        "url",
    )

    def __init__(
        self,
        url: str,
        *,
        timeout_ms: int,
        connect_timeout_ms: int,
        proxy: str | None = None,
        http2: bool = False,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        max_retry_after_s: float = 0.0,
    ) -> None:
        if not http2:
            version = pycurl.CURL_HTTP_VERSION_1_1
        elif url.lower().startswith("https:"):
            version = pycurl.CURL_HTTP_VERSION_2TLS
        else:
            version = pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE
        self.url = url.encode()
        self.proxy_use = proxy_use(url, proxy)
        match = _PARTS.fullmatch(self.url)
        origin, path, query = match.groups() if match else (b"", b"", b"")
        #: what the request line has to hold, and whether libcurl has to be told
        self.request_target = (path or b"/") + query
        self.rewritten = bool(_REWRITTEN.search(path))
        if self.proxy_use == "forward":
            self.request_target = origin + self.request_target  # RFC 9112 section 3.2.2
        #: requests open connections of their own (`Sender.distrust`)
        self.distrusted = False
        #: the heads of answers are read (`Sender.heed`); and always, for they may ask for long waits,
        #: or tell which answer is the proxy's own
        self.heeded = True
        self.heeded_always = max_retry_after_s > _TOLD_RETRY_AFTER_S or self.proxy_use == "forward"
        #: what is looked up before a proxy is asked for it; empty where there is none, or no name
        self.lookup_url = _lookup_url(url) if self.proxy_use else b""
        #: until when that holds (monotonic, in ns), and under which rules
        self.looked_up = (0, -1)
        #: whether requests share connections, as far as is known
        self.shares = http2
        #: whether there is TLS on the connection, to the receiver or to a proxy
        self.secure = "https:" in (url[:6].lower(), (proxy or "")[:6].lower())
        self.options: _Options = one_of_each(
            (
                (pycurl.TIMEOUT_MS, timeout_ms),
                (pycurl.CONNECTTIMEOUT_MS, connect_timeout_ms),
                # An empty proxy switches off what the environment says (CURLOPT_PROXY).
                (pycurl.PROXY, proxy or ""),
                (pycurl.HTTP_VERSION, version),
                # While a connection comes about that many requests may share, the others wait.
                (pycurl.PIPEWAIT, int(http2)),
                (pycurl.MAXFILESIZE, max_answer_bytes),
            )
        )


class Stages(NamedTuple):
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
        self.options: _Options = ()
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
        """Whether the connection had come about, TLS included: something of the request was sent.
        (libcurl's times do not tell: it sets the later ones when it gives up.)"""
        return int(self.getinfo(pycurl.REQUEST_SIZE)) > 0

    def attempt(self, cause: str, error: str, worker: int, status: int | None = None) -> Attempt:
        """The whole record of the request, as libcurl measured it (CURLINFO_*_TIME_T). `status` is
        given where it is not what libcurl took it for; 0: the receiver did not answer."""
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

    def stages(self) -> Stages:
        """How long each stage of the request took, not since when as in `attempt`."""
        info = self.getinfo
        dns_us = connect_us = tls_us = first_us = 0
        if self.opened:
            dns_us = int(info(pycurl.NAMELOOKUP_TIME_T))
            connect_us = int(info(pycurl.CONNECT_TIME_T))
            tls_us = int(info(pycurl.APPCONNECT_TIME_T))
        if self.status:
            first_us = int(info(pycurl.STARTTRANSFER_TIME_T))
            first_us -= int(info(pycurl.PRETRANSFER_TIME_T))
        return Stages(
            dns_us,
            max(0, connect_us - dns_us),
            max(0, tls_us - connect_us),
            max(0, first_us),
        )


class Sender:
    """Sends POSTs through one multi handle. Not thread-safe; one process, one loop.

    `judge` is asked for each address before a socket opens and answers None, or why it is refused.
    `tls` may hold certificate authorities that replace the system's, and a client certificate. The
    connection cache holds one set of authorities for each multi handle, so endpoints with TLS
    settings of their own get a Sender of their own.
    """

    def __init__(
        self, size: int, judge: Callable[[str], str | None], tls: TlsMaterial | None = None
    ) -> None:
        self.epoll = select.epoll()
        self.idle: list[Transfer] = []
        #: how many requests may be in flight, and how many are
        self.size = size
        self.in_flight = 0
        self.connections = 0
        #: `send` was called since the last `start`
        self.queued = False
        #: foreign descriptors that the last `step` found ready
        self.fired: list[int] = []
        self._judge = judge
        self._rejudge = False
        self._tls = tls = tls or TlsMaterial()
        # A path, for libcurl parses the authorities anew for each connection if it has only their text.
        self._authorities = None if tls.ca is None else MemoryFile(tls.ca)
        self._transfers: dict[pycurl.Curl, Transfer] = {}
        self._foreign: set[int] = set()
        #: What epoll watches a descriptor for. An entry may outlive its descriptor, as libcurl
        #: closes idle connections without a word; it is dropped when the number is given out again.
        #: (CLOSESOCKETFUNCTION is no help: that of the handle that opened the connection would be
        #: called, and pycurl cannot run Python for a handle that is idle.)
        self._registered: dict[int, int] = {}
        #: the descriptors that transfers use
        self._busy: set[int] = set()
        #: for which target each descriptor was opened; an entry may be as old as those above
        self._owners: dict[int, Target] = {}
        #: transfers that ended while they were started, which the next `step` returns
        self._early: list[tuple[Transfer, int, str]] = []
        #: whether answers may have come before their requests, though no socket shows them
        self._reads_ahead = False
        self._running = sys.maxsize
        #: requests that are lookups so far, and how often the rules of the judge have changed
        self._lookups = 0
        self._rules = 0
        self._cleaned_ns = 0
        self._multi = pycurl.CurlMulti()
        # Well above what is in flight, for an idle connection is worth keeping; but those alone
        # must not use up the process's descriptors.
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._multi.setopt(pycurl.M_MAXCONNECTS, min(4 * size + 64, max(8, descriptors // 2)))
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._socket_callback())
        self._add_handle = self._multi.add_handle

    def watch(self, fd: int) -> None:
        """Has `step` wake for this descriptor too, and name it in `fired`."""
        self._foreign.add(fd)
        self.epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """End what `watch` began."""
        self._foreign.remove(fd)
        self.epoll.unregister(fd)

    def send(
        self, target: Target, headers: list[bytes], body: bytes, tag: Any, now_ns: int
    ) -> Transfer:
        """Queues one POST; the next `step` starts it. Fewer than `size` must be in flight.

        Raises what libcurl refuses; nothing is queued then.
        """
        transfer = self.idle.pop() if self.idle else self._make_transfer()
        setopt = transfer.setopt
        try:
            if transfer.ready is not target:
                self._aim(transfer, target)
            cleans = not 0 <= now_ns - self._cleaned_ns < _CLEANING_NS
            if cleans and 0 <= now_ns - self._cleaned_ns < _PAUSE_NS:
                self._cleaned_ns = now_ns
            if transfer.cleans is not cleans:
                setopt(pycurl.DNS_CACHE_TIMEOUT, DNS_TTL_S if cleans else -1)
                transfer.cleans = cleans
            setopt(pycurl.HTTPHEADER, headers)
            setopt(pycurl.POSTFIELDS, body)
            transfer.tag = tag
            transfer.started_ns = now_ns
            self._add_handle(transfer.curl)
        except BaseException:  # which of its options are set nobody knows
            del self._transfers[transfer.curl]
            transfer.curl.close()
            raise
        self.in_flight += 1
        self.queued = True
        return transfer

    def _aim(self, transfer: Transfer, target: Target) -> None:
        """Set what of the target differs from what the transfer had before."""
        setopt = transfer.setopt
        if transfer.options is not target.options:
            for option, value in target.options:
                setopt(option, value)
            transfer.options = target.options
        if transfer.target is not target:
            setopt(pycurl.URL, target.url)
            transfer.target = target
            self._reads_ahead = self._reads_ahead or target.secure
            if target.rewritten or transfer.rewritten:
                setopt(pycurl.REQUEST_TARGET, target.request_target)
                transfer.rewritten = True
        if transfer.fresh is not target.distrusted:
            transfer.fresh = target.distrusted
            setopt(pycurl.FRESH_CONNECT, int(transfer.fresh))
        if transfer.heeds is not target.heeded:
            transfer.heeds = target.heeded
            setopt(pycurl.HEADERFUNCTION, transfer.head.append if transfer.heeds else None)
        transfer.ready = None if transfer.fresh or target.lookup_url else target
        if target.lookup_url and not self._is_looked_up(target):
            self._look_up(transfer, target)

    def _is_looked_up(self, target: Target) -> bool:
        until_ns, rules = target.looked_up
        return rules == self._rules and time.monotonic_ns() < until_ns

    def _look_up(self, transfer: Transfer, target: Target) -> None:
        """Have the request look the receiver's name up, and be sent when it has ended."""
        transfer.looks_up = transfer.fresh = True
        self._lookups += 1
        transfer.options = ()  # to be set again
        transfer.setopt(pycurl.URL, target.lookup_url)
        transfer.setopt(pycurl.PROXY, "")
        transfer.setopt(
            pycurl.FRESH_CONNECT, 1
        )  # or it would be sent, on a connection that is there

    def _looked_up(
        self, ended: list[tuple[Transfer, int, str]]
    ) -> Iterator[tuple[Transfer, int, str]]:
        """Send the requests whose lookups have ended, but for those whose receiver is refused; yield
        these, and what else has ended."""
        for transfer, code, message in ended:
            target = transfer.target
            if not transfer.looks_up or target is None:
                yield transfer, code, message
                continue
            transfer.looks_up = False
            self._lookups -= 1
            transfer.target = None  # its URL is not set
            if transfer.denied:
                transfer.opened = False
                yield transfer, code, message
                continue
            target.looked_up = time.monotonic_ns() + DNS_TTL_S * 1_000_000_000, self._rules
            self._multi.remove_handle(transfer.curl)
            self._aim(transfer, target)
            self._add_handle(transfer.curl)

    def distrust(self, target: Target) -> None:
        """Have each request to the target open a connection, until one of these brought an answer."""
        if not target.distrusted:
            target.distrusted = True
            self._changed(target)

    def heed(self, target: Target, heeded: bool) -> None:
        """Have the heads of the target's answers read, or no more."""
        heeded = heeded or target.heeded_always
        if target.heeded is not heeded:
            target.heeded = heeded
            self._changed(target)

    def _changed(self, target: Target) -> None:
        for transfer in self._transfers.values():
            if transfer.ready is target:
                transfer.ready = None

    def start(self) -> None:
        """Sets everything going that `send` queued since the last call."""
        self.queued = False
        # What arrives after this last look before requests are written cannot be told from an answer.
        busy, foreign = self._busy, self._foreign
        for fd, _ in self.epoll.poll(0, 1024):
            if fd not in busy and fd not in foreign:
                self._look_at_idle(fd)
        began_ns = time.monotonic_ns() if self._reads_ahead else 0
        self._running = self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)[1]
        if began_ns and self._running < self.in_flight:
            self._doubt_answers(began_ns)

    def _doubt_answers(self, began_ns: int) -> None:
        """Send requests again that have ended while they were started, over TLS, by an answer that was
        there before: libcurl reads ahead, so it need not have been in the socket any more. Nothing has
        arrived on its connection then since `began_ns`, which no answer of a fast peer can say."""
        again = False
        for transfer, code, message in self._ended():
            target = transfer.target
            if (
                target is None
                or transfer.opened
                or not target.secure
                or target.shares
                or transfer.status < 200
                or not self._is_silent_since(transfer, began_ns)
            ):
                self._early.append((transfer, code, message))
                continue
            again = True
            self.distrust(target)
            self._multi.remove_handle(transfer.curl)
            transfer.answer.clear()
            transfer.head.clear()
            self._aim(transfer, target)
            self._add_handle(transfer.curl)
        if again:
            self._running = self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)[1]

    @staticmethod
    def _is_silent_since(transfer: Transfer, began_ns: int) -> bool:
        """Whether nothing has arrived on the connection of a request that ended, since then and since
        the request was sent; retires it then.

        The kernel's clock can stand still for long where a hypervisor takes the processor away, so a
        comparison with ours is not enough.
        """
        with contextlib.suppress(OSError), _lent(transfer.getinfo(pycurl.LASTSOCKET)) as connection:
            elapsed_ms = (time.monotonic_ns() - began_ns) // 1_000_000
            sent_ms, silent_ms = _last_data_ms(connection)
            if silent_ms > max(sent_ms, elapsed_ms + 2 * _TICK_MS):
                connection.shutdown(socket.SHUT_RDWR)
                return True
        return False

    def wait_s(self, timeout_s: float) -> float:
        """How long `step` would wait: until libcurl's next timer, or not at all, or `timeout_s`.
        For a loop that waits on another Sender and only watches this one's `epoll`."""
        if self._running < self.in_flight:
            return 0.0  # a fast peer answered inside socket_action: a completion is there already
        timer_ms = self._multi.timeout()
        return timeout_s if timer_ms < 0 else min(timeout_s, timer_ms / 1000.0)

    def step(self, timeout_s: float) -> list[tuple[Transfer, int, str]]:
        """Waits at most `timeout_s`, moves the transfers on, and returns the finished ones.

        Each is (transfer, libcurl's error code or 0, its message). Read the transfer, then `release`
        it. A message may hold bytes of the receiver, which need not be text.
        """
        multi = self._multi
        events = self.epoll.poll(self.wait_s(timeout_s), 1024)
        busy = self._busy
        if self.fired:
            self.fired = []
        timers = not events
        for fd, event in events:
            if fd in busy:
                multi.socket_action(
                    fd,
                    _SELECT_IN
                    if event == select.EPOLLIN
                    else (event & 1) | ((event >> 1) & 2) | (_SELECT_ERR if event & 24 else 0),
                )
            else:
                timers = True  # what is always ready must not keep them from running
                if fd in self._foreign:
                    self.fired.append(fd)
                else:
                    self._look_at_idle(fd)
        if timers and self.in_flight:
            multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._running = sys.maxsize
        if not self.in_flight:
            return []
        finished, self._early = [*self._early, *self._ended()], []
        for transfer, _, _ in finished:
            multi.remove_handle(transfer.curl)
        self.in_flight -= len(finished)
        return finished

    def _ended(self) -> list[tuple[Transfer, int, str]]:
        """The transfers of which libcurl says for the first time that they have ended."""
        info_read, transfers = self._multi.info_read, self._transfers
        left, done, failed = info_read()
        ended = [(transfers[curl], 0, "") for curl in done]
        ended += [self._failed(transfers[curl], code, text) for curl, code, text in failed]
        while left:
            left, done, failed = info_read()
            ended += [(transfers[curl], 0, "") for curl in done]
            ended += [self._failed(transfers[curl], code, text) for curl, code, text in failed]
        return list(self._looked_up(ended)) if self._lookups else ended

    def _failed(self, transfer: Transfer, code: int, message: str) -> tuple[Transfer, int, str]:
        """Draw from a transfer that libcurl gave up what it says about connections."""
        target = transfer.target
        if (
            target is not None
            and transfer.status < 200
            and not transfer.denied
            and not transfer.looks_up
        ):
            self.distrust(target)
            if code == pycurl.E_OPERATION_TIMEDOUT:
                self._retire_silent(transfer, target)
        return transfer, code, repaired(message)

    def _retire_silent(self, transfer: Transfer, target: Target) -> None:
        """Retire what is likely dead, as the request got no answer in its time: its connection, if
        others share it and nothing at all arrived on it meanwhile, and idle ones of the target.

        HTTP/2 could ask a connection for a sign of life (PING), but libcurl does that only in
        curl_easy_upkeep, which pycurl does not offer (7.49).
        """
        own = (transfer.getinfo(pycurl.LOCAL_IP), transfer.getinfo(pycurl.LOCAL_PORT))
        for fd, owner in list(self._owners.items()):
            if fd not in self._busy:
                if owner is target:
                    self._retire(fd)
                continue
            if not (target.shares and owner.shares):
                continue
            with contextlib.suppress(OSError), _lent(fd) as connection:
                _, silent_ms = _last_data_ms(connection)
                total_ms = transfer.getinfo(TOTAL_US) // 1000
                if connection.getsockname()[:2] == own and silent_ms >= total_ms - _TICK_MS:
                    connection.shutdown(socket.SHUT_RDWR)

    def _look_at_idle(self, fd: int) -> None:
        """Something arrived on a connection that no request uses: its end, or bytes that nobody asked
        for. Those of HTTP/2 (SETTINGS, PING) libcurl understands, when a request next uses it."""
        owner = self._owners.get(fd)
        if owner is None:
            self._watch(_POLL_REMOVE, fd)
            return
        ended = True
        with contextlib.suppress(OSError), _lent(fd) as connection:
            try:
                ended = not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return  # libcurl has read it meanwhile
        if not ended:
            if owner.shares:
                self._watch(_POLL_REMOVE, fd)
                return
            self.distrust(owner)  # or libcurl would try this one first, within a second
        self._retire(fd)

    def _retire(self, fd: int) -> None:
        """Shut an idle connection down, so that nothing is written to it any more, and forget it."""
        self._registered.pop(fd, None)
        self._owners.pop(fd, None)
        # Raises where libcurl has closed the descriptor, and the number may be someone else's.
        with contextlib.suppress(OSError):
            self.epoll.unregister(fd)
            with _lent(fd) as connection:
                connection.shutdown(socket.SHUT_RDWR)
                while connection.recv(65_536, socket.MSG_DONTWAIT):
                    pass  # what has arrived could still be read

    def rejudge(self) -> None:
        """To be called when `judge` may refuse what it allowed before. Opening a socket is judged in
        any case; from now on requests on connections that are kept alive are too (for 0.5 us each)."""
        self._rejudge = True
        self._rules += 1
        for transfer in self._transfers.values():
            transfer.setopt(pycurl.PREREQFUNCTION, self._reuse_judge(transfer))

    def tags(self) -> list[Any]:
        """The tags of all requests under way."""
        return [transfer.tag for transfer in self._transfers.values() if transfer.tag is not None]

    def release(self, transfer: Transfer) -> None:
        """Gives the transfer back; its measurements are gone with the next request."""
        if transfer.cleans:
            self._cleaned_ns = max(self._cleaned_ns, transfer.started_ns)
        if transfer.answer:
            transfer.answer.clear()
        if transfer.head:
            transfer.head.clear()
        transfer.denied = ""
        if transfer.opened:
            self._note_opened(transfer)
        transfer.tag = None
        self.idle.append(transfer)

    def _note_opened(self, transfer: Transfer) -> None:
        """The connection that the request opened has brought an answer, or none."""
        transfer.opened = False
        target = transfer.target
        if target is not None and transfer.status >= 200:
            if transfer.fresh:
                target.distrusted = False
            if target.shares:
                target.shares = transfer.getinfo(pycurl.INFO_HTTP_VERSION) not in _HTTP_1

    def close(self) -> None:
        """Aborts what is in flight and closes every connection. Handles close before the process
        ends: libcurl's own threads may otherwise outlive them."""
        for curl, transfer in self._transfers.items():
            if transfer.tag is not None:
                with contextlib.suppress(pycurl.error):
                    self._multi.remove_handle(curl)
        self._multi.close()
        for curl in self._transfers:
            curl.close()
        self._transfers.clear()
        self.idle.clear()
        self.epoll.close()
        if self._authorities:
            self._authorities.close()

    def _make_transfer(self) -> Transfer:
        curl = pycurl.Curl()
        transfer = Transfer(curl)
        setopt = curl.setopt
        setopt(pycurl.POST, 1)
        setopt(pycurl.NOSIGNAL, 1)
        setopt(pycurl.USERAGENT, USER_AGENT)
        setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        setopt(pycurl.NOPROXY, "")  # else NO_PROXY in the environment overrules a target's proxy
        setopt(pycurl.FOLLOWLOCATION, 0)
        setopt(pycurl.PATH_AS_IS, 1)  # else ".." and "." are taken out
        setopt(pycurl.DNS_CACHE_TIMEOUT, DNS_TTL_S)
        setopt(pycurl.WRITEFUNCTION, transfer.answer.append)  # a builtin: no Python frame a chunk
        setopt(pycurl.OPENSOCKETFUNCTION, self._socket_opener(transfer))
        tls = self._tls
        setopt(_CA_CACHE_TIMEOUT, AUTHORITIES_TTL_S)
        if self._authorities:
            setopt(pycurl.CAINFO, self._authorities.path)
            curl.unsetopt(pycurl.CAPATH)  # some builds of libcurl know a directory beside
        elif system := ssl.get_default_verify_paths().cafile:
            setopt(pycurl.CAINFO, system)
        if tls.cert is not None:
            setopt(pycurl.SSLCERT_BLOB, tls.cert)
        if tls.key is not None:
            setopt(pycurl.SSLKEY_BLOB, tls.key)
            setopt(
                pycurl.KEYPASSWD, ""
            )  # else OpenSSL asks a terminal for that of an encrypted key
        if self._rejudge:
            setopt(pycurl.PREREQFUNCTION, self._reuse_judge(transfer))
        self._transfers[curl] = transfer
        return transfer

    def _socket_opener(self, transfer: Transfer) -> Callable[[int, Any], int]:
        judge = self._judge

        def refuse(denied: str, cause: TransportCause) -> int:
            if not transfer.opened:
                transfer.denied, transfer.denied_cause = denied, cause
            return _SOCKET_BAD

        def open_socket(purpose: int, address: Any) -> int:
            # Called for each address of a name in turn: a refusal counts only if none was allowed.
            if denied := judge(str(address.addr[0])):
                return refuse(denied, "egress_denied")
            if transfer.looks_up:
                return _SOCKET_BAD
            try:
                fd = socket.socket(address.family, address.socktype, address.protocol).detach()
            except OSError as e:
                return refuse(f"no socket could be opened: {e.strerror}", "internal")
            transfer.denied, transfer.opened = "", True
            self._registered.pop(fd, None)
            if transfer.target is not None:
                self._owners[fd] = transfer.target
            self.connections += 1
            return fd

        return open_socket

    def _reuse_judge(self, transfer: Transfer) -> Callable[[str, str, int, int], int]:
        judge = self._judge

        def judge_peer(peer: str, own: str, peer_port: int, own_port: int) -> int:
            if denied := judge(peer):
                transfer.denied, transfer.denied_cause = denied, "egress_denied"
                return _PREREQ_ABORT
            return _PREREQ_OK

        return judge_peer

    def _socket_callback(self) -> Callable[[int, int, Any, Any], None]:
        """libcurl's wish for one socket. A kept-alive one stays registered for EPOLLIN, so that what
        arrives on it is seen and its next use costs no epoll_ctl. Called twice a request."""
        busy, idle, watch = self._busy.add, self._busy.discard, self._watch
        registered, owners = self._registered.get, self._owners

        def on_socket(what: int, fd: int, multi: Any, data: Any) -> None:
            if what == _POLL_REMOVE:
                idle(fd)
                if registered(fd) != _POLL_IN:
                    watch(_POLL_IN if fd in owners else _POLL_REMOVE, fd)
            else:
                busy(fd)
                if registered(fd) != what:
                    watch(what, fd)

        return on_socket

    def _watch(self, what: int, fd: int) -> None:
        # Called back from libcurl, where an exception would end the whole multi handle.
        known = self._registered.pop(fd, 0)
        with contextlib.suppress(OSError):
            if what == _POLL_REMOVE:
                if known:
                    self.epoll.unregister(fd)
                return
            mask = (select.EPOLLIN if what & _POLL_IN else 0) | (
                select.EPOLLOUT if what & _POLL_OUT else 0
            )
            if known:
                self.epoll.modify(fd, mask)
            else:
                self.epoll.register(fd, mask)
            self._registered[fd] = what
