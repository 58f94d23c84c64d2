"""Imports go to the same or a lower layer, in no circle, and importing does nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest
from tools.layers import LAYER_OF, LAYERS, PACKAGE, Import, imports, modules, part_of

from tools import layers

#: These never import each other, though they are of one layer.
APART: Final = LAYERS[4]


def circle(edges: set[tuple[str, str]]) -> list[str]:
    """Return the nodes in a circle, the first one again at the end; empty if there is none."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for importer, imported in edges:
        sorter.add(importer, imported)
    try:
        sorter.prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def imports_in_a_circle(node_of: Callable[[str], str]) -> list[str]:
    """The imports that lead from a node back to it, one for each step; each module is in a node."""
    edges: dict[tuple[str, str], Import] = {}
    for i in imports():
        edges.setdefault((node_of(i.importer), node_of(i.imported)), i)
    found = circle({(a, b) for a, b in edges if a != b})
    return [str(edges[edge]) for edge in pairwise(found)]


def test_every_part_has_a_layer() -> None:
    """A new part of the package is given its layer in tools/layers.py before anything imports it, and a
    part that is gone has none."""
    assert {part_of(module) for module in modules()} | {"__init__"} == LAYER_OF.keys()


def test_no_import_points_upwards() -> None:
    """A part imports from parts of its own layer and from those below (LAYERS)."""
    upwards = [
        str(i) for i in imports() if LAYER_OF[part_of(i.imported)] > LAYER_OF[part_of(i.importer)]
    ]
    assert not upwards


def test_publisher_and_worker_stay_apart() -> None:
    """The files of a host and those of a worker's code meet in files alone."""
    crossing = [
        str(i)
        for i in imports()
        if {part_of(i.importer), part_of(i.imported)} <= APART
        and part_of(i.importer) != part_of(i.imported)
    ]
    assert not crossing


def test_parts_import_each_other_in_no_circle() -> None:
    """Not even within a function, where Python would let them."""
    assert not imports_in_a_circle(part_of)


def test_modules_import_each_other_in_no_circle() -> None:
    """Not inside a part either, nor for types alone: of two modules one can be read first."""
    assert not imports_in_a_circle(str)


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ({("a", "b"), ("b", "c"), ("a", "c")}, []),
        ({("a", "b"), ("b", "a")}, [{"a", "b"}]),
    ],
)
def test_circles_are_found(edges: set[tuple[str, str]], expected: list[set[str]]) -> None:
    """The finder itself."""
    found = circle(edges)
    assert [set(found)] * bool(found) == expected


def test_the_picture_is_current() -> None:
    """docs/architecture.md has the picture that tools/layers.py makes of the code: after a change of
    the parts run it."""
    assert layers.main(["--check"]) == 0
    assert layers.picture() in layers.DOC.read_text()


def test_the_picture_leaves_out_what_is_implied() -> None:
    """An edge that goes by way of others would hide those that matter."""
    assert layers.reduced({("a", "b"), ("b", "c"), ("a", "c")}) == {("a", "b"), ("b", "c")}
    assert layers.reduced({("a", "b"), ("a", "c")}) == {("a", "b"), ("a", "c")}


#: Imports everything twice: the second time others' modules are there already, and what happens is
#: this package's doing. Compiled modules cannot be imported twice.
WATCH: Final = """
import importlib, json, os, sys, threading

names = json.loads(sys.argv[1])
for name in names:
    importlib.import_module(name)
for name in list(sys.modules):
    if name.partition(".")[0] == "fluxhook" and not name.startswith("fluxhook._native."):
        del sys.modules[name]

seen = []
EFFECTS = ("socket.", "subprocess.", "sqlite3.", "signal.", "os.fork", "os.exec", "os.posix_spawn",
           "os.mkdir", "os.remove", "os.rename")

def importing():
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals["__name__"] != "__main__":
            return frame.f_globals["__name__"]
        frame = frame.f_back

def audit(event, args):
    if event.startswith(EFFECTS) or event == "open" and str(args[1])[:1] in ("w", "a", "x"):
        seen.append(f"{importing()}: {event} {args!r:.100}")

def start(self):
    seen.append(f"{importing()}: starts a thread")

def watched(method):
    def read(self, *args):
        frame = sys._getframe(1)
        while (reader := frame.f_globals["__name__"]) in ("os", "collections.abc"):
            frame = frame.f_back
        # click asks for the language where it is given a text
        if reader.partition(".")[0] == "fluxhook":
            seen.append(f"{reader}: reads the environment: {args!r:.100}")
        return method(self, *args)
    return read

for method in ("__getitem__", "__iter__", "__len__"):
    setattr(type(os.environ), method, watched(getattr(type(os.environ), method)))
threading.Thread.start = start
sys.addaudithook(audit)
for name in names:
    importlib.import_module(name)
print(json.dumps(seen))
"""


def run_watched(names: list[str], path: Path) -> list[str]:
    output = subprocess.run(
        [sys.executable, "-c", WATCH, json.dumps(names)],
        env={"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert output.returncode == 0, output.stderr
    seen: list[str] = json.loads(output.stdout)
    return seen


def test_importing_does_nothing_else() -> None:
    """No module reads the environment, starts a thread or a process, opens a socket or writes a
    file when it is imported."""
    names = [name for name in modules() if not name.endswith("__main__")]
    assert run_watched(names, PACKAGE.parent) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("os.environ.get('HOME')", "reads the environment: ('HOME',)"),
        ("os.getenv('HOME')", "reads the environment: ('HOME',)"),
        ("dict(os.environ)", "reads the environment"),
        ("socket.socket().close()", "socket.__new__"),
        ("threading.Thread(target=lambda: None).start()", "starts a thread"),
        ("open('/dev/null', 'w').close()", "open"),
        ("subprocess.run(['true'])", "subprocess.Popen"),
    ],
)
def test_doing_more_is_noticed(tmp_path: Path, line: str, expected: str) -> None:
    """The watcher itself."""
    tmp_path.joinpath("fluxhook").mkdir()
    module = f"import os, socket, subprocess, threading\n{line}\n"
    tmp_path.joinpath("fluxhook", "__init__.py").write_text(module)
    seen = run_watched(["fluxhook"], tmp_path)
    assert any(expected in what for what in seen), seen
    assert all(what.startswith("fluxhook: ") for what in seen)
