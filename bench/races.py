"""`python -m bench.races`: twenty refreshes of one token at once, a thousand times.

Half of them come from one node, half from another, over a real PostgreSQL (or SQLite).  Exits 1
when a token was given two successors, or when an honest client lost its session.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.processes import run_bench
from gateway.identity.sessions.sessions import SignInSource
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens, SessionGrant
from gateway.stores.migrations import upgrade
from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database
from tests.servers import PostgresServer

console = Console()
ORIGIN = SignInSource("bench", "127.0.0.1")


async def begin(database: Database) -> SessionGrant:
    """A session of an account of its own."""
    name = secrets.token_hex(8)
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO accounts (id, email, email_key, password_hash, created_at, updated_at)"
            " VALUES (:id, :id, :id, 'hash', 1, 1)",
            id=name,
        )
    grant = await RefreshTokens(database, RefreshOptions()).begin(name, ORIGIN, checked_hash="hash")
    assert isinstance(grant, SessionGrant)
    return grant


async def race(nodes: Sequence[Database], token: str, parallel: int) -> set[str]:
    """The successors that were given; empty when somebody was refused."""
    tokens = [RefreshTokens(node, RefreshOptions()) for node in nodes]
    answers = await asyncio.gather(
        *(tokens[i % len(tokens)].rotate(token, ORIGIN) for i in range(parallel))
    )
    granted = {answer.refresh_token for answer in answers if isinstance(answer, SessionGrant)}
    return granted if all(isinstance(answer, SessionGrant) for answer in answers) else set()


async def run(nodes: Sequence[Database], races: int, parallel: int) -> dict[str, float]:
    refused = doubled = 0
    token = (await begin(nodes[0])).refresh_token
    began_at = time.monotonic()
    for number in range(races):
        if number % 50 == 0:
            token = (await begin(nodes[0])).refresh_token
        successors = await race(nodes, token, parallel)
        refused += not successors
        doubled += len(successors) > 1
        token = successors.pop() if successors else (await begin(nodes[0])).refresh_token
    return {
        "races": races,
        "parallel": parallel,
        "with_two_successors": doubled,
        "refused": refused,
        "seconds": round(time.monotonic() - began_at, 1),
    }


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[list[Database]]:
    nodes = [open_database(url) for _ in range(2)]
    try:
        await upgrade(nodes[0])
        yield nodes
    finally:
        for node in nodes:
            await node.close()


async def measure(url: str, races: int, parallel: int) -> dict[str, float]:
    async with opened(url) as nodes:
        return await run(nodes, races, parallel)


def main(
    races: Annotated[int, typer.Option(min=1)] = 1_000,
    parallel: Annotated[int, typer.Option(min=2)] = 20,
    database_url: Annotated[str, typer.Option(help="Else a PostgreSQL is started.")] = "",
    sqlite: Annotated[bool, typer.Option(help="Race on SQLite instead.")] = False,
) -> None:
    """Race refreshes of one token: one successor each."""
    with tempfile.TemporaryDirectory(prefix="authgate-races-") as folder:
        Path(folder).chmod(0o755)
        server: PostgresServer | None = None
        if sqlite:
            database_url = f"sqlite:///{folder}/gateway.db"
        elif not database_url:
            server = PostgresServer(Path(folder) / "postgres").start()
            database_url = server.url
        try:
            figures = asyncio.run(measure(database_url, races, parallel))
        finally:
            if server is not None:
                server.kill()
    console.print_json(json.dumps(figures))
    raise typer.Exit(1 if figures["with_two_successors"] or figures["refused"] else 0)


if __name__ == "__main__":
    run_bench(main)
