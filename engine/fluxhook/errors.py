"""The error tree: one root, and a subclass for each decision that a caller can make."""

from __future__ import annotations

__all__ = [
    "MAX_PROBLEMS",
    "ConfigError",
    "Conflict",
    "EngineError",
    "EngineNotRunning",
    "EngineRunning",
    "EventError",
    "FluxhookError",
    "LayoutError",
    "PayloadTooLarge",
    "Problem",
    "QueueFull",
    "SignatureError",
    "TooManyPublishers",
    "UnknownEndpoint",
]

from typing import Final, NamedTuple


class FluxhookError(Exception):
    """The root: `except FluxhookError` catches all that this package raises on purpose."""


class Problem(NamedTuple):
    """One fault in a configuration.

    `path` is where it stands (`webhook.endpoints[0].url`), `message` says what is wrong with which
    value, `remedy` what would be right.
    """

    path: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}; {self.remedy}"


#: that an error lists; arbitrary, more than anybody reads
MAX_PROBLEMS: Final = 100


class ConfigError(FluxhookError):
    """The configuration cannot be used. `problems` lists the faults found, not only the first: up to
    MAX_PROBLEMS of them. `more` is the number of the others."""

    def __init__(self, problems: list[Problem] | Problem, more: int = 0) -> None:
        """Take `problems`, of which at most MAX_PROBLEMS are kept, and the number of `more` that
        were found."""
        found = [problems] if isinstance(problems, Problem) else problems
        self.problems = found[:MAX_PROBLEMS]
        self.more = more + len(found[MAX_PROBLEMS:])
        lines = [*map(str, self.problems), *([f"and {self.more:,d} more"] if self.more else [])]
        super().__init__("\n".join(lines))


class EventError(FluxhookError):
    """An event cannot be accepted as given; correct it, there is no use in trying again.

    `field` is where the fault is, such as `type` or `data.status_code`; empty for the event itself.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        """Take the `message`, and the `field` in which the fault is."""
        super().__init__(message)
        self.field = field


class PayloadTooLarge(EventError):
    """The encoded event is over `max_event_bytes`."""


class QueueFull(FluxhookError):
    """The rings were full and the drop policy refused the event; try again later.

    `accepted` and `refused` count the endpoints: an event may have been accepted for some.
    """

    def __init__(self, message: str, *, accepted: int = 0, refused: int = 0) -> None:
        """Take the `message`, and for how many endpoints the event was `accepted` and `refused`."""
        super().__init__(message)
        self.accepted = accepted
        self.refused = refused


class EngineError(FluxhookError):
    """The engine's processes or its data directory cannot do what was asked."""


class EngineRunning(EngineError):
    """Another engine holds the data directory."""


class EngineNotRunning(EngineError):
    """No engine runs on, or was ever started on, this data directory."""


class TooManyPublishers(EngineError):
    """Every publisher slot is taken; raise `max_publishers`."""


class LayoutError(EngineError):
    """A file in the data directory was written by another version, or is damaged."""


class UnknownEndpoint(FluxhookError):
    """There is no endpoint of this name."""


class Conflict(FluxhookError):
    """A change at run time that the present state does not allow; the message says what would."""


class SignatureError(FluxhookError):
    """A received delivery's signature is missing, malformed, too old, or wrong."""
