"""Lets `gateway why` ask the workers of this machine for a refusal by its id.

A worker listens on a unix socket (0600) in the data folder, named by its process id.  Whoever
connects sends one line, the id, and is sent one JSON document (null: not known here); then the
connection is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.telemetry.socket_folder import SocketFolder

TIMEOUT_S = 1.0
SUFFIX = ".refusals"
_LONGEST_ID_BYTES = 512
_LONGEST_ANSWER_BYTES = 1_048_576


class RefusalSocket:
    """This worker's socket."""

    def __init__(self, folder: Path, find: Callable[[str], Mapping[str, Any] | None]) -> None:
        self._folder = SocketFolder(folder)
        self._find = find
        self._own = f"{os.getpid()}{SUFFIX}"
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Raises OSError where the folder cannot hold a socket."""
        listener = self._folder.listen(self._own)
        self._server = await asyncio.start_unix_server(
            self._answer, sock=listener, limit=_LONGEST_ID_BYTES
        )

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._folder.remove(self._own)
        self._folder.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                request_id = (await reader.readuntil(b"\n")).decode("ascii").strip()
                writer.write(json.dumps(self._find(request_id)).encode())
                await writer.drain()
        except (
            OSError, TimeoutError, ValueError,
            asyncio.IncompleteReadError, asyncio.LimitOverrunError,
        ):  # fmt: skip
            pass  # whoever asks so is no command of ours
        finally:
            writer.close()


def ask_workers(folder: Path, request_id: str) -> tuple[int, Mapping[str, Any] | None]:
    """How many workers answered, and what was told of the refusal; of several that bear the id,
    of the first: `later` counts the others."""
    answered, known = 0, list[dict[str, Any]]()
    sockets = SocketFolder(folder)
    try:
        for name in sockets.names(SUFFIX):
            answer = _ask(sockets, name, request_id)
            if answer is None:
                continue
            answered += 1
            found = json.loads(answer)
            if isinstance(found, dict):
                known.append(found)
        if not known:
            return answered, None
        first = min(known, key=lambda one: str(one["access"].get("@timestamp", "")))
        later = sum(1 + one.get("later", 0) for one in known) - 1
        return answered, {**first, "later": later}
    finally:
        sockets.close()


def _ask(sockets: SocketFolder, name: str, request_id: str) -> bytes | None:
    """None where nobody answers; what a worker that was killed has left is removed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.settimeout(TIMEOUT_S)
        try:
            asked.connect(sockets.path(name))
            asked.sendall(request_id.encode("ascii") + b"\n")
            answer = b""
            while len(answer) < _LONGEST_ANSWER_BYTES and (data := asked.recv(65_536)):
                answer += data
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):
                sockets.remove(name)
            return None
        except OSError:
            return None
    return answer or None
