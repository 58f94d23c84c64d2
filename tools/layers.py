"""Write the picture of the layers in docs/architecture.md: the parts of the package and their imports.

    python tools/layers.py          rewrites it
    python tools/layers.py --check  exits 1 if it is out of date

`LAYERS` is the one table of parts; tests/test_layers.py holds the code to it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "engine" / "fluxhook"
DOC: Final = ROOT / "docs" / "architecture.md"
_PART: Final = re.compile(r"(<!-- generated: layers -->\n).*?(<!-- end -->)", re.DOTALL)

#: The parts of the package, from the ground up. A part is a module or a folder of `fluxhook`.
LAYERS: Final = (
    {"errors", "text", "logs", "_version", "_safe_path", "_native"},
    {"events", "config"},
    {"policy", "verify", "receiver"},
    {"transport", "store"},
    {"publisher", "worker"},
    {"scheduler", "endpoint_state"},
    {"supervisor", "engine", "control", "stats", "host_listener"},
    {"admin"},
    {"cli"},
    {"__init__", "__main__"},
)
LAYER_OF: Final = {part: layer for layer, parts in enumerate(LAYERS) for part in parts}


class Import(NamedTuple):
    """One import statement in one module; both are names of modules inside the package."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}, imports {self.imported}"


def part_of(module: str) -> str:
    """Return the part of a module: `fluxhook.store.transaction` belongs to `store`."""
    return module.split(".")[1] if "." in module else "__init__"


@cache
def modules() -> dict[str, Path]:
    """Return every module of the package, compiled ones as their stubs."""
    found = {}
    for path in sorted((*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi"))):
        names = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(names[:-1] if names[-1] == "__init__" else names)] = path
    return found


@cache
def imports() -> tuple[Import, ...]:
    """Return all imports from the package within it, deferred ones and those for types included."""
    found = []
    for importer, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(), path.name)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{importer}, line {node.lineno}: a relative import"
                base = node.module or ""
                # `from fluxhook.policy import breaker` imports a module, if there is one.
                below = [f"{base}.{alias.name}" for alias in node.names]
                names = [name if name in modules() else base for name in below]
            else:
                continue
            for name in dict.fromkeys(names):
                if name == "fluxhook" or name.startswith("fluxhook."):
                    found.append(Import(importer, name, node.lineno))
    return tuple(found)


def edges() -> set[tuple[str, str]]:
    """Return which part imports which other part."""
    pairs = {(part_of(i.importer), part_of(i.imported)) for i in imports()}
    return {(importer, imported) for importer, imported in pairs if importer != imported}


def reduced(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Leave out the edges that others imply, so that the picture can be read."""
    below: dict[str, set[str]] = {}
    for importer, imported in pairs:
        below.setdefault(importer, set()).add(imported)

    @cache
    def reached(part: str) -> frozenset[str]:
        direct = below.get(part, set())
        return frozenset(chain(direct, *(reached(one) for one in direct)))

    return {
        (importer, imported)
        for importer, imported in pairs
        if not any(imported in reached(one) for one in below[importer] - {imported})
    }


def picture() -> str:
    """Return the flowchart: a box for each layer, the top one first, and the imports between parts."""
    lines = ["```mermaid", "flowchart TB"]
    for number, parts in reversed([*enumerate(LAYERS)]):
        names = [f"{_node(part)}[{_name(part)}]" for part in sorted(parts)]
        lines += [f'    subgraph layer{number}["{number}"]', "        direction LR"]
        lines += [f"        {name}" for name in names]
        lines.append("    end")
    lines += [f"    {_node(a)} --> {_node(b)}" for a, b in sorted(reduced(edges()))]
    return "\n".join([*lines, "```"])


def table() -> str:
    """Return each part with the first sentence of its docstring, the top layer first."""
    lines = ["| layer | part of `fluxhook` | what it is |", "|---|---|---|"]
    for number, parts in reversed([*enumerate(LAYERS)]):
        lines += [f"| {number} | `{_name(part)}` | {_sentence(part)} |" for part in sorted(parts)]
    return "\n".join(lines)


def _node(part: str) -> str:
    """Return a name that mermaid takes: it reads `end` and leading underscores in ways of its own."""
    return "part_" + part.strip("_")


def _name(part: str) -> str:
    return "fluxhook" if part == "__init__" else part


def _sentence(part: str) -> str:
    path = modules()["fluxhook" if part == "__init__" else f"fluxhook.{part}"]
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    first = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=[.?]) (?=[A-Z`])", first)[0]


def render(doc: str) -> str:
    """Return the document with the picture and the table made again."""
    return _PART.sub(lambda m: f"{m[1]}\n{picture()}\n\n{table()}\n\n{m[2]}", doc)


def main(arguments: Iterable[str]) -> int:
    old = DOC.read_text()
    new = render(old)
    if "--check" in arguments:
        return int(old != new)
    DOC.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
