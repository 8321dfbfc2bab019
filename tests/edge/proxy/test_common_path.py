"""Requests that are begun without a task, and where they go on when they must wait."""

from __future__ import annotations

import asyncio

from gateway.access.authorizer import Decision
from gateway.model import Call, Reason
from tests.edge.rig import HUNG_S, OK, Exchange, FakeGate, Rig, running

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


class WaitingGate(FakeGate):
    """Decides once it is let, under a time limit, which only a task can have."""

    def __init__(self, gate: FakeGate) -> None:
        super().__init__(gate.route)
        self.let = asyncio.Event()
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def decide(self, call: Call, snapshot: object) -> Decision:
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(HUNG_S):
                self.asked.set()
                await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return await super().decide(call, snapshot)


def install(rig: Rig, gate: FakeGate) -> None:
    rig.listener.handler._authorizer = gate  # type: ignore[attr-defined]


async def test_a_decision_that_waits_goes_on_where_it_stopped() -> None:
    async with running() as rig:
        gate = WaitingGate(rig.gate)
        install(rig, gate)
        client = await rig.client()
        await client.send(GET)
        await gate.asked.wait()
        gate.let.set()
        assert (await client.answer()).status == 200
        assert len(gate.calls) == 1


async def test_a_client_that_leaves_cancels_the_decision_that_waits() -> None:
    async with running() as rig:
        gate = WaitingGate(rig.gate)
        install(rig, gate)
        client = await rig.client()
        await client.send(GET)
        await gate.asked.wait()
        client.close()
        async with asyncio.timeout(HUNG_S):
            await gate.cancelled.wait()


async def test_a_thousand_refusals_in_one_go_are_answered_one_after_the_other() -> None:
    async with running() as rig:
        rig.gate.decision = Decision(False, Reason.NO_RULE, Reason.NO_RULE, rig.gate.route)
        client = await rig.client()
        client.writer.write(GET * 1_000)
        for _ in range(1_000):
            assert (await client.answer()).status == 403


async def test_a_client_that_leaves_frees_the_target_it_waited_for() -> None:
    async def once(exchange: Exchange) -> None:
        if len(rig.upstream.requests) == 1:
            exchange.send(OK)

    async with running(once) as rig:
        client = await rig.client()
        await client.send(GET)
        await client.answer()
        assert rig.gate.route.upstream is not None
        target = rig.clusters.cluster_of(rig.gate.route.upstream).targets[0]
        await client.send(GET)
        await rig.upstream.until(lambda: len(rig.upstream.requests) == 2)
        assert target.in_flight == 1
        client.close()
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        assert target.in_flight == 0


async def test_the_idle_limit_does_not_cut_a_request_that_is_under_way() -> None:
    async def when_idle_time_is_over(exchange: Exchange) -> None:
        if len(rig.upstream.requests) == 2:
            for connection in rig.listener.connections:
                connection._idle.since = 0.0
                connection._idle.look()
        exchange.send(OK)

    async with running(when_idle_time_is_over) as rig:
        client = await rig.client()
        for _ in range(2):
            await client.send(GET)
            assert (await client.answer()).status == 200


async def test_an_error_in_the_handler_at_once_shows_nothing_and_closes() -> None:
    class Defect(FakeGate):
        async def decide(self, call: Call, snapshot: object) -> Decision:
            raise RuntimeError("the secret of the house")

    async with running() as rig:
        install(rig, Defect(rig.gate.route))
        answer = await rig.all(GET)
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"secret" not in answer
