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

The tests of a mutant run in a process forked off one that has imported all but the module and what
imports it. What was found stands in RESULTS, and is found again once any of the sources has changed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
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
import types
from collections.abc import Generator, Iterable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import Phase, settings

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.mutations import (  # noqa: E402
    CALLED,
    NO_OP,
    Mutation,
    Words,
    mutations,
    note_calls,
    words_of,
)

ENGINE: Final = ROOT / "engine/fluxhook"
EQUIVALENT: Final = ROOT / "tests/equivalent_mutants.txt"
RESULTS: Final = ROOT / ".mutants.json"
#: of each module's mutants that are not equivalent
LEAST: Final = 0.95
#: CPU seconds that a test has: a multiple of what it takes unchanged, and more
PATIENCE, PATIENCE_S = 3, 1
#: of each property and state machine: a mutant that needs more is one of which a table should tell
EXAMPLES: Final = 25
#: what a mutant may use of memory, so that one that grows without end harms nobody
MEMORY_BYTES: Final = 4 << 30
#: in a mutant's folder: the test that noticed it
NOTICED_BY: Final = "noticed_by"
#: a folder that no disk stands behind, where there is one
RAM: Final = "/dev/shm" if os.path.isdir("/dev/shm") else None
#: a mutant that waits for something that does not happen; long, as a busy machine is slow
HANGS_S: Final = 900


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

    def save(self) -> None:
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
    found = mutations(source, _words(source))
    if target.functions:
        found = [
            m for m in found if m.name.partition(":")[0].rpartition(".")[2] in target.functions
        ]
    return [NO_OP, *found]


def _words(source: str) -> Words:
    others = [*sorted((ENGINE / "policy").glob("*.py")), ENGINE / "transport/messages.py"]
    return words_of([source, *(path.read_text() for path in others)])


# ---- one mutant ----------------------------------------------------------------------------------


class Replaced(MetaPathFinder, Loader):
    """Finds one module in what it is given, and not in its file."""

    def __init__(
        self, name: str, path: Path, tree: ast.Module, known: Mapping[str, object]
    ) -> None:
        self._name = name
        self._path = path
        self._known = known
        self._code = compile(tree, str(path), "exec")

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._name:
            return None
        spec = spec_from_loader(name, self, origin=str(self._path))
        assert spec is not None
        spec.has_location = True
        return spec

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__.update(self._known)
        exec(self._code, module.__dict__)


def dependents(name: str) -> set[str]:
    """Return the loaded modules that import a module, or one that does, and itself."""
    imports: dict[str, set[str]] = {}
    for loaded, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None) or ""
        if path.startswith(str(ROOT)) and path.endswith(".py") and "/.venv" not in path:
            imports[loaded] = _imports(Path(path))
    found, fresh = {name}, {name}
    while fresh:
        fresh = {m for m, of in imports.items() if of & fresh} - found - {"fluxhook", "__main__"}
        found |= fresh
    return found


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found - {"fluxhook"}  # it imports everything, and holds nothing of its own


_FORBIDDEN: Final = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec")


def no_processes(event: str, _: object) -> None:
    if event in _FORBIDDEN:
        raise RuntimeError(f"{event}: these tests start no processes")


class Baseline:
    """What a run without a change found out: the modules that it loaded, and for each test how long it
    took and which functions of the module it called."""

    def __init__(self, said: str) -> None:
        found = json.loads(said)
        self.modules: list[str] = found["modules"]
        self._seconds: dict[str, float] = found["seconds"]
        self._called: dict[str, list[str]] = found["called"]

    def tests_of(self, mutation: Mutation) -> dict[str, float]:
        """Return the tests that a mutant is to meet, and how long each takes."""
        where = mutation.name.partition(":")[0]
        functions = {name for names in self._called.values() for name in names}
        inside = [name for name in functions if f"{where}.".startswith(f"{name}.")]
        if not inside and not mutation.in_function:
            return self._seconds
        return {
            test: seconds
            for test, seconds in self._seconds.items()
            if any(name in inside for name in self._called[test])
        }


