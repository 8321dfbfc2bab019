"""The body of a request on its way to an upstream, read no faster than the upstream takes it.

Law: a body belongs to the call, a pump to one attempt.  An attempt that ends leaves the body as it
found it, so the next one sends it whole; and every write that followed a wait asks first whether
the call still holds.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.edge.proxy.client_wait import SEND_ON
from gateway.edge.server.request_body import RequestBody

if TYPE_CHECKING:
    from gateway.edge.proxy.response_relay import ResponseRelay
    from gateway.edge.upstream.connection import UpstreamConnection

CONTINUE_AFTER_S = 0.3
"""Of a client that asks to be told: less than it may be waited for (`slot_shares.PATIENCE_S`)."""


class BodyTooLarge(Exception):
    """More bytes came than the route takes."""


class BodyPump:
    """Frames anew what it passes on: the client's chunk sizes and trailers stay behind."""

    def __init__(
        self,
        payload: RequestBody,
        upstream: UpstreamConnection,
        relay: ResponseRelay,
        *,
        chunked: bool,
        max_bytes: int,
    ) -> None:
        self._payload = payload
        self._upstream = upstream
        self._relay = relay
        self._chunked = chunked
        self._max_bytes = max_bytes
        self._total_bytes = 0
        self._more: asyncio.Future[None] | None = None
        """Set while it waits for more of the body, or for the end of the exchange."""

    def first(self) -> bytes:
        """What has come of the body, framed, to be sent with the head: nearly always all of it.

        Raises as `run` does, which goes on behind it.
        """
        framed = self._framed(self._payload.read_nowait())
        if self._payload.at_eof():
            self._relay.request_sent = True
            if self._chunked:
                framed += b"0\r\n\r\n"
        return framed

    async def run(self) -> None:
        """Returns at the body's end, or once the exchange is over without needing it.

        BodyTooLarge past `max_bytes`; whatever the connection set on the payload when the
        body broke or stopped coming.
        """
        relay, payload = self._relay, self._payload
        if relay.request_sent:
            return
        if relay.continue_sent is not None:
            await self._await_continue(relay.continue_sent)
            if not relay.done.done():
                relay.send_continue()
        payload.on_more = self._wake
        # Where it is done already, this is called later: it wakes a pump, and no other one.
        relay.done.add_done_callback(self._wake)
        try:
            await self._pass_on()
        finally:
            payload.on_more = None
            relay.done.remove_done_callback(self._wake)

    async def _await_continue(self, sent: asyncio.Future[None]) -> None:
        """RFC 9110 section 10.1.1: a client that waits need not wait for ever.

        Until all has come it is the client that is waited for, as in any other body: who asks to
        be told would hold a slot for a second of each call otherwise.
        """
        payload, relay = self._payload, self._relay
        if payload.awaits_more():
            payload.on_more = self._client_sent
            relay.await_client(SEND_ON)
        try:
            await asyncio.wait(
                (sent, relay.done),
                timeout=CONTINUE_AFTER_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            payload.on_more = None
            relay.client_moved(SEND_ON)

    def _client_sent(self) -> None:
        if not self._payload.awaits_more():
            self._relay.client_moved(SEND_ON)

    async def _pass_on(self) -> None:
        payload, upstream, relay = self._payload, self._upstream, self._relay
        while not relay.done.done():
            if upstream.paused or upstream.held:
                await upstream.drain()
                if relay.done.done():
                    return
            data = self._framed(payload.read_nowait())
            if data:
                self._write(data)
            elif payload.is_eof():
                relay.request_sent = True
                if self._chunked:
                    self._write(b"0\r\n\r\n")
                return
            else:
                self._more = asyncio.get_running_loop().create_future()
                relay.await_client(SEND_ON)
                await self._more
                relay.client_moved(SEND_ON)

    def _framed(self, data: bytes) -> bytes:
        if not data:
            return data
        self._relay.body_read = True
        self._total_bytes += len(data)
        if self._total_bytes > self._max_bytes:
            raise BodyTooLarge
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data

    def _write(self, data: bytes) -> None:
        """Every byte of a body goes out from here, and each has waited: so the call is judged
        again."""
        refusal = self._relay.refusal()
        if refusal is None:
            self._upstream.write(data)
        else:
            self._upstream.end(refusal)

    def _wake(self, *_: object) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)
