"""tools/check_words.py: the words of code and pages."""

from __future__ import annotations

import pytest
from tools.check_words import check, files, main


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("bench/a.py", 'def f():\n    """What it does."""'),
        ("bench/a.py", 'class C:\n    async def f(self):\n        """\n        Whether it is."""'),
        ("engine/a.pyi", 'def f() -> int:\n    """How many there are."""'),
        ("_native/a.pyx", 'cdef class C:\n    cpdef f(self):\n        """Where it is."""'),
        ("tests/test_a.py", 'def test_a():\n    """Who may."""'),
        ("tools/a.py", 'def f():\n    """When, and why."""'),
    ],
)
def test_a_docstring_that_asks_is_noticed(file: str, text: str) -> None:
    """In functions and methods, plain and async, in tests and in compiled modules."""
    (fault,) = check(file, text)
    assert "a docstring begins with" in fault.what
    assert text.splitlines()[fault.line - 1].strip().startswith('"""')


@pytest.mark.parametrize(
    ("file", "text", "now"),
    [
        ("engine/a.py", "self._lanes = {}", "endpoint queue"),
        ("engine/a.py", "class AdmissionGate: ...", "admission"),
        ("engine/a.py", "born_ns = 0  # when", "created"),
        ("engine/a.py", "KEEPER_SLOT = 1", "scheduler"),
        ("engine/a.sql", "-- the keeper's row", "scheduler"),
        ("_native/a.h", "fx_ring_bell(r, bell);", "doorbell"),
        ("docs/a.md", "What is buried is a dead letter.", "dead-letter"),
        ("README.md", "Each event has a home.", "assigned worker"),
    ],
)
def test_an_old_noun_is_noticed(file: str, text: str, now: str) -> None:
    """As a word of a sentence and as a part of a name, with the word that took its place."""
    assert {fault.what.partition(" is now: ")[2] for fault in check(file, text)} == {now}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("engine/a.py", "# the gateway of a planet, a homestead, a spacecraft"),
        ("engine/a.py", 'self.scheduler_doorbell = self.path / "keeper.bell"'),
        ("docs/a.md", "keeper.bell            wakes the scheduler"),
        ("docs/a.md", "X-FluxGate-Signature of FluxGate"),
        ("tests/a.py", "# the keeper of a lane"),
        ("tests/a.py", 'class C:\n    """What it is."""'),
        ("tests/a.py", 'def f():\n    """Whatever it is, whenever."""'),
        ("docs/a.md", "eternal, heathen, shallow, uponwards"),
    ],
)
def test_other_words_are_left_alone(file: str, text: str) -> None:
    """Longer words, names of files, other projects' names, and what tests say of former versions."""
    assert check(file, text) == []


@pytest.mark.parametrize("word", ["lest", "Whoever", "hence", "of equals", "shall", "told of"])
def test_an_archaic_word_is_noticed(word: str) -> None:
    """In any file and any case, with its line and a word to use instead."""
    (fault,) = check("tests/a.py", f"#\n# so {word} it")
    assert (fault.file, fault.line) == ("tests/a.py", 2)
    assert fault.what.startswith(f'"{word}" is archaic; say: ')


def test_this_repository_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    """All of its files: `make lint` runs the same."""
    assert main([]) == 0, capsys.readouterr().out
    assert {"tools/layers.py", "docs/glossary.md", "_native/ring.h"} <= set(files())
