"""The answers of all workers of this machine, in one stream, for one who looks at them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.telemetry.live_answers import SUFFIX
from gateway.telemetry.socket_folder import SocketFolder

LOOK_AGAIN_S = 2.0
"""For workers that have been begun meanwhile."""
SILENT_S = 20.0
"""A worker that says nothing for so long, not even a beat, is looked for anew."""
QUEUE_MAX = 50
LONGEST_LINE_BYTES = 4_194_304


@dataclass(slots=True)
class LiveBatch:
    answers: list[dict[str, Any]] = field(default_factory=list)
    dropped: int = 0
    busy: bool = False
    """Whether a worker has as many viewers as it takes."""


async def follow_workers(folder: Path, *, allowed: bool) -> AsyncGenerator[LiveBatch, None]:
    """What each worker tells, as it comes; an empty batch now and then.  Close it to end it."""
    sockets = SocketFolder(folder)
    queue: asyncio.Queue[LiveBatch] = asyncio.Queue(QUEUE_MAX)
    followed: dict[str, asyncio.Task[None]] = {}
    try:
        while True:
            for name in sockets.names(SUFFIX):
                if name not in followed or followed[name].done():
                    followed[name] = asyncio.create_task(_follow(sockets, name, allowed, queue))
            try:
                yield await asyncio.wait_for(queue.get(), LOOK_AGAIN_S)
            except TimeoutError:
                yield LiveBatch()
    finally:
        for task in followed.values():
            task.cancel()
        await asyncio.gather(*followed.values(), return_exceptions=True)
        sockets.close()


async def _follow(
    sockets: SocketFolder, name: str, allowed: bool, queue: asyncio.Queue[LiveBatch]
) -> None:
    writer: asyncio.StreamWriter | None = None
    try:
        reader, writer = await asyncio.open_unix_connection(
            sockets.path(name), limit=LONGEST_LINE_BYTES
        )
        writer.write(b"all\n" if allowed else b"refusals\n")
        while line := await asyncio.wait_for(reader.readline(), SILENT_S):
            told = json.loads(line)
            if told.get("beat"):
                continue
            batch = LiveBatch(
                told.get("answers", []), told.get("dropped", 0), told.get("busy", False)
            )
            # Who reads slowly loses at the worker, where it is counted.
            await queue.put(batch)
    except (ConnectionRefusedError, FileNotFoundError):
        with contextlib.suppress(OSError):
            sockets.remove(name)
    except (OSError, ValueError, TimeoutError):
        pass  # it is looked for anew
    finally:
        if writer is not None:
            writer.close()
