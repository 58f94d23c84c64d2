"""Dead letters, as the log and the host hear of them."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from fluxhook.logs.log import Log
from fluxhook.policy.tally import Tally
from fluxhook.scheduler.endpoint_watch import EndpointWatch
from fluxhook.scheduler.endpoints import Endpoints
from fluxhook.store.rows import DeliveryRow
from fluxhook.transport.host_channel import DeadLetter

__all__ = ["GivenUp"]

log = Log("delivery")


class GivenUp:
    """The host hears of each dead letter; the log sums them up by endpoint and cause."""

    def __init__(
        self,
        endpoints: Endpoints,
        watch: EndpointWatch,
        tell: Callable[[DeadLetter], None],
    ) -> None:
        self._watch = watch
        self._endpoints = endpoints
        self._tell = tell
        self._tally: Tally[tuple[str, str]] = Tally()
        #: of the last dead letter of each sum
        self._errors: dict[tuple[str, str], str] = {}

    def note(self, deliveries: list[DeliveryRow]) -> None:
        """Note the dead letters of a transaction that is committed."""
        for row in deliveries:
            name = self._endpoints.name(row.endpoint)
            self._tally.add((name, row.cause), row.event_id)
            self._errors[name, row.cause] = row.error
            self._watch.died(row.endpoint, row.ended_ns or 0, row.cause, row.error)
            self._tell(
                DeadLetter(
                    delivery_id=row.id,
                    endpoint=name,
                    event_id=row.event_id,
                    type=row.type,
                    topic=row.topic,
                    cause=row.cause,
                    error=row.error,
                    attempts=row.attempts,
                    accepted_ns=row.accepted_ns,
                    dead_ns=row.ended_ns or 0,
                )
            )

    def say(self, now_ns: int, *, all: bool = False) -> None:
        """Log the sums whose time has come, or all."""
        for (name, cause), sum in self._tally.due(now_ns, all=all):
            command = f"fluxhook dead-letters list --endpoint {shlex.quote(name)} --cause {cause}"
            log.error(
                "endpoint %s: events given up: %d (%s); `%s` lists them",
                name, sum.total, cause, command,
                event="dead_letters", endpoint=name, cause=cause, count=sum.total,
                first_event=sum.first, last_event=sum.last,
                error=self._errors.pop((name, cause), ""),
            )  # fmt: skip
