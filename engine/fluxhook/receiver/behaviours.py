"""What a receiver does with a request: behaviours, and the replies that they lead to."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from random import Random
from typing import NamedTuple

import msgspec

from fluxhook.receiver.faults import Asked, find_fault

__all__ = ["Behaviour", "BehaviourRun", "Reply", "answer"]


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the receiver does with a request whose signature is good.

    A request fails if it is among the `fail_first`, by chance at `fail_rate`, or because its body, once
    decompressed, is over `fail_over` bytes or has `fail_on` in it; where none of these is set and a
    `fault` is, every request does. It is then answered with `fail_status`, or suffers the fault.
    Counting begins anew when a behaviour is set, and chance repeats itself for equal `seed`.

        Behaviour(fail_first=2, retry_after="1")  # 503, 503, 204, 204, ...
        Behaviour(status=302, headers={"Location": "https://example.com/"})
        Behaviour(fault="hang")
    """

    status: int = 204
    #: of answers that are HTTP, failing ones too
    headers: dict[str, str] = {}
    body: bytes = b""
    #: before the answer, plus up to `jitter_s`
    delay_s: float = 0.0
    jitter_s: float = 0.0
    fail_first: int = 0
    fail_rate: float = 0.0
    fail_over: int | None = None
    fail_on: bytes | None = None
    fail_status: int = 503
    #: the Retry-After of failing answers: seconds or an HTTP-date
    retry_after: str | None = None
    #: one of `fluxhook.receiver.FAULTS`
    fault: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.fault is not None:
            find_fault(self.fault)
        for status in (self.status, self.fail_status):
            if not 200 <= status <= 599:
                raise ValueError(f"{status} is not a final status (200 to 599)")
        if not 0.0 <= self.fail_rate <= 1.0:
            raise ValueError(f"fail_rate is {self.fail_rate}, not in 0 to 1")
        if self.delay_s < 0 or self.jitter_s < 0:
            raise ValueError("delay_s and jitter_s cannot be negative")


class Reply(NamedTuple):
    """What goes back: `answer` after `delay_s`, then the fault. `status` 0: `answer` has none."""

    status: int
    answer: bytes
    fault: str | None = None
    delay_s: float = 0.0
    #: what the fault's script is told
    asked: Asked | None = None


class BehaviourRun:
    """A behaviour at work: its answers ready to be sent, and how far it has come."""

    def __init__(self, behaviour: Behaviour) -> None:
        b = behaviour
        self._success = Reply(b.status, answer(b.status, b.headers, b.body))
        self._failure = _failure(b, self._success)
        self.behaviour = b
        picks = (
            bool(b.fail_first or b.fail_rate) or b.fail_over is not None or b.fail_on is not None
        )
        self._always = b.fault is not None and not picks
        self._steady = not (picks or b.delay_s or b.jitter_s)
        self._seen = 0
        self._random = Random(b.seed)

    def next(self, request: bytes) -> Reply:
        """Return the reply to the next request, which has this body."""
        b = self.behaviour
        if self._steady:
            return self._failure if self._always else self._success
        self._seen += 1
        fails = (
            self._always
            or self._seen <= b.fail_first
            or (b.fail_rate > 0 and self._random.random() < b.fail_rate)
            or (b.fail_over is not None and len(request) > b.fail_over)
            or (b.fail_on is not None and b.fail_on in request)
        )
        reply = self._failure if fails else self._success
        if b.delay_s or b.jitter_s:
            reply = reply._replace(delay_s=b.delay_s + b.jitter_s * self._random.random())
        return reply


def _failure(b: Behaviour, success: Reply) -> Reply:
    headers = b.headers if b.retry_after is None else {**b.headers, "Retry-After": b.retry_after}
    if b.fault is None:
        return Reply(b.fail_status, answer(b.fail_status, headers, b.body))
    asked = Asked(0, success.answer, _head(b.fail_status, headers), b.fail_status)
    status = {"": 0, "fail": b.fail_status, "good": b.status}[find_fault(b.fault).answers]
    return Reply(status, b"", b.fault, asked=asked)


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    if any(character in line for line in lines for character in "\r\n\0"):
        raise ValueError("a header of the answer holds CR, LF or NUL")
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


def answer(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    if status in (204, 304):  # these end with the head (RFC 9112 section 6.3)
        return _head(status, headers) + b"\r\n"
    return _head(status, headers) + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
