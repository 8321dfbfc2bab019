"""A call that waited is judged again: after its session's end no byte of it reaches the upstream.

What an attacker could do otherwise: have a call wait (in a queue, for a slow name, behind a
body that comes later), be signed out, and still act, with the identity of before.
"""

from __future__ import annotations

import ast
import asyncio
import json
import re
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import gateway.edge
from gateway.access.definitions import DirectResponse, Retry, Tls, UpstreamTarget
from gateway.access.issuers import ResourceServer
from gateway.model import ChangeKind
from tests.certificates import Authority
from tests.edge.proxy.test_common_path import WaitingGate, install
from tests.edge.rig import HUNG_S, OK, Client, Exchange, Rig, principal, running, target
from tests.edge.streams.handshakes import handshake
from tests.edge.streams.test_registry import Worker

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


class SlowNames:
    """`addresses.Resolver`: answers once it is let."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.let = asyncio.Event()

    async def addresses(self, host: str, port: int) -> list[str]:
        self.asked.set()
        await self.let.wait()
        return ["127.0.0.1"]


class SlowTls:
    """A target that accepts one connection, and shakes hands once it is let; in a thread."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.loop = asyncio.get_running_loop()
        self.accepted = asyncio.Event()
        self.let = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])

    def serve(self) -> bytes:
        """What came inside the TLS connection, until its end."""
        with self.listener:
            raw, _ = self.listener.accept()
        self.loop.call_soon_threadsafe(self.accepted.set)
        self.let.wait(10)
        with raw, suppress(OSError):
            raw.settimeout(10)
            with self.context.wrap_socket(raw, server_side=True) as inside:
                return inside.recv(65_536)
        return b""


@dataclass(slots=True)
class World:
    rig: Rig
    worker: Worker
    names: SlowNames
    let: asyncio.Event = field(default_factory=asyncio.Event)

    def sign_out(self) -> None:
        self.worker.learn(ChangeKind.SESSION, "s-1")

    async def call(self, data: bytes = GET) -> Client:
        client = await self.rig.client()
        await client.send(data)
        return client

    async def requests(self, count: int) -> None:
        await self.rig.upstream.until(lambda: len(self.rig.upstream.requests) >= count)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    worker, names = Worker(), SlowNames()
    async with running(long_lived=worker.calls, resolver=names) as rig:
        rig.gate.principal = principal(issued_at=400)
        yield World(rig, worker, names)


async def refused(client: Client) -> None:
    answer = await client.answer()
    assert (answer.status, json.loads(answer.body)["reason"]) == (401, "token_revoked")


Wait = Callable[[World, bytes], Awaitable[Client]]
"""Sends the call and returns once it waits; `world.let` ends that."""


async def in_a_queue(w: World, data: bytes) -> Client:
    async def script(exchange: Exchange) -> None:
        await exchange.body()
        if len(w.rig.upstream.requests) == 1:
            await w.let.wait()
        exchange.send(OK)

    w.rig.upstream.script = script
    w.rig.spec(max_connections=1, queue=1, timeout_connect_s=10.0)
    w.rig.gate.principal = None
    await w.call()
    await w.requests(1)
    w.rig.gate.principal = principal(issued_at=400)
    client = await w.call(data)
    cluster = w.rig.clusters.cluster_of(w.rig.gate.route.upstream)  # type: ignore[arg-type]
    async with asyncio.timeout(HUNG_S):
        while not cluster.waiters:
            await asyncio.sleep(0)
    w.rig.upstream.requests.clear()
    return client


async def for_a_name(w: World, data: bytes) -> Client:
    port = w.rig.upstream.port
    w.rig.spec(
        targets=(UpstreamTarget(f"http://slow.test:{port}", "http", "slow.test", port),),
        timeout_connect_s=10.0,
    )
    client = await w.call(data)
    await w.names.asked.wait()
    w.let = w.names.let
    return client


async def for_a_decision(w: World, data: bytes) -> Client:
    gate = WaitingGate(w.rig.gate)
    gate.principal = w.rig.gate.principal
    install(w.rig, gate)
    client = await w.call(data)
    await gate.asked.wait()
    w.let = gate.let
    return client


WAITS: dict[str, Wait] = {
    "a place in the queue": in_a_queue,
    "a name": for_a_name,
    "a decision that comes later": for_a_decision,
}
CALLS = {"a call": GET, "a call with a body": POST, "a handshake": handshake()}


