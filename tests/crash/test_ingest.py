"""An event that the API accepted survives the death of the process that accepted it, and its client's
repeat adds no other."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, product
from typing import Any

from crash.support import CONCURRENCY, CrashStage, Row, until
from fluxhook import Admin

#: of each client, in requests of these sizes, as an array and as lines
EVENTS = 2_000
SIZES = (1, 20, 200)
CLIENTS = 4


class Client(threading.Thread):
    """Posts events whose ids are numbers, and repeats a request, under its key, until it is told that
    all of them were accepted."""

    def __init__(self, stage: CrashStage, first: int) -> None:
        super().__init__(daemon=True)
        self.stage, self.first = stage, first
        self.told: set[int] = set()
        self.problem = ""

    def run(self) -> None:
        numbers = range(self.first, self.first + EVENTS)
        for lines, size in cycle(product((False, True), SIZES)):
            batch, numbers = numbers[:size], numbers[size:]
            if not batch:
                return
            events = [{"type": "crash.event", "id": str(n), "data": {"n": n}} for n in batch]
            while not self.post(events, f"from-{batch[0]}", lines):
                if self.problem:
                    return
                time.sleep(0.05)
            self.told.update(batch)

    def post(self, events: list[dict[str, Any]], key: str, lines: bool) -> bool:
        """Return whether all were accepted."""
        body = "\n".join(map(json.dumps, events)) if lines else json.dumps(events)
        media = "application/x-ndjson" if lines else "application/json"
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            url = json.loads((self.stage.data_dir / "admin.json").read_text())["url"]
            connection = http.client.HTTPConnection(url.rpartition("/")[2], timeout=10)
            with contextlib.closing(connection):
                headers = {"Content-Type": media, "Idempotency-Key": key}
                connection.request("POST", "/v1/events", body, headers)
                answer = connection.getresponse()
                found = json.loads(answer.read())
            if answer.status == 202:
                ids = [accepted["id"] for accepted in found["events"]]
                self.problem = "" if ids == [e["id"] for e in events] else f"the answer has {ids}"
                return not self.problem
            if answer.status not in (409, 429, 503):  # under way still, or the queue is full
                self.problem = f"{answer.status}: {found}"
        return False


def test_api(stage: CrashStage, report: Callable[[Row], None]) -> None:
    """SIGKILL of the admin process, and of everything, while clients post."""
    config = stage.config(admin=Admin(listen="127.0.0.1:0", dashboard=False))
    stage.serve(config, sidecar="fluxhook.admin")
    begun = time.monotonic()
    clients = [Client(stage, n * EVENTS) for n in range(CLIENTS)]

    def told() -> int:
        assert not (problems := [c.problem for c in clients if c.problem]), problems
        return sum(len(client.told) for client in clients)

    def admin() -> int:
        """Its pid, once it listens."""
        found: list[int] = []

        def look() -> bool:
            with contextlib.suppress(OSError, ValueError):
                found.append(json.loads((stage.data_dir / "admin.json").read_text())["pid"])
            return bool(found) and stage.is_ours(found[-1])

        until(look, "the admin process")
        return found[-1]

    def kill_admin() -> None:
        os.kill(admin(), signal.SIGKILL)
        stage.kills += 1

    def kill_everything() -> None:
        admin()
        stage.kill_everything(3)
        stage.serve(config, sidecar="fluxhook.admin")

    def have_more_than(count: int) -> bool:
        return told() > count

    for client in clients:
        client.start()
    kills = [kill_admin, kill_everything, kill_admin, kill_everything]
    for n, kill in enumerate(kills, start=1):
        until(partial(have_more_than, n * CLIENTS * EVENTS // (len(kills) + 2)), f"kill {n}")
        kill()
    until(lambda: told() == CLIENTS * EVENTS, "the clients")
    stats = stage.settle()
    ids, sent = stage.ids("main"), set(range(CLIENTS * EVENTS))
    duplicates = sum(ids.values()) - len(ids)
    # Any of them may end requests that are repeated, and one in two all that is in flight.
    bound = len(kills) * CLIENTS * max(SIZES) + len(kills) // 2 * CONCURRENCY
    missing = len(sent - ids.keys())
    row = Row(
        *("api", len(sent), len(ids), duplicates, bound, missing),
        *(stage.kills, time.monotonic() - begun),
    )
    report(row)
    assert ids.keys() == sent, row
    assert duplicates <= bound + stage.timeouts(), row
    main = stats.endpoint("main")
    assert len(sent) <= main.accepted == main.delivered <= sum(ids.values())
