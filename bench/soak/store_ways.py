"""`python -m bench.soak.store_ways PORT:TARGET…`: the network between the nodes and their stores,
in a process of its own, so that the traffic beside it delays nobody's lease.

Reads commands from its standard input, `INDEX reset` or `INDEX FAULT` (tests/faults.py), and
answers each with a line when it is so.
"""

from __future__ import annotations

import asyncio
import sys

from tests.faults import Fault, FaultProxy

RESET = "reset-idle"


async def _main(words: list[str]) -> None:
    ways = []
    for word in words:
        port, _, target = word.partition(":")
        way = FaultProxy(("127.0.0.1", int(target)))
        way.port = int(port)
        await way.start()
        ways.append(way)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    print("ready", flush=True)
    while line := await reader.readline():
        index, _, what = line.decode().strip().partition(" ")
        way = ways[int(index)]
        if what == RESET:
            await way.reset_idle()
        else:
            await way.set(Fault(what))
        print("done", flush=True)
    for way in ways:
        await way.stop()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
