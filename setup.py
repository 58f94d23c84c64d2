"""Builds the compiled hot path: topic matching, signing, the ring and its shared tables.

Everything else about the package stands in pyproject.toml. FLUXHOOK_DEBUG=1 builds with bounds
checks, C assertions and no optimisation.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup

DEBUG = os.environ.get("FLUXHOOK_DEBUG") == "1"
MODULES = {"topics": [], "signing": ["crypto"], "ring": []}


def require_toolchain() -> None:
    """Stops with one clear line where a compiler or OpenSSL's headers are missing."""
    if shutil.which(os.environ.get("CC", "cc")) is None and shutil.which("gcc") is None:
        sys.exit("fluxhook: no C compiler found; install one (Debian: apt-get install gcc)")
    roots = [Path(p) for p in ("/usr/include", "/usr/local/include")]
    roots += [Path(p) for p in os.environ.get("CPATH", "").split(":") if p]
    if not any((root / "openssl/sha.h").exists() for root in roots):
        sys.exit(
            "fluxhook: OpenSSL's headers are missing; install them "
            "(Debian: apt-get install libssl-dev; elsewhere add their folder to CPATH)"
        )


def extensions() -> list[Extension]:
    from Cython.Build import cythonize

    compile_args = ["-O0", "-g", "-UNDEBUG"] if DEBUG else ["-O3", "-DNDEBUG", "-fno-strict-aliasing"]
    return cythonize(
        [
            Extension(
                f"fluxhook._native.{name}",
                [f"_native/{name}.pyx"],
                include_dirs=["_native"],
                libraries=libraries,
                extra_compile_args=["-std=gnu11", *compile_args],
                depends=[str(p) for p in sorted(Path("_native").glob("*.h"))],
            )
            for name, libraries in MODULES.items()
        ],
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "embedsignature": True,
        },
    )


if {"build_ext", "bdist_wheel", "install", "develop", "editable_wheel"} & set(sys.argv):
    require_toolchain()
    setup(ext_modules=extensions())
else:
    setup(ext_modules=[Extension("fluxhook._native.ring", ["_native/ring.pyx"])])
