"""What a worker needs of an endpoint, built in one place.

`fluxhook check`, a change at run time, the supervisor and the worker all call `build`, so none of them
accepts what another cannot use.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple, TypeVar

import pycurl

from fluxhook.config.headers import content_type
from fluxhook.config.schema import Config, Endpoint, Tls
from fluxhook.config.units import Duration
from fluxhook.errors import ConfigError, Problem
from fluxhook.events.trace_context import TraceContext
from fluxhook.policy.compression import make_compressor
from fluxhook.policy.signature import make_profile
from fluxhook.transport.target import MAX_ANSWER_BYTES, Target, one_of_each
from fluxhook.transport.tls import TlsMaterial, read_tls

__all__ = ["Built", "build", "problems", "with_trace"]

#: what each event of a batch may add to a 207 answer; arbitrary, twice the longest sensible entry
_ANSWER_BYTES_PER_EVENT = 1024

_TRACE_HEADERS = frozenset(name.encode() for name in TraceContext._fields)

T = TypeVar("T")


class Built(NamedTuple):
    """One endpoint, ready to be sent to."""

    target: Target
    #: header lines of every request
    headers: tuple[bytes, ...]
    #: the header lines that sign a body: (event id, seconds since the epoch, body)
    sign: Callable[[str, int, bytes], list[bytes]]
    compress: Callable[[bytes], bytes] | None
    #: None: the system's authorities and no client certificate
    tls: TlsMaterial | None


def build(endpoint: Endpoint) -> Built:
    """Build what requests to an endpoint need; reads its TLS files.

    Raises ConfigError with everything that cannot be built; paths are the endpoint's fields, such as
    `secrets[0]` and `tls.ca`.
    """
    e = endpoint
    found: list[Problem] = []
    sign = _try(found, "signature", lambda: _signer(e))
    compress = _try(found, "compression", lambda: make_compressor(e.compression))
    tls = _try(found, "tls", lambda: None if e.tls == Tls() else read_tls(e.tls))
    headers = _try(found, "headers", lambda: _headers(e))
    target = _try(found, "url", lambda: _target(e))
    if found or sign is None or headers is None or target is None:
        raise ConfigError(found)
    return Built(target, headers, sign, compress, tls)


def problems(config: Config, path: str = "") -> list[Problem]:
    """Return why endpoints of the configuration cannot be built; `path` ends in a dot or is empty."""
    found = []
    for i, endpoint in enumerate(config.endpoints):
        try:
            build(endpoint)
        except ConfigError as e:
            found += [
                Problem(
                    f"{path}endpoints[{i}].{problem.path}",
                    f"endpoint {endpoint.name!r:.80}: {problem.message}",
                    problem.remedy,
                )
                for problem in e.problems
            ]
    return found


def _try(found: list[Problem], path: str, make: Callable[[], T]) -> T | None:
    """Return what `make` makes, or None and add to the problems. Whatever a library raises here would
    be raised in a worker too."""
    try:
        return make()
    except ConfigError as e:
        found += e.problems
    except Exception as e:
        found.append(Problem(path, f"cannot be used ({type(e).__name__}: {e})"[:500], "change it"))
    return None


def _signer(endpoint: Endpoint) -> Callable[[str, int, bytes], list[bytes]]:
    sign = make_profile(endpoint.signature, endpoint.secrets).headers
    sign("build", 0, b"")
    return sign


def _target(endpoint: Endpoint) -> Target:
    e = endpoint
    target = Target(
        e.url,
        timeout_ms=_whole_ms(e.timeout),
        connect_timeout_ms=_whole_ms(min(e.connect_timeout, e.timeout)),
        proxy=e.proxy,
        http2=e.http_version == "2",
        max_answer_bytes=MAX_ANSWER_BYTES + _ANSWER_BYTES_PER_EVENT * (e.batch.max_events or 0),
        max_retry_after_s=e.retry.max_retry_after.seconds,
    )
    for option, value in (*target.options, (pycurl.URL, target.url)):
        _scratch().setopt(option, value)
    return target


def _headers(endpoint: Endpoint) -> tuple[bytes, ...]:
    e = endpoint
    lines = (
        b"Content-Type: " + content_type(e).encode(),
        b"Expect:",  # no 100-continue round trip for large bodies
        *(
            f"{name}: {value}".encode()
            for name, value in e.headers.items()
            if name.lower() != "content-type"  # may say the same (config/endpoint_rules.py)
        ),
    )
    _scratch().setopt(pycurl.HTTPHEADER, list(lines))
    headers: tuple[bytes, ...] = one_of_each(lines)
    return headers


def with_trace(headers: tuple[bytes, ...], trace: TraceContext) -> tuple[bytes, ...]:
    """Return the header lines of a request that carries a trace context, instead of one that the
    endpoint's own headers name."""
    kept = (line for line in headers if line.partition(b":")[0].lower() not in _TRACE_HEADERS)
    lines = (f"{name}: {value}".encode() for name, value in trace._asdict().items() if value)
    return (*kept, *lines)


@cache
def _scratch() -> pycurl.Curl:
    """Return a handle that refuses the options that the sender's would refuse. Nothing is sent with
    it."""
    return pycurl.Curl()


def _whole_ms(duration: Duration) -> int:
    """Return milliseconds for libcurl, rounded up: 0 would mean no limit."""
    return -(-duration.ns // 1_000_000)
