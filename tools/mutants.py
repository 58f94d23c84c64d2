"""Changes the modules that decide, in one place at a time; the tests must notice.

    python tools/mutants.py [--jobs N] [--minutes N] [--anew] [--no-op] [MODULE ...]

Each mutant (a module with one change, see `mutations`) meets the tests named in MODULES, which start no
processes. A mutant that no test notices has survived. A survivor that no test can notice stands in
EQUIVALENT, with the reason.

    exit 0   at least LEAST of each module's mutants were noticed
    exit 1   fewer were, or an entry of EQUIVALENT is wrong
    exit 2   the run proves nothing: tests fail, or start processes, without any change
    exit 3   there was no time for all; the next run goes on there

Each module has one mutant more, which changes nothing. The run fails if it does *not* survive, since it
then takes for noticed what is not; with --no-op it counts as one that no test may leave alive, and the
run must end with 1.

First all tests run without a change, and it is noted which statements of the modules each runs. A
mutant meets the tests that run the statement which it changes, and ends with the first that fails. No
mutant waits for a start of pytest: each runs in a process forked off one that is ready for it.

- A change inside a function: the process has imported and collected everything, and gives the function
  the mutant's code.
- What counts while a module is loaded, such as a table: the process has imported everything but the
  module and what imports it, and goes on with the collection of the module's tests.

What was found stands in RESULTS, and is found again once any of the sources has changed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import gc
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import pytest
from hypothesis import Phase, given, settings
from hypothesis.strategies import integers

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.mutant_tests import (  # noqa: E402
    NOTICED,
    NOTICED_BY,
    SURVIVED,
    Baseline,
    Judge,
    Observer,
    no_processes,
)
from tools.mutated import (  # noqa: E402
    Functions,
    Replaced,
    exchange,
    imports_of,
    loaded_functions,
    unload,
)
from tools.mutations import (  # noqa: E402
    NO_OP,
    RAN,
    Mutation,
    mutations,
    note_statements,
    words_of,
)

ENGINE: Final = ROOT / "engine/fluxhook"
EQUIVALENT: Final = ROOT / "tests/equivalent_mutants.txt"
RESULTS: Final = ROOT / ".mutants.json"
#: of each module's mutants that are not equivalent
LEAST: Final = 0.95
#: of each property and state machine: a mutant that needs more is one of which a table should tell
EXAMPLES: Final = 25
#: what a mutant may use of memory, so that one that grows without end harms nobody
MEMORY_BYTES: Final = 4 << 30
#: a folder that no disk stands behind, where there is one
RAM: Final = "/dev/shm" if os.path.isdir("/dev/shm") else None
#: a mutant that waits for something that does not happen; long, as a busy machine is slow
HANGS_S: Final = 120


class Target(NamedTuple):
    """A module, the files of its tests, and the functions that count; none: all that is in it."""

    module: str
    tests: tuple[str, ...]
    functions: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return ENGINE / (self.module.replace(".", "/") + ".py")


def _policy(name: str) -> Target:
    # docs/policies.md shows the tables of some, and is compared with them
    return Target(
        f"policy.{name}", (f"tests/policy/test_{name}.py", "tests/policy/test_diagrams.py")
    )


def _scheduler(name: str, tests: Sequence[str], *functions: str) -> Target:
    paths = (f"tests/scheduler/test_{test}.py" for test in (name, *tests))
    return Target(f"scheduler.{name}", tuple(paths), functions)


POLICIES: Final = sorted(p.stem for p in (ENGINE / "policy").glob("[!_]*.py"))
MODULES: Final = {
    target.module: target
    for target in (
        *map(_policy, POLICIES),
        Target("worker.admission", ("tests/worker/test_admission.py",)),
        Target("worker.results", ("tests/worker/test_results.py",)),
        # the way back of what has to be tried again
        _scheduler("reports", ["way_back"], "_apply", "_after", "_reported"),
        _scheduler("retries", [], "release_lost", "feed", "_feed_one", "room", "idlest", "_send"),
        _scheduler("worker_leases", []),
        _scheduler("disabling", ["reports"], "attempt_failed"),
        _scheduler("dead_letters", []),
    )
}


# ---- what is known -------------------------------------------------------------------------------


class Results:
    """Which mutants survived, of each module; kept in a file, for a run that goes on."""

    def __init__(self, path: Path, fingerprint: str, *, again: bool = False) -> None:
        self._path = path
        self._fingerprint = fingerprint
        self._saved_s = time.monotonic()
        self.survived: dict[str, dict[str, bool]] = {}
        try:
            known = json.loads(path.read_text())
        except (OSError, ValueError):
            return
        if again:
            for module, found in known["survived"].items():
                self.survived[module] = {name: False for name, alive in found.items() if not alive}
        elif known.get("fingerprint") == fingerprint:
            self.survived = known["survived"]

    def of(self, target: Target) -> dict[str, bool]:
        return self.survived.setdefault(target.module, {})

    def save(self, *, every_s: float = 0) -> None:
        if time.monotonic() < self._saved_s + every_s:
            return
        self._saved_s = time.monotonic()
        text = json.dumps({"fingerprint": self._fingerprint, "survived": self.survived}, indent=1)
        fresh = self._path.with_suffix(".tmp")
        fresh.write_text(text)
        fresh.replace(self._path)


def fingerprint() -> str:
    """Return what is another once any source has changed that may change a result."""
    digest = hashlib.sha256(sys.version.encode())
    for folder in (ENGINE, ROOT / "tests", ROOT / "tools"):
        for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.so")]):
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def read_equivalent(text: str) -> dict[tuple[str, str], str]:
    """Return the reason of each mutant that no test can notice.

    A paragraph is a reason, on lines that begin with `#`, and the mutants for which it stands, each as
    `module function: old -> new`.
    """
    found: dict[tuple[str, str], str] = {}
    for paragraph in text.split("\n\n"):
        lines = paragraph.strip().splitlines()
        reason = " ".join(line[1:].strip() for line in lines if line.startswith("#"))
        for line in lines:
            if not line.startswith("#"):
                module, _, name = line.partition(" ")
                if not reason or (module, name) in found:
                    raise ValueError(f"no reason, or a second one, for: {line}")
                found[module, name] = reason
    return found


def mutants_of(target: Target) -> list[Mutation]:
    """Return the mutants of a module, and first the one that is none."""
    source = target.path.read_text()
    found = mutations(source, words_of([source, *_others()]))
    if target.functions:
        found = [
            m for m in found if m.name.partition(":")[0].rpartition(".")[2] in target.functions
        ]
    return [NO_OP, *found]


@functools.cache
def _others() -> list[str]:
    paths = [*sorted((ENGINE / "policy").glob("*.py")), ENGINE / "transport/messages.py"]
    return [path.read_text() for path in paths]


# ---- the run -------------------------------------------------------------------------------------


class Case(NamedTuple):
    target: Target
    mutant: Mutation


class Child(NamedTuple):
    case: Case
    began_s: float


class Run:
    """A plugin of pytest that forks mutants' processes. They go on as pytest does, with the collection
    or with the tests; this process ends with what the run is worth."""

    def __init__(self, options: argparse.Namespace, targets: Sequence[Target]) -> None:
        self._options = options
        self._ends_s = time.monotonic() + 60 * options.minutes
        self._results = Results(options.results, fingerprint(), again=options.again)
        if options.anew:
            self._results.survived.clear()
        self._equivalent = read_equivalent(EQUIVALENT.read_text() if EQUIVALENT.exists() else "")
        self._mutants = {target: mutants_of(target) for target in targets}
        self._used_s: defaultdict[str, float] = defaultdict(float)
        #: the tests that noticed the last mutants, as neighbours are often noticed by the same
        self._last: deque[str] = deque(maxlen=4)
        #: how many mutants each noticed
        self._kills: Counter[str] = Counter()
        self._folder = Path(tempfile.mkdtemp(prefix="mutants-", dir=RAM))
        self._in_place: list[Case] = []
        #: in a child: what it tries
        self._case: Case | None = None
        self._is_child = False

    def close(self) -> None:
        self._results.save()
        shutil.rmtree(self._folder, ignore_errors=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        """Observe the tests, and try the mutants that have to be collected for."""
        settings.register_profile(
            "mutants",
            deadline=None,
            derandomize=True,
            max_examples=EXAMPLES,
            database=None,
            phases=(Phase.explicit, Phase.generate),
        )
        settings.load_profile("mutants")
        left = [
            Case(target, mutant)
            for target, mutants in self._mutants.items()
            for mutant in mutants
            if mutant.name not in self._results.of(target)
        ]
        if not left:
            self._end()
        self._imported = imports_of(ROOT)
        if self._observe(session):
            functions = loaded_functions(target.path for target in self._mutants)
            gc.collect()
            gc.freeze()  # a collection in a child would copy every page
            anew: list[Case] = []
            for case in left:
                (self._in_place if self._is_in_place(case, functions) else anew).append(case)
            self._functions = functions
            self._try(anew, functools.partial(self._load_anew, session))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Try the mutants that need no more than other code in a function."""
        if not self._is_child and self._try(
            self._in_place, functools.partial(self._exchange, session)
        ):
            self._end()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [i for i in items if "receiver_process" not in getattr(i, "fixturenames", ())]
        for item in items:
            machine = getattr(item, "cls", None)
            if item.name == "runTest" and machine is not None:
                machine.settings = settings(machine.settings, max_examples=EXAMPLES)
        if self._case is not None:
            self._choose(items, self._case)

    def _tests_of(self, case: Case) -> list[str]:
        return self._baseline.tests_of(case.target.module, case.mutant, case.target.tests)

    def _choose(self, items: list[pytest.Item], case: Case) -> None:
        """Leave those that a mutant is to meet, and those that are there only with it; first those that
        will probably notice it, and quick ones."""
        tests, seconds = set(self._tests_of(case)), self._baseline.seconds
        items[:] = [item for item in items if item.nodeid in tests or item.nodeid not in seconds]
        items.sort(
            key=lambda item: (
                item.nodeid not in self._last,
                seconds.get(item.nodeid, 0) / (1 + self._kills[item.nodeid]),
            )
        )

    def _observe(self, session: pytest.Session) -> bool:
        """Run the tests without a change in a child; return False there."""
        read, write = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(read)
            observer = Observer(write)
            targets = list(self._mutants)
            unload([f"fluxhook.{target.module}" for target in targets], self._imported)
            for target in targets:
                tree = ast.parse(target.path.read_text())
                note_statements(tree, target.module)
                self._replace(target, tree, {RAN: observer.ran})
            self._become_child(session, targets, observer)
            return False
        os.close(write)
        with os.fdopen(read) as pipe:
            said = pipe.read()
        _, status = os.waitpid(pid, 0)
        if said:
            self._baseline = Baseline(said)
        if status or not said:
            fault = self._baseline.fault if said else f"their process ended with {status}"
            print(f"The tests fail without any change: {fault}")
            pytest.exit("no baseline", returncode=2)
        for name in self._baseline.modules:
            if name not in sys.modules and not name.startswith(("tests.", "test_")):
                with contextlib.suppress(Exception):
                    __import__(name)
        self._imported = imports_of(ROOT)
        # Hypothesis reads all modules at the first example that are loaded; no child has to again
        given(integers())(lambda _: None)()
        return True

    def _is_in_place(self, case: Case, functions: Functions) -> bool:
        target, mutant = case
        return mutant is NO_OP or (
            not self._baseline.counts_while_loading(target.module, mutant)
            and mutant.function in functions[str(target.path)]
        )

    def _try(self, cases: Sequence[Case], become: Callable[[Case], None]) -> bool:
        """Try mutants, some at a time; return False in a child, which has become one."""
        children: dict[int, Child] = {}
        waiting = list(reversed(cases))
        while waiting or children:
            while waiting and len(children) < self._options.jobs and not self._is_late():
                case = waiting.pop()
                if not self._tests_of(case):
                    self._results.of(case.target)[case.mutant.name] = True
                    continue
                sys.stdout.flush()
                if (pid := os.fork()) == 0:
                    become(case)
                    return False
                children[pid] = Child(case, time.monotonic())
            if not children:
                break
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid:
                self._note(pid, children.pop(pid).case, os.waitstatus_to_exitcode(status), usage)
                continue
            for pid, child in children.items():
                if time.monotonic() > child.began_s + HANGS_S:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
        return True

    def _is_late(self) -> bool:
        return bool(time.monotonic() > self._ends_s)

    def _note(self, pid: int, case: Case, code: int, usage: resource.struct_rusage) -> None:
        target, mutant = case
        self._used_s[target.module] += usage.ru_utime + usage.ru_stime
        if code > NOTICED:
            print(f"{target.module} {mutant.name}: its process ended with {code}")
            pytest.exit("a fault of this program", returncode=2)
        self._results.of(target)[mutant.name] = code == SURVIVED
        with contextlib.suppress(OSError):
            test = (self._folder / str(pid) / NOTICED_BY).read_text()
            self._last.append(test)
            self._kills[test] += 1
        shutil.rmtree(self._folder / str(pid), ignore_errors=True)
        self._results.save(every_s=5)

    def _load_anew(self, session: pytest.Session, case: Case) -> None:
        target, mutant = self._case = case
        unload([f"fluxhook.{target.module}"], self._imported)
        self._replace(target, mutant.apply(target.path.read_text()), {})
        self._become_child(session, [target], self._judge())

    def _exchange(self, session: pytest.Session, case: Case) -> None:
        exchange(self._functions, case.target.path, case.mutant)
        self._choose(session.items, case)
        self._become_child(session, [], self._judge())

    def _judge(self) -> Judge:
        folder = self._folder / str(os.getpid())
        return Judge(folder, self._baseline.seconds, show=self._options.show)

    def _replace(self, target: Target, tree: ast.Module, known: Mapping[str, object]) -> None:
        name = f"fluxhook.{target.module}"
        sys.meta_path.insert(0, Replaced(name, target.path, tree, known))

    def _become_child(
        self, session: pytest.Session, targets: Sequence[Target], plugin: object
    ) -> None:
        """Do what remains to be done in a child before pytest goes on."""
        self._is_child = True
        folder = self._folder / str(os.getpid())
        folder.mkdir()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        if not self._options.show:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
        tempfile.tempdir = str(folder)
        config: Any = session.config
        config._tmp_path_factory._given_basetemp = folder / "pytest"  # no option leads there by now
        config.args = [str(ROOT / path) for path in _tests(targets)]
        config.pluginmanager.register(plugin)
        sys.addaudithook(no_processes)

    def _end(self) -> NoReturn:
        verdicts = [self._verdict(*each) for each in self._mutants.items()]
        pytest.exit("all is said", returncode=max(verdicts))

    def _verdict(self, target: Target, mutants: list[Mutation]) -> int:
        known = self._results.of(target)
        names = [mutant.name for mutant in mutants if mutant is not NO_OP]
        listed = {name for module, name in self._equivalent if module == target.module}
        wrong = [(name, "is no mutant any more") for name in sorted(listed - set(names))]
        wrong += [
            (name, "is noticed") for name in names if name in listed and not known.get(name, True)
        ]
        counted = [name for name in names if name not in listed]
        survivors = [mutant for mutant in mutants if known.get(mutant.name) and mutant is not NO_OP]
        survivors = [mutant for mutant in survivors if mutant.name not in listed]
        if self._options.no_op:
            counted.append(NO_OP.name)
            survivors += [NO_OP] if known.get(NO_OP.name) else []
        tried = sum(name in known for name in counted)
        share = 1 - len(survivors) / max(1, tried)
        print(
            f"{target.module:20} {len(counted):5} mutants {tried - len(survivors):5} of {tried:5} "
            f"noticed {100 * share:6.1f} %  {len(listed):3} equivalent "
            f"{self._used_s[target.module]:5.0f} s of CPU"
        )
        for mutant in survivors:
            print(f"    {target.path.relative_to(ROOT)}:{mutant.line}  {mutant.name}")
        for name, fault in wrong:
            print(f"    {EQUIVALENT.relative_to(ROOT)}: {fault}: {name}")
        sys.stdout.flush()
        if not known.get(NO_OP.name, True):
            print(f"    {NO_OP.name}: it was noticed, although it changes nothing")
            return 2
        if tried < len(counted):
            return 3
        return int(share < LEAST or bool(wrong) or NO_OP in survivors)


