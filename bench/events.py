"""`python -m bench.events`: how much later does a byte of an event stream arrive than it was sent?

An upstream writes the clock into the first bytes of its answer and into each event; the client
reads the clock when they arrive (CLOCK_MONOTONIC is one for all processes).  Streams are read
directly and through the gateway in turn, several at a time.  Exits 1 when the gateway adds 5 ms or
more to the first byte at the median.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from contextlib import suppress
from multiprocessing.synchronize import Event
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.client import Caller, Times
from bench.cluster import PASSWORD, Cluster, percentile
from bench.processes import run_bench
from bench.rig import BASE_PORT, HERE
from bench.sockets import await_edit, versions

console = Console()
EVENTS_PORT = BASE_PORT + 91
EVENTS = 10
THINKS_S = 0.005
"""From the request to the first byte, and between two events: nothing is sent with the next."""
MOST_ADDED_MS = 5.0


def run_upstream(listening: Event) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(THINKS_S)
                head = (
                    f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                    f"X-Sent: {time.monotonic_ns()}\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                writer.write(head.encode())
                for _ in range(EVENTS):
                    await asyncio.sleep(THINKS_S)
                    event = b"data: %d\n\n" % time.monotonic_ns()
                    writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                writer.write(b"0\r\n\r\n")
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", EVENTS_PORT)
        listening.set()
        await server.serve_forever()

    asyncio.run(run())


class Delays:
    """Milliseconds on the way, of first bytes and of events."""

    def __init__(self) -> None:
        self.first: list[float] = []
        self.events: list[float] = []

    async def read(self, port: int, token: str, streams: int) -> None:
        """So many streams, one after the other on one connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(streams):
            writer.write(
                b"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
                b"Authorization: Bearer %b\r\n\r\n" % token.encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            arrived = time.monotonic_ns()
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(head.decode("latin-1"))
            sent = int(head.lower().partition(b"x-sent: ")[2].split(b"\r\n")[0])
            self.first.append((arrived - sent) / 1e6)
            while (line := await reader.readline()) != b"0\r\n":
                if line.startswith(b"data: "):
                    self.events.append((time.monotonic_ns() - int(line[6:])) / 1e6)
            await reader.readline()
        writer.close()


async def measure(cluster: Cluster, rounds: int, at_once: int, streams: int) -> dict[str, Delays]:
    node = cluster.nodes[0]
    caller = Caller(node.url, Times())
    found = {"direct": Delays(), "gateway": Delays()}
    ports = {"direct": EVENTS_PORT, "gateway": node.port}
    try:
        token = (await caller.login("reads@example.com", PASSWORD)).access_token
        for _ in range(rounds):
            for name, delays in found.items():
                work = (delays.read(ports[name], token, streams) for _ in range(at_once))
                await asyncio.gather(*work)
    finally:
        await caller.close()
    return found


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 10,
    at_once: Annotated[int, typer.Option(min=1, help="Streams that are read at a time.")] = 8,
    streams: Annotated[int, typer.Option(min=1, help="On each connection.")] = 10,
) -> None:
    """Prints the delays, directly and through the gateway."""
    listening = multiprocessing.get_context("spawn").Event()
    upstream = multiprocessing.get_context("spawn").Process(
        target=run_upstream, args=(listening,), daemon=True
    )
    upstream.start()
    listening.wait(30)
    cluster = Cluster.build()
    routes = cluster.rig.folder / "cfg" / "gateway" / "routes.yaml"
    try:
        cluster.start(nodes=1, workers=1)
        before = versions(cluster)
        target = f'{{targets: ["http://127.0.0.1:{EVENTS_PORT}"]}}'
        text = routes.read_text("utf-8")
        text = text.replace("upstreams:\n", f"upstreams:\n  events: {target}\n", 1)
        routes.write_text(
            text + "  - id: stream\n    match: {path: /api/stream}\n    policy: users\n"
            "    action: api:read\n    upstream: events\n",
            "utf-8",
        )
        await_edit(cluster, before)
        cluster.add_user("reads@example.com")
        found = asyncio.run(measure(cluster, rounds, at_once, streams))
    finally:
        cluster.stop()
        upstream.terminate()
    table = Table(title=f"{len(found['gateway'].first):,} streams, {at_once} at a time; ms")
    for column in ("", "first byte, median", "p99", "an event, median", "p99"):
        table.add_column(column, justify="right")
    told = {
        name: [percentile(values, q) for values in (d.first, d.events) for q in (0.5, 0.99)]
        for name, d in found.items()
    }
    told["added"] = [a - b for a, b in zip(told["gateway"], told["direct"], strict=True)]
    for name, values in told.items():
        table.add_row(name, *(f"{value:.2f}" for value in values))
    console.print(table)
    (HERE / ".rig" / "events.json").write_text(json.dumps(told, indent=1) + "\n")
    if told["added"][0] >= MOST_ADDED_MS:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_bench(main)
