"""Every damage of every file, with a whole engine and a receiver: `make damage`.

    python tests/damage/matrix.py [--minutes 30] [--anew] [FILE ...]

Ends after so many minutes at the latest. What has passed is in build/damage.json, and left out
next time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from damage.examine import examine, refused  # noqa: E402
from damage.world import Case, World, cases, make_world  # noqa: E402
from fluxhook import Engine  # noqa: E402
from fluxhook.errors import LayoutError  # noqa: E402
from fluxhook.stats import read_stats  # noqa: E402
from fluxhook.supervisor.supervisor import Supervisor  # noqa: E402
from native.rings import RAM  # noqa: E402
from support.receiver import ReceiverProcess  # noqa: E402
from support.rig import supervisor_pid  # noqa: E402

PASSED = ROOT / "build" / "damage.json"
#: for one case to deliver what it is given
PATIENCE_S = 30.0

_numbers = itertools.count()


def serves(world: World, case: Case, target: Path, receiver: ReceiverProcess) -> None:
    """The engine starts, or once the loss is accepted it does; it delivers what it is given then, to
    the endpoint that had succeeded and to the one that had failed, and none of its processes ends."""
    case.inflict(world, target)
    try:
        engine = Engine(world.config, target).start()
    except LayoutError as e:
        refused(e, case)
        Supervisor(target, world.config, accept_loss=True).close()
        engine = Engine(world.config, target).start()
    try:
        supervisor = supervisor_pid(target)
        ids = {f"after-{next(_numbers)}" for _ in range(20)}
        for id in ids:
            assert engine.emit("kept.plain", {}, event_id=id) == 1
            assert engine.emit("kept.waiting", {}, event_id=id) == 1
        until = time.monotonic() + PATIENCE_S
        while missing := [p for p in ("/plain", "/waiting") if ids - set(receiver.ids(p))]:
            assert time.monotonic() < until, f"not delivered: {missing}, {engine.stats()}"
            time.sleep(0.02)
        assert supervisor_pid(target) == supervisor
    finally:
        engine.close()
    assert not read_stats(target).problems


def tried(world: World, case: Case, receiver: ReceiverProcess) -> str:
    """Return what is wrong; empty if nothing is."""
    target = world.data_dir.parent / f"case{next(_numbers)}"
    try:
        serves(world, case, target, receiver)
        shutil.rmtree(target)
        examine(world, case, target)
        shutil.rmtree(target)
    except Exception as e:
        return f"{type(e).__name__}: {e}"[:2000]
    finally:
        shutil.rmtree(target, ignore_errors=True)
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--anew", action="store_true", help="what has passed before is tried too")
    parser.add_argument("files", nargs="*", help="of the data directory: these alone")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    passed: list[str] = []
    if PASSED.exists() and not options.anew:
        passed = json.loads(PASSED.read_text())
    PASSED.parent.mkdir(exist_ok=True)
    failed = left = 0
    folder = Path(tempfile.mkdtemp(dir=RAM))
    try:
        with ReceiverProcess() as receiver:
            world = make_world(folder, receiver.url)
            for case in cases(world):
                if str(case) in passed or (options.files and case.file not in options.files):
                    continue
                if time.monotonic() >= until:
                    left += 1
                    continue
                if wrong := tried(world, case, receiver):
                    failed += 1
                    print(f"FAILED {case}: {wrong}", flush=True)
                else:
                    passed.append(str(case))
                    PASSED.write_text(json.dumps(passed, indent=1))
                    print(f"{case}", flush=True)
    finally:
        shutil.rmtree(folder)
    print(f"{len(passed)} passed, {failed} failed, {left} left for the next time")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
