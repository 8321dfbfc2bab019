"""`python -m bench.sockets`: how fast does a logout close every socket of its session, and what
does a connection cost that does nothing?

One node holds many idle sockets, some of them one user's.  After the 204 of that user's logout
each of those must be told 1008 and end within a second, and no other may.  Another node holds as
many idle keep-alive connections, each of which has asked once.  Memory is what the processes of
a node grew by (PSS), for each connection: under 60 KB.  Exits 1 otherwise.

A socket takes two descriptors of its worker.  Where the hard limit of this machine (`ulimit
-Hn`) is lower than that, fewer are opened, and the table says how many.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import resource
import time
import urllib.request
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from bench.client import Caller, Times
from bench.cluster import PASSWORD, Cluster, Node, percentile
from bench.processes import run_bench
from bench.rig import BASE_PORT, HERE
from bench.websocket import asking, granting

console = Console()
ECHO_PORT = BASE_PORT + 90
OPENING_AT_ONCE = 50
TOLD = b"\x88\x0f\x03\xf0token_revoked"
MOST_KB = 60.0
SPARE_DESCRIPTORS = 100
"""What a worker has open besides: listeners, stores, files."""


class Echo(asyncio.Protocol):
    """Grants every handshake and sends back what comes: the least that an upstream can cost."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._granted = False

    def data_received(self, data: bytes) -> None:
        if self._granted:
            self._transport.write(data)
            return
        self._granted = True
        self._transport.write(granting(data))


def run_echo(listening: Event) -> None:
    """The upstream, in a process of its own: its descriptors are not ours."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", ECHO_PORT, backlog=4096)
        listening.set()
        await server.serve_forever()

    asyncio.run(run())


class Asked(asyncio.Protocol):
    """A keep-alive connection that asks once and then stays."""

    def __init__(self, port: int, token: str, loop: asyncio.AbstractEventLoop) -> None:
        self._request = (
            f"GET /api/idle HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Authorization: Bearer {token}\r\n\r\n"
        ).encode()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[float] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.opened.done():
            return
        if data.startswith(b"HTTP/1.1 200 "):
            self.opened.set_result(None)
        else:
            self.opened.set_exception(RuntimeError(data[:80].decode("latin-1")))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("closed before the answer"))
        self.ended.set_result(time.monotonic())


class Socket(asyncio.Protocol):
    """A client that says nothing and notes when it was told to go."""

    def __init__(self, port: int, token: str, loop: asyncio.AbstractEventLoop) -> None:
        self._hello = asking(port, token)
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[float] = loop.create_future()
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        if self.opened.done():
            self._received += data
        elif data.startswith(b"HTTP/1.1 101 "):
            self.opened.set_result(None)
        else:
            self.opened.set_exception(RuntimeError(data[:80].decode("latin-1")))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("closed before the handshake"))
        self.ended.set_result(time.monotonic())

    @property
    def told(self) -> bool:
        return self._received == TOLD


@dataclass
class Figures:
    sockets: int
    closed: int
    told_1008: int
    others_closed: int
    logout_ms: float
    last_after_204_ms: float
    median_after_204_ms: float
    kb_a_socket: float
    idle_connections: int = 0
    kb_a_connection: float = 0.0


Kept = TypeVar("Kept", Asked, Socket)


async def opened(kind: type[Kept], port: int, token: str, count: int) -> list[Kept]:
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(OPENING_AT_ONCE)

    async def one() -> Kept:
        async with gate:
            _, kept = await loop.create_connection(
                lambda: kind(port, token, loop), "127.0.0.1", port
            )
            await kept.opened
            return kept

    return await asyncio.gather(*(one() for _ in range(count)))


async def measure_idle(node: Node, count: int) -> tuple[int, float]:
    """How many stayed open, and KB for each of them."""
    caller = Caller(node.url, Times())
    try:
        token = (await caller.login("stays@example.com", PASSWORD)).access_token
        for kept in await opened(Asked, node.port, token, 100):
            kept.transport.abort()
        before = node.memory_bytes()
        held = await opened(Asked, node.port, token, count)
        grown = node.memory_bytes() - before
        open_now = sum(not kept.ended.done() for kept in held)
        for kept in held:
            kept.transport.abort()
    finally:
        await caller.close()
    return open_now, grown / count / 1024


async def measure(cluster: Cluster, count: int, mine: int) -> Figures:
    node = cluster.nodes[0]
    caller = Caller(node.url, Times())
    try:
        stays = await caller.login("stays@example.com", PASSWORD)
        goes = await caller.login("goes@example.com", PASSWORD)
        for socket in await opened(Socket, node.port, stays.access_token, 100):
            socket.transport.abort()
        before = node.memory_bytes()
        others = await opened(Socket, node.port, stays.access_token, count - mine)
        held = await opened(Socket, node.port, goes.access_token, mine)
        grown = node.memory_bytes() - before
        began = time.monotonic()
        status = await caller.logout(goes.access_token)
        answered = time.monotonic()
        if status != 204:
            raise RuntimeError(f"logout was answered {status}")
        done, _ = await asyncio.wait([socket.ended for socket in held], timeout=10)
        after = sorted(max(0.0, ended.result() - answered) for ended in done)
        figures = Figures(
            sockets=count,
            closed=len(done),
            told_1008=sum(socket.told for socket in held),
            others_closed=sum(socket.ended.done() for socket in others),
            logout_ms=(answered - began) * 1000,
            last_after_204_ms=(after[-1] if after else 0.0) * 1000,
            median_after_204_ms=percentile(after, 0.5) * 1000 if after else 0.0,
            kb_a_socket=grown / count / 1024,
        )
        for socket in (*others, *held):
            socket.transport.abort()
    finally:
        await caller.close()
    return figures


def descriptors() -> int:
    """As many as may be open in one process: of this one, and of those that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1_048_576 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def versions(cluster: Cluster) -> set[str]:
    """The configurations that the workers run, as `/readyz` of their node tells."""
    found = set()
    for node in cluster.nodes:
        address = f"http://127.0.0.1:{node.port + 20}/readyz"
        with urllib.request.urlopen(address, timeout=5) as page:
            found |= {one["configuration"]["version"] for one in json.load(page)["workers"]}
    return found


