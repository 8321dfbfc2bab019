"""Connections to PostgreSQL: aiopg's, with what it leaves open mended, by libpq's own URLs.

- A server-side cancel or a statement time-out comes out of aiopg as `CancelledError`, with
  a traceback in the log: `PostgresSession` raises the query's own error instead.
- aiopg leaves the loop watching a number that libpq may have closed: `PostgresSession` does not.
- libpq resolves names synchronously, so they are resolved here first.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Any

import aiopg
import psycopg2
import psycopg2.extensions

from gateway.stores import causes
from gateway.stores.protocols import StoreUnavailable

_DEFAULTS = {
    "application_name": "authgate",
    "gssencmode": "disable",
    "keepalives_idle": "30",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
"""Of libpq; the URL's own options win over them."""


async def connected(url: str, timeout_s: float) -> aiopg.Connection:
    """A session with the first of the URL's servers that takes one."""
    try:
        parameters = psycopg2.extensions.parse_dsn(url)
    except psycopg2.Error as error:
        # Its text has the URL, and that the password.
        raise StoreUnavailable("sql", "GATEWAY_DATABASE_URL cannot be read") from error
    try:
        places = await _places(parameters)
    except (psycopg2.Error, OSError, ValueError) as error:
        raise StoreUnavailable("sql", causes.of_postgres(error, parameters)) from error
    failure: Exception | None = None
    failed = ""
    for number, place in enumerate(places):
        try:
            return await PostgresSession(place, timeout_s / (len(places) - number))
        except Exception as error:  # noqa: BLE001 (bytes that no server of ours sends, among others)
            failure, failed = error, causes.of_postgres(error, place)
    raise StoreUnavailable("sql", failed) from failure


async def _places(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameters for each host of the URL and each of its addresses.

    libpq would block the loop on a name server, so it is given `hostaddr` (and `host` to hold
    the certificate against).
    """
    parameters = {**_DEFAULTS, **parameters}
    hosts = str(parameters.get("host", "")).split(",")
    ports = str(parameters.get("port", "")).split(",")
    if "hostaddr" in parameters or any(not host or host.startswith("/") for host in hosts):
        return [parameters]
    loop = asyncio.get_running_loop()
    places = []
    for number, host in enumerate(hosts):
        infos = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        port = ports[number] if len(ports) == len(hosts) else ports[0]
        for address in dict.fromkeys(str(each[4][0]) for each in infos):
            place = {**parameters, "host": host, "hostaddr": address}
            places.append({**place, "port": port} if port else place)
    return places


class PostgresSession(aiopg.Connection):
    """An aiopg connection that waits for its socket in its own way.

    libpq opens and closes its socket as it likes, so that the number which aiopg gave to the
    loop may be closed behind the loop's back and mean another socket by then: uvloop then
    refuses the number for ever.  The loop is given a duplicate that is ours to close.  And a
    cancelled query is raised as the error it is, without a traceback in the log.
    """

    def __init__(self, parameters: Mapping[str, Any], timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._enable_json = self._enable_hstore = self._enable_uuid = False
        self._timeout = timeout
        self._echo = False
        self._writing = False
        self._fileno: int | None = None
        self._last_usage = self._loop.time()
        self._waiter: asyncio.Future[None] | None = self._loop.create_future()
        self._conn = psycopg2.connect(async_=True, **parameters)
        self._watch()

    async def _poll(self, waiter: asyncio.Future[None], timeout: float) -> None:
        self._step()
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except (asyncio.CancelledError, TimeoutError):
            self._close()
            raise
        finally:
            self._waiter = None

    def _step(self) -> None:
        """The socket is ready, or libpq has something to send."""
        waiter = self._waiter
        try:
            state = self._conn.poll()
            answered = state == psycopg2.extensions.POLL_OK
            if answered and waiter is not None and not waiter.done():
                waiter.set_result(None)
            self._watch()
            self._write(state == psycopg2.extensions.POLL_WRITE)
        except Exception as error:  # noqa: BLE001 (whoever waits has it: the loop has no use for it)
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)
            if waiter is None or self._conn.closed:
                # Nobody asked: the server has ended the session.
                self._close()

    def _watch(self) -> None:
        """The loop watches the socket that libpq has now."""
        socket_number = self._conn.fileno()
        if self._fileno is not None:
            if os.path.sameopenfile(self._fileno, socket_number):
                return
            self._unwatch()
        self._fileno = os.dup(socket_number)
        self._loop.add_reader(self._fileno, self._step)

    def _write(self, wanted: bool) -> None:
        if wanted == self._writing or self._fileno is None:
            return
        self._writing = wanted
        if wanted:
            self._loop.add_writer(self._fileno, self._step)
        else:
            self._loop.remove_writer(self._fileno)

    def _unwatch(self) -> None:
        if self._fileno is not None:
            self._write(False)
            self._loop.remove_reader(self._fileno)
            os.close(self._fileno)
            self._fileno = None

    def _close(self) -> None:
        self._unwatch()
        self._conn.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(psycopg2.OperationalError("closed"))
