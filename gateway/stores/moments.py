"""What happened in which order, in Redis, for all workers.

Law: a moment is a place in an order, and no clock is asked: one that steps, or is another server's,
neither forgets what happened nor turns the order round.  It is a moment of one incarnation: who
asks by one of another, as Redis was emptied, restarted (perhaps with older files) or replaced by a
replica (which may lack the last writes), is told that nobody can say.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from gateway.stores.protocols import StoreUnavailable
from gateway.stores.redis import RedisStore, Script

_PLACE_BITS = 32


class RedisMoments:
    """Of each kind of what happens the last 20,000 names are kept, and of a moment before those
    that were forgotten nobody can say either.  Every call may raise StoreUnavailable."""

    def __init__(self, redis: RedisStore) -> None:
        self._redis = redis
        self._note = Script.shipped("moments", "moment")
        self._now = Script.shipped("moments", "moment_now")
        self._last = Script.shipped("moments", "moment_last")

    async def now(self, kind: str) -> int:
        """After all that was noted of the kind, and before what will be."""
        answer = await self._redis.script(self._now, [_key(kind)], [_epoch()])
        incarnation, (place,) = _read(answer, 1)
        return incarnation << _PLACE_BITS | place

    async def note(self, kind: str, names: Sequence[str]) -> None:
        """That it happens now.  Where a replica is to have it, it has."""
        await self._redis.replicated(self._note, [_key(kind)], [_epoch(), *names])

    async def has_come(self, kind: str, names: Sequence[str], since: int | None) -> bool:
        """Whether one of them was noted after `since` (None: at all), or nobody can say."""
        answer = await self._redis.script(self._last, [_key(kind)], [_epoch(), *names])
        incarnation, (last, forgotten, found) = _read(answer, 3)
        if since is None:
            return found > 0
        place = since & (1 << _PLACE_BITS) - 1
        is_known = since >> _PLACE_BITS == incarnation and forgotten <= place <= last
        return not is_known or found > place


def _key(kind: str) -> str:
    return f"moments:{kind}"


def _epoch() -> str:
    return secrets.token_hex(16)


def _read(answer: Any, places: int) -> tuple[int, Sequence[int]]:
    """The incarnation, in 31 bits, and the places after it."""
    try:
        incarnation, *told = str(answer).split(" ")
        if len(told) == places:
            return int(incarnation[:8], 16) >> 1, [int(place) for place in told]
    except ValueError as error:
        raise StoreUnavailable("redis", "an answer that cannot be read") from error
    raise StoreUnavailable("redis", "an answer that cannot be read")
