"""Who has a connection of a store next, where more ask than there are."""

from __future__ import annotations

import asyncio

import pytest

from gateway.client_networks import OWN_TASKS, asking_for
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


async def refusal(slots: ConnectionSlots, network: str = "") -> str:
    """What is told to one who asks now and does not wait."""
    asking_for.set(network)
    with pytest.raises(StoreBusy) as told:
        await slots.acquire(wait_s=0)
    assert told.value.store == "sql"
    return str(told.value)


async def all_free(slots: ConnectionSlots, count: int) -> None:
    """As many slots as there were, and no more; they are taken."""
    for _ in range(count):
        await slots.acquire(wait_s=0)
    assert await refusal(slots) == "sql: no place in time"


async def test_neighbourhoods_take_turns(crowd: Crowd) -> None:
    tasks = [crowd.ask("many") for _ in range(6)]
    await settled()
    tasks += [crowd.ask("one"), crowd.ask("other")]
    await settled()
    crowd.go_on.set()
    await asyncio.gather(*tasks)
    assert crowd.served == ["many", "many", "many", "one", "other", "many", "many", "many"]


async def test_what_a_worker_asks_of_itself_has_every_second_slot(crowd: Crowd) -> None:
    """However many neighbourhoods ask."""
    tasks = [crowd.ask(network) for network in "abcdef"]
    await settled()
    tasks += [crowd.ask(OWN_TASKS), crowd.ask(OWN_TASKS)]
    await settled()
    crowd.go_on.set()
    await asyncio.gather(*tasks)
    assert crowd.served == ["a", "b", OWN_TASKS, "c", OWN_TASKS, "d", "e", "f"]


async def test_what_a_worker_asks_of_itself_is_refused_for_no_number_of_others(
    crowd: Crowd,
) -> None:
    tasks = [crowd.ask(network) for network in "abcdefgh"]
    await settled()
    own = [crowd.ask(OWN_TASKS) for _ in range(2)]
    await settled()
    assert [task.done() for task in tasks].count(True) == 2
    assert await refusal(crowd.slots, "z") == "sql: too many are waiting"
    crowd.go_on.set()
    await asyncio.gather(*own)
    await asyncio.gather(*tasks, return_exceptions=True)
    await all_free(crowd.slots, 2)


async def test_who_fills_the_queue_keeps_nobody_from_elsewhere_out(crowd: Crowd) -> None:
    """Whoever has an account, and a /48 of IPv6, may ask as often as they have addresses."""
    many = [crowd.ask("many") for _ in range(8)]
    await settled()
    assert await refusal(crowd.slots, "many") == "sql: too many are waiting"
    others = [crowd.ask("one"), crowd.ask("other"), crowd.ask("one")]
    await settled()
    crowd.go_on.set()
    await asyncio.gather(*others)
    answers = await asyncio.gather(*many, return_exceptions=True)
    assert answers[:5] == [None] * 5
    assert [str(answer) for answer in answers[5:]] == [
        "sql: too many of one network are waiting"
    ] * 3


async def test_whoever_waits_too_long_leaves_its_place_to_the_next(crowd: Crowd) -> None:
    tasks = [crowd.ask("many") for _ in range(2)]
    await settled()
    assert await refusal(crowd.slots, "one") == "sql: no place in time"
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
    await asyncio.wait_for(crowd.slots.acquire(), 60)
    await asyncio.wait_for(crowd.slots.acquire(), 60)


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


async def test_whoever_says_how_long_waits_no_longer() -> None:
    slots = ConnectionSlots("sql", 1, wait_s=3_600)
    await slots.acquire()
    assert await refusal(slots) == "sql: no place in time"


async def test_whoever_says_nothing_waits_as_long_as_the_store_says() -> None:
    slots = ConnectionSlots("sql", 1, wait_s=0.01)
    await slots.acquire()
    with pytest.raises(StoreBusy, match="no place in time"):
        await slots.acquire()


async def test_slots_and_places_come_back_as_they_were(crowd: Crowd) -> None:
    for _ in range(2):
        tasks = [crowd.ask(network) for network in ("many", "one") for _ in range(4)]
        await settled()
        assert await refusal(crowd.slots, "one") == "sql: too many are waiting"
        crowd.go_on.set()
        await asyncio.gather(*tasks)
        crowd.go_on.clear()
    await all_free(crowd.slots, 2)


@pytest.mark.parametrize(
    ("waiting", "comer", "displaced"),
    [
        ({"a": 4, "bb": 2}, "bb", "a"),
        ({"a": 3, "bb": 2, "cc": 1}, "bb", None),
        ({"bb": 2, "a": 3, "cc": 1}, "cc", "a"),
        ({"cc": 1, "bb": 2, "a": 3}, "a", None),
        (dict.fromkeys("abcdef", 1), "g", None),
    ],
)
async def test_a_place_is_taken_from_who_has_more_even_then(
    crowd: Crowd, waiting: dict[str, int], comer: str, displaced: str | None
) -> None:
    tasks = [(network, crowd.ask(network)) for network in ["x", "y"]]
    await settled()
    tasks += [(network, crowd.ask(network)) for network in waiting for _ in range(waiting[network])]
    await settled()
    tasks.append((comer, crowd.ask(comer)))
    await settled()
    refused = [network for network, task in tasks if task.done()]
    assert refused == [displaced or comer]
    crowd.go_on.set()
    await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)
    await all_free(crowd.slots, 2)


async def test_a_place_whose_caller_has_just_left_can_be_taken(crowd: Crowd) -> None:
    tasks = [crowd.ask("many") for _ in range(8)]
    await settled()
    crowd.go_on.set()
    tasks[7].cancel()
    asking_for.set("one")
    await crowd.slots.acquire()  # asks before the one who leaves has noticed
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[:7] == [None] * 7
    assert isinstance(answers[7], asyncio.CancelledError)
    crowd.slots.release()
    await all_free(crowd.slots, 2)


async def test_a_slot_is_held_as_long_as_the_block_that_asked_for_it() -> None:
    slots = ConnectionSlots("sql", 1)

    async def failing() -> None:
        async with slots.slot():
            assert await refusal(slots) == "sql: no place in time"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await failing()
    await all_free(slots, 1)


async def test_whoever_gives_up_or_leaves_takes_no_place_along(crowd: Crowd) -> None:
    tasks = [crowd.ask("many") for _ in range(2)]
    await settled()
    for _ in range(7):
        assert await refusal(crowd.slots, "one") == "sql: no place in time"
        leaver = crowd.ask("one")
        await settled()
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
    crowd.go_on.set()
    await asyncio.gather(*tasks)
    await all_free(crowd.slots, 2)


async def test_whoever_leaves_after_the_slot_went_by_is_not_missed(crowd: Crowd) -> None:
    first, second = crowd.ask("many"), crowd.ask("many")
    await settled()
    leaver = crowd.ask("one")
    await settled()
    first.cancel()
    leaver.cancel()  # the slot of the first one goes by before it notices
    await asyncio.gather(first, leaver, return_exceptions=True)
    assert leaver.cancelled()
    crowd.go_on.set()
    await second
    await all_free(crowd.slots, 2)