class Tests:
    """Chooses the tests of a process. In the baseline: all that need no other process, and it notes
    what they call. For a mutant: those that it is to meet, first those that noticed the mutants before
    it, as neighbours are often noticed by the same, and then the quick ones."""

    def __init__(
        self, folder: Path, chosen: Mapping[str, float] | None = None, first: Sequence[str] = ()
    ) -> None:
        self._folder = folder
        self._chosen = chosen
        self._first = first
        self.passed = 0
        #: what the test that runs has called
        self.now: set[str] = set()
        self.seconds: dict[str, float] = {}
        self.called: dict[str, list[str]] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [i for i in items if "receiver_process" not in getattr(i, "fixturenames", ())]
        if (chosen := self._chosen) is not None:
            items[:] = [item for item in items if item.nodeid in chosen]
            items.sort(key=lambda i: (i.nodeid not in self._first, chosen[i.nodeid]))
        for item in items:
            machine = getattr(item, "cls", None)
            if item.name == "runTest" and machine is not None:
                machine.settings = settings(machine.settings, max_examples=EXAMPLES)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.now.clear()
        begun_s = time.process_time()
        if self._chosen is not None:  # a loop without end is over with the signal
            limit_s = PATIENCE_S + PATIENCE * self._chosen[item.nodeid]
            signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.process_time() - begun_s
            self.called[item.nodeid] = sorted(self.now)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed += report.when == "call" and report.passed
        if report.failed:
            (self._folder / NOTICED_BY).write_text(report.nodeid)


# ---- the run -------------------------------------------------------------------------------------


class Child(NamedTuple):
    mutation: Mutation
    began_s: float


