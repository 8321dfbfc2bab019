"""A listener on a real socket, a raw upstream behind it, and clients that send bytes."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from gateway.access.authorizer import Decision
from gateway.access.definitions import Cors, Upstream, UpstreamTarget
from gateway.access.routing.route_table import RouteTable
from gateway.access.routing.routes import Auth, Route
from gateway.access.snapshot import Snapshot
from gateway.edge.proxy.handler import AssertionSigner, Proxy
from gateway.edge.proxy.local_replies import DenialPage
from gateway.edge.proxy.request import CallReader, Network
from gateway.edge.server.endpoint_calls import REQUEST_BODY
from gateway.edge.server.listener import Listener, ListenerLimits
from gateway.edge.streams.registry import LongLivedRequests
from gateway.edge.streams.tunnel import Tunnel
from gateway.edge.upstream.clusters import Clusters
from gateway.edge.upstream.resolver import Resolver
from gateway.model import Call, Principal, Reason
from gateway.telemetry.metrics import Metrics

Script = Callable[["Exchange"], Awaitable[None]]

IMPATIENT = ListenerLimits(half_closed_s=0.3)
"""Who has left may be one that has only ended what it sends: known 0.3 s later, not 2."""

HUNG_S = 30.0
"""Longer than any wait of a test but for one that would not end: a machine that is busy with other
tests is slow, and fails none.  That something ends in time is told by the time that it is given."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"


def principal(**changes: Any) -> Principal:
    fields: dict[str, Any] = {
        "subject": "u-1",
        "roles": ("user", "editor"),
        "session_id": "s-1",
        "token_id": "t-1",
        "client_id": "web",
        "kid": "k-1",
        "issued_at": 0,
        "expires_at": 1 << 40,
        "email": "ada@example.com",
    }
    return Principal(**(fields | changes))


@dataclass(slots=True)
class Received:
    """One request as the upstream read it."""

    head: bytes
    connection: int

    @property
    def line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        pairs = (line.partition(b":") for line in self.head.split(b"\r\n")[1:] if line)
        return [(name, value.strip()) for name, _, value in pairs]

    def values(self, name: str) -> list[bytes]:
        return [v for n, v in self.fields if n.lower() == name.lower().encode()]


