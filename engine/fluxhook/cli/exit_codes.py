"""What the command's exit status means to the script that ran it."""

from __future__ import annotations

import enum

from fluxhook.errors import (
    ConfigError,
    Conflict,
    EngineNotRunning,
    EngineRunning,
    EventError,
    FluxhookError,
    LayoutError,
    QueueFull,
    UnknownEndpoint,
)

__all__ = ["ExitCode"]


class ExitCode(enum.IntEnum):
    """One for each decision that a script can make. Those from 128 up are a shell's own: 128 plus
    the signal (POSIX, Shell and Utilities, 2.8.2)."""

    meaning: str

    OK = 0, "done"
    FAILURE = 1, "it did not work; the message says why"
    USAGE = 2, "the command line is wrong"
    CONFIG = 3, "the configuration has problems"
    NOT_RUNNING = 4, "no engine runs there, none was ever started, or no worker of it serves"
    RUNNING = 5, "another engine has the data directory"
    REFUSED = 6, "some events are invalid and were refused; the others were taken"
    QUEUE_FULL = 7, "some events found the queue full; try these again later"
    UNREACHABLE = 8, "the admin API cannot be reached, or cannot answer now"
    DENIED = 9, "the admin API wants a token, or one that allows more"
    NOT_FOUND = 10, "there is no such webhook or delivery"
    CONFLICT = 11, "the present state does not allow it; the message says what would"
    NOT_DELIVERED = 12, "the test event was not delivered"
    DAMAGED = 13, "a file of the data directory is damaged, or another version's"
    INTERRUPTED = 130, "ended by Ctrl-C"
    BROKEN_PIPE = 141, "the reader of the output has gone"

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    @classmethod
    def of(cls, error: FluxhookError) -> ExitCode:
        for kind, code in _OF_ERRORS.items():
            if isinstance(error, kind):
                return code
        return cls.FAILURE


_OF_ERRORS: dict[type[FluxhookError], ExitCode] = {
    ConfigError: ExitCode.CONFIG,
    EngineNotRunning: ExitCode.NOT_RUNNING,
    EngineRunning: ExitCode.RUNNING,
    EventError: ExitCode.REFUSED,
    LayoutError: ExitCode.DAMAGED,
    QueueFull: ExitCode.QUEUE_FULL,
    UnknownEndpoint: ExitCode.NOT_FOUND,
    Conflict: ExitCode.CONFLICT,
}