def await_edit(cluster: Cluster, before: set[str], within_s: float = 10.0) -> None:
    """Until no worker runs a configuration of `before`; another process has no event for us."""
    deadline = time.monotonic() + within_s
    while not versions(cluster).isdisjoint(before):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the edit was not taken up within {within_s} s")
        time.sleep(0.05)


def main(
    sockets: Annotated[int, typer.Option(min=1, help="All of them.")] = 10_000,
    mine: Annotated[int, typer.Option(min=1, help="Those of the user who signs out.")] = 1_000,
    workers: Annotated[int, typer.Option(min=1)] = 1,
    database_url: Annotated[str, typer.Option(help="Else a PostgreSQL is started.")] = "",
    redis_url: Annotated[str, typer.Option(help="Else a Valkey is started.")] = "",
) -> None:
    """Opens sockets, signs one user out, and says when the last of theirs had ended."""
    sockets = min(sockets, workers * (descriptors() - SPARE_DESCRIPTORS) // 2)
    mine = min(mine, sockets)
    os.environ["GATEWAY_MAX_CONNECTIONS"] = str(2 * sockets + 1_000)
    os.environ["GATEWAY_MAX_CONNECTIONS_PER_ADDRESS"] = "0"  # they are all of this machine
    os.environ["GATEWAY_KEEPALIVE_S"] = "600"
    listening = multiprocessing.get_context("spawn").Event()
    echo = multiprocessing.get_context("spawn").Process(
        target=run_echo, args=(listening,), daemon=True
    )
    echo.start()
    listening.wait(30)
    cluster = Cluster.build(database_url, redis_url)
    routes = cluster.rig.folder / "cfg" / "gateway" / "routes.yaml"
    try:
        cluster.start(nodes=2, workers=workers)
        before = versions(cluster)
        text = routes.read_text("utf-8")
        target = f'{{targets: ["http://127.0.0.1:{ECHO_PORT}"], timeout: {{idle: 10m}}}}'
        text = text.replace("upstreams:\n", f"upstreams:\n  sockets: {target}\n", 1)
        routes.write_text(
            text + "  - id: sockets\n    match: {path: /api/socket}\n    policy: users\n"
            "    action: api:read\n    upstream: sockets\n    websocket: {ping: off}\n",
            "utf-8",
        )
        await_edit(cluster, before)
        cluster.add_user("stays@example.com")
        cluster.add_user("goes@example.com")
        figures = asyncio.run(measure(cluster, sockets, mine))
        idle = asyncio.run(measure_idle(cluster.nodes[1], sockets))
        figures.idle_connections, figures.kb_a_connection = idle
    finally:
        cluster.stop()
        echo.terminate()
    table = Table(title=f"{mine:,} of {sockets:,} sockets, {workers} worker(s)")
    table.add_column("what")
    table.add_column("", justify="right")
    for name, value in vars(figures).items():
        table.add_row(name.replace("_", " "), f"{value:,.1f}".removesuffix(".0"))
    console.print(table)
    (HERE / ".rig" / "sockets.json").write_text(json.dumps(vars(figures), indent=1) + "\n")
    good = figures.told_1008 == mine and not figures.others_closed
    good = good and figures.idle_connections == sockets
    light = max(figures.kb_a_socket, figures.kb_a_connection) < MOST_KB
    if not good or not light or figures.last_after_204_ms > 1000:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_bench(main)
