"""One request and its answer: how long its body may take, and whether anybody still waits for it."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from fluxhook.admin.problems import RequestError

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
        #: the answer has begun
        self.started = False
        #: nobody waits for it any more
        self.gone = False

    async def receive(self) -> Any:
        """Raises RequestError (408) for a body that takes too long."""
        if self._whole:
            return await self._receive()
        left_s = BODY_GRACE_S + self._size / BODY_RATE - self._waited_s
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                message = await self._receive()
        except TimeoutError:
            raise RequestError(
                "request-timeout",
                f"The body came too slowly: {self._size} bytes so far. It may take {BODY_GRACE_S:g} s, "
                f"and a second more for each {BODY_RATE} bytes.",
                headers={"Connection": "close"},
            ) from None
        self._waited_s += time.monotonic() - began
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
        elif message["type"] == "http.disconnect":
            self.gone = True
        return message

    async def send(self, message: Any) -> None:
        self.started = self.started or message["type"] == "http.response.start"
        await self._send(message)
