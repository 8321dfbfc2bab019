"""Workers on a stream in memory, in time that passes where everybody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.identity import revocations
from gateway.model import Change, ChangeKind, Reason
from gateway.revocation.replica import Replica, ReplicaOptions
from gateway.stores.protocols import INCARNATION
from tests.config.sites import nothing, principal
from tests.revocation.memory_stream import MemoryStream
from tests.revocation.virtual_time import VirtualClock, VirtualTimeDatabase


class House:
    """One database, one way to one stream, and the workers that are asked for."""

    def __init__(self, database: VirtualTimeDatabase, clock: VirtualClock) -> None:
        self.database = database
        self.clock = clock
        self.stream = MemoryStream()
        self.workers: list[Replica] = []

    def worker(
        self,
        options: ReplicaOptions | None = None,
        *,
        keys_changed: Callable[[], Awaitable[None]] = nothing,
        stream: MemoryStream | None = None,
    ) -> Replica:
        """One that has not begun."""
        worker = Replica(
            self.database,
            stream or self.stream,
            self.clock,
            options or ReplicaOptions(),
            keys_changed=keys_changed,
        )
        self.workers.append(worker)
        return worker

    async def live(self, options: ReplicaOptions | None = None) -> Replica:
        worker = self.worker(options)
        worker.start()
        await self.until(0.05)
        assert worker.is_live()
        return worker

    async def until(self, at: float) -> None:
        """Waits until the clock shows this."""
        await asyncio.sleep(at - self.clock.steady())

    async def commit(self, target: str = "s1", kind: ChangeKind = ChangeKind.SESSION) -> Change:
        async with self.database.transaction() as tx:
            return await revocations.record(tx, kind, target, Reason.TOKEN_REVOKED, not_before=100)

    async def published(self, change: Change) -> int | None:
        async with self.database.read_transaction() as tx:
            row = await tx.one("SELECT published FROM changes WHERE id = :id", id=change.id)
        return None if row is None else int(row["published"])

    async def saved(self) -> str:
        async with self.database.read_transaction() as tx:
            row = await tx.one(
                "SELECT value FROM installation WHERE name = :name", name=INCARNATION
            )
        return "" if row is None else str(row["value"])

    @property
    def renewed_with(self) -> list[tuple[object, ...]]:
        """Heartbeat, position and position of the keys of each renewal."""
        return [arguments[1:] for arguments in self.stream.asked("renew")]


def revoked(worker: Replica, session_id: str) -> bool:
    return worker.refusal(principal(session_id=session_id)) is Reason.TOKEN_REVOKED
