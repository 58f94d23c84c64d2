"""Renew the locks: every package of the demo and of development, at its newest, by hash.

    make lock

requirements/demo.txt holds what builds the engine and what it runs with, requirements/dev.txt that and
all that tests, benchmarks and checks need, requirements/engine.txt the engine with its admin API and
every option (the container image). All serve every Python that pyproject.toml names. No index is
written into them: those who install have one configured.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
COMPILE: Final = (
    *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--upgrade", "--universal"),
    *("--generate-hashes", "--no-emit-index-url", "--custom-compile-command", "make lock"),
    *("--python-version", "3.11", "--no-sources", "pyproject.toml", "-"),
)


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    build = "\n".join(project["build-system"]["requires"])
    for options in (
        ("--output-file", "requirements/demo.txt"),
        # What is in both has one version.
        ("--output-file", "requirements/dev.txt", "--extra", "test", "-c", "requirements/demo.txt"),
        (
            *("--output-file", "requirements/engine.txt", "-c", "requirements/dev.txt"),
            *("--extra", "admin", "--extra", "ed25519", "--extra", "zstd"),
        ),
    ):
        subprocess.run([*COMPILE, *options], cwd=ROOT, input=build, text=True, check=True)


if __name__ == "__main__":
    main()
