"""Whose turn it is, among those who wait for a slot, once one neighbourhood has its share."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from gateway.access.definitions import Upstream
from gateway.client_networks import neighbourhood
from gateway.edge.upstream.slot_queue import Waiters
from gateway.edge.upstream.slot_shares import Shares, SlowCall


class OneByOne:
    """A target whose slots fall free one after the other; a client has its share of it."""

    connections: frozenset[Any] = frozenset()

    def __init__(self, with_its_share: str) -> None:
        self.spec = Upstream("api", (), max_connections=4)
        slow = {neighbourhood(with_its_share): [SlowCall(0.1, cast(Any, None))]}
        self.shares = Shares(1, slow, {}, most_kept=2)
        self.has_capacity = False
        self.called: list[str] = []

    def may_be_called(self, client_ip: str, among: object) -> bool:
        return True

    def acquire(self, client_ip: str) -> None:
        self.called.append(client_ip)
        self.has_capacity = False


async def test_who_has_its_share_has_every_other_slot_that_it_waits_longer_for() -> None:
    """One upload keeps nobody of its neighbourhood away, however many others come meanwhile."""
    office, others = "10.0.1.1", [f"10.0.{number}.1" for number in range(2, 8)]
    target = OneByOne(office)
    waiters: Waiters[Any] = Waiters(asyncio.get_running_loop())
    shares = target.shares
    for ip in (office, office, *others):
        assert waiters.add([target], ip, 20) is not None
    target.shares = shares  # the first look, which found no call here, made others
    for _ in range(4):
        target.has_capacity = True
        waiters.serve(target)
    assert target.called == [others[0], office, others[1], office]


async def test_who_has_no_more_than_its_share_gives_no_place_up() -> None:
    office, other = "10.0.1.1", "10.0.2.1"
    target = OneByOne(office)
    waiters: Waiters[Any] = Waiters(asyncio.get_running_loop())
    shares = target.shares
    assert waiters.add([target], office, 1) is not None
    target.shares = shares
    assert waiters.add([target], other, 1) is None
    shares.record(office)  # one more
    waiter = waiters.add([target], other, 1)
    assert waiter is not None
    assert not waiter.slot.done()
