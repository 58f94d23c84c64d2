from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crash.support import CrashStage, Row
from support.receiver import ReceiverProcess

_rows: list[Row] = []


@pytest.fixture(scope="session")
def receiver() -> Iterator[ReceiverProcess]:
    with ReceiverProcess(keep=0) as receiver:
        yield receiver


@pytest.fixture
def stage(
    request: pytest.FixtureRequest, tmp_path: Path, receiver: ReceiverProcess
) -> Iterator[CrashStage]:
    with CrashStage(request.node.name.removeprefix("test_"), tmp_path, receiver) as stage:
        yield stage


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[Row], None]:
    """Add a line to the table at the end of the run, which may be in another process."""
    return lambda row: record_property("survived", list(row))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        survived: list[Any] = [v for name, v in report.user_properties if name == "survived"]
        _rows.extend(Row(*values) for values in survived)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _rows:
        return
    terminalreporter.section("what survived")
    cells = [Row._fields, *((*row[:-1], f"{row.seconds:.1f}") for row in _rows)]
    widths = [max(len(str(row[i])) for row in cells) for i in range(len(Row._fields))]
    for row in cells:
        line = "  ".join(str(cell).rjust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line(line)
