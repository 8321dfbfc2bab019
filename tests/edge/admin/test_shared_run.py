"""Work that many ask for at once is done once for all of them, and leaves the rest of the time."""

from __future__ import annotations

import asyncio

from gateway.edge.admin.shared_run import SharedRun


class Work:
    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Event()
        self.fails = False

    async def make(self, kind: str) -> str:
        self.begun += 1
        await self.go.wait()
        if self.fails:
            raise OSError
        return f"{kind} {self.begun}"


async def begun(work: Work, count: int) -> None:
    async with asyncio.timeout(10):
        while work.begun < count:
            await asyncio.sleep(0.005)


async def test_who_comes_while_it_is_done_has_what_comes_of_it() -> None:
    work = Work()
    run = SharedRun(work.make)
    asking = [asyncio.create_task(run.of("text")) for _ in range(50)]
    await begun(work, 1)
    late = asyncio.create_task(run.of("text"))
    await asyncio.sleep(0)
    work.go.set()
    assert set(await asyncio.gather(*asking, late)) == {"text 1"}
    assert await run.of("text") == "text 2"


async def test_behind_it_is_a_rest_that_grows_with_what_it_took() -> None:
    now, slept = 100.0, list[float]()

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(round(seconds, 6))
        now += max(seconds, 0)

    async def make(kind: str) -> str:
        nonlocal now
        now += {"short": 0.1, "long": 9.0}[kind]
        return kind

    run = SharedRun(make, now=lambda: now, sleep=sleep)
    await run.of("short")
    await run.of("long")
    await run.of("short")
    now += 60
    await run.of("short")
    assert slept[0] < 0
    assert slept[1:3] == [0.4, 2.0]
    assert slept[3] < 0  # who asks alone waits for nothing


async def test_who_goes_away_takes_nothing_from_the_others() -> None:
    work = Work()
    run = SharedRun(work.make)
    first = asyncio.create_task(run.of("text"))
    await begun(work, 1)
    second = asyncio.create_task(run.of("text"))
    await asyncio.sleep(0)
    first.cancel()
    work.go.set()
    assert await second == "text 1"
    assert first.cancelled()


async def test_one_that_failed_is_told_to_all_and_done_anew() -> None:
    work = Work()
    work.fails = True
    work.go.set()
    run = SharedRun(work.make)
    told = await asyncio.gather(*(run.of("text") for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in told] == [OSError] * 3
    work.fails = False
    assert await run.of("text") == "text 2"
