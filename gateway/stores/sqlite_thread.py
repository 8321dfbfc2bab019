"""A connection of sqlite3 in a thread of its own, which runs the callers' work in order."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from gateway.stores.protocols import StoreUnavailable

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]


class SqliteThread:
    """Opens its connection with the first work; its thread does not hold up the process's end."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._queue: SimpleQueue[tuple[Work | None, asyncio.Future[Any]]] = SimpleQueue()
        self._closed = False
        Thread(target=_serve, args=(connect, self._queue), name="sqlite", daemon=True).start()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Raises what `work` raises.  The work of a cancelled caller is finished all the same,
        before the next begins."""
        if self._closed:
            raise StoreUnavailable("sql", "closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put((work, future))
        return await future

    async def close(self) -> None:
        """Closes the connection behind the work that waits."""
        if not self._closed:
            self._closed = True
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.put((None, future))
            await future


def _serve(
    connect: Callable[[], sqlite3.Connection],
    queue: SimpleQueue[tuple[Work | None, asyncio.Future[Any]]],
) -> None:
    connection: sqlite3.Connection | None = None
    while True:
        work, future = queue.get()
        if work is None:
            if connection is not None:
                connection.close()
            _tell(future, _resolve, None)
            return
        try:
            connection = connection or connect()
            result = work(connection)
        except BaseException as error:  # noqa: BLE001 (whatever it was, its caller has it)
            _tell(future, _fail, error)
        else:
            _tell(future, _resolve, result)
        del work, future  # nothing of a caller is kept until the next one comes


def _tell(
    future: asyncio.Future[Any], deliver: Callable[[asyncio.Future[Any], Any], None], outcome: Any
) -> None:
    with suppress(RuntimeError):  # its loop is closed: nobody waits
        future.get_loop().call_soon_threadsafe(deliver, future, outcome)


def _resolve(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
