"""Calls that aiohttp serves: the endpoints of `/auth`, the pages and the admin listener.

Law: aiohttp is shown one request at a time, as a protocol of its server over a transport of ours.
It reads no field of a client and no body: those are given to the request as our own parser has read
them.  Nothing that aiohttp would say by itself reaches a client.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from aiohttp import web
from multidict import CIMultiDict

from gateway.edge.http1.request_head import HeadLimits, RequestHead
from gateway.edge.server.request_body import BadRequest, RequestBody
from gateway.model import Reason

REQUEST_ID = web.RequestKey("request_id", str)
"""Where the public listener leaves the id of the request for whoever answers it."""
REQUEST_BODY = web.RequestKey("request_body", RequestBody)
"""The body of the request, for whoever answers it: aiohttp's own is always empty."""

EndpointHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_AUTHORITY = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_SILENT = logging.Logger("aiohttp.server", level=logging.CRITICAL + 1)
"""What aiohttp would remark, the connection does, without what the client has sent."""


class ClientConnection(Protocol):
    """The connection, as far as a call on it asks."""

    @property
    def transport(self) -> asyncio.Transport | None: ...

    relay: Any
    """Whoever writes its answer now."""

    @property
    def writing_paused(self) -> bool: ...

    def write(self, data: bytes) -> None: ...


class EndpointServer:
    """aiohttp's server for the endpoints of one listener, made inside the running loop."""

    def __init__(self, limits: HeadLimits) -> None:
        self._server = web.Server(
            _answer,
            handler_cancellation=True,
            access_log=None,
            logger=_SILENT,
            max_line_size=limits.line_bytes,
        )

    async def serve(
        self,
        client: ClientConnection,
        head: RequestHead,
        body: RequestBody,
        handler: EndpointHandler,
    ) -> bool:
        """Let `handler` answer as any aiohttp handler does; whether the answer lets the connection
        go on.  Raises what `handler` raises, ConnectionError where the client has gone."""
        protocol = self._server()
        call = _EndpointCall(client, protocol, head, body, handler)
        client.relay = call
        protocol.connection_made(call)
        if client.writing_paused:
            call.pause()
        try:
            try:
                protocol.data_received(_shown(head))
            except ValueError as error:
                raise BadRequest(Reason.REQUEST_MALFORMED) from error
            return await call.ended
        finally:
            # What of it still runs, runs for nobody.
            call.over()
            protocol.connection_lost(None)


class _EndpointCall(asyncio.Transport):
    """One request as the transport that aiohttp reads it from, and writes its answer to.

    Meets `handler.DownstreamWriter`, as whatever writes an answer does.
    """

    def __init__(
        self,
        client: ClientConnection,
        protocol: asyncio.Protocol,
        head: RequestHead,
        body: RequestBody,
        handler: EndpointHandler,
    ) -> None:
        super().__init__()
        self._client = client
        self._protocol = protocol
        self._head = head
        self._body = body
        self._handler = handler
        self._asked = False
        self._paused = False
        self._closed = False
        self.started = False
        self.keep_alive = True
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The whole answer, from aiohttp's task."""
        self._asked = True
        try:
            request = request.clone(method=self._head.method, headers=_fields(self._head))
            request[REQUEST_BODY] = self._body
            response = await self._handler(request)
            if not self.keep_alive and not response.prepared:
                response.force_close()
            await response.prepare(request)
            await response.write_eof()
        except asyncio.CancelledError:
            self._fail(ConnectionError("the call was cancelled"))
            raise
        except Exception as error:
            self._fail(error)
            # aiohttp would answer with a page of its own.  It is told first that nobody is there.
            await asyncio.get_running_loop().create_future()
            raise
        if not self.ended.done():
            self.ended.set_result(bool(response.keep_alive))
        return response

    def over(self) -> None:
        """Nobody waits for its end any more."""
        self._closed = True
        if not self.ended.cancel() and not self.ended.cancelled():
            self.ended.exception()  # nobody needs the warning that it was not asked for

    def _fail(self, error: Exception) -> None:
        self._closed = True
        if not self.ended.done():
            self.ended.set_exception(error)

    # --- what the connection calls ---

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._protocol.resume_writing()

    def client_disconnected(self) -> None:
        """Whoever waits for the answer is cancelled with it."""

    def put_by(self) -> int:
        return 0

    # --- what aiohttp calls ---

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._asked:
            # Its parser refused what ours let pass, and this is its page about that.
            self._fail(BadRequest(Reason.REQUEST_MALFORMED))
        elif not self._closed:
            self.started = True
            self._client.write(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        transport = self._client.transport
        if transport is None or name == "socket":
            return default  # its options are the connection's affair
        return transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        transport = self._client.transport
        return self._closed or transport is None or transport.is_closing()

    def close(self) -> None:
        self._fail(ConnectionError("the answer has not ended"))

    def abort(self) -> None:
        self.close()

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        """There is nothing behind the head."""

    def resume_reading(self) -> None:
        """There is nothing behind the head."""


async def _answer(request: web.BaseRequest) -> web.StreamResponse:
    call = request.transport
    assert isinstance(call, _EndpointCall)
    return await call.answer(request)


def _shown(head: RequestHead) -> bytes:
    """The head as aiohttp's parser is shown it: in origin-form, and without what it might refuse.

    The method and the fields, which it reads in ways of its own, are given to the request later.
    """
    target = head.target
    if target[0] != "/":
        path = _AUTHORITY.sub("", target, count=1)
        # An authority or `*` is the path of no endpoint, and nor is this.
        target = path if path[:1] == "/" else "/" + "".join(path.partition("?")[1:])
    connection = "keep-alive" if head.keeps_open else "close"
    line = f"GET {target} HTTP/1.{head.minor}"
    return f"{line}\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n".encode("ascii")


def _fields(head: RequestHead) -> CIMultiDict[str]:
    return CIMultiDict((name.decode("latin-1"), value.decode("latin-1")) for name, value in head)
