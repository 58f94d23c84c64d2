"""HTTP: one libcurl multi handle, driven by epoll, and a pool of easy handles.

The order of calls is the measured one. Once per handle: everything that never changes. Once per
endpoint that a handle is lent to: its `Target`. Per request: headers, body, add_handle. Per wake:
one socket_action starts what was added, one poll waits, one info_read collects.

libcurl looks through its whole DNS cache for old entries with each request that ends, which costs more
than all the rest where there are a thousand hosts. So most requests take entries of any age and remove
none, but one in every second refuses and removes what is older than DNS_TTL_S; after a pause all do,
until the first of them has ended. So no connection opens to an address that was looked up more than a
few seconds longer ago.

Where a proxy connects to the receiver, no socket of ours shows its address. So a receiver's name is
looked up here first, by a request that opens no connection: each address is judged, and one that may
not be reached is enough to refuse. What has no address here is the proxy's to find. It looks the name
up itself, later and perhaps elsewhere: what it reaches in the end is for its own rules.

Which connections are not used again says `sockets.py`.
"""

from __future__ import annotations

import contextlib
import resource
import select
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pycurl

from fluxhook._version import VERSION
from fluxhook.policy.outcome import TransportCause
from fluxhook.text import repaired
from fluxhook.transport.sockets import Sockets, retire_if_silent
from fluxhook.transport.target import Target
from fluxhook.transport.tls import MemoryFile, TlsMaterial
from fluxhook.transport.transfer import Transfer

__all__ = ["USER_AGENT", "Sender"]

USER_AGENT = f"Fluxhook/{VERSION}"
#: libcurl's own default, in seconds
DNS_TTL_S = 60
#: after which the system's file of authorities is read again, at the next connection; libcurl's default
#: is a day, in which the system may have replaced it
AUTHORITIES_TTL_S = 30
#: how often old entries are removed, and after what time without that none is trusted
_CLEANING_NS, _PAUSE_NS = 1_000_000_000, 3_000_000_000

#: CURLOPT_CA_CACHE_TIMEOUT, for which pycurl has no name
_CA_CACHE_TIMEOUT = 321
_SOCKET_BAD: int = pycurl.SOCKET_BAD
_PREREQ_OK: int = pycurl.PREREQFUNC_OK
_PREREQ_ABORT: int = pycurl.PREREQFUNC_ABORT
_SELECT_IN, _SELECT_ERR = 1, 4  # CURL_CSELECT_*
_HTTP_1 = (pycurl.CURL_HTTP_VERSION_1_0, pycurl.CURL_HTTP_VERSION_1_1)


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
        self.sockets = Sockets()
        self.epoll = self.sockets.epoll
        self.idle: list[Transfer] = []
        #: all of them, by their handles
        self.transfers: dict[pycurl.Curl, Transfer] = {}
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
        self._foreign: set[int] = set()
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
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self.sockets.callback())
        #: begins a request
        self.add_handle = self._multi.add_handle

    def watch(self, fd: int) -> None:
        """Have `step` wake for this descriptor too, and name it in `fired`."""
        self._foreign.add(fd)
        self.epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """End what `watch` began."""
        self._foreign.remove(fd)
        self.epoll.unregister(fd)

    def send(
        self, target: Target, headers: list[bytes], body: bytes, tag: Any, now_ns: int
    ) -> Transfer:
        """Queue one POST; the next `step` starts it. Fewer than `size` must be in flight.

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
            self.add_handle(transfer.curl)
        except BaseException:  # which of its options are set nobody knows
            del self.transfers[transfer.curl]
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
            self.add_handle(transfer.curl)

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
        for transfer in self.transfers.values():
            if transfer.ready is target:
                transfer.ready = None

    def start(self) -> None:
        """Set everything going that `send` queued since the last call."""
        self.queued = False
        # What arrives after this last look before requests are written cannot be told from an answer.
        busy, foreign = self.sockets.busy, self._foreign
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
                or not retire_if_silent(transfer, began_ns)
            ):
                self._early.append((transfer, code, message))
                continue
            again = True
            self.distrust(target)
            self._multi.remove_handle(transfer.curl)
            transfer.answer.clear()
            transfer.head.clear()
            self._aim(transfer, target)
            self.add_handle(transfer.curl)
        if again:
            self._running = self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)[1]

    def wait_s(self, timeout_s: float) -> float:
        """Return how long `step` would wait: until libcurl's next timer, or not at all, or `timeout_s`.
        For a loop that waits on another Sender and only watches this one's `epoll`."""
        if self._running < self.in_flight:
            return 0.0  # a fast peer answered inside socket_action: a completion is there already
        timer_ms = self._multi.timeout()
        return timeout_s if timer_ms < 0 else min(timeout_s, timer_ms / 1000.0)

    def step(self, timeout_s: float) -> list[tuple[Transfer, int, str]]:
        """Wait at most `timeout_s`, move the transfers on, and return the finished ones.

        Each is (transfer, libcurl's error code or 0, its message). Read the transfer, then `release`
        it. A message may hold bytes of the receiver, which need not be text.
        """
        multi = self._multi
        events = self.epoll.poll(self.wait_s(timeout_s), 1024)
        busy = self.sockets.busy
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
        """Return the transfers of which libcurl says for the first time that they have ended."""
        info_read, transfers = self._multi.info_read, self.transfers
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
                self.sockets.retire_silent(transfer, target)
        return transfer, code, repaired(message)

    def _look_at_idle(self, fd: int) -> None:
        if target := self.sockets.look_at_idle(fd):
            self.distrust(target)  # or libcurl would try such a one first, within a second

    def rejudge(self) -> None:
        """Judge again, since `judge` may refuse what it allowed before. Opening a socket is judged
        in any case; from now on requests on connections that are kept alive are too (for 0.5 us
        each)."""
        self._rejudge = True
        self._rules += 1
        for transfer in self.transfers.values():
            transfer.setopt(pycurl.PREREQFUNCTION, self._reuse_judge(transfer))

    def tags(self) -> list[Any]:
        """Return the tags of all requests under way."""
        return [transfer.tag for transfer in self.transfers.values() if transfer.tag is not None]

    def release(self, transfer: Transfer) -> None:
        """Give the transfer back; its measurements are gone with the next request."""
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
        """Note whether the connection that the request opened has brought an answer."""
        transfer.opened = False
        target = transfer.target
        if target is not None and transfer.status >= 200:
            if transfer.fresh:
                target.distrusted = False
            if target.shares:
                target.shares = transfer.getinfo(pycurl.INFO_HTTP_VERSION) not in _HTTP_1

    def close(self) -> None:
        """Abort what is in flight and close every connection. Handles close before the process
        ends: libcurl's own threads may otherwise outlive them."""
        for curl, transfer in self.transfers.items():
            if transfer.tag is not None:
                with contextlib.suppress(pycurl.error):
                    self._multi.remove_handle(curl)
        self._multi.close()
        for curl in self.transfers:
            curl.close()
        self.transfers.clear()
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
        self.transfers[curl] = transfer
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
                fd = self.sockets.open(
                    address.family, address.socktype, address.protocol, transfer.target
                )
            except OSError as e:
                return refuse(f"no socket could be opened: {e.strerror}", "internal")
            transfer.denied, transfer.opened = "", True
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
