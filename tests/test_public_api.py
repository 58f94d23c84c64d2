"""`import fluxhook`: which names it has, that each explains itself, and that the stubs are true."""

from __future__ import annotations

import inspect
import subprocess
import sys
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
    "Duration",
    "Endpoint",
    "EndpointStats",
    "Engine",
    "EngineError",
    "EngineNotRunning",
    "EngineRunning",
    "EventError",
    "FluxhookError",
    "LayoutError",
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
    modules = [f"fluxhook._native.{name}" for name in ("ring", "signing", "topics")]
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "mypy.stubtest", *modules]
    checked = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
