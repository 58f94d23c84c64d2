"""Which endpoints cannot be built, and why: these are held while all others go on."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fluxhook.config.schema import Endpoint, Tls
from fluxhook.errors import ConfigError
from fluxhook.logs.log import Log
from fluxhook.transport.build import build

__all__ = ["Judge"]

log = Log("endpoint")

#: how often files are looked at, and held endpoints built again
LOOK_S = 10.0
#: how long an endpoint is held that only a worker could not build
SUSPECT_S = 30.0


@dataclass(slots=True)
class _Verdict:
    endpoint: Endpoint
    #: the files with which it was built, and those that were there at the last look
    files: int
    seen: int
    #: empty: it can be built
    reason: str


class Judge:
    """The supervisor's view of all endpoints.

    It builds one when it is new or changed, when its files have changed, and every LOOK_S while it is
    held, since a package may have been installed. Where the files of one that is in use have changed
    and cannot be used, perhaps because the certificate is replaced before its key, what was read before
    stays in force. Times are seconds of the monotonic clock.
    """

    def __init__(self) -> None:
        self._verdicts: dict[str, _Verdict] = {}
        #: why an endpoint cannot be used whatever a build says
        self._refused: Mapping[str, str] = {}
        #: until when an endpoint is held that a worker could not build
        self._suspected: dict[str, float] = {}
        self._next_look = 0.0

    def judge(self, endpoints: Iterable[Endpoint], refused: Mapping[str, str], now: float) -> None:
        """Take over a configuration. `refused` says why the rules refuse some of its endpoints."""
        before = self.held
        known, self._verdicts = self._verdicts, {}
        self._refused = refused
        self._next_look = now + LOOK_S
        for endpoint in endpoints:
            self._verdicts[endpoint.name] = _judged(endpoint, known.get(endpoint.name))
        self._suspected = {
            name: until
            for name, until in self._suspected.items()
            if until > now and known.get(name) is self._verdicts.get(name)
        }
        self._tell(before)

    def look(self, now: float) -> bool:
        """Return whether files, packages or time have changed something: then judge and publish."""
        if any(until <= now for until in self._suspected.values()):
            return True
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_S
        return any(
            verdict.seen != _files(verdict.endpoint.tls)
            or (verdict.reason and verdict.reason != _fault(verdict.endpoint))
            for verdict in self._verdicts.values()
        )

    def suspect(self, name: str, now: float) -> None:
        """Hold an endpoint for a while: a worker could not build it."""
        before = self.held
        self._suspected[name] = now + SUSPECT_S
        self._tell(before)

    @property
    def held(self) -> dict[str, str]:
        """The reason why each endpoint is held that is."""
        suspected = dict.fromkeys(self._suspected, "a worker could not build it; its log says why")
        found = {name: verdict.reason for name, verdict in self._verdicts.items() if verdict.reason}
        return {**suspected, **found, **self._refused}

    @property
    def files(self) -> dict[str, int]:
        """A number for each endpoint that names files, another one when they have changed."""
        return {name: verdict.files for name, verdict in self._verdicts.items() if verdict.files}

    def _tell(self, before: dict[str, str]) -> None:
        held = self.held
        for name, reason in held.items():
            if before.get(name) != reason:
                log.error(
                    "endpoint %s is misconfigured, its events wait: %s", name, reason,
                    event="endpoint_held", endpoint=name, reason=reason,
                )  # fmt: skip
        for name in before.keys() - held.keys() & self._verdicts.keys():
            log.info(
                "endpoint %s can be built again, its events are delivered", name,
                event="endpoint_built", endpoint=name,
            )  # fmt: skip


def _judged(endpoint: Endpoint, known: _Verdict | None) -> _Verdict:
    seen = _files(endpoint.tls)
    as_it_was = known is not None and not known.reason and known.endpoint == endpoint
    if known is not None and as_it_was and known.seen == seen:
        return known
    reason = _fault(endpoint)
    if known is not None and as_it_was and reason:
        log.warning(
            "endpoint %s: its files have changed and cannot be used, what was read before stays in "
            "force: %s", endpoint.name, reason,
            event="files_unusable", endpoint=endpoint.name, reason=reason,
        )  # fmt: skip
        return _Verdict(endpoint, known.files, seen, "")
    return _Verdict(endpoint, seen, seen, reason)


def _fault(endpoint: Endpoint) -> str:
    """Return why it cannot be built, or nothing."""
    try:
        build(endpoint)
    except ConfigError as e:
        return "; ".join(f"{problem.path}: {problem.message}" for problem in e.problems)
    return ""


def _files(tls: Tls) -> int:
    """Identify what the files hold without reading them; 0 where there are none."""
    if tls == Tls():
        return 0
    return zlib.crc32(repr([_identity(path) for path in (tls.ca, tls.cert, tls.key)]).encode()) or 1


def _identity(path: str | None) -> object:
    try:
        found = os.stat(path or "")
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
