"""Credentials that were good, and the shares of those that anybody may have made up."""

from __future__ import annotations

import asyncio

import pytest

from gateway.identity.made_up import AddressShares, AddressTurns, GoodOnes
from gateway.stores.protocols import StoreBusy


def test_the_latest_that_were_good_are_known() -> None:
    good: GoodOnes[str] = GoodOnes(2)
    for digest in ("a", "b", "a", "c"):
        good.note(digest, is_good=True)
    assert [digest in good for digest in "abc"] == [True, False, True]


def test_one_that_is_good_no_more_is_forgotten_and_no_other() -> None:
    good: GoodOnes[str] = GoodOnes(2)
    good.note("a", is_good=True)
    good.note("a", is_good=False)
    good.note("made up", is_good=False)
    good.note("b", is_good=True)
    good.note("c", is_good=True)
    assert [digest in good for digest in ("a", "made up", "b", "c")] == [False, False, True, True]


def test_each_address_has_a_share_and_gets_it_back() -> None:
    shares = AddressShares(1)
    shares.take("192.0.2.1")
    assert not shares.has_room("192.0.2.1")
    assert shares.has_room("192.0.2.2")
    shares.take("192.0.2.2")
    assert shares.under_way == 2
    shares.give_back("192.0.2.1")
    assert shares.has_room("192.0.2.1")
    assert shares.under_way == 1


def test_a_neighbourhood_has_two_addresses_worth_together() -> None:
    """Whoever has a /48 of IPv6 comes from 65,536 addresses."""
    shares = AddressShares(2)
    for number in range(4):
        assert shares.has_room(f"2001:db8:77:{number:x}::1")
        shares.take(f"2001:db8:77:{number:x}::1")
    assert not shares.has_room("2001:db8:77:ffff::1")
    assert shares.has_room("2001:db8:78::1")
    for number in range(4):
        shares.give_back(f"2001:db8:77:{number:x}::1")
    assert shares.has_room("2001:db8:77:ffff::1")


@pytest.mark.parametrize("crowded", ["2001:db8:77:{:x}::1", "192.0.2.{}"])
async def test_those_of_one_neighbourhood_take_turns_too(crowded: str) -> None:
    turns, go_on = AddressTurns(most=4), asyncio.Event()
    under_way: list[str] = []

    async def look(client_ip: str) -> None:
        async with turns.turn(client_ip):
            under_way.append(client_ip)
            await go_on.wait()

    crowd = [asyncio.create_task(look(crowded.format(n))) for n in range(9)]
    crowd.append(asyncio.create_task(look("198.51.100.1")))
    await asyncio.sleep(0)
    assert under_way == [*map(crowded.format, range(4)), "198.51.100.1"]
    crowd[5].cancel()
    go_on.set()
    await asyncio.gather(*crowd, return_exceptions=True)
    assert len(under_way) == 9


async def test_those_of_one_address_take_turns_and_keep_no_other_waiting() -> None:
    turns, go_on = AddressTurns(most=2), asyncio.Event()
    under_way: list[str] = []

    async def look(client_ip: str) -> None:
        async with turns.turn(client_ip):
            under_way.append(client_ip)
            await go_on.wait()

    crowd = [asyncio.create_task(look("192.0.2.1")) for _ in range(5)]
    crowd += [asyncio.create_task(look(f"2001:db8::{n}")) for n in range(3)]
    await asyncio.sleep(0)
    assert sorted(under_way) == ["192.0.2.1"] * 2 + ["2001:db8::0", "2001:db8::1"]
    crowd[4].cancel()
    go_on.set()
    await asyncio.gather(*crowd, return_exceptions=True)
    assert len(under_way) == 7


async def test_who_gets_no_turn_in_time_is_told_that_the_store_is_busy() -> None:
    turns = AddressTurns(most=1, within_s=0.01)
    async with turns.turn("192.0.2.1"):
        with pytest.raises(StoreBusy):
            async with turns.turn("192.0.2.1"):
                pass
    async with turns.turn("192.0.2.1"):
        pass