class Exchange:
    """What an upstream's script is given: the request's head, and both directions."""

    def __init__(
        self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.received = received
        self.reader = reader
        self.writer = writer

    async def body(self) -> bytes:
        """The body, by the framing that came."""
        if self.received.values("content-length"):
            return await self.reader.readexactly(int(self.received.values("content-length")[0]))
        content = b""
        while self.received.values("transfer-encoding"):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            content += (await self.reader.readexactly(size + 2))[:-2]
            if not size:
                break
        return content

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        self.writer.transport.abort()


async def answer_ok(exchange: Exchange) -> None:
    await exchange.body()
    exchange.send(OK)


async def endless(exchange: Exchange) -> None:
    """An answer that goes on for as long as anybody takes it."""
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    try:
        while True:
            exchange.send(b"x" * 1_000_000)
            await exchange.writer.drain()
    finally:
        exchange.abort()


def answering(data: bytes, *, close: bool = False) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.body()
        exchange.send(data)
        if close:
            exchange.close()

    return script


class RawUpstream:
    """Reads heads strictly enough for tests, and answers by `script`."""

    def __init__(self, script: Script = answer_ok) -> None:
        self.script = script
        self.requests: list[Received] = []
        self.connections = 0
        self.open = 0
        self.port = 0
        self.changed = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, host, port, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        number = self.connections
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                received = Received(head[:-2], number)
                self.requests.append(received)
                self._note()
                await self.script(Exchange(received, reader, writer))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # a cancelled task of a stream's callback is reported as a defect
        finally:
            self.open -= 1
            self._note()
            writer.close()

    def _note(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(HUNG_S):
            while not true():
                await self.changed.wait()


def leave(writer: asyncio.StreamWriter) -> None:
    """Without a word (RST): whoever has only sent their last byte may still read."""
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.transport.abort()


class Client:
    """A plain socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Answer:
        async with asyncio.timeout(HUNG_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
        return Answer(head[:-4], b"")

    async def answer(self, *, to_head: bool = False) -> Answer:
        """One answer by its framing; 1xx are answers of their own."""
        answer = await self.head()
        async with asyncio.timeout(HUNG_S):
            if to_head or answer.status < 200 or answer.status in (204, 304):
                return answer
            if answer.values("content-length"):
                length = int(answer.values("content-length")[0])
                answer.body = await self.reader.readexactly(length)
            elif answer.values("transfer-encoding"):
                while True:
                    size = int(await self.reader.readuntil(b"\r\n"), 16)
                    if not size:
                        break
                    answer.body += (await self.reader.readexactly(size + 2))[:-2]
                while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
                    answer.trailers.append(line[:-2])
            else:
                answer.body = await self.reader.read()
        return answer

    async def rest(self) -> bytes:
        """Everything until the connection ends."""
        async with asyncio.timeout(HUNG_S):
            return await self.reader.read()

    def close(self) -> None:
        self.writer.close()


@dataclass(slots=True)
class Answer:
    head: bytes
    body: bytes
    trailers: list[bytes] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    @property
    def line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    def values(self, name: str) -> list[bytes]:
        pairs = (line.partition(b":") for line in self.head.split(b"\r\n")[1:])
        return [v.strip() for n, _, v in pairs if n.lower() == name.lower().encode()]


class FakeGate:
    """Allows every call on one route, or gives the decision it was told to give."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.principal: Principal | None = None
        self.decision: Decision | None = None
        self.calls: list[Call] = []
        self.again: list[Principal | None] = []
        """Whose calls were judged again."""

    def reevaluate(self, call: Call, snapshot: object, principal: Principal | None) -> Decision:
        self.again.append(principal)
        if self.decision is not None:
            return self.decision
        return Decision(True, Reason.ROUTE_PUBLIC, route=self.route, principal=principal)

    def begin(self, call: Call, snapshot: object) -> Coroutine[Any, Any, Decision]:
        return self.decide(call, snapshot)

    async def decide(self, call: Call, snapshot: object) -> Decision:
        self.calls.append(call)
        if self.decision is not None:
            return self.decision
        return Decision(True, Reason.ROUTE_PUBLIC, route=self.route, principal=self.principal)


class FakeOwn:
    async def answer(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        body, content = b"", request[REQUEST_BODY]
        while not content.at_eof():
            body += await content.readany()
        return web.Response(text=f"own {call.path} {len(body)}")

    def refusal_page(
        self, call: Call, reason: str, request_id: str, retry_after_s: float
    ) -> tuple[dict[str, str], bytes] | None:
        return {"Content-Type": "text/html; charset=utf-8"}, f"{reason} {request_id}".encode()


@dataclass(slots=True)
class Rig:
    """A running listener with everything around it."""

    listener: Listener
    gate: FakeGate
    upstream: RawUpstream
    clusters: Clusters
    long_lived: LongLivedRequests
    port: int
    snapshot: Snapshot
    clients: list[Client] = field(default_factory=list)

    @property
    def tunnel(self) -> Tunnel:
        """The one that is open."""
        (tunnel,) = self.long_lived.tunnels
        assert isinstance(tunnel, Tunnel)
        return tunnel

    async def client(self, ip: str | None = None) -> Client:
        """One that calls from this address of the loopback network."""
        here = None if ip is None else (ip, 0)
        streams = await asyncio.open_connection("127.0.0.1", self.port, local_addr=here)
        client = Client(*streams)
        self.clients.append(client)
        return client

    async def ask(self, data: bytes, ip: str | None = None, **options: Any) -> Answer:
        """One answer to these bytes, on a connection of their own."""
        client = await self.client(ip)
        await client.send(data)
        return await client.answer(**options)

    async def all(self, data: bytes) -> bytes:
        """Everything that comes back until the connection ends."""
        client = await self.client()
        await client.send(data)
        return await client.rest()

    def route(self, **changes: Any) -> None:
        self.gate.route = replace(self.gate.route, **changes)

    def publish(self, *routes: Route, auth_cors: Cors | None = None) -> None:
        """Routes that a preflight finds; calls still meet the gate's own one."""
        self.snapshot = Snapshot("v", RouteTable(routes), auth_cors=auth_cors)

    def spec(self, **changes: Any) -> None:
        assert self.gate.route.upstream is not None
        self.route(upstream=replace(self.gate.route.upstream, **changes))


def target(port: int) -> UpstreamTarget:
    return UpstreamTarget(f"http://127.0.0.1:{port}", "http", "127.0.0.1", port)


async def listen(listener: Listener, context: ssl.SSLContext | None = None) -> int:
    """The port at which the listener takes calls from now on."""
    sock = socket.create_server(("127.0.0.1", 0))
    listener.listen(sock, context, backlog=128)
    return int(sock.getsockname()[1])


@asynccontextmanager
async def running(
    script: Script = answer_ok,
    *,
    limits: ListenerLimits | None = None,
    trusted: Sequence[Network] = (),
    assertion_signer: AssertionSigner | None = None,
    long_lived: LongLivedRequests | None = None,
    resolver: Resolver | None = None,
    metrics: Metrics | None = None,
    denial_page: DenialPage | None = None,
) -> AsyncIterator[Rig]:
    upstream = RawUpstream(script)
    await upstream.start()
    spec = Upstream("u", (target(upstream.port),))
    route = Route("r", (), "/{rest:path}", (), auth=Auth.PUBLIC, upstream=spec)
    gate = FakeGate(route)
    reader = CallReader(trusted)
    # An empty registry is false.
    calls = LongLivedRequests() if long_lived is None else long_lived
    clusters = Clusters(on_sweep=calls.sweep, resolver=resolver, resolve_every_s=0.1)
    listener: Listener
    rig: Rig

    proxy = Proxy(
        gate,
        lambda: rig.snapshot,
        reader,
        clusters,
        FakeOwn(),
        long_lived=calls,
        draining=lambda: listener.draining,
        metrics=metrics,
        assertion_signer=assertion_signer,
        denial_page=denial_page,
    )
    listener = Listener(
        proxy,
        reader,
        limits or IMPATIENT,
        on_shutdown=calls.end_sockets,
        meter=None if metrics is None else metrics.route(""),
        defects=None if metrics is None else metrics.defects("answer"),
    )
    listener.start()
    port = await listen(listener)
    rig = Rig(listener, gate, upstream, clusters, calls, port, Snapshot("v", RouteTable()))
    try:
        yield rig
    finally:
        for client in rig.clients:
            client.close()
        await listener.stop(0.1)
        calls.close()
        clusters.close()
        await upstream.stop()
