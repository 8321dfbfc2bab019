"""Lets one worker answer for all: each tells the others its status.

A worker listens on a unix socket (0600) in the data folder, named by its process id.  Whoever
connects is sent one JSON document and the connection is closed: nothing is read, so there is
nothing to parse.  The worker that is asked for `/metrics`, `/readyz` or the admin page
gathers from all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from gateway.telemetry.socket_folder import SocketFolder

log = structlog.get_logger(__name__)

TIMEOUT_S = 1.0

Status = Mapping[str, Any]


class WorkerStatusSocket:
    """This worker's socket, and the way to those of the others."""

    def __init__(self, folder: Path, status: Callable[[], Status], suffix: str = ".sock") -> None:
        """`suffix` tells the sockets of one kind of status from those of another."""
        self._folder = SocketFolder(folder)
        self._status = status
        self._suffix = suffix
        self._own = f"{os.getpid()}{suffix}"
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Raises OSError where the folder cannot hold a socket."""
        listener = self._folder.listen(self._own)
        self._server = await asyncio.start_unix_server(self._answer, sock=listener)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                self._folder.remove(self._own)
        self._folder.close()

    async def gather(self) -> list[Status]:
        """The status of every live worker, this one first.  A worker that does not answer within
        a second is left out; the socket of a dead one is removed."""
        others = [name for name in self._folder.names(self._suffix) if name != self._own]
        statuses = await asyncio.gather(*(self._ask(name) for name in others))
        return [self._status(), *(status for status in statuses if status is not None)]

    async def _ask(self, name: str) -> Status | None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._folder.path(name))
                try:
                    answer = json.loads(await reader.read())
                finally:
                    writer.close()
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(OSError):
                self._folder.remove(name)
            return None
        except (OSError, ValueError, TimeoutError) as error:
            peer = int(name.removesuffix(self._suffix)) if name[:1].isdigit() else name
            log.warning("worker-unresponsive", peer=peer, error=type(error).__name__)
            return None
        return answer if isinstance(answer, dict) else None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        try:
            writer.write(json.dumps(self._status()).encode())
            await asyncio.wait_for(writer.drain(), TIMEOUT_S)
        except (OSError, TimeoutError):
            pass
        finally:
            writer.close()
