"""What happens to the tests in the processes that `mutants` forks: plugins of pytest."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Container, Generator, Mapping
from pathlib import Path
from typing import Final

import pytest
from tools.mutations import Mutation

#: exit codes of a mutant's process
SURVIVED, NOTICED = 0, 1
#: in a mutant's folder: the test that noticed it
NOTICED_BY: Final = "noticed_by"
#: CPU seconds that a test has: a multiple of what it takes unchanged, and more
PATIENCE, PATIENCE_S = 3, 1

_FORBIDDEN: Final = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec")


def no_processes(event: str, _: object) -> None:
    if event in _FORBIDDEN:
        raise RuntimeError(f"{event}: these tests start no processes")


class Baseline:
    """What a run without a change found out: the modules that it loaded, how long each test took, and
    which statements each ran; or how a test failed."""

    def __init__(self, said: str) -> None:
        found = json.loads(said)
        self.fault: str = found["fault"]
        self.modules: list[str] = found["modules"]
        self.seconds: dict[str, float] = found["seconds"]
        self._ran = {test: frozenset(places) for test, places in found["ran"].items()}
        self._ran_while_loading = frozenset(found["ran_while_loading"])

    def counts_while_loading(self, module: str, mutant: Mutation) -> bool:
        """Return whether a change takes effect before the first test begins."""
        return mutant.function is None or _place(module, mutant) in self._ran_while_loading

    def tests_of(self, module: str, mutant: Mutation, files: Container[str]) -> list[str]:
        """Return the tests in these files that a mutant is to meet."""
        tests = [test for test in self.seconds if test.partition("::")[0] in files]
        if self.counts_while_loading(module, mutant):
            return tests
        return [test for test in tests if _place(module, mutant) in self._ran[test]]


def _place(module: str, mutant: Mutation) -> str:
    return f"{module}:{mutant.statement}"


class Observer:
    """A plugin of the process without a change: writes what makes a Baseline, or what fails."""

    def __init__(self, write: int) -> None:
        self._write = write
        self._now: set[str] = set()
        self.ran = self._now.add
        self._fault = ""
        self._while_loading: list[str] = []
        self._seconds: dict[str, float] = {}
        self._ran: dict[str, list[str]] = {}

    def pytest_exception_interact(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        self._fault = f"{report.nodeid}\n{report.longreprtext}"

    def pytest_collection_finish(self) -> None:
        self._while_loading = sorted(self._now)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._now.clear()
        begun_s = time.process_time()
        try:
            return (yield)
        finally:
            self._seconds[item.nodeid] = time.process_time() - begun_s
            self._ran[item.nodeid] = sorted(self._now)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        found = {
            "fault": self._fault,
            "modules": sorted(sys.modules),
            "seconds": self._seconds,
            "ran": self._ran,
            "ran_while_loading": self._while_loading,
        }
        with os.fdopen(self._write, "w") as pipe:
            json.dump(found, pipe)
        os._exit(exitstatus)


class Judge:
    """A plugin of a mutant's process: ends it with NOTICED at the first test that fails, or else with
    SURVIVED. Any other code is a fault of this program."""

    def __init__(self, folder: Path, seconds: Mapping[str, float], *, show: bool) -> None:
        self._folder = folder
        self._seconds = seconds
        self._show = show

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        # a loop without end is over with the signal
        limit_s = PATIENCE_S + PATIENCE * self._seconds.get(item.nodeid, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """Look at what is raised before a report is made of it, which takes longer than most tests."""
        if call.excinfo and not call.excinfo.errisinstance(pytest.skip.Exception):
            (self._folder / NOTICED_BY).write_text(item.nodeid)
            if self._show:
                traceback.print_exception(call.excinfo.value)
                sys.stderr.flush()
            os._exit(NOTICED)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        os._exit(NOTICED if session.testsfailed else exitstatus)  # it could not be loaded