class Run:
    """A plugin of pytest, which it makes collect and run the tests of one mutant after another.

    `main` of pytest goes on in each forked process only; in this one it returns what the run is worth.
    """

    def __init__(self, options: argparse.Namespace, targets: Sequence[Target]) -> None:
        self._options = options
        self._targets = targets
        self._ends_s = time.monotonic() + 60 * options.minutes
        self._results = Results(options.results, fingerprint(), again=options.again)
        if options.anew:
            self._results.survived.clear()
        self._equivalent = read_equivalent(EQUIVALENT.read_text() if EQUIVALENT.exists() else "")

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int | None:
        settings.register_profile(
            "mutants",
            deadline=None,
            derandomize=True,
            max_examples=EXAMPLES,
            database=None,
            phases=(Phase.explicit, Phase.generate),
        )
        settings.load_profile("mutants")
        self._folder = Path(tempfile.mkdtemp(prefix="mutants-", dir=RAM))
        verdicts = []
        owner = os.getpid()
        try:
            for target in self._targets:
                if (verdict := self._run_target(config, target)) is None:
                    return None  # a child: its tests are next
                verdicts.append(verdict)
        finally:
            if os.getpid() == owner:
                self._results.save()
                shutil.rmtree(self._folder, ignore_errors=True)
        return max(verdicts)

    def _run_target(self, config: pytest.Config, target: Target) -> int | None:
        """Return the exit code; None in a child."""
        begun_s, used_s = time.monotonic(), _children_s()
        known = self._results.survived.setdefault(target.module, {})
        mutants = mutants_of(target)
        if not all(mutant.name in known for mutant in mutants):
            if (passes := self._baseline(config, target)) is None:
                return None
            if not passes:
                print(f"{target.module}: its tests fail without any change")
                return 2
            left = [mutant for mutant in mutants if mutant.name not in known]
            if not self._run_mutants(config, target, left, known):
                return None
            self._results.save()
        took = f"{time.monotonic() - begun_s:4.0f} s, {_children_s() - used_s:4.0f} s of CPU"
        return self._verdict(target, mutants, known, took)

    def _baseline(self, config: pytest.Config, target: Target) -> bool | None:
        """Return whether the tests pass without a change; None in a child.

        A child imports all that the tests need, for this process to import once for all.
        """
        self._dependents = dependents(f"fluxhook.{target.module}")
        read, write = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(read)
            self._become(config, target, NO_OP, write=write)
            return None
        os.close(write)
        with os.fdopen(read) as pipe:
            said = pipe.read()
        _, status = os.waitpid(pid, 0)
        shutil.rmtree(self._folder / str(pid), ignore_errors=True)
        if status or not said:
            return False
        self._baseline_of = Baseline(said)
        for name in self._baseline_of.modules:
            if name not in sys.modules and not name.startswith(("tests.", "test_")):
                try:
                    __import__(name)
                except Exception:
                    continue
        self._dependents = dependents(f"fluxhook.{target.module}")
        gc.collect()
        gc.freeze()  # a collection in a child would copy every page
        return True

    def _run_mutants(
        self,
        config: pytest.Config,
        target: Target,
        mutants: list[Mutation],
        known: dict[str, bool],
    ) -> bool:
        """Run the mutants; return False in a child."""
        children: dict[int, Child] = {}
        noticing: list[str] = []
        waiting = list(reversed(mutants))
        while waiting or children:
            while waiting and len(children) < self._options.jobs and not self._late():
                mutant = waiting.pop()
                tests = self._baseline_of.tests_of(mutant)
                if not tests:
                    known[mutant.name] = True
                    continue
                sys.stdout.flush()
                if (pid := os.fork()) == 0:
                    self._become(config, target, mutant, tests=tests, first=noticing[-4:])
                    return False
                children[pid] = Child(mutant, time.monotonic())
            if not children:
                break
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid:
                known[children.pop(pid).mutation.name] = status == 0
                with contextlib.suppress(OSError):
                    noticing.append((self._folder / str(pid) / NOTICED_BY).read_text())
                shutil.rmtree(self._folder / str(pid), ignore_errors=True)
                self._results.save()
                continue
            for pid, child in children.items():
                if time.monotonic() > child.began_s + HANGS_S:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
        return True

    def _late(self) -> bool:
        return bool(time.monotonic() > self._ends_s)

    def _become(
        self,
        config: pytest.Config,
        target: Target,
        mutant: Mutation,
        *,
        tests: Mapping[str, float] | None = None,
        first: Sequence[str] = (),
        write: int | None = None,
    ) -> None:
        """Do what remains to be done in a child before pytest goes on with its tests."""
        folder = self._folder / str(os.getpid())
        folder.mkdir()
        plugin = Tests(folder, tests, first)
        for dependent in self._dependents:
            sys.modules.pop(dependent, None)
            package, _, attribute = dependent.rpartition(".")
            if package in sys.modules:  # which `from package import attribute` would ask
                sys.modules[package].__dict__.pop(attribute, None)
        tree = mutant.apply(target.path.read_text())
        if tests is None:
            note_calls(tree)
        known = {CALLED: plugin.now.add}
        name = f"fluxhook.{target.module}"
        sys.meta_path.insert(0, Replaced(name, target.path, tree, known))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        if not self._options.show:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
        tempfile.tempdir = str(folder)
        config.option.basetemp = str(folder / "pytest")
        config.args = [str(ROOT / path) for path in target.tests]
        config.__dict__["workerinput"] = {}  # tests/conftest.py looks at the machine only once
        config.pluginmanager.register(plugin)
        config.pluginmanager.register(_End(plugin, write))
        sys.addaudithook(no_processes)

    def _verdict(
        self, target: Target, mutants: list[Mutation], known: dict[str, bool], took: str
    ) -> int:
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
            f"noticed {100 * share:6.1f} %  {len(listed):3} equivalent  {took}"
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


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class _End:
    """Ends a child with what its tests came to: 0 only if there were some, and all passed."""

    def __init__(self, tests: Tests, write: int | None) -> None:
        self._tests = tests
        self._write = write

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if self._write is not None and exitstatus == 0 and self._tests.passed:
            found = {
                "modules": sorted(sys.modules),
                "seconds": self._tests.seconds,
                "called": self._tests.called,
            }
            with os.fdopen(self._write, "w") as pipe:
                json.dump(found, pipe)
        os._exit(int(exitstatus != 0 or not self._tests.passed))


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
        *("-x", "-o", "addopts=", "--import-mode=importlib"),
        *("-p", "no:cacheprovider", "-p", "no:terminal", "-p", "pytest_timeout"),
        *("-p", "_hypothesis_pytestplugin", f"--rootdir={ROOT}", f"-c{ROOT}/pyproject.toml"),
        str(ROOT / targets[0].tests[0]),
    ]
    os.chdir(ROOT)
    return int(pytest.main(arguments, plugins=[Run(options, targets)]))


if __name__ == "__main__":
    sys.exit(main())
