"""Every file of a data directory, damaged in turn: the engine recovers, or says what is lost. Each
file in one way; `make damage` tries all of them."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from damage.examine import examine
from damage.world import Case, World, cases, make_world
from native.rings import RAM


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(dir=RAM))
    try:
        yield make_world(folder)
    finally:
        shutil.rmtree(folder)


def chosen(world: World) -> list[Case]:
    """One damage for each file, each time that which was chosen least often so far."""
    by_file: dict[str, list[Case]] = {}
    for case in cases(world):
        by_file.setdefault(case.file, []).append(case)
    used: Counter[str] = Counter()
    found: list[Case] = []
    # Those first that the fewest damages fit.
    for _, ways in sorted(by_file.items(), key=lambda item: (len(item[1]), item[0])):
        found.append(min(ways, key=lambda case: used[case.damage]))
        used[found[-1].damage] += 1
    assert used.keys() == {case.damage for case in cases(world)}
    return found


def test_every_file(world: World) -> None:
    """Is damaged: found by walking the directory, so that a new one is not forgotten."""
    failed: list[str] = []
    for case in chosen(world):
        target = world.data_dir.parent / "case"
        try:
            examine(world, case, target)
        except Exception as e:
            failed.append(f"{case}: {type(e).__name__}: {e}"[:2000])
        finally:
            shutil.rmtree(target)
    assert not failed, "\n\n".join(failed)
