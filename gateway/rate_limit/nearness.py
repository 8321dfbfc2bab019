"""Who is nearest to a limit, as one worker knows it: looked for only when an operator asks.

Law: what is looked at is bounded, whatever a stranger has sent, and a caller that an expression
made of a header or a parameter is told by a mark of it alone: it may be a secret.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from gateway.access.definitions import Limit

LOOKED_AT = 20_000
"""Keys that one look takes in, of all limits together: some milliseconds."""
SHOWN = 10
LIMITS_SHOWN = 200


@dataclass(frozen=True, slots=True)
class NearCaller:
    key: str
    used: int
    """Units of the bucket that are spent and have not come back."""


@dataclass(frozen=True, slots=True)
class NearLimit:
    name: str
    route: str
    """Empty for a limit that all routes share."""
    per_s: float
    burst: int
    callers: Sequence[NearCaller]
    keys: int
    """Those that were looked at."""


class CountedKeys(Protocol):
    @property
    def limit(self) -> Limit: ...

    def full_at(self) -> Iterator[tuple[str, float]]:
        """Each key, and when its bucket is full again by the steady clock."""


def nearest(counts: Sequence[CountedKeys], now: float) -> list[NearLimit]:
    """The limits under which somebody has spent something first, the fullest of them first."""
    share = max(LOOKED_AT // max(len(counts), 1), 1)
    found = [_of(one, now, share) for one in counts[:LOOKED_AT]]
    found.sort(key=lambda limit: (-_most(limit), limit.name))
    return found[:LIMITS_SHOWN]


def _of(counts: CountedKeys, now: float, most: int) -> NearLimit:
    limit = counts.limit
    looked_at = list(islice(counts.full_at(), most))
    spent = ((full_at - now, key) for key, full_at in looked_at if full_at > now)
    return NearLimit(
        limit.name,
        limit.route_id or "",
        limit.per_s,
        limit.burst,
        [
            NearCaller(_shown(limit, key), min(max(round(left_s * limit.per_s), 1), limit.burst))
            for left_s, key in heapq.nlargest(SHOWN, spent)
        ],
        len(looked_at),
    )


def _most(limit: NearLimit) -> float:
    return max((caller.used for caller in limit.callers), default=0) / limit.burst


def _shown(limit: Limit, key: str) -> str:
    expression = limit.expression
    if expression is not None and (expression.reads.headers or expression.reads.query):
        return "#" + hashlib.blake2b(key.encode(), digest_size=6).hexdigest()
    return key
