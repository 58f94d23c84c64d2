"""Samples become microseconds of a delivery."""

from __future__ import annotations

import pytest
from bench.profile import part_of, render, shares

SAMPLES = """
 1234     7f4a1c2d3e4f (/usr/lib/x86_64-linux-gnu/libc.so.6)
 1234     ffffffff81234567 ([kernel.kallsyms])
 1234     ffffffff81234568 ([kernel.kallsyms])
 1234     55d0c0ffee00 (/usr/bin/python3.11)
   99     7f4a1c2d3e50 (/somewhere/fluxhook/_native/ring.cpython-311-x86_64-linux-gnu.so)
perf: a line of another kind
"""


@pytest.mark.parametrize(
    ("object_file", "part"),
    [
        ("[kernel.kallsyms]", "kernel"),
        ("/x/pycurl.libs/libcurl-0a1b.so.4.8.0", "libcurl"),
        ("/x/pycurl.libs/libcrypto-0a1b.so.3", "sign"),
        ("/x/pycurl.cpython-311-x86_64-linux-gnu.so", "pycurl"),
        ("/x/fluxhook/_native/signing.cpython-311-x86_64-linux-gnu.so", "sign"),
        ("/x/fluxhook/_native/topics.cpython-311-x86_64-linux-gnu.so", "match"),
        ("/x/msgspec/_core.cpython-311-x86_64-linux-gnu.so", "encode (msgspec)"),
        ("/x/lib-dynload/_sqlite3.cpython-311-x86_64-linux-gnu.so", "SQLite"),
        ("/x/libpython3.11.so.1.0", "CPython"),
        ("[unknown]", "other"),
    ],
)
def test_each_object_file_belongs_to_one_part(object_file: str, part: str) -> None:
    """Modules of CPython's have "cpython" in their names; they count as what they do."""
    assert part_of(object_file) == part


def test_shares_are_of_each_process_alone() -> None:
    """They add up to one; what is no sample is passed over."""
    assert shares(SAMPLES.splitlines()) == {
        1234: {"libc": 0.25, "kernel": 0.5, "CPython": 0.25},
        99: {"ring": 1.0},
    }


def test_the_table_gives_microseconds_and_their_sums() -> None:
    """A share of a process's samples times what the process costs a delivery."""
    by_role = {"host": {"CPython": 1.0}, "worker": {"kernel": 0.5, "libcurl": 0.5}}
    lines = render(by_role, {"host": 1.0, "worker": 20.0}).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["kernel", "", "10.00", "10.00"]
    assert [cell.strip() for cell in lines[-1].split("|")[1:-1]] == [
        "**all**", "**1.00**", "**20.00**", "**21.00**",
    ]  # fmt: skip
