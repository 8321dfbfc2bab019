"""Sessions with PostgreSQL: psycopg's, opened within a share of the time for each server.

psycopg gives each attempt whole seconds and at least two; a caller of ours has less than two for
all of them.  So the hosts of libpq's own URL are resolved and tried here.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from gateway.stores import postgres_causes
from gateway.stores.protocols import StoreUnavailable
from gateway.stores.translation import forget_frames

_DEFAULTS = {
    "application_name": "authgate",
    "gssencmode": "disable",
    "keepalives_idle": "30",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
"""Of libpq; the URL's own options win over them."""


class PostgresSession(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A session that is closed at once when a task that waits for it is cancelled.

    psycopg would ask the server to cancel the query and wait up to 5 s for that; a server that
    hangs answers neither, and `statement_timeout` ends the query of one that does not.
    """

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:
        """What psycopg calls then; it watches the socket no more."""
        self.pgconn.finish()


async def open_session(url: str, timeout_s: float) -> PostgresSession:
    """A session with the first of the URL's servers that takes one."""
    try:
        parameters = conninfo_to_dict(url)
    except psycopg.Error as error:
        # Its text has the URL, and that the password.
        raise StoreUnavailable("sql", "GATEWAY_DATABASE_URL cannot be read") from error
    try:
        servers = await _servers(parameters)
    except (OSError, ValueError) as error:
        raise StoreUnavailable("sql", postgres_causes.of_postgres(error, parameters)) from error
    failure: Exception | None = None
    cause = ""
    for number, server in enumerate(servers):
        try:
            async with asyncio.timeout(timeout_s / (len(servers) - number)):
                return await PostgresSession.connect(
                    autocommit=True,
                    prepare_threshold=None,
                    cursor_factory=psycopg.AsyncClientCursor,
                    **server,
                )
        except Exception as error:  # noqa: BLE001 (bytes that no server of ours sends, among others)
            failure, cause = error, postgres_causes.of_postgres(error, server)
            forget_frames(error)
    try:
        raise StoreUnavailable("sql", cause) from failure
    finally:
        del failure  # else this function is in such a circle, too


async def _servers(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameters for each host of the URL and each of its addresses."""
    parameters = {**_DEFAULTS, **parameters}
    hosts = str(parameters.get("host", "")).split(",")
    ports = str(parameters.get("port", "")).split(",")
    if "hostaddr" in parameters or any(not host or host.startswith("/") for host in hosts):
        return [parameters]
    loop = asyncio.get_running_loop()
    servers = []
    for number, host in enumerate(hosts):
        infos = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        port = ports[number] if len(ports) == len(hosts) else ports[0]
        for address in dict.fromkeys(str(info[4][0]) for info in infos):
            server = {**parameters, "host": host, "hostaddr": address}
            servers.append({**server, "port": port} if port else server)
    return servers
