"""Modules that are loaded with a change, and functions that get one where they are."""

from __future__ import annotations

import ast
import gc
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from typing import TypeAlias

from tools.mutations import NO_OP, Mutation


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


def imports_of(root: Path) -> dict[str, set[str]]:
    """Return what each loaded module below a folder imports."""
    found: dict[str, set[str]] = {}
    for loaded, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None) or ""
        if path.startswith(str(root)) and path.endswith(".py") and "/.venv" not in path:
            found[loaded] = _imports(Path(path))
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


def unload(names: Iterable[str], imported: Mapping[str, set[str]]) -> None:
    """Have modules, those that import them, and those that import these, loaded anew when asked for."""
    found = fresh = set(names)
    while fresh:
        fresh = {m for m, of in imported.items() if of & fresh} - found - {"fluxhook", "__main__"}
        found = found | fresh
    for name in found:
        sys.modules.pop(name, None)
        package, _, attribute = name.rpartition(".")
        if package in sys.modules:  # which `from package import attribute` would ask
            sys.modules[package].__dict__.pop(attribute, None)


#: the functions that each module of these paths has made, by name and first line
Functions: TypeAlias = Mapping[str, Mapping[tuple[str, int], Sequence[types.FunctionType]]]


def loaded_functions(paths: Iterable[Path]) -> Functions:
    """Return the functions that can be given other code: those without a variable of an outer one."""
    found: dict[str, dict[tuple[str, int], list[types.FunctionType]]]
    found = {str(path): {} for path in paths}
    for each in gc.get_objects():
        if type(each) is types.FunctionType and not (code := each.__code__).co_freevars:
            of_module = found.get(code.co_filename, {})
            of_module.setdefault((code.co_qualname, code.co_firstlineno), []).append(each)
    return found


def exchange(functions: Functions, path: Path, mutant: Mutation) -> None:
    """Give a function its mutant's code; for the no-op, each its own code, compiled anew."""
    codes = [compile(mutant.apply(path.read_text()), str(path), "exec")]
    for code in codes:
        codes += [const for const in code.co_consts if isinstance(const, types.CodeType)]
        place = code.co_qualname, code.co_firstlineno
        if mutant is NO_OP or mutant.function == place:
            for function in functions[str(path)].get(place, ()):
                function.__code__ = code
