"""What the engine is compared with, each a process of its own: the bare loop, other clients, a notifier
in Go, and wrk as the floor."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from bench.machine import GO_LOCAL, ROOT, Cores, pin
from bench.measure import Figures
from bench.programs.bare import body_template
from bench.programs.clients import NOT_INSTALLED
from bench.receiver import Receiver
from bench.rows import Load

__all__ = ["LABELS", "Absent", "run"]

WRK_S = 1
#: for people
LABELS = {
    "engine": "Fluxhook, the whole engine",
    "bare": "bare pycurl loop",
    "aiohttp": "aiohttp + uvloop",
    "httpx": "httpx + uvloop",
    "pyreqwest": "pyreqwest (Rust) + uvloop",
    "threads": "http.client, a thread for each",
    "notifier": "Go notifier made after FluxMQ's, 5 workers, no HMAC",
    "notifier-200": "Go notifier made after FluxMQ's, 200 workers, no HMAC",
    "wrk": "wrk, one fixed request",
}
#: the share of a row's events that keeps a contender busy for about as long as the engine
SHARES = {
    "bare": 1.0,
    "aiohttp": 0.3,
    "httpx": 0.01,
    "pyreqwest": 0.5,
    "threads": 0.2,
    "notifier": 0.7,
    "notifier-200": 0.15,
}
#: their workers, which are what limits the requests in flight, whatever the row says
NOTIFIERS = {"notifier": 5, "notifier-200": 200}
NOTIFIER = ROOT / "bench" / "programs" / "notifier.go"
_HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "fluxhook-bench",
    "X-FluxGate-Signature": f"t=1700000000,v1={'0' * 64}",
}


class Absent(Exception):
    """A contender that is not installed. The text says how to get it."""


def run(
    name: str, load: Load, receiver: Receiver, cores: Cores, count: int, directory: Path
) -> Figures:
    """Take one turn: `rate` in requests a second, `cpu` in us of each, and `lost`: how many more were
    answered than the receiver counted, in either direction. Raise Absent."""
    if name == "wrk":
        return _wrk(receiver.urls(load)[0], load, cores, directory)
    count = max(100, int(count * SHARES[name]))
    before = receiver.requests()
    result = _client(name, load, receiver.urls(load), cores, count, directory)
    return {
        "rate": count / result["seconds"],
        "cpu": result["cpu_us"],
        "lost": abs(receiver.requests() - before - count - result["warm_up"]) + result["failed"],
    }


def _client(
    name: str, load: Load, urls: list[str], cores: Cores, count: int, directory: Path
) -> dict[str, float]:
    python = [sys.executable, "-m"]
    if name == "bare":
        command = [*python, "bench.programs.bare"]
        command += [argument for url in urls for argument in ("--url", url)]
        command += ["--ca", str(directory / "receiver.pem")] if load.tls else []
        command += ["--http2"] if load.http2 else []
        in_flight = max(load.in_flight, load.endpoints)
    elif name in NOTIFIERS:
        command = [str(_notifier(directory)), "--url", urls[0]]
        in_flight = NOTIFIERS[name]
    else:
        command = [*python, "bench.programs.clients", name, "--url", urls[0]]
        in_flight = load.in_flight
    command += ["--requests", str(count), "--payload", str(load.payload)]
    child = _start([*command, "--in-flight", str(in_flight)], cores)
    output, _ = child.communicate()
    if child.returncode == NOT_INSTALLED:
        package = json.loads(output)["missing"]
        raise Absent(f"{package} is not installed: pip install {package}")
    if child.returncode:
        sys.exit(f"bench: the contender {name} failed; what it said stands above")
    result: dict[str, float] = json.loads(output)
    return result


def _notifier(directory: Path) -> Path:
    """Return the program, built in the run's directory by the first one who asks. Only the standard
    library is in it, so nothing is fetched. Compiled packages stay in the user's cache, if the user
    has a home directory."""
    program = directory.resolve() / "notifier"
    if program.exists():
        return program
    go = shutil.which("go")
    if go is None:
        raise Absent("go is not installed: apt-get install golang-go")
    build = subprocess.run(
        [go, "build", "-o", str(program), str(NOTIFIER)],
        cwd=directory,  # where no go.mod has a say
        env={"HOME": str(program.parent), **os.environ, **GO_LOCAL},
        stderr=subprocess.PIPE,
        text=True,
    )
    if build.returncode:
        sys.exit(f"bench: {NOTIFIER.name} cannot be built\n{build.stderr}")
    return program


def _wrk(url: str, load: Load, cores: Cores, directory: Path) -> Figures:
    """Run a C client that sends one and the same request: no HMAC, no text to build. It does not
    count what was under way at its end, so its books cannot be balanced."""
    program = shutil.which("wrk")
    if program is None:
        raise Absent("wrk is not installed: apt-get install wrk")
    script = directory / "post.lua"
    lines = ['wrk.method = "POST"', f"wrk.body = [[{(body_template(load.payload) % 0).decode()}]]"]
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in _HEADERS.items()]
    script.write_text("\n".join(lines))
    command = [program, "-t1", f"-c{load.in_flight}", f"-d{WRK_S}s", "-s", str(script), url]
    child = _start(command, cores)
    assert child.stdout is not None
    output = child.stdout.read()
    child.stdout.close()
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
