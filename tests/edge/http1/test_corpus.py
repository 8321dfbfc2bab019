"""One file for each defect that was met: its bytes are sent again for ever.

A file of `tests/corpus` is YAML: `about` tells the defect; `client` is what a client sends, cut
where the list is; `upstream` is what the upstream answers, if not 200; `expect` are the statuses
that come back (then the connection may end), and `arrive` the request lines that the upstream
may see.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.edge.rig import OK, Exchange, running

BOTH_LOOPS = True
FILES = sorted((Path(__file__).parents[2] / "corpus").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_a_past_defect_stays_mended(path: Path) -> None:
    case: dict[str, Any] = yaml.safe_load(path.read_text())
    reply = case.get("upstream", "").encode("latin-1") or OK

    async def script(exchange: Exchange) -> None:
        await exchange.body()
        exchange.send(reply)

    async with running(script) as rig:
        client = await rig.client()
        for piece in case["client"]:
            await client.send(piece.encode("latin-1"))
            await asyncio.sleep(0)
        to_head = case["client"][0].startswith("HEAD")
        statuses = [(await client.answer(to_head=to_head)).status for _ in case["expect"]]
        assert statuses == case["expect"]
        lines = [received.line.decode() for received in rig.upstream.requests]
        assert lines == case["arrive"]
        for received in rig.upstream.requests:
            assert b"smuggled" not in received.head.lower()


def test_there_is_a_corpus() -> None:
    assert FILES
