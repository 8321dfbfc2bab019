"""Whether every node of one SQL store follows the same stream of revocations, in the same way.

Law: a sign-out is acknowledged by the workers of one Redis, and whoever is silent is waited for
as long as GATEWAY_MAX_STALENESS_S lets a worker believe what it knows.  Where two nodes share
their SQL and not their Redis, each would answer 204 for what the other never hears; where they
differ in that setting, one would stop waiting while the other still lets the token pass.  So
whoever follows a stream writes so to SQL every HEARTBEAT_S, each kind of follower in a row of its
own, and whoever goes on reading of another kind confirms nothing and says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic

import structlog

from gateway.stores.protocols import Database, Transaction

log = structlog.get_logger(__name__)

HEARTBEAT_S = 2.0
EXPIRES_AFTER_MS = int(3 * HEARTBEAT_S * 1000)
"""By SQL's clock: what is older was said by somebody who is gone."""
FOLLOWS_WITHIN_MS = 2_500
"""After a fail-over others may say so long what they followed before."""
FORGOTTEN_MS = 60_000
"""A row that nobody has renewed for so long is deleted."""
PREFIX = "stream.followed:"
"""How the names of these rows of `installation` begin."""
_POLL_EVERY_S = 0.3


@dataclass(frozen=True, slots=True)
class Following:
    """What a node follows, and how long its workers may go without hearing of it."""

    incarnation: str
    max_staleness_s: float

    @property
    def row_name(self) -> str:
        return f"{PREFIX}{self.incarnation}/{self.max_staleness_s:g}"


class StreamIdentity:
    """One worker's part; `incarnation` is of the stream that it follows, empty while it follows
    none."""

    def __init__(
        self, database: Database, incarnation: Callable[[], str], max_staleness_s: float
    ) -> None:
        self._database = database
        self._incarnation = incarnation
        self._max_staleness_s = max_staleness_s
        self._own = Following("", 0.0)
        self._since_ms = 0
        """When this worker began to follow what it follows now, by SQL's clock."""
        self.differs = False
        """Whether a node of another kind runs now."""

    async def run(self) -> None:
        """Until it is cancelled.  Raises StoreUnavailable."""
        while True:
            await self.heartbeat()
            # Whoever starts beside a node that is ready must find it said.
            await asyncio.sleep(HEARTBEAT_S if self._incarnation() else _POLL_EVERY_S)

    async def heartbeat(self) -> None:
        """Says what is followed, and looks at what others say.  Raises StoreUnavailable."""
        if not self._incarnation():
            return
        own = Following(self._incarnation(), self._max_staleness_s)
        async with self._database.transaction() as tx:
            now_ms = int(await tx.now() * 1000)
            said = await _said(tx, now_ms)
            await _say(tx, own, now_ms)
        self._since_ms = now_ms if own != self._own else min(self._since_ms, now_ms)
        self._own = own
        others = {one: at_ms for one, at_ms in said.items() if one != own}
        after_ms = self._since_ms + FOLLOWS_WITHIN_MS
        differing = next((one for one, at_ms in others.items() if at_ms > after_ms), None)
        if differing is not None and not self.differs:
            _tell(own, differing)
        elif self.differs and not others:
            log.info("redis-agrees")
        self.differs = differing is not None or (self.differs and bool(others))


async def another_stream_is_followed(
    database: Database, incarnation: Callable[[], Awaitable[str]]
) -> bool:
    """Whether a node that runs follows another stream than `incarnation` gives.  Takes
    EXPIRES_AFTER_MS at most, and only where SQL names another stream.  Raises StoreUnavailable."""
    seen: set[tuple[Following, int]] = set()
    until = monotonic() + EXPIRES_AFTER_MS / 1000 + HEARTBEAT_S
    while monotonic() < until:
        own = await incarnation()
        async with database.read_transaction() as tx:
            now_ms = int(await tx.now() * 1000)
            others = [p for p in (await _said(tx, now_ms)).items() if p[0].incarnation != own]
        if not others:
            return False
        seen |= set(others)
        if any(sum(one == other for other, _ in seen) > 1 for one, _ in seen):
            return True  # it goes on saying so
        await asyncio.sleep(_POLL_EVERY_S)
    return False


def _tell(own: Following, other: Following) -> None:
    what, cure = "follows another Redis, and would not hear of them", "GATEWAY_REDIS_URL"
    if own.incarnation == other.incarnation:
        what = "may let a token pass for longer than this one waits"
        cure = "GATEWAY_MAX_STALENESS_S"
    log.error(
        "redis-differs",
        effect=f"sign-outs are answered 503: another node of this database {what}; give every"
        f" node the same {cure}",
    )


async def _said(tx: Transaction, now_ms: int) -> Mapping[Following, int]:
    """What was said lately, and when."""
    rows = await tx.all(
        "SELECT name, value FROM installation WHERE name LIKE :names", names=f"{PREFIX}%"
    )
    lately = {}
    for row in rows:
        incarnation, _, staleness = str(row["name"]).removeprefix(PREFIX).rpartition("/")
        at_ms = int(row["value"])
        if abs(now_ms - at_ms) < EXPIRES_AFTER_MS:
            lately[Following(incarnation, float(staleness))] = at_ms
    return lately


async def _say(tx: Transaction, own: Following, now_ms: int) -> None:
    await tx.run(
        "INSERT INTO installation (name, value) VALUES (:name, :value)"
        " ON CONFLICT (name) DO UPDATE SET value = :value",
        name=own.row_name,
        value=str(now_ms),
    )
    await tx.run(
        "DELETE FROM installation WHERE name LIKE :names AND CAST(value AS BIGINT) < :before",
        names=f"{PREFIX}%",
        before=now_ms - FORGOTTEN_MS,
    )
