"""The loggers of this package: a short text and fields, one line each, bounded in number.

Every line goes through `logging`, under `fluxhook.<area>`. Its text and its fields are made safe here,
not by a formatter, since an embedding host formats them as it likes.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Final

from fluxhook.logs.limit import WINDOW_S, LeftOut, LineLimit
from fluxhook.text import one_line, repaired, without_secrets

__all__ = ["AREAS", "Field", "Log", "described", "limit", "safe_text", "traced"]

Field = str | int | float | bool | list[str]

#: the areas, and what each is about; docs/logging.md has every event
AREAS: Final = {
    "engine": "start and end of the engine, and the processes that run it",
    "endpoint": "the health of endpoints: breakers, failures, held and disabled ones",
    "delivery": "dead letters, and single deliveries that cannot go their way",
    "worker": "workers: replaced ones, and what one cannot do",
    "config": "configurations that are applied, or cannot be",
    "changes": "who changed what",
    "store": "the disk: the store, rings, the audit trail, damaged files",
    "publisher": "accepting events: full queues, filters and routing",
    "admin": "the admin API and the dashboard",
}

#: characters of a line's text, of a field, and of a traceback; arbitrary
_TEXT, _FIELD, _TRACEBACK = 4000, 1000, 8000
#: attributes that `logging` has of its own
_RESERVED: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "fields"}

#: of all loggers of this process
limit: Final = LineLimit()
#: ends the windows of which lines were left out
_timer: threading.Timer | None = None


class Log:
    """One logger. Fields that are None or empty are left out; `event` names what has happened."""

    def __init__(self, area: str) -> None:
        assert area in AREAS, area
        self.logger: Final = logging.getLogger(f"fluxhook.{area}")

    def debug(self, text: str, *arguments: object, **fields: Field | None) -> None:
        self._log(logging.DEBUG, text, arguments, fields)

    def info(self, text: str, *arguments: object, **fields: Field | None) -> None:
        self._log(logging.INFO, text, arguments, fields)

    def warning(self, text: str, *arguments: object, **fields: Field | None) -> None:
        self._log(logging.WARNING, text, arguments, fields)

    def error(
        self,
        text: str,
        *arguments: object,
        exc_info: BaseException | None = None,
        **fields: Field | None,
    ) -> None:
        """Write an error; one of ours comes with its kind, message and traceback."""
        if exc_info is not None:
            text, arguments = f"{text}: %s", (*arguments, described(exc_info))
            fields["traceback"] = safe_text(traced(exc_info), _TRACEBACK)
        self._log(logging.ERROR, text, arguments, fields)

    def _log(
        self, level: int, text: str, arguments: tuple[object, ...], fields: dict[str, Field | None]
    ) -> None:
        if not self.logger.isEnabledFor(level):
            return
        kind = str(fields.get("event") or logging.getLevelName(level).lower())
        if not _admit(self.logger.name, str(fields.get("endpoint") or ""), kind, level):
            return
        _write(self.logger, level, text % arguments if arguments else text, fields, stacklevel=4)


def _write(
    logger: logging.Logger,
    level: int,
    text: str,
    fields: dict[str, Field | None],
    stacklevel: int = 2,
) -> None:
    kept = {
        name: _safe_value(name, value)
        for name, value in fields.items()
        if value is not None and value != "" and value != []
    }
    extra = {f"{name}_" if name in _RESERVED else name: value for name, value in kept.items()}
    with _harmless():
        logger.log(
            level, safe_text(text, _TEXT), extra={"fields": kept, **extra}, stacklevel=stacklevel
        )


@contextlib.contextmanager
def _harmless() -> Iterator[None]:
    """Print what a handler or a filter raises, as `logging` prints what a handler of its own does. They
    are the host's, and who logs may be the thread that replaces a supervisor."""
    try:
        yield
    except Exception:
        if logging.raiseExceptions:
            traceback.print_exc()


def _safe_value(name: str, value: Field | None) -> Field:
    if isinstance(value, list):
        return [safe_text(one, _FIELD) for one in value]
    if isinstance(value, str):
        return value if name == "traceback" else safe_text(value, _FIELD)
    assert value is not None
    return round(value, 3) if isinstance(value, float) else value


def safe_text(text: object, limit: int = _FIELD) -> str:
    """Return a text that any log takes: on one line, without the secrets of a URL."""
    return one_line(without_secrets(repaired(str(text))), limit)


def described(error: BaseException) -> str:
    """Return an error's kind and message as a text that can be stored and shown."""
    try:
        text = repaired(str(error))
    except Exception:  # whose own __str__ is at fault
        text = ""
    kind = type(error).__name__
    return f"{kind}: {text}"[:500] if text else kind


def traced(error: BaseException) -> str:
    """Return an error with its traceback; of a long one its end."""
    try:
        text = repaired("".join(traceback.format_exception(error)))
    except Exception:
        return described(error)
    return text[-_TRACEBACK // 2 :]


# ---- how much ------------------------------------------------------------------------------


def _admit(logger: str, endpoint: str, kind: str, level: int) -> bool:
    """Return whether a line may be written, and have a timer say what is left out."""
    global _timer
    now = time.monotonic()
    for left in limit.over(now):
        _say(left)
    admitted = limit.admit(logger, endpoint, kind, now, level)
    if not admitted and _timer is None:
        timer = threading.Timer(WINDOW_S, say_left_out)
        timer.daemon = True
        # No thread can be started at the interpreter's end, and where the system has too many.
        with contextlib.suppress(RuntimeError):
            timer.start()
            _timer = timer
            atexit.register(say_left_out)
    return admitted


def say_left_out() -> None:
    """Write what was left out until now."""
    global _timer
    timer, _timer = _timer, None
    if timer is not None:
        timer.cancel()
    atexit.unregister(say_left_out)
    for left in limit.over(time.monotonic(), all=True):
        _say(left)


def _say(left: LeftOut) -> None:
    kinds = ", ".join(f"{n} {kind}" for kind, n in [*left.kinds.items()][:5])
    about = f" about {left.endpoints} endpoints" if left.endpoints else ""
    _write(
        logging.getLogger(left.logger),
        max(logging.WARNING, left.level),
        f"{left.lines} more lines{about} were left out in the last minute ({kinds})",
        {"event": "lines_left_out", "count": left.lines, "endpoints": left.endpoints or None},
    )
