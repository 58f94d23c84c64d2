"""Endpoints of one file that have the same name, which FluxMQ allows.

What is stored for an endpoint is found by its name, so each needs one of its own, and one that does not
depend on its place in the file. A twin's is the written name with a digest of what it is: its URL,
events and topic filters. `recognize` then gives an endpoint that was there before the name that it had,
when a twin comes or goes, or something of it was changed.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Final

import msgspec

from fluxhook.config import codec
from fluxhook.config.schema import Endpoint

__all__ = ["distinguish", "recognize"]

_DIGITS: Final = 8
_TWIN: Final = re.compile(rf"(.+)-([0-9a-f]{{{_DIGITS}}})(?:-[0-9]+)?", re.DOTALL)


def distinguish(endpoints: Sequence[Endpoint]) -> dict[int, str]:
    """Return the name of each endpoint that shares its own with another, by its place.

    The names are the same in whatever order the endpoints stand.
    """
    counts = Counter(endpoint.name for endpoint in endpoints)
    taken = {name for name, n in counts.items() if n == 1}
    twins = [i for i, endpoint in enumerate(endpoints) if counts[endpoint.name] > 1]
    names = {}
    numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(2))
    # By their content where even the digest is the same: what is equal in all is the same endpoint.
    for i in sorted(twins, key=lambda i: (endpoints[i].name, codec.encode(endpoints[i]))):
        name = f"{endpoints[i].name}-{_digest(endpoints[i])}"
        names[i] = name if name not in taken else _free(name, taken, numbers[name])
        taken.add(names[i])
    return names


def recognize(
    endpoints: tuple[Endpoint, ...], former: Iterable[Endpoint], twins: Mapping[str, str]
) -> tuple[tuple[Endpoint, ...], dict[str, str]]:
    """Return the endpoints under the names that they had among the `former` ones, and the written names
    of those that have another one, by their names; `twins` are the former ones'.

    Only twins, and endpoints that were one, can have another name than is written. One of which it is
    not sure which it was has a new name, so that no stored delivery is sent to another endpoint.
    """
    known: defaultdict[str, dict[str, Endpoint]] = defaultdict(dict)
    for endpoint in former:
        known[twins.get(endpoint.name, endpoint.name)][endpoint.name] = endpoint
    groups: defaultdict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in endpoints:
        groups[_written(endpoint)].append(endpoint)
    names = {endpoint.name: endpoint.name for endpoint in endpoints}
    numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(2))
    for written, group in groups.items():
        theirs = known[written]
        if {*theirs, *(endpoint.name for endpoint in group)} == {written}:
            continue  # no twin, now or before
        found = _matched(group, theirs)
        taken = {*names.values(), *theirs}
        for endpoint in group:
            name = found.get(endpoint.name)
            if name is None:
                name = endpoint.name
                if name != written and name in theirs:
                    name = _free(name, taken, numbers[name])
            taken.add(name)
            names[endpoint.name] = name
    renamed = tuple(
        msgspec.structs.replace(endpoint, name=names[endpoint.name]) for endpoint in endpoints
    )
    others = {names[e.name]: _written(e) for e in endpoints if names[e.name] != _written(e)}
    return renamed, others


def _matched(group: list[Endpoint], known: Mapping[str, Endpoint]) -> dict[str, str]:
    """Return each one's name among those that are known: first of those who are the same in all,
    then of those who are nearly so. Of several that are the same in all any may be any; otherwise it
    has to be the only one."""
    names: dict[str, str] = {}
    left = dict(known)
    for trait in _TRAITS:
        ours, theirs = defaultdict(list), defaultdict(list)
        for endpoint in group:
            if endpoint.name not in names:
                ours[trait(endpoint)].append(endpoint.name)
        for name, endpoint in left.items():
            theirs[trait(endpoint)].append(name)
        for mark, same in ours.items():
            if trait in (_all, _whole) or len(same) == len(theirs[mark]) == 1:
                names.update(zip(same, theirs[mark], strict=False))
        for name in left.keys() & names.values():
            del left[name]
    return names


def _free(name: str, taken: Collection[str], numbers: Iterator[int]) -> str:
    return next(free for n in numbers if (free := f"{name}-{n}") not in taken)


def _all(endpoint: Endpoint) -> bytes:
    return codec.encode(msgspec.structs.replace(endpoint, name=""))


def _whole(endpoint: Endpoint) -> bytes:
    return codec.encode(msgspec.structs.replace(endpoint, name="", paused=False))


def _kind(endpoint: Endpoint) -> bytes:
    return msgspec.json.encode(
        (endpoint.url, sorted(endpoint.events), sorted(endpoint.topic_filters))
    )


def _url(endpoint: Endpoint) -> bytes:
    return endpoint.url.encode()


_TRAITS: Final[tuple[Callable[[Endpoint], bytes], ...]] = (_all, _whole, _kind, _url)


def _digest(endpoint: Endpoint) -> str:
    return hashlib.sha256(_kind(endpoint)).hexdigest()[:_DIGITS]


def _written(endpoint: Endpoint) -> str:
    """Return the name that stands in the file: `distinguish` made the name of a twin."""
    match = _TWIN.fullmatch(endpoint.name)
    return match[1] if match and match[2] == _digest(endpoint) else endpoint.name
