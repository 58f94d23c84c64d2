"""One request and its answer: how long its body may take, and whether anybody still waits for it."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from fluxhook.admin.problem_details import RequestError

__all__ = ["BODY_GRACE_S", "BODY_RATE", "Exchange"]

#: A body may be waited for this long, and for a second more for each BODY_RATE bytes that came, as
#: Apache's RequestReadTimeout counts. Arbitrary.
BODY_GRACE_S: Final = 15.0
BODY_RATE: Final = 8192


class Exchange:
    """`receive` and `send` of an ASGI request. Only the time in which the application waits for the
    body counts: where it takes its time over what has come, that is not the client's fault."""

    def __init__(self, receive: Any, send: Any) -> None:
        self._receive = receive
        self._send = send
        self._whole = False
        self._size = 0
        self._waited_s = 0.0
        #: since when, and until when at most, the application waits for the body
        self._since = 0.0
        self._deadline: asyncio.Timeout | None = None
        self._gave_way = False
        #: the answer has begun
        self.started = False
        #: nobody waits for it any more
        self.gone = False

    @property
    def waited_s(self) -> float:
        """For how long the next piece of the body is awaited; 0: it is not."""
        return 0.0 if self._deadline is None else time.monotonic() - self._since

    def give_way(self) -> None:
        """End a wait for the body: the room is needed."""
        if self._deadline is not None:
            self._gave_way = True
            self._deadline.reschedule(asyncio.get_running_loop().time())

    async def receive(self) -> Any:
        """Return a piece of the body. Raise RequestError (408, 503) for a body that takes too long,
        or had to give way."""
        if self._whole:
            return await self._receive()
        left_s = BODY_GRACE_S + self._size / BODY_RATE - self._waited_s
        self._since = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left_s)) as self._deadline:
                message = await self._receive()
        except TimeoutError:
            raise self._too_slow() from None
        finally:
            self._deadline = None
            self._waited_s += time.monotonic() - self._since
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
        elif message["type"] == "http.disconnect":
            self.gone = True
        return message

    def _too_slow(self) -> RequestError:
        close = {"Connection": "close"}
        if self._gave_way:
            return RequestError(
                "overloaded",
                "There was no room for a request whose body had not come; try again in a second.",
                headers=close,
            )
        return RequestError(
            "request-timeout",
            f"The body came too slowly: {self._size} bytes so far. It may take {BODY_GRACE_S:g} s, "
            f"and a second more for each {BODY_RATE} bytes.",
            headers=close,
        )

    async def send(self, message: Any) -> None:
        self.started = self.started or message["type"] == "http.response.start"
        await self._send(message)
