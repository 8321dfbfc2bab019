"""The body of a request on its way to an upstream, read no faster than the upstream takes it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp.streams import StreamReader

if TYPE_CHECKING:
    from gateway.edge.relay import Relay
    from gateway.edge.upstream import UpstreamConnection

CONTINUE_AFTER_S = 1.0


class BodyTooLarge(Exception):
    """More bytes came than the route takes."""


class _AnsweredEarly(Exception):
    """The upstream has answered: nobody needs the rest of the body."""


class BodyPump:
    """Frames anew what it passes on: the client's chunk sizes and trailers stay behind."""

    def __init__(
        self,
        payload: StreamReader,
        upstream: UpstreamConnection,
        relay: Relay,
        *,
        chunked: bool,
        max_bytes: int,
    ) -> None:
        self._payload = payload
        self._upstream = upstream
        self._relay = relay
        self._chunked = chunked
        self._max_bytes = max_bytes

    async def run(self) -> None:
        """Returns at the body's end, or once the exchange is over without needing it.

        BodyTooLarge past `max_bytes`; whatever the connection set on the payload when the
        body broke or stopped coming.
        """
        relay = self._relay
        if relay.may_go_on is not None:
            # RFC 9110 section 10.1.1: a client that waits need not wait for ever.
            await asyncio.wait(
                (relay.may_go_on, relay.done),
                timeout=CONTINUE_AFTER_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not relay.done.done():
                relay.go_on()
        relay.done.add_done_callback(self._stop)
        try:
            await self._pass_on()
        except _AnsweredEarly:
            return
        finally:
            relay.done.remove_done_callback(self._stop)

    async def _pass_on(self) -> None:
        payload, upstream, relay = self._payload, self._upstream, self._relay
        total = 0
        while not relay.done.done():
            data = await payload.readany()
            if not data:
                relay.request_sent = True
                if self._chunked:
                    upstream.write(b"0\r\n\r\n")
                return
            relay.body_read = True
            total += len(data)
            if total > self._max_bytes:
                raise BodyTooLarge
            upstream.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
            if upstream.paused:
                await upstream.drain()

    def _stop(self, done: asyncio.Future[Any]) -> None:
        if not self._payload.is_eof():
            self._payload.set_exception(_AnsweredEarly())
