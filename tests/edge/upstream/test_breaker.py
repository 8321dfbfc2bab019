"""When a target's breaker opens, what counts as a failure, and who may try after its rest."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.access.definitions import Breaker, Health, Upstream
from gateway.edge.upstream.target_health import TargetHealth
from tests.edge.rig import OK, Answer, Exchange, Rig, answering, running

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
BAD = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


def reason(answer: Answer) -> str:
    return str(json.loads(answer.body)["reason"])


def breaking(failures: int, window_s: float = 10.0, open_s: float = 15.0) -> TargetHealth:
    spec = Upstream("u", (), breaker=Breaker(failures, window_s, open_s))
    return TargetHealth(spec, "http://x")


def rested(rig: Rig, breaker: Breaker) -> None:
    """Its breaker was opened, and has been open for as long as it is to be."""
    rig.spec(breaker=breaker)
    cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
    health = cluster.targets[0].health
    assert health is not None
    health.record_result(False, asyncio.get_running_loop().time() - breaker.open_s)


async def streaming(exchange: Exchange) -> None:
    """A stream that does not end for `/stream`, and an answer for all else."""
    if b"/stream" not in exchange.received.line:
        exchange.send(OK)
        return
    exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    await exchange.reader.read()


def test_a_breaker_opens_after_so_many_failures_in_its_window() -> None:
    standing = breaking(3)
    for now in (100.0, 104.0):
        standing.record_result(False, now)
    assert standing.available(104.0)
    standing.record_result(False, 109.9)
    assert not standing.available(109.9)


def test_failures_spread_over_more_than_the_window_open_nothing() -> None:
    standing = breaking(3)
    for now in (100.0, 106.0, 112.0, 118.0, 124.0):
        standing.record_result(False, now)
        assert standing.available(now)


def test_after_its_rest_one_call_tries_and_the_others_wait_for_what_it_meets() -> None:
    standing = breaking(1)
    standing.record_result(False, 100.0)
    assert not standing.available(114.9)
    assert standing.available(115.0)
    standing.record_dispatch(115.0)
    assert not standing.available(115.1)
    standing.record_result(True, 116.0)
    assert standing.available(116.0)


def test_a_trial_that_fails_opens_the_breaker_again() -> None:
    standing = breaking(5)
    for _ in range(5):
        standing.record_result(False, 100.0)
    standing.record_dispatch(115.0)
    standing.record_result(False, 116.0)
    assert not standing.available(130.9)
    assert standing.available(131.0)


async def test_an_open_breaker_answers_503_without_asking_the_upstream() -> None:
    async with running(answering(b"nonsense\r\n\r\n", close=True)) as rig:
        rig.spec(breaker=Breaker(failures=3, window_s=10.0, open_s=60.0))
        assert [(await rig.ask(GET)).status for _ in range(3)] == [502] * 3
        asked = len(rig.upstream.requests)
        answer = await rig.ask(GET)
        assert (answer.status, reason(answer)) == (503, "upstream_busy")
        assert len(rig.upstream.requests) == asked


async def test_statuses_of_an_upstream_open_no_breaker() -> None:
    async with running(answering(BAD)) as rig:
        rig.spec(breaker=Breaker(failures=1, window_s=10.0, open_s=60.0))
        assert [(await rig.ask(GET)).status for _ in range(4)] == [500] * 4


async def test_clients_that_leave_open_no_breaker() -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.reader.read()

    async with running(silent) as rig:
        rig.spec(breaker=Breaker(failures=1, window_s=10.0, open_s=60.0))
        for count in range(1, 4):
            client = await rig.client()
            await client.send(GET)
            await rig.upstream.until(lambda count=count: len(rig.upstream.requests) == count)  # type: ignore[misc]
            client.close()
            await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_a_stream_whose_longest_life_is_over_is_no_failure_of_its_target() -> None:
    """Else who opens streams could close the target to everybody."""

    async with running(streaming) as rig:
        rig.spec(timeout_stream_s=0.3, breaker=Breaker(failures=1, window_s=10.0, open_s=60.0))
        assert (await rig.ask(GET)).status == 200  # its connection is kept
        client = await rig.client()
        await client.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.head()).status == 200
        with pytest.raises(ConnectionResetError):
            await client.rest()
        assert (await rig.ask(GET)).status == 200


async def test_streams_that_fall_silent_are_no_failures_of_their_target() -> None:
    """It has answered: who opens streams in which nothing happens could close it to everybody."""

    async with running(streaming) as rig:
        rig.spec(
            timeout_idle_s=0.3,
            breaker=Breaker(failures=2, window_s=10.0, open_s=60.0),
            health=Health("/", every_s=60.0, fall=2, rise=2, timeout_s=1.0),
        )
        for _ in range(2):
            assert (await rig.ask(GET)).status == 200  # its connection is kept
            client = await rig.client()
            await client.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.head()).status == 200
            with pytest.raises(ConnectionResetError):
                await client.rest()
        cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
        assert cluster.targets[0].health is not None
        assert cluster.targets[0].health.healthy
        assert (await rig.ask(GET)).status == 200


async def test_of_calls_that_come_at_once_after_the_breakers_rest_one_tries() -> None:
    go_on = asyncio.Event()

    async def waiting(exchange: Exchange) -> None:
        await go_on.wait()
        exchange.send(OK)

    async with running(waiting) as rig:
        rig.spec(breaker=Breaker(failures=1, window_s=10.0, open_s=0.2))
        cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
        health = cluster.targets[0].health
        assert health is not None
        clients = [await rig.client() for _ in range(8)]
        health.record_result(False, asyncio.get_running_loop().time() - 0.2)
        for client in clients:
            client.writer.write(GET)
        answers = [asyncio.create_task(client.answer()) for client in clients]
        await rig.upstream.until(lambda: len(rig.upstream.requests) > 0)
        go_on.set()
        assert sorted([(await one).status for one in answers]) == [200, *[503] * 7]
        assert len(rig.upstream.requests) == 1


async def test_a_stream_that_tries_after_the_breakers_rest_decides_by_its_head() -> None:
    """It may last for a day, and everybody else would be refused as long."""

    async with running(streaming) as rig:
        rested(rig, Breaker(failures=1, window_s=10.0, open_s=60.0))
        client = await rig.client()
        await client.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.head()).status == 200
        assert [(await rig.ask(GET)).status for _ in range(3)] == [200] * 3


async def test_a_client_that_leaves_while_its_call_tries_keeps_nobody_away() -> None:
    """Else who calls and leaves could keep the breaker open for as long as they like."""

    async def script(exchange: Exchange) -> None:
        if b"/silent" in exchange.received.line:
            await exchange.reader.read()
        exchange.send(OK)

    async with running(script) as rig:
        rested(rig, Breaker(failures=1, window_s=10.0, open_s=60.0))
        client = await rig.client()
        await client.send(b"GET /silent HTTP/1.1\r\nHost: x\r\n\r\n")
        await rig.upstream.until(lambda: bool(rig.upstream.requests))
        assert (await rig.ask(GET)).status == 503
        client.close()
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        assert [(await rig.ask(GET)).status for _ in range(3)] == [200] * 3
