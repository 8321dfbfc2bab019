"""An installation for the tests of revocation: real stores, and as many workers as are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.identity import revocations
from gateway.model import Change, ChangeKind, Principal, Reason, SystemClock
from gateway.revocation.replica import Replica, ReplicaOptions
from gateway.stores.protocols import ChangeStream, Database


def principal(**changed: object) -> Principal:
    fields: dict[str, object] = {
        "subject": "u1",
        "roles": (),
        "session_id": "s1",
        "token_id": "t1",
        "client_id": "c1",
        "kid": "k1",
        "issued_at": 100,
        "expires_at": 1000,
    }
    return Principal(**{**fields, **changed})  # type: ignore[arg-type]


async def eventually(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)


async def nothing() -> None:
    pass


@dataclass
class Site:
    """One installation: a SQL store, a stream, and workers as they are asked for."""

    database: Database
    stream: ChangeStream
    options: ReplicaOptions = field(default_factory=ReplicaOptions)
    workers: list[Replica] = field(default_factory=list)

    async def worker(
        self,
        *,
        keys_changed: Callable[[], Awaitable[None]] = nothing,
        stream: ChangeStream | None = None,
        live: bool = True,
    ) -> Replica:
        """One more; `stream` is its own way to Redis."""
        replica = Replica(
            self.database,
            stream or self.stream,
            SystemClock(),
            self.options,
            keys_changed=keys_changed,
        )
        self.workers.append(replica)
        replica.start()
        if live:
            await eventually(replica.is_live)
        return replica

    async def commit(
        self,
        kind: ChangeKind = ChangeKind.SESSION,
        target: str = "s1",
        cause: Reason = Reason.TOKEN_REVOKED,
        not_before: int = 100,
    ) -> Change:
        async with self.database.transaction() as tx:
            return await revocations.record(tx, kind, target, cause, not_before=not_before)


@asynccontextmanager
async def sited(
    database: Database, stream: ChangeStream, options: ReplicaOptions | None = None
) -> AsyncIterator[Site]:
    # One that is late, as the machine is busy, is waited for.
    site = Site(database, stream, options or ReplicaOptions(confirm_timeout_s=20.0))
    try:
        yield site
    finally:
        for worker in site.workers:
            await worker.stop()
