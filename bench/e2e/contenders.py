"""What the engine is compared with, each a process of its own: the bare loop, and wrk as the floor."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from bench.bare import body_template
from bench.e2e.machine import ROOT, Cores, pin
from bench.e2e.stage import Figures, Load

WRK_S = 2
_HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "fluxhook-bench",
    "X-FluxGate-Signature": f"t=1700000000,v1={'0' * 64}",
}


def bare(url: str, load: Load, cores: Cores, count: int) -> Figures:
    """The pycurl loop of bench.bare."""
    command = [sys.executable, "-m", "bench.bare", "--url", url, "--requests", str(count)]
    command += ["--payload", str(load.payload), "--in-flight", str(load.in_flight)]
    child = _start(command, cores)
    output, _ = child.communicate()
    if child.returncode:
        sys.exit("bench: the bare loop failed; what it said stands above")
    result = json.loads(output)
    if result["failed"]:
        sys.exit(f"bench: {result['failed']} requests of the bare loop failed")
    return {"rate": count / result["seconds"], "cpu": result["cpu_us"]}


def wrk(url: str, load: Load, cores: Cores, directory: Path) -> Figures | None:
    """A C client that sends one and the same request: no HMAC, no text to build. None without it."""
    program = shutil.which("wrk")
    if program is None:
        return None
    script = directory / "post.lua"
    lines = ['wrk.method = "POST"', f"wrk.body = [[{(body_template(load.payload) % 0).decode()}]]"]
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in _HEADERS.items()]
    script.write_text("\n".join(lines))
    command = [program, "-t1", f"-c{load.in_flight}", f"-d{WRK_S}s", "-s", str(script), url]
    child = _start(command, cores)
    assert child.stdout is not None
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    found = re.search(r"(\d+) requests in ([\d.]+)s", output)
    if found is None or "Non-2xx" in output:
        sys.exit(f"bench: wrk failed\n{output}")
    count = int(found[1])
    cpu_s = usage.ru_utime + usage.ru_stime
    return {"rate": count / float(found[2]), "cpu": cpu_s * 1e6 / count}


def _start(command: list[str], cores: Cores) -> subprocess.Popen[str]:
    pin(0, cores.engine)
    try:
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    finally:
        pin(0, cores.receiver)
