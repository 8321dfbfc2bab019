"""`python -m bench.backchannel`: a session that a provider ends is over before it reads our 200.

Connections to all workers of all nodes call with the token of one session, again and again, while
the provider's back-channel logout of that session goes to one node.  Not one call that is sent
after its 200 was read may be accepted.  Exits 1 if one is.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated
from urllib.parse import urlencode

import typer
from rich.console import Console
from rich.table import Table

from bench.cluster import Cluster, percentile
from bench.processes import run_bench
from bench.rig import HERE
from tests.identity.issuers.event_provider import LOGOUT
from tests.identity.issuers.provider import Signer, document, signer

console = Console(width=None if Console().is_terminal else 130)
LOGOUT_PATH = "/auth/issuers/company/backchannel-logout"
CALLS_AFTER = 2
"""Of each connection, after the 200."""
RETRY_S = 0.2
_LENGTH = re.compile(rb"\ncontent-length: *(\d+)", re.IGNORECASE)


class Provider:
    """Signs what a provider would: access tokens, and logout tokens of their sessions."""

    def __init__(self) -> None:
        self._signer: Signer = signer("RS256")
        self._prefix = secrets.token_hex(4)
        self._sessions = 0

    def begin_session(self) -> str:
        """Its name, which no other has."""
        self._sessions += 1
        return f"{self._prefix}-{self._sessions}"

    @contextmanager
    def keys_served(self) -> Iterator[int]:
        """Its key set, on a free port of this machine."""
        body = document(self._signer)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            server.server_close()

    def access_token(self, name: str) -> str:
        now = int(time.time())
        return self._signer.token(
            iat=now,
            exp=now + 600,
            sub=f"user-{name}",
            sid=f"session-{name}",
            jti=f"token-{name}",
        )

    def logout_token(self, name: str, *, with_session: bool = True) -> str:
        now = int(time.time())
        return self._signer.token(
            header={"typ": "logout+jwt"},
            iat=now,
            exp=now + 120,
            sub=f"user-{name}",
            sid=f"session-{name}" if with_session else ...,
            jti=f"logout-{name}",
            events={LOGOUT: {}},
        )


class Connection:
    """One keep-alive connection to one node, opened at its first request."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def status(self, head: Sequence[str], body: bytes = b"") -> int:
        """Of the answer to a request, which is sent in one piece."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        lines = [head[0], "Host: 127.0.0.1", *head[1:]]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(answer)
        await reader.readexactly(int(length[1]) if length else 0)
        if b"\nconnection: close" in answer.lower():
            self.close()
        return int(answer.split(b" ", 2)[1])

    async def call(self, token: str) -> int:
        return await self.status(["GET /api/whoami HTTP/1.1", f"Authorization: Bearer {token}"])

    async def log_out(self, token: str) -> int:
        form = urlencode({"logout_token": token}).encode()
        kind = "Content-Type: application/x-www-form-urlencoded"
        return await self.status([f"POST {LOGOUT_PATH} HTTP/1.1", kind], form)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass
class Counts:
    logout_s: list[float] = field(default_factory=list)
    """Until the answer 200 of each logout was read."""
    repeated: int = 0
    """Logouts that were answered 503 and sent again."""
    calls: int = 0
    asked_after: int = 0
    accepted_after: int = 0


@dataclass
class Session:
    token: str
    over_at: float | None = None
    """When the 200 had been read."""


async def one_logout(
    callers: Sequence[Connection],
    provider: Connection,
    tokens: tuple[str, str],
    counts: Counts,
    pause_s: float,
) -> None:
    """`tokens`: the session's, and the logout token that ends it."""
    session = Session(tokens[0])
    before = await asyncio.gather(*(caller.call(session.token) for caller in callers))
    counts.calls += len(callers)
    if set(before) != {200}:
        raise RuntimeError(f"a fresh token was answered {sorted(set(before))}")

    async def go_on_calling(caller: Connection) -> None:
        after = 0
        while after < CALLS_AFTER:
            sent_after = session.over_at is not None
            status = await caller.call(session.token)
            counts.calls += 1
            if sent_after:
                after += 1
                counts.asked_after += 1
                counts.accepted_after += status < 400
                if status >= 500:
                    raise RuntimeError(f"a call was answered {status}")
            await asyncio.sleep(pause_s)

    calling = [asyncio.create_task(go_on_calling(caller)) for caller in callers]
    try:
        began = time.perf_counter()
        while (status := await provider.log_out(tokens[1])) == 503:
            counts.repeated += 1
            await asyncio.sleep(RETRY_S)
        session.over_at = time.perf_counter()
        if status != 200:
            raise RuntimeError(f"the logout was answered {status}")
        counts.logout_s.append(session.over_at - began)
        await asyncio.gather(*calling)
    finally:
        for task in calling:
            task.cancel()


