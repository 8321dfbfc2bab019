"""Who has a connection of a store next, where more ask than there are."""

from __future__ import annotations

import asyncio

import pytest

from gateway.client_networks import asking_for
from gateway.stores.connection_slots import ConnectionSlots
from gateway.stores.protocols import StoreBusy


class Crowd:
    """Callers of named neighbourhoods, each of whom keeps its slot until it is let go."""

    def __init__(self, slots: ConnectionSlots) -> None:
        self.slots = slots
        self.served: list[str] = []
        self.go_on = asyncio.Event()

    def ask(self, network: str, wait_s: float | None = None) -> asyncio.Task[None]:
        return asyncio.create_task(self._ask(network, wait_s))

    async def _ask(self, network: str, wait_s: float | None) -> None:
        asking_for.set(network)
        await self.slots.acquire(wait_s)
        self.served.append(network)
        try:
            await self.go_on.wait()
        finally:
            self.slots.release()


@pytest.fixture
async def crowd() -> Crowd:
    return Crowd(ConnectionSlots("sql", 2, waiting_max=6, wait_s=5))


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_neighbourhoods_take_turns(crowd: Crowd) -> None:
    tasks = [crowd.ask("many") for _ in range(6)]
    await settled()
    tasks += [crowd.ask("one"), crowd.ask("other")]
    await settled()
    crowd.go_on.set()
    await asyncio.gather(*tasks)
    assert crowd.served == ["many", "many", "many", "one", "other", "many", "many", "many"]


async def test_who_fills_the_queue_keeps_nobody_from_elsewhere_out(crowd: Crowd) -> None:
    """Whoever has an account, and a /48 of IPv6, may ask as often as they have addresses."""
    many = [crowd.ask("many") for _ in range(8)]
    await settled()
    with pytest.raises(StoreBusy, match="too many are waiting"):
        await crowd.ask("many")
    others = [crowd.ask("one"), crowd.ask("other"), crowd.ask("one")]
    await settled()
    crowd.go_on.set()
    await asyncio.gather(*others)
    answers = await asyncio.gather(*many, return_exceptions=True)
    assert [isinstance(answer, StoreBusy) for answer in answers] == [False] * 5 + [True] * 3


async def test_whoever_waits_too_long_leaves_its_place_to_the_next(crowd: Crowd) -> None:
    tasks = [crowd.ask("many") for _ in range(2)]
    await settled()
    with pytest.raises(StoreBusy, match="no place in time"):
        await crowd.ask("one", wait_s=0.01)
    waiting = crowd.ask("one")
    await settled()
    crowd.go_on.set()
    await asyncio.gather(*tasks, waiting)
    assert crowd.served == ["many", "many", "one"]


async def test_a_slot_that_is_given_to_who_has_just_left_is_not_lost(crowd: Crowd) -> None:
    first, second = crowd.ask("many"), crowd.ask("many")
    await settled()
    leaver, last = crowd.ask("one"), crowd.ask("one")
    await settled()
    first.cancel()
    await asyncio.sleep(0)  # it has given its slot to the one who leaves now
    leaver.cancel()
    await asyncio.gather(first, leaver, return_exceptions=True)
    await settled()
    assert crowd.served == ["many", "many", "one"]
    crowd.go_on.set()
    await asyncio.gather(second, last)
    await asyncio.wait_for(crowd.slots.acquire(), 1)
    await asyncio.wait_for(crowd.slots.acquire(), 1)


async def test_a_slot_goes_by_whoever_left_before_it_came(crowd: Crowd) -> None:
    first, second = crowd.ask("many"), crowd.ask("many")
    await settled()
    leaver, last = crowd.ask("one"), crowd.ask("one")
    await settled()
    leaver.cancel()
    first.cancel()
    await asyncio.gather(first, leaver, return_exceptions=True)
    await settled()
    assert crowd.served == ["many", "many", "one"]
    crowd.go_on.set()
    await asyncio.gather(second, last)
