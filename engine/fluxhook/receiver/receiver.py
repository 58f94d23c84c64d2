"""A receiver: it listens, verifies what comes, and replies as its behaviours say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from ssl import SSLContext
from typing import Final, NamedTuple

from fluxhook.config.schema import SignatureProfile
from fluxhook.errors import SignatureError
from fluxhook.policy.compression import BadEncoding, decompress
from fluxhook.policy.signature import HEADERS, public_key, symmetric_key
from fluxhook.receiver.behaviours import Behaviour, BehaviourRun, Reply, answer
from fluxhook.receiver.connection import Connection
from fluxhook.receiver.faults import Kind, find_fault
from fluxhook.receiver.requests import Request
from fluxhook.verify import verify

__all__ = ["Received", "Receiver"]

_UNAUTHORIZED: Final = Reply(401, answer(401, {}, b""))


class Received(NamedTuple):
    """A request as it arrived, and what becomes of it."""

    #: the request target: path and query
    path: str
    #: names in lower case; what was sent in several lines is joined by ", "
    headers: dict[str, str]
    body: bytes
    #: None: no secret to verify it with
    verified: bool | None
    at_ns: int
    #: of the answer; 0 where the fault leaves none
    status: int
    #: why the signature or the body was refused, or the fault
    reason: str = ""
    #: the body as it arrived, if it was compressed
    encoded: bytes | None = None


class Receiver:
    """Listens on `host`; port 0 takes a free one. Lives on one event loop.

    With `secrets` each request is verified by the signature `profile`, and refused with 401 if that
    fails. A compressed body is decompressed after that, and refused if it is damaged or would become
    larger than `max_body_bytes`. `on_delivery` is called for each complete POST before its answer goes
    out, refused and failing ones included; where it raises, the answer is 500. `paths` has behaviours
    for paths (without query) that differ from `behaviour`. A connection is closed after
    `idle_timeout_s` without a request.

    Raises ConfigError for an unusable secret, ValueError for a profile that signs nothing; `start`
    raises OSError where it cannot listen.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        secrets: Sequence[str] = (),
        profile: SignatureProfile = "fluxgate",
        behaviour: Behaviour = Behaviour(),  # noqa: B008 (frozen)
        paths: Mapping[str, Behaviour] | None = None,
        on_delivery: Callable[[Received], object] | None = None,
        ssl: SSLContext | None = None,
        max_body_bytes: int = 16 * 1024 * 1024,
        idle_timeout_s: float = 75.0,  # nginx: keepalive_timeout
    ) -> None:
        if secrets and profile not in HEADERS:
            raise ValueError(f"the profile {profile!r} has no signature to verify")
        for secret in secrets:
            if profile == "standard" and secret.startswith("whpk_"):
                public_key(secret, "secret")
            else:
                symmetric_key(profile, secret, "secret")
        self.host = host
        self.port = port
        self.max_body_bytes = max_body_bytes
        self.idle_timeout_s = idle_timeout_s
        #: connections accepted since the start
        self.accepted = 0
        self.connections: set[Connection] = set()
        self._secrets = tuple(secrets)
        self._profile = profile
        self._on_delivery = on_delivery
        self._ssl = ssl
        self._behaviours: dict[str, BehaviourRun] = {}
        self._server: asyncio.Server | None = None
        self.behave(behaviour)
        for path, special in (paths or {}).items():
            self.behave(special, path)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._ssl else 'http'}://{host}:{self.port}"

    def behave(self, behaviour: Behaviour | None, path: str | None = None) -> None:
        """Change the behaviour from the next request on: of one path, or of all that have none of
        their own. None: the path has none of its own any more."""
        if path is None:
            self._default = BehaviourRun(behaviour or Behaviour())
        elif behaviour is None:
            self._behaviours.pop(path, None)
        else:
            self._behaviours[path] = BehaviourRun(behaviour)

    async def start(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self), self.host, self.port, ssl=self._ssl, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self.connections):
            connection.abort()
        await self._server.wait_closed()
        self._server = None

    def open(self) -> Reply | None:
        """Decide about a connection whose first bytes have come: None unless it fails at once."""
        if self._kind != "opening":
            return None
        reply = self._default.next(b"")
        if reply.fault is None:
            return None
        if self._on_delivery is not None:
            self._on_delivery(Received("", {}, b"", None, time.time_ns(), 0, reply.fault))
        return reply

    @property
    def is_proxy(self) -> bool:
        """True if CONNECT is served: by a fault that is a proxy's."""
        return self._kind == "proxy"

    @property
    def _kind(self) -> Kind | None:
        """The kind of the fault that befalls requests whatever their path."""
        fault = self._default.behaviour.fault
        return None if fault is None else find_fault(fault).kind

    def receive(self, request: Request) -> Reply:
        """Decide about one request, and tell `on_delivery`."""
        behaviour = self._default
        if self._behaviours:
            behaviour = self._behaviours.get(request.target.partition("?")[0], behaviour)
        verified, reason, reply = None, "", None
        if self._secrets:
            try:
                verify(request.body, request.headers, self._secrets, profile=self._profile)
                verified = True
            except SignatureError as e:
                verified, reason, reply = False, str(e), _UNAUTHORIZED
        body, encoded = request.body, None
        if reply is None and (encoding := request.headers.get("content-encoding")):
            try:
                body, encoded = decompress(body, encoding, self.max_body_bytes), body
            except BadEncoding as e:
                reason, reply = str(e), Reply(e.status, answer(e.status, {}, b""))
        if reply is None:
            reply = behaviour.next(body)
            reason = reply.fault or ""
        if self._on_delivery is not None:
            self._on_delivery(
                Received(
                    request.target,
                    request.headers,
                    body,
                    verified,
                    time.time_ns(),
                    reply.status,
                    reason,
                    encoded,
                )
            )
        return reply
