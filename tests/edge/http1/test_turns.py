"""Turns by themselves: who is called when, in one loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from gateway.edge.http1.turns import TURN_S, Turns


async def test_whoever_waits_is_called_once_and_after_what_was_due_before() -> None:
    turns = Turns()
    called: list[str] = []
    asyncio.get_running_loop().call_soon(called.append, "before")
    turns.wait(lambda: called.append("waited"))
    assert called == []
    await asyncio.sleep(0)
    assert called == ["before", "waited"]
    await asyncio.sleep(0)
    assert called == ["before", "waited"]


async def test_whoever_waits_again_in_its_turn_goes_on_in_the_next_one() -> None:
    turns = Turns()
    called: list[str] = []

    def twice() -> None:
        called.append("first")
        turns.wait(lambda: called.append("again"))
        asyncio.get_running_loop().call_soon(called.append, "others")

    turns.wait(twice)
    await asyncio.sleep(0)
    assert called == ["first"]
    await asyncio.sleep(0)
    assert called == ["first", "again", "others"]


async def test_all_who_wait_share_the_time_of_one_turn() -> None:
    turns = Turns()
    called: list[int] = []

    def slow(number: int) -> Callable[[], None]:
        def go_on() -> None:
            until = time.monotonic() + TURN_S
            while time.monotonic() < until:
                pass
            called.append(number)

        return go_on

    for number in range(3):
        turns.wait(slow(number))
    for turn in range(1, 4):
        await asyncio.sleep(0)
        assert called == list(range(turn))


async def test_those_who_take_no_time_are_called_in_one_turn() -> None:
    turns = Turns()
    called: list[int] = []
    for number in range(3):
        turns.wait(lambda number=number: called.append(number))  # type: ignore[misc]
    await asyncio.sleep(0)
    assert called == [0, 1, 2]


async def test_one_that_fails_holds_up_nobody() -> None:
    turns = Turns()
    called: list[str] = []
    failures: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(str(context["exception"])))
    turns.wait(lambda: (_ for _ in ()).throw(RuntimeError("broken")))
    turns.wait(lambda: called.append("next"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (called, failures) == (["next"], ["broken"])
