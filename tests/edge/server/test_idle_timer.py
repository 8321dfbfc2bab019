"""Idle timers share those of the event loop, and none is looked at too early or forgotten."""

from __future__ import annotations

import asyncio
from time import monotonic

from gateway.edge.server.idle_timer import IdleTimer, IdleTimers

IDLE_S = 0.2


class Idle:
    """Somebody who is idle from now on, and notes when that was told."""

    def __init__(self, timers: IdleTimers) -> None:
        self.told: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.timer = IdleTimer(timers, lambda: self.told.set_result(monotonic()))
        self.timer.since = monotonic()
        self.timer.start()


async def test_each_is_told_once_it_was_idle_for_so_long_and_little_later() -> None:
    timers = IdleTimers(IDLE_S)
    for idle in [Idle(timers) for _ in range(20)]:
        late_s = await idle.told - idle.timer.since - IDLE_S
        assert 0 <= late_s < 10  # a machine that is busy is late; nobody is early


async def test_one_that_was_asked_again_meanwhile_is_told_later() -> None:
    timers = IdleTimers(IDLE_S)
    asked, idle = Idle(timers), Idle(timers)
    await asyncio.sleep(IDLE_S / 2)
    asked.timer.since = monotonic()
    await idle.told
    assert await asked.told >= asked.timer.since + IDLE_S


async def test_one_that_is_gone_is_not_told_and_not_held() -> None:
    timers = IdleTimers(IDLE_S)
    gone, idle = Idle(timers), Idle(timers)
    gone.timer.cancel()
    await idle.told
    assert not gone.told.done()


async def test_one_that_fails_keeps_no_other_from_being_told() -> None:
    failures, all_failed = list[object](), asyncio.Event()

    def note(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        failures.append(context)
        if len(failures) == 5:
            all_failed.set()

    asyncio.get_running_loop().set_exception_handler(note)
    timers = IdleTimers(IDLE_S)
    others = []
    for number in range(10):
        if number % 2:
            others.append(Idle(timers))
        else:
            wrong = IdleTimer(timers, lambda: [][0])
            wrong.since = monotonic()
            wrong.start()
    for other in others:
        await other.told
    await all_failed.wait()
