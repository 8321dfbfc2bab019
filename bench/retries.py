"""`python -m bench.retries`: is a call lost on the way to an upstream that fails in between?

Two figures.  POSTs to an upstream that closes after each answer: each needs a connection of its
own, and none may be 502.  PUTs and DELETEs whose first try fails before their body was read
(a status that is tried again, a kept connection that had ended, a target that refuses), with bodies
from 0 B to 10 MiB, at once and after `100 Continue`: each must arrive whole, and none may hang.
Exits 1 otherwise.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.processes import run_bench
from tests.contract.running import Running, started
from tests.edge.rig import OK, Client, Exchange, RawUpstream
from tests.ports import free_port

console = Console()
CLIENTS = 16
HANGS_AFTER_S = 30.0
SIZES = (0, 1, 1_000, 65_536, 300_000, 1 << 20, 10 << 20)
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ROUTES = """\
version: 1
upstreams:
  closing:
    targets: ["http://127.0.0.1:@closing@"]
    timeout:
      connect: 30s
  failing:
    targets: ["http://127.0.0.1:@failing@"]
    retry: &twice
      attempts: 2
      on: [connect, "503"]
      budget: 100%
  refusing:
    targets: ["http://127.0.0.1:@dead@", "http://127.0.0.1:@failing@"]
    retry: *twice
routes:
  - id: closing
    match:
      path: /closing
    auth: public
    upstream: closing
  - id: failing
    match:
      path: "/failing/{{rest:path}}"
    auth: public
    upstream: failing
  - id: refusing
    match:
      path: "/refusing/{{rest:path}}"
    auth: public
    upstream: refusing
"""


async def closes(exchange: Exchange) -> None:
    await exchange.body()
    exchange.send(CLOSING)
    exchange.close()


class Failing:
    """Fails the first try of each call as its path says, and takes the second one whole."""

    def __init__(self) -> None:
        self.tried: Counter[bytes] = Counter()
        self.digests: dict[bytes, str] = {}
        self.changed = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        path = exchange.received.line.split(b" ")[1]
        if path.endswith(b"/warm"):
            exchange.send(OK)
            return
        self.tried[path] += 1
        self.changed.set()
        self.changed = asyncio.Event()
        if self.tried[path] == 1 and b"/status/" in path:
            exchange.send(BUSY)
            return
        if self.tried[path] == 1 and b"/ended/" in path:
            exchange.abort()
            return
        if exchange.received.values("expect"):
            exchange.send(CONTINUE)
        self.digests[path] = hashlib.sha256(await exchange.body()).hexdigest()
        exchange.send(OK)

    async def until(self, path: bytes, tries: int) -> None:
        while self.tried[path] < tries:
            await self.changed.wait()


async def connected(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))


async def send_posts(port: int, posts: int) -> Counter[int]:
    statuses: Counter[int] = Counter()
    left = iter(range(posts))
    call = b"POST /closing HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"

    async def one() -> None:
        client = await connected(port)
        for _ in left:
            await client.send(call)
            statuses[(await client.answer()).status] += 1
        client.close()

    await asyncio.gather(*(one() for _ in range(CLIENTS)))
    return statuses


async def put(port: int, failing: Failing, number: int) -> str:
    """One call whose first try fails: `whole`, or what became of it."""
    kind = ("status", "ended", "refused")[number % 3]
    size = SIZES[number // 3 % len(SIZES)]
    method = ("PUT", "DELETE")[number // 21 % 2]
    expect = bool(number // 42 % 2) and size > 0
    body = hashlib.shake_128(b"%d" % number).digest(size)
    path = f"/{'refusing' if kind == 'refused' else 'failing'}/{kind}/{number}".encode()
    client = await connected(port)
    try:
        async with asyncio.timeout(HANGS_AFTER_S):
            if kind == "ended":
                await client.send(b"GET /failing/warm HTTP/1.1\r\nHost: x\r\n\r\n")
                await client.answer()
            await client.send(
                b"%b %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n"
                % (method.encode(), path, size, b"Expect: 100-continue\r\n" if expect else b"")
            )
            if size:
                await failing.until(path, 1 if kind == "refused" else 2)
                await client.send(body)
            answer = await client.answer()
            while answer.status == 100:
                answer = await client.answer()
    except TimeoutError:
        return "hangs"
    except (ConnectionError, asyncio.IncompleteReadError):
        return "cut"
    finally:
        client.close()
    if answer.status != 200:
        return str(answer.status)
    whole = failing.digests.get(path) == hashlib.sha256(body).hexdigest()
    return "whole" if whole else "not whole"


async def send_puts(running: Running, failing: Failing, puts: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for number in range(puts):
        if number % 3 == 2:
            # Targets take turns: the call before it took that of the target that is there.
            await put(running.port, failing, 1_000_000 + 3 * number + 2)
        found[await put(running.port, failing, number)] += 1
    return found


async def measure(posts: int, puts: int) -> dict[str, object]:
    failing = Failing()
    upstreams = {"closing": RawUpstream(closes), "failing": RawUpstream(failing)}
    for upstream in upstreams.values():
        await upstream.start()
    routes = ROUTES.replace("@dead@", str(free_port()))
    for name, upstream in upstreams.items():
        routes = routes.replace(f"@{name}@", str(upstream.port))
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="authgate-retries-") as folder:
        gateway = started(Path(folder) / "g", "--workers", "1", routes=routes)
        running = await asyncio.to_thread(gateway.__enter__)
        try:
            await _measure(running, failing, figures, posts, puts)
        finally:
            await asyncio.to_thread(gateway.__exit__, None, None, None)
    for upstream in upstreams.values():
        await upstream.stop()
    return figures


async def _measure(
    running: Running, failing: Failing, figures: dict[str, object], posts: int, puts: int
) -> None:
    steps: dict[str, Callable[[], Awaitable[Counter[int] | Counter[str]]]] = {
        "posts": lambda: send_posts(running.port, posts),
        "retried": lambda: send_puts(running, failing, puts),
    }
    for name, step in steps.items():
        began_at = time.monotonic()
        figures[name] = {str(outcome): count for outcome, count in (await step()).items()}
        figures[f"{name}_s"] = round(time.monotonic() - began_at, 1)


def main(
    posts: Annotated[int, typer.Option(min=0)] = 100_000,
    puts: Annotated[int, typer.Option(min=0)] = 1_000,
) -> None:
    """Send calls to upstreams that close, fail and refuse, and count what was lost."""
    figures = asyncio.run(measure(posts, puts))
    console.print_json(json.dumps(figures))
    good = figures["posts"] in ({}, {"200": posts}) and figures["retried"] in ({}, {"whole": puts})
    raise typer.Exit(0 if good else 1)


if __name__ == "__main__":
    run_bench(main)
