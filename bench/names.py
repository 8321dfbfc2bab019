"""`python -m bench.names`: what a name that takes 8 s to resolve costs the calls to other names.

A name server of ours answers for ten upstreams, each question 8 s after it was asked, again and
again.  Beside that, callers at a person's pace call an upstream by another name; how long their
slowest calls take is told without the slow names and with them.  Needs root, for a name server of
its own (unshare).  Exits 1 when the p99 has more than doubled, or when no question came.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.cluster import percentile
from bench.flood_requests import request
from bench.floods import CALLERS, timed_call
from bench.processes import run_bench
from tests.contract.running import started
from tests.e2e.test_names import NAMES, SILENT, routes

console = Console()


class SlowNames(asyncio.DatagramProtocol):
    """Says of every name that it is 127.0.0.1, `after_s` seconds later (RFC 1035 section 4.1)."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._transport: asyncio.DatagramTransport | None = None
        self.asked = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str | int, int]) -> None:
        self.asked += 1
        end = data.index(b"\0", 12) + 5
        kind = data[end - 4 : end - 2]
        address = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1" if kind == b"\0\1" else b""
        count = b"\0\1" if address else b"\0\0"
        answer = data[:2] + b"\x81\x80\0\1" + count + b"\0\0\0\0" + data[12:end] + address
        asyncio.get_running_loop().call_later(self._after_s, self._answer, answer, addr)

    def _answer(self, answer: bytes, addr: tuple[str | int, int]) -> None:
        if self._transport is not None:
            self._transport.sendto(answer, addr)


async def other_calls(port: int, seconds: float) -> list[float]:
    asked = request("GET", "/public/x")
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    took: list[float] = []

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while loop.time() < until:
            took.append(await timed_call(reader, writer, asked))
            await asyncio.sleep(0.02)
        writer.close()

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return took


async def slow_call(port: int, name: str) -> None:
    """Asks again as soon as it is answered or cut."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request("GET", f"/{name}", "Connection: close"))
            with suppress(EOFError):
                await reader.read()
            writer.close()


async def measure(port: int, seconds: float, after_s: float) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    alone = percentile(await other_calls(port, seconds), 0.99)
    transport, names = await loop.create_datagram_endpoint(
        lambda: SlowNames(after_s), local_addr=(SILENT, 53)
    )
    slow = [asyncio.create_task(slow_call(port, name)) for name in NAMES]
    try:
        beside = percentile(await other_calls(port, seconds), 0.99)
    finally:
        for task in slow:
            task.cancel()
        transport.close()
    return {
        "questions": names.asked,
        "alone_p99_ms": round(alone * 1e3, 2),
        "beside_p99_ms": round(beside * 1e3, 2),
        "ratio": round(beside / alone, 2),
    }


def main(
    seconds: Annotated[float, typer.Option(min=1, help="For each of the two phases.")] = 30.0,
    after_s: Annotated[float, typer.Option(min=0, help="How long a name takes.")] = 8.0,
) -> None:
    """Times other calls without and with names that take long to resolve."""
    with tempfile.TemporaryDirectory(prefix="authgate-names-") as folder:
        resolv = Path(folder) / "resolv.conf"
        resolv.write_text(f"nameserver {SILENT}\noptions timeout:30 attempts:1\n", "utf-8")
        within = ("unshare", "--mount", "sh", "-c",
                  f'mount --bind "{resolv}" /etc/resolv.conf && exec "$@"', "sh")  # fmt: skip
        with started(Path(folder) / "g", routes=routes(), within=within) as running:
            figures = asyncio.run(measure(running.port, seconds, after_s))
    console.print_json(json.dumps(figures))
    raise typer.Exit(1 if figures["ratio"] > 2 or not figures["questions"] else 0)


if __name__ == "__main__":
    run_bench(main)
