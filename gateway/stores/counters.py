"""GCRA buckets in Redis, which all workers of all nodes share.

A bucket is one number, the theoretical arrival time: the moment at which it is full again.
Only the server's clock is read (the script runs where the number lives), so no two clocks
are ever compared.  One script call judges all that one loop turn asks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from gateway.stores.protocols import BucketGrant, BucketRequest, StoreUnavailable
from gateway.stores.redis import RedisStore, Script


class RedisCounters:
    """Meets `stores.protocols.Counters`."""

    def __init__(self, redis: RedisStore) -> None:
        self._redis = redis
        self._prefix = f"{redis.prefix}limit:"
        self._script = Script.shipped("spend")

    async def spend(
        self, groups: Sequence[Sequence[BucketRequest]], sharers: int
    ) -> list[list[BucketGrant] | float]:
        asked = json.dumps(
            [
                [
                    (self._prefix + s.key, s.interval_s * 1e6, s.burst, s.least, s.most, s.owed)
                    for s in group
                ]
                for group in groups
            ]
        )
        # A connection that ends before the answer leaves a bucket charged twice: its caller waits a
        # little longer, which is better than no answer.
        answer = await self._redis.script(self._script, (), (str(max(sharers, 1)), asked))
        try:
            parts = str(answer).split(";") if groups else []
            return [_read(part, group) for part, group in zip(parts, groups, strict=True)]
        except ValueError as error:
            raise StoreUnavailable("redis", "an answer that cannot be read") from error


def _read(part: str, group: Sequence[BucketRequest]) -> list[BucketGrant] | float:
    """ValueError for what the script never answers: a garbled grant would be a gift."""
    if part.startswith("!"):
        wait_s = float(part[1:])
        if not 0 <= wait_s < math.inf:
            raise ValueError(part)
        return wait_s
    grants = []
    for text, request in zip(part.split(","), group, strict=True):
        units, _, left = map(str.strip, text.partition(":"))
        grant = BucketGrant(int(units), int(left))
        if not (request.least <= grant.units <= request.most and 0 <= grant.left <= request.burst):
            raise ValueError(part)
        grants.append(grant)
    return grants
