"""What holds for every test: no deadline for an example, in CI no test that is left out, and a machine
that has what they need; and what many of them use: a receiver."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings

from fluxhook.logs.log import limit
from support.machine import unprepared
from support.receiver import ReceiverProcess
from support.rig import Rig

# Hundreds of processes start: each would compile the whole package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# An example's time on a shared machine says nothing; pytest-timeout stops what hangs.
settings.register_profile("fluxhook", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=25)
settings.load_profile(os.environ.get("FLUXHOOK_EXAMPLES", "fluxhook"))

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

#: files that take the longest: side by side with all others, not alone at the end
LONGEST = [
    "admin/dashboard/test_browser",
    "crash/test_kill",
    "test_packaging",
    "publisher/test_publisher",
    "publisher/test_interruptions",
    "admin/dashboard/test_editing",
    "crash/test_change",
    "worker/test_delivery",
    "worker/test_batching",
    "bench/test_instructions",
    "admin/test_server",
    "incident/test_incident",
    "admin/dashboard/test_audit",
    "admin/dashboard/test_names",
    "scheduler/test_stalled",
    "supervisor/test_poison",
    "compat/test_kept_data",
    "native/test_topics",
    "admin/test_schemathesis",
]

CI = os.environ.get("CI") == "true"


def pytest_configure(config: pytest.Config) -> None:
    """Check the machine once, and handle SIGINT: a background job of a shell ignores it, and so would
    the processes that tests interrupt."""
    if not hasattr(config, "workerinput") and (fault := unprepared()):
        raise pytest.UsageError(fault)  # once, instead of by each test that meets it
    config.addinivalue_line("markers", "crash: kills processes of an engine (tests/crash)")
    config.addinivalue_line("markers", "browser: needs Chromium")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # pytest-xdist gives its workers the terminal's width; what is tested writes to no terminal.
    os.environ.pop("COLUMNS", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the longest files first, and mark what CI leaves out with the newest Python."""
    folder = Path(__file__).parent
    order = {folder / f"{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))
    for item in items:
        if "crash" in item.path.parts:
            item.add_marker("crash")
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Refuse what was left out, around pytest's own handling of skip and xfail, which has to come
    first."""
    report = yield
    return _refuse(report)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Refuse a whole module that skips itself."""
    report = yield
    return _refuse(report)


def _refuse(report: Report) -> Report:
    """Make a failure, in CI, of a test that was left out: what it proves elsewhere is not proven
    there."""
    expected_failure = getattr(report, "wasxfail", None)
    if CI and (report.skipped or expected_failure is not None):
        if expected_failure is None:
            assert isinstance(report.longrepr, tuple)
            reason = report.longrepr[2]
        else:
            reason = f"xfail: {expected_failure}"
            del report.wasxfail
        report.outcome = "failed"
        report.longrepr = f"CI=true allows no skip and no xfail, but: {reason}"
    return report


@pytest.fixture(autouse=True)
def lines_are_counted_anew() -> None:
    """The log is limited for each process, and a test stands for one."""
    limit.over(0.0, all=True)


@pytest.fixture(scope="session")
def receiver_process() -> Iterator[ReceiverProcess]:
    with ReceiverProcess(keep=2000) as receiver:
        yield receiver


@pytest.fixture
def receiver(receiver_process: ReceiverProcess) -> ReceiverProcess:
    """Return a receiver to which nobody has ever sent anything; a process for each test would take
    longer."""
    receiver_process.renew()
    return receiver_process


@pytest.fixture
def rig(tmp_path: Path, receiver: ReceiverProcess) -> Iterator[Rig]:
    """Make engines, with that receiver."""
    rig = Rig(receiver, tmp_path / "data")
    try:
        yield rig
    finally:
        rig.close()