@pytest.mark.parametrize("data", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
async def test_nothing_is_sent_of_a_call_whose_session_ended_while_it_waited_for(
    wait: Wait, data: bytes
) -> None:
    async with world() as w:
        client = await wait(w, data)
        w.sign_out()
        w.let.set()
        await refused(client)
        assert w.rig.upstream.requests == []


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
async def test_on_a_resource_its_refusal_names_the_metadata_too(wait: Wait) -> None:
    async with world() as w:
        w.rig.route(resource_server=ResourceServer("/a", ("https://id.example",), ("call",)))
        client = await wait(w, GET)
        w.sign_out()
        w.let.set()
        answer = await client.answer()
    (challenge,) = answer.values("www-authenticate")
    assert answer.status == 401
    assert challenge.endswith(
        b'scope="call", resource_metadata="/.well-known/oauth-protected-resource/a"'
    )


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
async def test_a_call_whose_session_lives_is_sent_however_it_waited(wait: Wait) -> None:
    async with world() as w:
        client = await wait(w, GET)
        w.let.set()
        assert (await client.answer()).status == 200


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
async def test_nothing_is_sent_of_a_call_whose_token_expired_while_it_waited_for(
    wait: Wait,
) -> None:
    async with world() as w:
        client = await wait(w, GET)
        w.worker.now = float(1 << 40)
        w.let.set()
        answer = await client.answer()
        assert (answer.status, json.loads(answer.body)["reason"]) == (401, "token_expired")
        assert w.rig.upstream.requests == []


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
async def test_nothing_is_sent_by_a_worker_that_became_stale_while_the_call_waited_for(
    wait: Wait,
) -> None:
    async with world() as w:
        client = await wait(w, GET)
        w.worker.stale = True
        w.let.set()
        answer = await client.answer()
        assert (answer.status, json.loads(answer.body)["reason"]) == (503, "replica_stale")
        assert answer.values("retry-after")
        assert w.rig.upstream.requests == []


async def test_not_even_an_answer_of_the_routes_own_is_given_once_the_session_has_ended() -> None:
    async with world() as w:
        w.rig.route(upstream=None, direct_response=DirectResponse(200, (), b"for members"))
        client = await for_a_decision(w, GET)
        w.sign_out()
        w.let.set()
        await refused(client)


async def test_what_was_read_for_a_cookie_is_no_older_for_having_waited() -> None:
    """A session cookie is no token: its session still holds."""
    async with world() as w:
        w.rig.gate.principal = principal(issued_at=400, kid="")
        client = await for_a_name(w, GET)
        w.worker.now = float(1 << 40)
        w.let.set()
        assert (await client.answer()).status == 200


async def test_nothing_is_sent_after_a_handshake_of_tls_that_outlasted_the_session(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("localhost"))
    async with world() as w:
        slow = SlowTls(context)
        serving = asyncio.create_task(asyncio.to_thread(slow.serve))
        where = UpstreamTarget(f"https://localhost:{slow.port}", "https", "localhost", slow.port)
        w.names.let.set()
        w.rig.spec(targets=(where,), tls=Tls(ca=str(authority.file)), timeout_connect_s=10.0)
        client = await w.call()
        await slow.accepted.wait()
        w.sign_out()
        slow.let.set()
        await refused(client)
        assert await serving == b""


SECOND_TRIES = {
    "a status that is tried again": BUSY,
    "a kept connection that had ended": b"",
}


@pytest.mark.parametrize("first", SECOND_TRIES.values(), ids=SECOND_TRIES.keys())
async def test_no_second_try_is_sent_once_the_session_has_ended(first: bytes) -> None:
    async with world() as w:

        async def script(exchange: Exchange) -> None:
            if exchange.received.line.startswith(b"GET /warm"):
                exchange.send(OK)
                return
            w.sign_out()
            exchange.send(first)
            if not first:
                exchange.abort()

        w.rig.upstream.script = script
        w.rig.spec(retry=Retry(attempts=2, statuses=frozenset((503,))))
        client = await w.call(GET.replace(b"/a", b"/warm"))
        assert (await client.answer()).status == 200
        await client.send(GET)
        await refused(client)
        assert len(w.rig.upstream.requests) == 2


async def test_no_other_target_is_tried_once_the_session_has_ended() -> None:
    """The first target refuses the connection; the second one's name is slow."""
    async with world() as w:
        port = w.rig.upstream.port
        w.rig.spec(
            # The turn begins with the second one.
            targets=(
                UpstreamTarget(f"http://slow.test:{port}", "http", "slow.test", port),
                target(1),
            ),
            retry=Retry(attempts=2, connect=True),
            timeout_connect_s=10.0,
        )
        client = await w.call()
        await w.names.asked.wait()
        w.sign_out()
        w.names.let.set()
        await refused(client)
        assert w.rig.upstream.requests == []


BODIES = {
    "that comes later": b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n",
    "in chunks": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    "that waits for 100 Continue": (
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    ),
}


@pytest.mark.parametrize("head", BODIES.values(), ids=BODIES.keys())
async def test_no_byte_passes_once_the_session_has_ended_of_a_body(head: bytes) -> None:
    async with world() as w:
        came: list[bytes] = []

        async def script(exchange: Exchange) -> None:
            if exchange.received.values("expect"):
                exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            came.append(await exchange.reader.read())

        w.rig.upstream.script = script
        client = await w.call(head)
        await w.requests(1)
        if b"Expect" in head:
            assert (await client.answer()).status == 100
        w.sign_out()
        await client.send(b"3\r\nabc\r\n" if b"chunked" in head else b"abc")
        await refused(client)
        await w.rig.upstream.until(lambda: w.rig.upstream.open == 0)
        assert came == [b""]


async def test_the_rest_of_a_body_does_not_pass_once_the_upstream_reads_again() -> None:
    """What stood in the way was the upstream: the session ended while it did not read."""
    async with world() as w:
        came: list[bytes] = []
        read_on = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            # Its reader takes some, and then no more.
            await read_on.wait()
            with suppress(ConnectionError):
                while data := await exchange.reader.read(1 << 16):
                    came.append(data)

        w.rig.upstream.script = script
        w.rig.route(max_body_bytes=1 << 30)
        size = 64 << 20
        client = await w.call(
            f"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
        )
        await w.requests(1)
        client.writer.write(b"x" * size)
        (connection,) = w.rig.clusters.cluster_of(w.rig.gate.route.upstream).targets[0].connections  # type: ignore[arg-type]
        async with asyncio.timeout(HUNG_S):
            while not connection.paused:
                await asyncio.sleep(0.01)
        w.sign_out()
        read_on.set()
        await refused(client)
        await w.rig.upstream.until(lambda: w.rig.upstream.open == 0)
        assert sum(map(len, came)) < size // 2


# --- that there is no other way ---

WRITES = re.compile(r"(.*[._])?(connection|upstream|other)\.(send|write)")
SENDERS = {
    "forwarder.begin": "a call that was decided in the same turn of the loop",
    "forwarder._send": "asks",
    "request_body._write": "asks",
    "tunnel.end": "a Close frame of our own",
    "tunnel_end.data_received": "asks",
}


def senders() -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of the edge that gives a connection to an upstream something to write."""
    found: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
    for path in sorted(Path(gateway.edge.__path__[0]).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
                WRITES.fullmatch(call) for call in called(node)
            ):
                found[f"{path.stem}.{node.name}"] = node
    return found


def called(function: ast.AST) -> list[str]:
    calls = (node for node in ast.walk(function) if isinstance(node, ast.Call))
    return [ast.unparse(call.func) for call in calls]


def test_nothing_of_a_call_reaches_an_upstream_but_through_who_asks_first() -> None:
    found = senders()
    assert found.keys() == SENDERS.keys()
    for name, why in SENDERS.items():
        # Nothing can happen between the question and the write: none of them awaits.
        assert isinstance(found[name], ast.FunctionDef), name
        asks = any(call.endswith(".refusal") for call in called(found[name]))
        assert asks == (why == "asks"), name


def test_only_a_call_that_was_decided_at_once_begins_without_being_asked_again() -> None:
    """`begin` is called where `at_once` holds, which only `_decided` says, for `serve`; and neither
    awaits."""
    tree = ast.parse((Path(gateway.edge.__path__[0]) / "proxy" / "handler.py").read_text("utf-8"))
    functions = {
        node.name: node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    begins = [
        node
        for node in ast.walk(functions["_apply_decision"])
        if isinstance(node, ast.If) and "_forwarder.begin" in ast.unparse(node.test)
    ]
    assert [ast.unparse(node.test).split(" and ")[0] for node in begins] == ["at_once"]
    assert ast.unparse(tree).count("_forwarder.begin(") == 1
    saying_so = [
        name for name, function in functions.items() if "at_once=True" in ast.unparse(function)
    ]
    assert saying_so == ["_decided"]
    asking = [
        name for name, function in functions.items() if "self._decided(" in ast.unparse(function)
    ]
    assert asking == ["serve"]
    for name in ("serve", "_decided", "_apply_decision"):
        assert isinstance(functions[name], ast.FunctionDef), name
