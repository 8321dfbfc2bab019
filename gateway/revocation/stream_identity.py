"""Whether every node of one SQL store follows the same stream of revocations.

Law: a sign-out is acknowledged by the workers of one Redis.  Where two nodes share their SQL and
not their Redis, each would answer 204 for what the other never hears.  So every worker writes
the stream that it follows to SQL every HEARTBEAT_S, and one that reads another stream there,
again and again, confirms nothing and logs why.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic

import structlog

from gateway.stores.protocols import Database, Transaction

log = structlog.get_logger(__name__)

HEARTBEAT_S = 2.0
EXPIRES_AFTER_MS = int(3 * HEARTBEAT_S * 1000)
"""By SQL's clock: what is older was written by a worker that is gone."""
_NAME = "stream.followed"
_POLL_EVERY_S = 0.3


@dataclass(frozen=True, slots=True)
class FollowedStream:
    """The stream that some worker wrote last to SQL."""

    incarnation: str
    at_ms: int


class StreamIdentity:
    """One worker's part; `incarnation` is of the stream that it follows, empty while it follows
    none."""

    def __init__(self, database: Database, incarnation: Callable[[], str]) -> None:
        self._database = database
        self._incarnation = incarnation
        self._other: FollowedStream | None = None
        self.differs = False
        """Whether another node follows another stream now."""

    async def run(self) -> None:
        """Runs until it is cancelled.  Raises StoreUnavailable."""
        while True:
            await self.heartbeat()
            # A node that starts beside one that is ready must find its stream in SQL.
            await asyncio.sleep(HEARTBEAT_S if self._incarnation() else _POLL_EVERY_S)

    async def heartbeat(self) -> None:
        """Writes the stream that is followed and reads another's.  Raises StoreUnavailable."""
        own = self._incarnation()
        if not own:
            return
        async with self._database.transaction() as tx:
            now_ms = int(await tx.now() * 1000)
            other = await _other(tx, own, now_ms)
            await _write(tx, own, now_ms)
        # Once may be a node that is about to follow the new stream after a fail-over.
        before, self._other = self._other, other
        differs = (
            other is not None
            and before is not None
            and other.incarnation == before.incarnation
            and other.at_ms != before.at_ms
        )
        if differs and not self.differs:
            log.error(
                "redis-differs",
                effect="sign-outs are answered 503: another node of this database follows another"
                " Redis, and would not hear of them; give every node the same GATEWAY_REDIS_URL",
            )
        elif self.differs and other is None:
            log.info("redis-agrees")
        self.differs = differs or (self.differs and other is not None)


async def another_stream_is_followed(
    database: Database, incarnation: Callable[[], Awaitable[str]]
) -> bool:
    """Whether a node that runs follows another stream than `incarnation` gives.  Takes
    EXPIRES_AFTER_MS at most, and only where SQL names another stream.  Raises StoreUnavailable."""
    seen: set[int] = set()
    until = monotonic() + EXPIRES_AFTER_MS / 1000 + HEARTBEAT_S
    while monotonic() < until:
        own = await incarnation()
        async with database.read_transaction() as tx:
            other = await _other(tx, own, int(await tx.now() * 1000))
        if other is None:
            return False
        seen.add(other.at_ms)
        if len(seen) > 2:  # it goes on writing it
            return True
        await asyncio.sleep(_POLL_EVERY_S)
    return False


async def _other(tx: Transaction, own: str, now_ms: int) -> FollowedStream | None:
    row = await tx.one("SELECT value FROM installation WHERE name = :name", name=_NAME)
    if row is None:
        return None
    followed = FollowedStream(*json.loads(row["value"]))
    fresh = abs(now_ms - followed.at_ms) < EXPIRES_AFTER_MS
    return followed if fresh and followed.incarnation != own else None


async def _write(tx: Transaction, own: str, now_ms: int) -> None:
    await tx.run(
        "INSERT INTO installation (name, value) VALUES (:name, :value)"
        " ON CONFLICT (name) DO UPDATE SET value = :value",
        name=_NAME,
        value=json.dumps([own, now_ms]),
    )
