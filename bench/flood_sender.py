"""`python -m bench.flood_sender PORT NAME...`: sends floods until standard input ends.

A process of its own, of the lowest priority: who floods from elsewhere takes nothing of the cores
of the gateway, and nothing of the process that times what others feel.  Prints the answers by
status, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from bench.flood_requests import CONNECTIONS, FLOODS, Flood
from bench.processes import run_bench

LOWEST_PRIORITY = 19


async def hammer(
    port: int, flood: Flood, *, stop: asyncio.Event, most: int, per_s: float = 0.0
) -> Counter[int]:
    """Sends the flood over CONNECTIONS connections until `stop`, or `most` were sent; the answers
    by status.  `per_s`: not faster than that, all together."""
    statuses: Counter[int] = Counter()
    sent, began = 0, time.monotonic()

    async def one() -> None:
        nonlocal sent
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        while not stop.is_set() and sent < most:
            number, sent = sent, sent + 1
            if per_s and (early_s := began + number / per_s - time.monotonic()) > 0:
                await asyncio.sleep(early_s)
            try:
                if reader is None or writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(flood.request(number))
                status, closes = await read_answer(reader)
            except (OSError, EOFError, asyncio.LimitOverrunError):
                status, closes = 0, True
            statuses[status] += 1
            if closes and writer is not None:
                writer.close()
                reader = writer = None
        if writer is not None:
            writer.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return statuses


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """The status, and whether the connection closes."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head.split(b" ", 2)[1])
    if status not in (204, 304):
        length = re.search(rb"\ncontent-length: *(\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
    return status, b"\nconnection: close" in head


async def _until_told(port: int, floods: Sequence[Flood], per_s: float) -> Counter[int]:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, stop.set)
    each = per_s / len(floods)
    sent = (hammer(port, flood, stop=stop, most=10**9, per_s=each) for flood in floods)
    return sum(await asyncio.gather(*sent), Counter[int]())


def main(port: int, names: list[str], per_s: Annotated[float, typer.Option(min=0)] = 0.0) -> None:
    """Sends the floods of those names, over and over, `per_s` calls a second in all."""
    os.nice(LOWEST_PRIORITY)
    floods = [flood for flood in FLOODS if flood.name in names]
    with suppress(BrokenPipeError):
        print(json.dumps(asyncio.run(_until_told(port, floods, per_s))), flush=True)


if __name__ == "__main__":
    run_bench(main)
