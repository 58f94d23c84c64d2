"""The loggers: what stands on a line, whatever it is made of."""

from __future__ import annotations

import io
import json
import logging
import shlex
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.logs import log as logs
from fluxhook.logs import setup
from fluxhook.logs.formats import JsonFormatter, TextFormatter
from fluxhook.logs.limit import PER_LOGGER
from fluxhook.logs.log import AREAS, Log
from fluxhook.text import decoded
from support.rig import until

ESC = "\x1b[31mred\x1b[0m"
#: texts from outside that would end a line, forge another, steer a terminal, or be long
OUTSIDE = {
    "newline": "a\nERROR: forged",
    "carriage return": "a\r\nb",
    "escape": ESC,
    "C1": "a\x9b31mb",
    "NUL": "a\0b",
    "line separator": "a\u2028b\u2029c\x85d",
    "bidi": "a\u202eb",
    "invalid UTF-8": decoded(b"\xff\xfe\n"),
    "surrogate": "a\udc80b",
    "long": "x" * 100_000,
    "quote": 'a" endpoint="b',
    "equals": "a endpoint=forged",
    "backslash": "a\\",
    "empty": "",
}


class Lines:
    """The lines that a formatter makes of what is logged."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self.stream = io.StringIO()
        self.records: list[logging.LogRecord] = []
        self.handler = logging.StreamHandler(self.stream)
        self.handler.setFormatter(formatter)
        self.handler.addFilter(self.keep)

    def keep(self, record: logging.LogRecord) -> bool:
        self.records.append(record)
        return True

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


@pytest.fixture
def begin() -> Iterator[Callable[[logging.Formatter], Lines]]:
    """Attach formatters to the root logger of the package."""
    root = logging.getLogger("fluxhook")
    attached: list[Lines] = []

    def attach(formatter: logging.Formatter) -> Lines:
        attached.append(Lines(formatter))
        root.addHandler(attached[-1].handler)
        return attached[-1]

    level = root.level
    root.setLevel(logging.DEBUG)
    yield attach
    root.setLevel(level)
    for lines in attached:
        root.removeHandler(lines.handler)


Begin = Callable[[logging.Formatter], Lines]


def fields_of(line: str) -> dict[str, str]:
    """The fields of a line of key=value, as anybody would read them."""
    return dict(word.partition("=")[::2] for word in shlex.split(line) if "=" in word)


@pytest.mark.parametrize("text", OUTSIDE.values(), ids=OUTSIDE)
@pytest.mark.parametrize("format", ["text", "json"])
def test_a_line_is_one_line_whatever_is_in_it(begin: Begin, text: str, format: str) -> None:
    """Text from outside in the message and in a field neither ends a line nor steers a terminal, in
    both formats, nor in the record that a host formats itself."""
    lines = begin(JsonFormatter("worker 0") if format == "json" else TextFormatter("worker 0"))
    Log("worker").error("it said %s", text, endpoint="e", error=text, names=[text, "b"])
    (line,) = lines.stream.getvalue().split("\n")[:-1]
    assert line.isprintable()
    assert len(line) < 8000
    (record,) = lines.records
    assert record.getMessage().isprintable()
    assert all(str(value).isprintable() for value in vars(record)["fields"].values())
    if format == "json":
        assert json.loads(line)["endpoint"] == "e"
    else:
        assert fields_of(line.partition("endpoint=e ")[2]).get("endpoint") is None
        assert " endpoint=e" in line


def test_fields_stand_on_the_record_and_in_both_formats(begin: Begin) -> None:
    """Hosts' formatters find each field as an attribute, as with `extra`."""
    text, as_json = begin(TextFormatter("supervisor")), begin(JsonFormatter("supervisor"))
    Log("endpoint").warning(
        "breaker opened", event="breaker_opened", endpoint="orders", for_s=30.0, count=5, gone=None
    )
    (record,) = text.records
    assert (record.name, record.levelname) == ("fluxhook.endpoint", "WARNING")
    assert (record.__dict__["endpoint"], record.__dict__["for_s"]) == ("orders", 30.0)
    assert not hasattr(record, "gone")
    assert text.lines[0].endswith(
        "fluxhook supervisor: WARNING: breaker opened event=breaker_opened endpoint=orders "
        "for_s=30 count=5"
    )
    found = json.loads(as_json.lines[0])
    assert found.pop("time").endswith("Z")
    assert found.pop("pid") == record.process
    assert found == {
        "level": "warning",
        "logger": "fluxhook.endpoint",
        "role": "supervisor",
        "message": "breaker opened",
        "event": "breaker_opened",
        "endpoint": "orders",
        "for_s": 30.0,
        "count": 5,
    }


def test_a_field_may_have_the_name_of_an_attribute_of_logging(begin: Begin) -> None:
    """No name raises, and none replaces what `logging` has itself."""
    lines = begin(JsonFormatter("r"))
    Log("engine").info("said", name="n", message="m", process=1, level="l", args="a")
    found = json.loads(lines.lines[0])
    assert (found["message"], found["level"], found["name"]) == ("said", "info", "n")


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("via http://me:pw-secret@proxy:3128", "pw-secret"),
        ("via http://me:pw/secret@proxy:3128", "secret"),
        ("via socks5h://token-secret@proxy", "secret"),
        ("to https://h.example/hook?token=secret&x=1 now", "secret"),
        ("to 'https://h.example/hook?token=secret'", "secret"),
    ],
)
def test_the_secrets_of_a_url_are_left_out(begin: Begin, text: str, secret: str) -> None:
    """User names, passwords and queries of URLs stand in no message and in no field."""
    lines = begin(TextFormatter("r"))
    Log("engine").error("failed %s", text, error=text, names=[text])
    assert secret not in lines.lines[0]
    assert "***" in lines.lines[0]


