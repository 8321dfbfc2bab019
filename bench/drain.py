"""`python -m bench.drain`: what a node loses that is told to end while it is busy.

Callers call it without a pause: some over a new connection each time, some over kept ones, some
that connect first and speak a moment later.  It gets a SIGTERM, and each caller goes on until
nobody listens any more.  Counted are calls whose connection had been made and that were not
answered, those that were neither answered nor ended, and the seconds until the process was
gone.  Exits 1 when more than 3 of one round were dropped, one had no end, or the process
outlasted `GATEWAY_DRAIN_S` by more than 3 s.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.cluster import Cluster
from bench.processes import Started, run_bench

console = Console()
MOST_DROPPED = 3
MOST_EXTRA_S = 3.0
NO_END_S = 15.0
"""A call that has neither an answer nor an end by then waits for ever."""


@dataclass
class Callers:
    """`count` of them, which call until nobody listens at the port."""

    port: int
    head: bytes
    count: int = 24
    found: Counter[str] = field(default_factory=Counter)
    """How the calls ended: `answered`, `dropped`, `without an end`, or a status."""

    async def run(self) -> None:
        kinds = (self._new_connections, self._kept_connections, self._late_speakers)
        await asyncio.gather(*(kinds[number % 3]() for number in range(self.count)))

    async def _new_connections(self) -> None:
        while await self._calls(1):
            pass

    async def _kept_connections(self) -> None:
        while await self._calls(20):
            pass

    async def _late_speakers(self) -> None:
        drawn = random.Random(self.port)
        while await self._calls(2, pause=lambda: drawn.uniform(0.0, 0.1)):
            pass

    async def _calls(self, most: int, pause: Callable[[], float] | None = None) -> bool:
        """Calls over one connection; False once nobody listens."""
        try:
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except (OSError, TimeoutError):
            return False
        try:
            for _ in range(most):
                if pause is not None:
                    await asyncio.sleep(pause())
                async with asyncio.timeout(NO_END_S):
                    writer.write(self.head)
                    status, closing = await _answer(reader)
                self.found["answered" if status == 200 else str(status)] += 1
                if closing:
                    break
        except (OSError, asyncio.IncompleteReadError):
            self.found["dropped"] += 1
        except TimeoutError:
            self.found["without an end"] += 1
        finally:
            writer.close()
        return True


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1]), b"\r\nconnection: close\r\n" in head


@dataclass
class Ended:
    """What one SIGTERM cost."""

    found: Counter[str]
    exit_s: float

    @property
    def dropped(self) -> int:
        return self.found["dropped"]

    @property
    def without_an_end(self) -> int:
        return self.found["without an end"]


async def end_under_load(
    callers: Callers, pid: int, gone: Callable[[], bool], after_s: float
) -> Ended:
    """SIGTERM once the callers have called for so long; `gone` tells when the process is."""
    calling = asyncio.create_task(callers.run())
    await asyncio.sleep(after_s)
    os.kill(pid, signal.SIGTERM)
    began_at = time.monotonic()
    while not gone():
        await asyncio.sleep(0.02)
    exit_s = time.monotonic() - began_at
    await calling
    return Ended(callers.found, exit_s)


def _gone(process: Started) -> bool:
    return process.ended


def main(
    rounds: Annotated[int, typer.Option(help="SIGTERMs.")] = 5,
    callers: Annotated[int, typer.Option(help="At a time.")] = 24,
    workers: Annotated[int, typer.Option(help="Of the node.")] = 2,
    drain_s: Annotated[float, typer.Option(help="GATEWAY_DRAIN_S.")] = 1.0,
) -> None:
    """SIGTERM under load, and who notices."""
    ended: list[Ended] = []
    settings = {"GATEWAY_DRAIN_S": str(drain_s), "GATEWAY_KEY_SECRET": secrets.token_hex(32)}
    cluster = Cluster.build()
    try:
        for number in range(rounds):
            cluster.start(nodes=1, workers=workers, settings=settings)
            node = cluster.nodes.pop()
            head = f"GET /public/x HTTP/1.1\r\nHost: 127.0.0.1:{node.port}\r\n\r\n".encode()
            process = node.process
            one = Callers(node.port, head, callers)
            ending = end_under_load(one, process.pid, partial(_gone, process), 1 + number / 10)
            ended.append(asyncio.run(ending))
            process.stop()
    finally:
        cluster.stop()
    table = Table("SIGTERM", "answered", "dropped", "without an end", "other", "gone after s")
    bad = False
    for number, round_ in enumerate(ended, 1):
        counted = ("answered", "dropped", "without an end")
        other = {k: v for k, v in round_.found.items() if k not in counted}
        bad = bad or round_.dropped > MOST_DROPPED or round_.without_an_end > 0
        bad = bad or round_.exit_s > drain_s + MOST_EXTRA_S
        row = [str(round_.found[name]) for name in counted]
        table.add_row(str(number), *row, str(other or ""), f"{round_.exit_s:.1f}")
    console.print(table)
    console.print(f"GATEWAY_DRAIN_S={drain_s:g}, {workers} workers, {callers} callers")
    if bad:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_bench(main)
