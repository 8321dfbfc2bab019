"""Who is nearest to a limit, as a worker knows it."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.access.definitions import Limit, LimitKey, Scope
from gateway.rate_limit.limiter import RateLimiter
from gateway.rate_limit.nearness import LOOKED_AT, SHOWN, nearest
from tests.databases import Hands


async def test_those_who_spent_most_come_first_and_come_back_with_time() -> None:
    clock = Hands(1_000)
    limiter = RateLimiter(clock)
    limits = (Limit("per-user", LimitKey.USER, per_s=1, burst=10, scope=Scope.LOCAL),)
    for caller, calls in (("a", 2), ("b", 9), ("c", 5)):
        for _ in range(calls):
            await limiter.take_for(limits, caller)
    [near] = limiter.nearest()
    assert [(one.key, one.used) for one in near.callers] == [("b", 9), ("c", 5), ("a", 2)]
    clock.move(6)
    [near] = limiter.nearest()
    assert [(one.key, one.used) for one in near.callers] == [("b", 3)]


async def test_a_shared_limit_is_told_as_far_as_the_worker_knows() -> None:
    limiter = RateLimiter(Hands(1_000))  # without Redis it spends its share
    limits = (Limit("shared", LimitKey.USER, per_s=1, burst=10, scope=Scope.SHARED),)
    for _ in range(4):
        await limiter.take_for(limits, "a")
    [near] = limiter.nearest()
    assert [(one.key, one.used) for one in near.callers] == [("a", 4)]


class ManyKeys:
    limit = Limit("many", LimitKey.ADDRESS, per_s=1, burst=10)

    def __init__(self) -> None:
        self.looked_at = 0

    def full_at(self) -> Iterator[tuple[str, float]]:
        for number in range(1_000_000):
            self.looked_at += 1
            yield f"k{number}", 5.0


def test_a_look_is_bounded_whatever_strangers_have_sent() -> None:
    counts = [ManyKeys() for _ in range(4)]
    found = nearest(counts, 0.0)
    assert sum(one.looked_at for one in counts) <= LOOKED_AT
    assert [len(limit.callers) for limit in found] == [SHOWN] * 4
