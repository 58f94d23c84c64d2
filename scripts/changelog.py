"""Move the fragments of changelog.d into CHANGELOG.md.

    python scripts/changelog.py 0.2.0     for a release: each becomes an entry, and its file is removed
    python scripts/changelog.py --check   exits 1 if a fragment is not as changelog.d/README.md says

A version that has no heading yet gets one, above all others.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
#: columns of CHANGELOG.md
WIDTH: Final = 115
_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\.md")


def fragments(root: Path) -> list[Path]:
    """Return the fragments, by name."""
    return sorted(path for path in (root / "changelog.d").iterdir() if path.name != "README.md")


def faults(paths: Sequence[Path]) -> list[str]:
    """Return a sentence for each fragment that cannot become an entry."""
    found = []
    for path in paths:
        text = path.read_text().strip()
        if not _NAME.fullmatch(path.name):
            found.append(f"{path.name}: name it in lower case with hyphens, such as retry-after.md")
        elif not text:
            found.append(f"{path.name}: it is empty")
        elif text.startswith(("#", "-", "*")):
            found.append(f"{path.name}: write the sentences alone, without a heading or a bullet")
        elif "\n\n" in text:
            found.append(f"{path.name}: one paragraph is one entry; make two files of two")
    return found


def collect(changelog: str, version: str, texts: Sequence[str]) -> str:
    """Return the changelog with an entry for each text, at the end of the version's section."""
    entries = "".join(
        textwrap.fill(
            " ".join(text.split()),
            WIDTH,
            initial_indent="- ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        + "\n"
        for text in texts
    )
    heading = re.search(rf"^## {re.escape(version)}\b.*\n", changelog, re.MULTILINE)
    if heading is None:
        title, _, rest = changelog.partition("\n\n")
        return f"{title}\n\n## {version}\n\n{entries}\n{rest}"
    following = re.search(r"^## ", changelog[heading.end() :], re.MULTILINE)
    end = heading.end() + following.start() if following else len(changelog)
    section, rest = changelog[:end].rstrip("\n"), changelog[end:]
    between = "\n\n" if section.endswith(heading[0].rstrip("\n")) else "\n"
    return f"{section}{between}{entries}" + (f"\n{rest}" if rest else "")


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    paths = fragments(root)
    if found := faults(paths):
        print("\n".join(f"changelog.d/{fault}" for fault in found), file=sys.stderr)
        return 1
    if list(arguments) == ["--check"]:
        return 0
    if len(arguments) != 1 or not re.fullmatch(r"\d+\.\d+\.\d+\S*", arguments[0]):
        print("give the version of the release, such as 0.2.0, or --check", file=sys.stderr)
        return 2
    changelog = root / "CHANGELOG.md"
    texts = [path.read_text() for path in paths]
    changelog.write_text(collect(changelog.read_text(), arguments[0], texts))
    for path in paths:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