def _tests(targets: Iterable[Target]) -> list[str]:
    return list(dict.fromkeys(test for target in targets for test in target.tests))


def main(argv: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="one of " + ", ".join(MODULES))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at a time")
    parser.add_argument("--minutes", type=float, default=10, help="the run ends after so long")
    parser.add_argument("--again", action="store_true", help="only what survived the last time")
    parser.add_argument("--anew", action="store_true", help="forget what is known")
    parser.add_argument(
        "--no-op", action="store_true", help="the change that is none must be noticed"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of what is known")
    parser.add_argument("--show", action="store_true", help="what pytest says about each mutant")
    options = parser.parse_args(None if argv is None else list(argv))
    for module in options.modules:
        if module not in MODULES:
            parser.error(f"{module!r} is none of {', '.join(MODULES)}")
    targets = [MODULES[module] for module in options.modules or MODULES]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    arguments: list[Any] = [
        *("-x", "-s", "-o", "addopts=", "--import-mode=importlib"),
        *("-p", "no:cacheprovider", "-p", "no:terminal", "-p", "pytest_timeout"),
        *("-p", "_hypothesis_pytestplugin", f"--rootdir={ROOT}", f"-c{ROOT}/pyproject.toml"),
        *(str(ROOT / test) for test in _tests(targets)),
    ]
    os.chdir(ROOT)
    run = Run(options, targets)
    try:
        return int(pytest.main(arguments, plugins=[run]))
    finally:
        run.close()


if __name__ == "__main__":
    sys.exit(main())
