"""A line of the log: key=value for people, JSON for programs; one line always."""

from __future__ import annotations

import json
import logging
import time
from typing import Any, Final

from fluxhook.logs.log import described, safe_text, traced

__all__ = ["JsonFormatter", "TextFormatter"]

#: priorities of syslog(3), which journald reads at the beginning of a line (sd-daemon(3))
_PRIORITIES: Final = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (0, 7),
)


class _Formatter(logging.Formatter):
    """`role` names the process that writes; a record may bring that of another. With `priorities` each
    line begins with `<N>`."""

    def __init__(self, role: str, *, priorities: bool = False) -> None:
        super().__init__()
        self._role = role
        self._priorities = priorities

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        try:
            text = safe_text(record.getMessage(), 4000)
        except Exception as e:  # a line of another package, whose arguments do not fit
            text = safe_text(record.msg)
            fields["error"] = described(e)
        if record.exc_info and record.exc_info[1] is not None:  # another package's
            fields["traceback"] = safe_text(traced(record.exc_info[1]), 8000)
        line = self._line(record, getattr(record, "role", self._role), text, fields)
        if not self._priorities:
            return line
        return f"<{next(n for level, n in _PRIORITIES if record.levelno >= level)}>{line}"

    def _line(self, record: logging.LogRecord, role: str, text: str, fields: dict[str, Any]) -> str:
        raise NotImplementedError


class TextFormatter(_Formatter):
    """`2026-02-05 12:00:00,000 fluxhook worker 0: WARNING: the text key=value`."""

    def _line(self, record: logging.LogRecord, role: str, text: str, fields: dict[str, Any]) -> str:
        head = f"{self.formatTime(record)} fluxhook {role}: {record.levelname}: {text}"
        return " ".join([head, *(f"{name}={_written(value)}" for name, value in fields.items())])


class JsonFormatter(_Formatter):
    """One JSON object, in ASCII."""

    def _line(self, record: logging.LogRecord, role: str, text: str, fields: dict[str, Any]) -> str:
        seconds, fraction = divmod(record.created, 1)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        head = {
            "time": f"{moment}.{int(fraction * 1000):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "role": role,
            "pid": record.process,
            "message": text,
        }
        return json.dumps({**fields, **head} if fields.keys() & head.keys() else head | fields)


def _written(value: object) -> str:
    """Return a value, in quotes where it holds a character that parts the fields.

    >>> _written("a b"), _written(True), _written(0.25), _written(["a", "b"])
    ('"a b"', 'true', '0.25', 'a,b')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    text = ",".join(value) if isinstance(value, list) else str(value)
    if text and not any(c in text for c in ' "=\\'):
        return text
    return json.dumps(text, ensure_ascii=False)
