"""Builds the compiled hot path: topic matching, signing, the rings and shared tables.

All else about the package stands in pyproject.toml. FLUXHOOK_DEBUG=1 builds with bounds checks, C
assertions and no optimisation.
"""

import os
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("FLUXHOOK_DEBUG") == "1"
#: each module of fluxhook._native, and the libraries it is linked with
MODULES: dict[str, list[str]] = {
    "topics": [],
    "signing": ["crypto"],
    "shared": [],
    "ring": [],
    "event": [],
}
OPTIMISE = ["-O0", "-g", "-UNDEBUG"] if DEBUG else ["-O3", "-DNDEBUG"]
#: what a build includes, what is missing where it cannot, and the Debian packages that bring it
NEEDS = (
    ("stdlib.h", "no working C compiler", "gcc libc6-dev"),
    ("Python.h", "no Python headers (Python.h)", "python3-dev"),
    ("openssl/sha.h", "no OpenSSL headers (openssl/sha.h)", "libssl-dev"),
)


class Build(build):
    # Extensions first: what is missing shows before a hundred lines about copied files.
    sub_commands = sorted(build.sub_commands, key=lambda command: command[0] != "build_ext")


class BuildExt(build_ext):
    def finalize_options(self) -> None:
        super().finalize_options()
        # One place for every way to build, so that the next build finds what this one made, and
        # no generated C lies among the sources; for each interpreter, whose flags are its own.
        self.build_temp = f"build/native/{sys.implementation.cache_tag}"
        self.cython_c_in_temp = True
        self.cython_include_dirs = ["engine"]  # what a module tells the others: its .pxd
        self.cython_directives = {
            "language_level": 3,
            "boundscheck": DEBUG,
            "initializedcheck": DEBUG,
            "wraparound": False,
            "embedsignature": True,
        }

    def build_extensions(self) -> None:
        require_tools(self.compiler.compiler_so, self.compiler.include_dirs)
        # A module's age does not tell with which flags it was built, nor what the others told it then.
        told = [path.read_text() for path in sorted(Path("engine/fluxhook/_native").glob("*.pxd"))]
        built, now = Path(self.build_temp, "built"), repr((OPTIMISE, self.cython_directives, told))
        if not built.exists() or built.read_text() != now:
            self.force = True
        super().build_extensions()
        built.write_text(now)


def require_tools(compiler: list[str], include_dirs: list[str]) -> None:
    """End with one clear line if the compiler or a header is missing."""
    command = [*compiler, *(f"-I{folder}" for folder in include_dirs), "-E", "-xc", "-"]

    def includes(header: str) -> bool:
        source = f"#include <{header}>\n".encode()
        try:
            return subprocess.run(command, input=source, capture_output=True).returncode == 0
        except OSError:
            return False

    missing = [(fault, packages) for header, fault, packages in NEEDS if not includes(header)]
    if missing:
        faults, packages = zip(*missing, strict=True)
        if len(missing) == len(NEEDS):  # without a compiler nothing is found; ask for all at once
            faults = (f"{faults[0]} ({compiler[0]})",)
        sys.exit(f"fluxhook: {', '.join(faults)}; on Debian: apt-get install {' '.join(packages)}")


setup(
    ext_modules=[
        Extension(
            f"fluxhook._native.{name}",
            [f"_native/{name}.pyx"],
            include_dirs=["_native"],
            libraries=libraries,
            extra_compile_args=["-std=gnu11", "-fno-strict-aliasing", *OPTIMISE],
            depends=[str(header) for header in sorted(Path("_native").glob("*.h"))],
        )
        for name, libraries in MODULES.items()
    ],
    cmdclass={"build": Build, "build_ext": BuildExt},
)