async def measure(
    ports: Sequence[int],
    provider: Provider,
    *,
    connections: int,
    logouts: int,
    pause_s: float = 0.0,
    with_session: bool = True,
) -> Counts:
    """`pause_s` between two calls of one connection."""
    callers = [Connection(ports[n % len(ports)]) for n in range(connections)]
    providers = [Connection(port) for port in ports]
    counts = Counts()
    try:
        for number in range(logouts):
            name = provider.begin_session()
            tokens = (
                provider.access_token(name),
                provider.logout_token(name, with_session=with_session),
            )
            await one_logout(callers, providers[number % len(ports)], tokens, counts, pause_s)
    finally:
        for connection in (*callers, *providers):
            connection.close()
    return counts


def main(
    nodes: Annotated[int, typer.Option(min=1)] = 2,
    workers: Annotated[int, typer.Option(min=1, help="Of each node.")] = 2,
    connections: Annotated[int, typer.Option(min=1, help="To all nodes together.")] = 50,
    logouts: Annotated[int, typer.Option(min=1)] = 1_000,
    pause_ms: Annotated[
        float, typer.Option(min=0, help="Between two calls of one connection.")
    ] = 20.0,
    by_subject: Annotated[bool, typer.Option(help="Logout tokens name no session.")] = False,
    database_url: Annotated[str, typer.Option(help="Else a PostgreSQL is started.")] = "",
    redis_url: Annotated[str, typer.Option(help="Else a Valkey is started.")] = "",
) -> None:
    """Counts calls accepted after a back-channel logout, and says how long one takes."""
    provider = Provider()
    cluster = Cluster.build(database_url, redis_url)
    try:
        with provider.keys_served() as keys:
            routes = cluster.rig.fill("gateway/backchannel.yaml", KEYS=keys)
            cluster.start(nodes=nodes, workers=workers, routes=routes)
            counts = asyncio.run(
                measure(
                    [node.port for node in cluster.nodes],
                    provider,
                    connections=connections,
                    logouts=logouts,
                    pause_s=pause_ms / 1000,
                    with_session=not by_subject,
                )
            )
    finally:
        cluster.stop()
    figures = {
        "accepted after the 200": counts.accepted_after,
        "asked after it": counts.asked_after,
        "calls": counts.calls,
        "logouts": len(counts.logout_s),
        "answered 503 first": counts.repeated,
        "median ms": percentile(counts.logout_s, 0.5) * 1000,
        "p99 ms": percentile(counts.logout_s, 0.99) * 1000,
    }
    table = Table(title=f"Back-channel logout on {nodes} nodes with {workers} workers each")
    for name in figures:
        table.add_column(name, justify="right")
    table.add_row(*(f"{value:,.1f}".removesuffix(".0") for value in figures.values()))
    console.print(table)
    (HERE / ".rig" / "backchannel.json").write_text(json.dumps(figures, indent=1) + "\n")
    if counts.accepted_after:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_bench(main)
