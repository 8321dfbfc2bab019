"""Who is served first by the threads that hash."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from gateway.identity.accounts.hashing_threads import HashingThreads, Lane
from gateway.model import Reason


class Bench:
    """One thread that is held until `go`; `served` tells in which order the rest was done."""

    def __init__(self, queue: int) -> None:
        self.threads = HashingThreads(1, queue)
        self.served: list[Lane] = []
        self.go = threading.Event()

    async def hold(self) -> asyncio.Task[object]:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def work() -> None:
            loop.call_soon_threadsafe(begun.set)
            self.go.wait(30)

        task = asyncio.ensure_future(self.threads.run(work, Lane.NEW))
        await begun.wait()
        return task

    def ask(self, lane: Lane, of: str = "", client_ip: str = "") -> asyncio.Task[object]:
        return asyncio.ensure_future(
            self.threads.run(lambda: self.served.append(lane), lane, of, client_ip=client_ip)
        )


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    new_bench = Bench(queue=64)
    yield new_bench
    new_bench.go.set()
    new_bench.threads.close()


async def test_a_known_device_waits_behind_no_row_of_registrations(bench: Bench) -> None:
    running = await bench.hold()
    crowd = [bench.ask(Lane.NEW) for _ in range(60)]
    await asyncio.sleep(0)
    known = bench.ask(Lane.KNOWN)
    await asyncio.sleep(0)
    bench.go.set()
    await asyncio.gather(running, *crowd, known)
    assert Lane.KNOWN in bench.served[:2]


async def test_every_lane_gets_its_turns(bench: Bench) -> None:
    running = await bench.hold()
    tasks = [bench.ask(lane) for lane in Lane for _ in range(16)]
    await asyncio.sleep(0)
    bench.go.set()
    await asyncio.gather(running, *tasks)
    first = bench.served[:16]
    assert {lane: first.count(lane) for lane in Lane} == {
        Lane.KNOWN: 10,
        Lane.SIGN_IN: 4,
        Lane.NEW: 2,
    }


async def test_one_account_fills_no_lane(bench: Bench) -> None:
    """Whoever has an account can have as many known devices of it as they like."""
    held = await bench.hold()
    crowd = [bench.ask(Lane.KNOWN, "mallory") for _ in range(70)]
    await asyncio.sleep(0)
    known = bench.ask(Lane.KNOWN, "alice")
    stranger = bench.ask(Lane.SIGN_IN, "mallory")
    await asyncio.sleep(0)
    bench.go.set()
    answers = await asyncio.gather(*crowd)
    assert answers.count(Reason.HASHING_BUSY) == 65
    assert await known is await stranger is None
    await held
    again = [bench.ask(Lane.KNOWN, "mallory") for _ in range(5)]
    assert set(await asyncio.gather(*again)) == {None}


async def test_no_number_of_accounts_fills_a_lane_for_another_address(bench: Bench) -> None:
    """Whoever has fourteen of them, and as many as they like where anybody may register."""
    held, order = await bench.hold(), list[str]()

    def ask(account: str, client_ip: str) -> asyncio.Task[object]:
        asked = bench.threads.run(
            lambda: order.append(client_ip), Lane.KNOWN, account, client_ip=client_ip
        )
        return asyncio.ensure_future(asked)

    crowd = [ask(f"mallory{n // 5}", "192.0.2.66") for n in range(100)]
    await asyncio.sleep(0)
    owner = [ask("alice", ip) for ip in ("198.51.100.1", "2001:db8::1", "2001:db8::2")]
    await asyncio.sleep(0)
    assert bench.threads.pending == 65
    bench.go.set()
    assert set(await asyncio.gather(held, *owner)) == {None}
    # Turn by turn, a network of IPv6 as one: nobody stands behind the whole row.
    assert order[:5] == [
        "192.0.2.66", "198.51.100.1", "2001:db8::1", "192.0.2.66", "2001:db8::2"
    ]  # fmt: skip
    answers = await asyncio.gather(*crowd)
    assert answers.count(Reason.HASHING_BUSY) == 36 + 3


@pytest.mark.parametrize("crowded", ["2001:db8:77:{:x}::1", "192.0.2.{}"])
async def test_no_number_of_addresses_of_a_neighbourhood_fills_a_lane_for_another(
    bench: Bench, crowded: str
) -> None:
    """Whoever has a /48 of IPv6, as anybody may, comes from 65,536 addresses."""
    held, order = await bench.hold(), list[str]()

    def ask(account: str, client_ip: str) -> asyncio.Task[object]:
        asked = bench.threads.run(
            lambda: order.append(client_ip), Lane.KNOWN, account, client_ip=client_ip
        )
        return asyncio.ensure_future(asked)

    crowd = [ask(f"mallory{n // 5}", crowded.format(n)) for n in range(64)]
    await asyncio.sleep(0)
    assert bench.threads.pending == 65
    owner = ask("alice", "198.51.100.1")
    await asyncio.sleep(0)
    # Of the neighbourhood itself nobody has more than the others.
    assert await ask("mallory20", crowded.format(70)) is Reason.HASHING_BUSY
    bench.go.set()
    assert set(await asyncio.gather(held, owner)) == {None}
    assert "198.51.100.1" in order[:2]
    assert (await asyncio.gather(*crowd)).count(Reason.HASHING_BUSY) == 1


async def test_within_a_neighbourhood_addresses_take_turns(bench: Bench) -> None:
    held, order = await bench.hold(), list[str]()

    def ask(account: str, client_ip: str) -> asyncio.Task[object]:
        asked = bench.threads.run(
            lambda: order.append(client_ip), Lane.KNOWN, account, client_ip=client_ip
        )
        return asyncio.ensure_future(asked)

    crowd = [ask(f"mallory{n // 5}", "192.0.2.66") for n in range(64)]
    await asyncio.sleep(0)
    neighbour = ask("alice", "192.0.2.7")
    await asyncio.sleep(0)
    bench.go.set()
    assert set(await asyncio.gather(held, neighbour)) == {None}
    assert order[:2] == ["192.0.2.66", "192.0.2.7"]
    assert (await asyncio.gather(*crowd)).count(Reason.HASHING_BUSY) == 1


async def test_where_nobody_has_more_than_others_a_full_lane_is_busy(bench: Bench) -> None:
    held = await bench.hold()
    crowd = [bench.ask(Lane.NEW, client_ip=f"192.0.{n}.1") for n in range(64)]
    await asyncio.sleep(0)
    assert await bench.ask(Lane.NEW, client_ip="198.51.100.1") is Reason.HASHING_BUSY
    assert await bench.ask(Lane.NEW, client_ip="192.0.7.2") is Reason.HASHING_BUSY
    bench.go.set()
    await asyncio.gather(held, *crowd)
    assert len(bench.served) == 64


async def test_who_lost_its_place_and_leaves_holds_none(bench: Bench) -> None:
    held = await bench.hold()
    crowd = [bench.ask(Lane.KNOWN, f"m{n}", "192.0.2.66") for n in range(64)]
    await asyncio.sleep(0)
    owner = bench.ask(Lane.KNOWN, "alice", "198.51.100.1")
    await asyncio.sleep(0)
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    assert bench.threads.pending == 2
    bench.go.set()
    await asyncio.gather(held, owner)
    assert bench.threads.pending == 0


async def test_a_full_lane_is_busy_and_the_others_are_not(bench: Bench) -> None:
    running = await bench.hold()
    crowd = [bench.ask(Lane.NEW) for _ in range(65)]
    await asyncio.sleep(0)
    assert bench.threads.pending == 65
    sign_in, known = bench.ask(Lane.SIGN_IN), bench.ask(Lane.KNOWN)
    bench.go.set()
    answers = await asyncio.gather(*crowd)
    assert answers.count(Reason.HASHING_BUSY) == 1
    await asyncio.gather(running, sign_in, known)
    assert {Lane.SIGN_IN, Lane.KNOWN} <= set(bench.served)


async def test_who_leaves_holds_no_place(bench: Bench) -> None:
    running = await bench.hold()
    crowd = [bench.ask(Lane.NEW) for _ in range(64)]
    await asyncio.sleep(0)
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    assert bench.threads.pending == 1
    again = bench.ask(Lane.NEW)
    bench.go.set()
    await asyncio.gather(running, again)
    assert bench.served == [Lane.NEW]


async def test_what_fails_in_a_thread_fails_its_caller_and_no_other(bench: Bench) -> None:
    def broken() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await bench.threads.run(broken, Lane.NEW)
    await bench.ask(Lane.NEW)
    assert bench.served == [Lane.NEW]
