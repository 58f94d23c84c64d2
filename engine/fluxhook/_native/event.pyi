"""What an event needs on its way into a ring: an id, a check of its data, and its record."""

from typing import Any, Final, TypeGuard, final

from fluxhook._native.ring import Producer
from fluxhook._native.shared import Counters, Words

#: result of `Template.put`: the configuration is another one, or something was closed; nothing was
#: written
STALE: Final[int]
#: result of `Template.put`: a second has begun that the template is not dated with; nothing was written
EXPIRED: Final[int]

#: levels of objects and lists that an event's data may have
MAX_DEPTH: Final[int]

@final
class Ids:
    """Makes event ids from a generator of its own, seeded by the system, and anew after a fork.

    Ids are unique, not secret: who has seen many of them can tell the next. Safe to share among
    threads.
    """

    def gateway(self) -> str:
        """Return `evt_` and 20 hexadecimal digits: 80 random bits."""

    def broker(self) -> str:
        """Return a UUID of version 4 (RFC 9562 section 5.4)."""

def is_plain(data: object) -> TypeGuard[dict[str, Any]]:
    """Return whether it is a dict that JSON carries as it is: with text keys, of texts, numbers but NaN
    and infinities, bools, None, and dicts, lists and tuples of these, nested at most MAX_DEPTH levels;
    no subclass of any."""

def are_scalars(values: tuple[Any, ...]) -> bool:
    """Return whether all are texts, ints, bools, bytes or msgspec's UNSET; no subclass of any."""

def nests_over(text: bytes, levels: int) -> int:
    """Return where in a JSON text the first object or list begins that is over `levels` deep, or -1.

    What follows a fault in the JSON may be miscounted: the decoder of the text finds the fault
    first. Releases the GIL."""

@final
class Template:
    """The record of an event, known but for the event's id, its topic, its data and the time.

    The head is what `fluxhook.transport.messages.EventHead` encodes, without an order key; the body
    `opening`, id, `middle`, timestamp, `ending`, data and a brace. Without an `opening` the body does
    not have the id. What goes into a hole is written as it is.

    The record goes into that of `producers` with the shortest backlog. It belongs to the
    configuration whose `version` stands in the word (`row`, `field`).
    """

    def __init__(
        self,
        producers: list[Producer],
        counters: Counters,
        targets: bytes,
        event_type: str,
        opening: bytes | None,
        middle: bytes,
        ending: bytes,
        *,
        max_body_bytes: int,
        words: Words,
        row: int,
        field: int,
        version: int,
    ) -> None: ...
    def date(self, second: int, timestamp: str) -> None:
        """Set the timestamp that `put` writes while the second since the epoch lasts; none at first."""

    def put(self, id: str, data: bytes, topic: str | None = None) -> int:
        """Put such a record; return what `Producer.put` does, or STALE, or EXPIRED.

        TOO_LARGE also if the body is longer than `max_body_bytes`.
        """
