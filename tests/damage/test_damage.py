"""Every file of a data directory, damaged in turn: the engine recovers, or says what is lost."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from damage.examine import examine
from damage.world import Case, World, cases, make_world
from native.rings import RAM

#: those that are damaged in every way; the others in one way each
THOROUGHLY = (
    "config.json",
    "rings/0/0.ring",
    "rings/0/counters",
    "store.db",
    "store.db-wal",
    "words",
    "workers/0/outbox.ring",
)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(dir=RAM))
    try:
        yield make_world(folder)
    finally:
        shutil.rmtree(folder)


def chosen(world: World) -> list[Case]:
    by_file: dict[str, list[Case]] = {}
    for case in cases(world):
        by_file.setdefault(case.file, []).append(case)
    found: list[Case] = []
    for n, (file, all_of_it) in enumerate(sorted(by_file.items())):
        found += all_of_it if file in THOROUGHLY else [all_of_it[n % len(all_of_it)]]
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