def test_an_error_of_ours_comes_with_its_traceback_on_the_same_line(begin: Begin) -> None:
    """Its kind and message stand in the text, where it came from in a field."""
    lines = begin(TextFormatter("r"))
    try:
        raise ValueError("odd\nvalue")
    except ValueError as e:
        Log("worker").error("it failed", exc_info=e, endpoint="x")
    (line,) = lines.lines
    assert "ERROR: it failed: ValueError: odd\\nvalue endpoint=x traceback=" in line
    assert "test_log.py" in line
    assert lines.records[0].exc_info is None  # of which a host's formatter would make lines


def test_lines_of_other_packages_are_one_line_too(begin: Begin) -> None:
    """Those of uvicorn and asyncio, with a traceback or with arguments that do not fit."""
    formatter = TextFormatter("admin")
    lines = begin(formatter)
    other = logging.getLogger("fluxhook.elsewhere")
    try:
        raise ValueError("a\nb")
    except ValueError:
        other.exception("bad\nthing %s", ESC)
    odd = logging.makeLogRecord({"msg": "%d", "args": ("x",), "levelno": logging.ERROR})
    lines.stream.write(formatter.format(odd) + "\n")
    assert len(lines.lines) == 2
    assert all(line.isprintable() for line in lines.lines)


def test_a_flood_is_bounded_and_what_is_left_out_is_said(begin: Begin) -> None:
    """PER_LOGGER lines, then one that counts the others; no timer is left after it."""

    def timers() -> set[threading.Thread]:
        return {one for one in threading.enumerate() if isinstance(one, threading.Timer)}

    before = timers()
    lines = begin(TextFormatter("r"))
    log = Log("endpoint")
    for n in range(1000):
        log.warning("endpoint fails", event="failing", endpoint=f"e{n}")
    assert len(lines.lines) == PER_LOGGER
    logs.say_left_out()
    assert len(lines.lines) == PER_LOGGER + 1
    left = 1000 - PER_LOGGER
    assert f"{left} more lines about {left} endpoints were left out" in lines.lines[-1]
    assert f"event=lines_left_out count={left}" in lines.lines[-1]
    until(lambda: timers() <= before, "no timer is left")


@given(st.text(max_size=60))
def test_any_value_can_be_read_back(value: str) -> None:
    """A field of key=value holds what was put in, as far as it can be printed."""
    record = logging.makeLogRecord({"msg": "m", "fields": {"a": logs.safe_text(value), "b": 1}})
    line = TextFormatter("r").format(record)
    assert line.isprintable()
    if value and value.isprintable() and "://" not in value:
        *_, quoted = line.partition(": m a=")
        read = quoted.removesuffix(" b=1")
        assert (json.loads(read) if read.startswith('"') else read) == value


@pytest.mark.parametrize(
    ("level", "priority"), [("ERROR", 3), ("WARNING", 4), ("INFO", 6), ("DEBUG", 7)]
)
def test_journald_is_told_the_level(level: str, priority: int) -> None:
    """Under systemd a line begins with its priority, in both formats (sd-daemon(3))."""
    record = logging.makeLogRecord({"msg": "m", "levelno": getattr(logging, level)})
    for kind in (TextFormatter, JsonFormatter):
        assert kind("r", priorities=True).format(record).startswith(f"<{priority}>")


def test_the_journal_is_known_by_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """JOURNAL_STREAM names device and inode; standard error may be somewhere else (systemd.exec(5))."""
    import os

    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    record = logging.makeLogRecord({"msg": "m", "levelno": logging.ERROR, "levelname": "ERROR"})
    assert setup.line_formatter("r", "text").format(record).startswith("<3>")
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + 1}")
    assert not setup.line_formatter("r", "text").format(record).startswith("<3>")


def test_every_line_goes_through_the_log() -> None:
    """A line that a module writes by itself would have no bound, and could be more than one line."""
    package = Path(setup.__file__).parents[1]
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if 'getLogger("fluxhook' in path.read_text() and path.parent.name != "logs"
    }
    assert found == set()


def test_every_area_is_a_logger_below_fluxhook() -> None:
    """A host sets levels and handlers for all of them at once."""
    assert {Log(area).logger.name for area in AREAS} == {f"fluxhook.{area}" for area in AREAS}


def test_a_log_of_errors_says_how_many_errors_it_left_out(begin: Begin) -> None:
    """The line that counts them is as grave as they are."""
    lines = begin(TextFormatter("r"))
    logging.getLogger("fluxhook").setLevel(logging.ERROR)
    for n in range(PER_LOGGER + 5):
        Log("endpoint").error("cannot be used", event="endpoint_held", endpoint=f"e{n}")
    logs.say_left_out()
    assert "ERROR: 5 more lines about 5 endpoints were left out" in lines.lines[-1]


def test_a_line_that_no_timer_can_be_started_for_raises_nothing(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the interpreter's end, and where the system has no room for a thread."""

    def start(self: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Timer.start", start)
    lines = begin(TextFormatter("r"))
    for n in range(PER_LOGGER + 5):
        Log("endpoint").error("cannot be used", event="endpoint_held", endpoint=f"e{n}")
    logs.say_left_out()
    assert "5 more lines" in lines.lines[-1]
