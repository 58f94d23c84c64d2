"""`import fluxhook`: which names it has, that each explains itself, and that the stubs are true."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fluxhook

NAMES = [
    "Accepted",
    "Admin",
    "Aggregate",
    "Batch",
    "Breaker",
    "Config",
    "ConfigError",
    "Conflict",
    "Control",
    "DeadLetter",
    "Duration",
    "Endpoint",
    "EndpointStateChange",
    "EndpointStats",
    "Engine",
    "EngineError",
    "EngineNotRunning",
    "EngineRunning",
    "EventError",
    "FluxhookError",
    "LayoutError",
    "LogOptions",
    "PayloadTooLarge",
    "Publisher",
    "QueueFull",
    "Rate",
    "ReplayGuard",
    "Retry",
    "SignatureError",
    "Size",
    "Stats",
    "Threshold",
    "Tls",
    "Token",
    "TooManyPublishers",
    "UnknownEndpoint",
    "Verified",
    "__version__",
    "connect",
    "load",
    "verify",
]


def test_what_only_a_host_needs_is_imported_when_it_is_asked_for() -> None:
    """A worker, `fluxhook emit` and a receiver that verifies start without a YAML reader and SQLite."""
    script = """
import sys, fluxhook
assert not {"yaml", "sqlite3", "fluxhook.engine"} & sys.modules.keys()
assert set(fluxhook.__all__) <= set(dir(fluxhook))
from fluxhook import Engine, load
assert fluxhook.Engine is Engine and "fluxhook.engine" in sys.modules
from fluxhook import *
assert Control is fluxhook.Control and not hasattr(fluxhook, "Sender")
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_names_are_pinned() -> None:
    """A name that others may rely on comes and goes deliberately, here and in CHANGELOG.md."""
    assert fluxhook.__all__ == NAMES
    assert sorted(NAMES) == NAMES


def test_nothing_else_is_offered() -> None:
    """A name that is not in `__all__` is a module or has an underscore: tab completion shows no
    strays."""
    strays = {
        name
        for name, value in vars(fluxhook).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert strays <= set(NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "__version__"])
def test_every_name_explains_itself(name: str) -> None:
    """A docstring of its own: that of a base class would say something else."""
    value = getattr(fluxhook, name)
    assert (value.__doc__ or "").strip()
    if inspect.isclass(value):
        assert all(value.__doc__ != base.__doc__ for base in value.__mro__[1:])


def documented() -> dict[str, Callable[..., object]]:
    """Return every public function, and the constructor and public methods of every public class, but
    those of structs, whose fields are documented."""
    found: dict[str, Callable[..., object]] = {}
    for name in NAMES:
        value = getattr(fluxhook, name)
        if inspect.isfunction(value):
            found[name] = value
        elif inspect.isclass(value):
            for attribute, member in vars(value).items():
                function = getattr(member, "__func__", member)
                public = attribute == "__init__" or not attribute.startswith("_")
                if public and inspect.isfunction(function):
                    found[f"{name}.{attribute}"] = function
    return found


def text_of(function: Callable[..., object]) -> str:
    """Return the docstring, and that of the function to which it refers as `See `Publisher.emit`.`."""
    text = function.__doc__ or ""
    referred = re.findall(r"[Ss]ee `([\w.]+)`|same as the (constructor)", text)
    for name, constructor in referred:
        owner = function.__qualname__.partition(".")[0]
        other = documented().get(f"{owner}.__init__" if constructor else name)
        text += (other.__doc__ or "") if other else ""
    return text


@pytest.mark.parametrize("name", documented())
def test_every_function_explains_its_parameters_and_errors(name: str) -> None:
    """Each parameter is named, and so is what it raises, or that it raises nothing. An error's own
    constructor raises nothing."""
    function = documented()[name]
    text = text_of(function)
    assert text, f"{name} has no docstring"
    parameters = [p for p in inspect.signature(function).parameters if p not in ("self", "cls")]
    assert [p for p in parameters if not re.search(rf"`{p}\b|\b{p}`", text)] == []
    if parameters and not name.endswith("Error.__init__") and name not in SILENT:
        assert re.search(r"\b[Rr]aises?\b", text), f"{name} does not say what it raises"


#: take numbers and keep them
SILENT = {"QueueFull.__init__", "ReplayGuard.__init__"}
#: words by which a number says its unit
UNIT = re.compile(r"nanosecond|millisecond|second|bytes|number|share|zero|how many|largest")


def properties() -> dict[str, property]:
    """Return the properties of every public class."""
    return {
        f"{name}.{attribute}": member
        for name in NAMES
        if inspect.isclass(value := getattr(fluxhook, name))
        for attribute, member in vars(value).items()
        if isinstance(member, property) and not attribute.startswith("_")
    }


@pytest.mark.parametrize("name", properties())
def test_every_property_that_is_a_number_has_a_unit(name: str) -> None:
    """Or says what it counts."""
    member = properties()[name]
    assert member.__doc__, f"{name} has no docstring"
    assert member.fget is not None
    if str(inspect.get_annotations(member.fget)["return"]).startswith(("int", "float")):
        assert UNIT.search(member.__doc__), member.__doc__


def test_the_error_tree_has_one_root() -> None:
    """`except FluxhookError` catches everything that the package raises on purpose."""
    errors = [v for v in vars(fluxhook).values() if inspect.isclass(v) and issubclass(v, Exception)]
    assert errors
    assert all(issubclass(error, fluxhook.FluxhookError) for error in errors)


def test_the_package_is_typed() -> None:
    """PEP 561: py.typed lies beside the package's modules."""
    assert Path(fluxhook.__file__).with_name("py.typed").exists()


def test_the_stubs_are_true() -> None:
    """stubtest compares each stub with its compiled module: names, signatures, properties."""
    root = Path(__file__).parents[1]
    modules = [f"fluxhook._native.{path.stem}" for path in root.glob("_native/*.pyx")]
    command = [sys.executable, "-m", "mypy.stubtest", *modules]
    checked = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
