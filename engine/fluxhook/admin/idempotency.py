"""Idempotency-Key: the same answer again for the same request, within what memory keeps.

A key belongs to who sent it: two tokens with the same key do not meet (`client`, Access.client).

A key's events are remembered one by one, so that a repeat of a request that was cut short goes on
where it stopped. Beyond that memory, and after a restart, the ids of the events still say that they
are the same: they are made of the key.

Source: draft-ietf-httpapi-idempotency-key-header-06, section 2.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from fluxhook.admin.models import Accepted
from fluxhook.admin.problem_details import FieldError, RequestError
from fluxhook.events.event import Native

__all__ = ["MAX_KEY", "Answers", "Idempotency", "Record", "derived_id"]

A = TypeVar("A")

#: Arbitrary.
MAX_KEY: Final = 255
#: keys, and events of all keys, that are remembered; arbitrary
_MAX_KEYS: Final = 10_000
_MAX_EVENTS: Final = 200_000
#: answers that are remembered; arbitrary
MAX_ANSWERS: Final = 1000


class Record(msgspec.Struct):
    """What became of a key's events so far. One request at a time has it."""

    key: str
    client: str = ""
    accepted: list[Accepted] = []
    #: of each event's JSON
    digests: list[bytes] = []
    complete: bool = False

    def known(self, index: int, raw: bytes) -> Accepted | None:
        """Return what the event came to before. Raise RequestError (422) if another one stood there."""
        if index >= len(self.accepted):
            if self.complete:
                raise self._reused()
            return None
        if self.digests[index] != _digest(raw):
            raise self._reused()
        return self.accepted[index]

    def add(self, raw: bytes, accepted: Accepted) -> None:
        self.accepted.append(accepted)
        self.digests.append(_digest(raw))

    def finish(self, n: int) -> None:
        """Note that the request had `n` events."""
        if n < len(self.accepted):
            raise self._reused()
        self.complete = True

    def _reused(self) -> RequestError:
        return _reused("events")


class Idempotency:
    """The keys of late, the latest used last. Safe to share among threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: OrderedDict[tuple[str, str], Record] = OrderedDict()
        self._busy: set[tuple[str, str]] = set()
        self._events = 0

    def take(self, key: str, client: str = "") -> Record:
        """Return the key's record, to be given back. Raise RequestError (409) while another has it."""
        _check_key(key)
        with self._lock:
            if (client, key) in self._busy:
                raise _under_way()
            self._busy.add((client, key))
            record = self._records.pop((client, key), None)
            if record is None:
                return Record(key, client)
            self._events -= len(record.accepted)
            return record

    def give_back(self, record: Record) -> None:
        place = record.client, record.key
        with self._lock:
            self._busy.discard(place)
            if not record.accepted:
                return
            self._records[place] = record
            self._events += len(record.accepted)
            while len(self._records) > _MAX_KEYS or self._events > _MAX_EVENTS:
                _, oldest = self._records.popitem(last=False)
                self._events -= len(oldest.accepted)


class Answers:
    """The answers of late to requests that change something, by client, path and key. Safe to share
    among threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str, str], tuple[bytes, Any]] = OrderedDict()
        self._busy: set[tuple[str, str, str]] = set()

    def once(
        self, client: str, path: str, key: str | None, body: bytes, make: Callable[[], A]
    ) -> A:
        """Return what `make` returns, or returned for the same request. What it raises is forgotten.

        Raises RequestError: 409 while such a request is under way, 422 if it had another body.
        """
        if key is None:
            return make()
        _check_key(key)
        place = client, path, key
        with self._lock:
            if place in self._busy:
                raise _under_way()
            known = self._known.get(place)
            if known is None:
                self._busy.add(place)
        if known is not None:
            digest, answer = known
            if digest != _digest(body):
                raise _reused("requests")
            return answer  # type: ignore[no-any-return]
        try:
            made = make()
            with self._lock:
                self._known[place] = _digest(body), made
                while len(self._known) > MAX_ANSWERS:
                    self._known.popitem(last=False)
            return made
        finally:
            with self._lock:
                self._busy.discard(place)


def derived_id(key: str, index: int, native: Native, client: str = "") -> str:
    """Return the id of the n-th event under a client's key, in the form of its catalog."""
    name = f"urn:fluxhook:idempotency-key:{index}:{key}"
    if client:
        name = f"urn:fluxhook:idempotency-key-of:{client}:{index}:{key}"
    if native == "broker":
        return str(uuid.uuid5(uuid.NAMESPACE_URL, name))  # RFC 9562 section 5.5
    return f"evt_{hashlib.sha256(name.encode()).hexdigest()[:20]}"


def _digest(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=8).digest()


def _check_key(key: str) -> None:
    if not 1 <= len(key) <= MAX_KEY or not key.isprintable():
        raise RequestError(
            "invalid-request",
            "The Idempotency-Key is empty, too long, or has control characters.",
            [FieldError("Idempotency-Key", "cannot be used", f"send 1 to {MAX_KEY} characters")],
        )


def _under_way() -> RequestError:
    return RequestError(
        "request-in-progress",
        "A request with this Idempotency-Key is under way; repeat it when that has ended.",
    )


def _reused(what: str) -> RequestError:
    return RequestError(
        "idempotency-key-reused",
        f"This Idempotency-Key came with other {what} before.",
        [
            FieldError(
                "Idempotency-Key", f"was used for other {what}", f"use a new key for new {what}"
            )
        ],
    )
