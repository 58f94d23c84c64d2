"""A process says what it is."""

from __future__ import annotations

import subprocess
import sys

#: the name of the data directory is an argument of its own
NAME = "import sys, fluxhook.transport.process as p; p.name_process('worker 0', sys.argv[1])"
SAY = "; print(open('/proc/self/cmdline', 'rb').read())"


def test_a_data_directory_need_not_have_a_name_in_utf_8() -> None:
    """A title is for people: what is no text in it is shown as such."""
    command: list[str | bytes] = [sys.executable, "-c", NAME + SAY, b"/tmp/a\xffb"]
    said = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    assert "fluxhook worker 0 [/tmp/a\\xef\\xbf\\xbdb]" in said
