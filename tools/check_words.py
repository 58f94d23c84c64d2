"""Check the words of code and pages: what docs/glossary.md and CONTRIBUTING.md say about English.

    python tools/check_words.py           lists every fault, and exits 1 if there is one
    python tools/check_words.py FILE...   looks at these files only

Three rules:

1. The docstring of a function does not begin with What, Whether, Who, How, When, Where or Why: it says
   what the function does, in the imperative.
2. Nouns that were renamed do not come back, in names or in sentences, in the package and its pages.
3. No archaic words, anywhere.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]

#: an old noun, and the word that took its place
RENAMED: Final = {
    "lane": "endpoint queue",
    "gate": "admission",
    "sieve": "event filter",
    "sift": "event filter",
    "mint": "event factory",
    "brisk": "busy",
    "desk": "dashboard context or scheduler harness",
    "keeper": "scheduler",
    "bury": "dead-letter",
    "doomed": "to be disabled",
    "born": "created",
    "companion": "sidecar",
    "bell": "doorbell",
    "home": "assigned worker",
}
#: names of files, of their fields, and of what is not ours
KEPT: Final = re.compile(
    r"keeper\.bell|\bbell(?=, inbox\.ring)|/ \"bell\"|/bell`|[`\"](homes|companion)[`\"]"
    r"|\.home\.arpa|home-dir|FluxGate"
)
#: where renamed nouns are looked for; tests may speak of the former ones
OURS: Final = ("engine/", "_native/", "docs/", "README.md", "CONTRIBUTING.md", "AGENTS.md")
#: pages that speak of former names
HISTORY: Final = ("docs/adr/",)

ARCHAIC: Final = {
    "lest": "so that ... not",
    "whoever": "the process that, anyone who",
    "whomever": "anyone whom",
    "whosoever": "anyone who",
    "of equals": "with ties broken at random",
    "thereof": "of it",
    "therein": "in it",
    "thereby": "so",
    "hence": "so, therefore",
    "whence": "from where",
    "thence": "from there",
    "hither": "here",
    "albeit": "although",
    "amongst": "among",
    "whilst": "while",
    "shall": "must, will",
    "upon": "on",
    "told of": "reported",
}
_ARCHAIC: Final = re.compile(rf"\b({'|'.join(ARCHAIC)})\b", re.IGNORECASE)
_QUESTION: Final = re.compile(r"(What|Whether|Who|How|When|Where|Why)\b")
#: the words of names as well: `_scheduler_doorbell`, `EndpointQueue`
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
#: of a compiled module, whose source `ast` cannot read: any docstring
_DOCSTRING: Final = re.compile(r':\n\s*"""(?=\S)')
FOLDERS: Final = (
    *("engine", "_native", "docs", "bench", "scripts", "tests", "tools"),
    *("changelog.d", "deploy", "requirements", ".github"),
)
#: the lists above, what a run writes, and what was said of former versions
EXEMPT: Final = (
    "tools/check_words.py",
    "tests/tools/test_check_words.py",
    "bench/RESULTS.md",
    "CHANGELOG.md",
)
TEXT: Final = {
    ".py",
    ".pyi",
    ".pyx",
    ".pxd",
    ".h",
    ".md",
    ".sql",
    ".yaml",
    ".yml",
    ".toml",
    ".js",
    ".css",
}


class Fault(NamedTuple):
    """A word that does not belong there."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


def check(file: str, text: str) -> list[Fault]:
    """Return the faults of one file, which may exist only as text."""
    found = [Fault(file, line, what) for line, what in _docstrings(file, text)]
    for number, line in enumerate(text.splitlines(), 1):
        found += [
            Fault(file, number, f'"{word}" is archaic; say: {ARCHAIC[word.lower()]}')
            for word in _ARCHAIC.findall(line)
        ]
        if file.startswith(OURS) and not file.startswith(HISTORY):
            found += [
                Fault(file, number, f'"{old}" is now: {RENAMED[old]}') for old in _renamed(line)
            ]
    return sorted(found, key=lambda fault: fault.line)


def _docstrings(file: str, text: str) -> Iterator[tuple[int, str]]:
    for line, docstring in _begin(file, text):
        if word := _QUESTION.match(docstring):
            yield line, f'a docstring begins with "{word[1]}"; begin with what the function does'


def _begin(file: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each function's docstring."""
    if file.endswith(".pyx"):
        for match in _DOCSTRING.finditer(text):
            yield text.count("\n", 0, match.end()) + 1, text[match.end() : match.end() + 20]
    elif file.endswith((".py", ".pyi")):
        for node in ast.walk(ast.parse(text, file)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                docstring = ast.get_docstring(node)
                if docstring:
                    yield node.body[0].lineno, docstring


def _renamed(line: str) -> Iterator[str]:
    for match in _WORD.finditer(KEPT.sub("", line)):
        word = match[0].lower()
        for form in (word, word.removesuffix("s"), word.removesuffix("ed"), word.removesuffix("d")):
            if form in RENAMED:
                yield form
                break
        else:
            if word in ("buries", "buried"):
                yield "bury"


def files() -> list[str]:
    """Return every text file of the repository, generated ones aside."""
    found = [*ROOT.glob("*"), *chain.from_iterable((ROOT / name).rglob("*") for name in FOLDERS)]
    return sorted(str(path.relative_to(ROOT)) for path in found if path.suffix in TEXT)


def main(names: list[str]) -> int:
    faults = [
        fault
        for name in names or files()
        if Path(name).suffix in TEXT and not name.startswith(EXEMPT)
        for fault in check(name, (ROOT / name).read_text())
    ]
    for fault in faults:
        print(fault)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
