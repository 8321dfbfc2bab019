"""Who floods the listener of ext_authz, with connections or with calls that never end, holds nobody
else up for long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, suppress

import grpc
import grpc.aio
import pytest

from gateway.edge.ext_authz import server
from tests.access.worlds import snapshot
from tests.edge.admin.decision_house import POLICIES, ROUTES, House, opened
from tests.edge.ext_authz.asking import CHECK, Asked, Checked, ask

PUBLIC = Asked("/public/a").message()
NO_ROOM = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """Little is taken at once, and nothing for long."""
    monkeypatch.setattr(server, "HANDSHAKE_S", 1)
    monkeypatch.setattr(server, "CALLS_MAX", 4)
    monkeypatch.setattr(server, "CONNECTION_CALLS_MAX", 3)
    monkeypatch.setattr(server, "DECIDE_S", 1.0)
    async with opened() as found:
        await found.open_grpc(connections=8)
        yield found


async def answered_in_the_end(address: str) -> Checked:
    """Asked again for as long as there is no room."""
    async with asyncio.timeout(60):
        while True:
            try:
                return Checked(await ask(address, PUBLIC))
            except grpc.aio.AioRpcError as error:
                if error.code() not in NO_ROOM:
                    raise
            await asyncio.sleep(0.05)


async def test_a_flood_of_connections_is_closed_and_an_envoy_that_was_there_goes_on(
    house: House,
) -> None:
    host, _, port = house.grpc_address.partition(":")
    async with grpc.aio.insecure_channel(house.grpc_address) as channel:
        envoy: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CHECK)
        assert Checked(await envoy(PUBLIC, timeout=60)).allowed
        flood = [await asyncio.open_connection(host, port) for _ in range(100)]
        ends = [asyncio.ensure_future(_end_of(reader)) for reader, _ in flood]
        async with asyncio.timeout(60):
            # Of eight one is the Envoy's.
            while sum(end.done() for end in ends) < 93:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED, timeout=0.1)
        assert Checked(await envoy(PUBLIC, timeout=60)).allowed
        async with asyncio.timeout(60):
            # The others say nothing, and lose their places.
            await asyncio.gather(*ends)
        assert (await answered_in_the_end(house.grpc_address)).allowed
    for _, writer in flood:
        writer.close()


async def test_more_calls_than_are_judged_at_once_are_refused_and_leave_their_places(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "DECIDE_S", 60.0)
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(
                    house.grpc_address, options=(("grpc.use_local_subchannel_pool", 1),)
                )
            )
            for _ in range(4)
        ]
        begun = [_begun(one) for one in channels for _ in range(3)]
        ends, over = [_ended(call) for call in begun], list[asyncio.Task[bytes]]()
        async with asyncio.timeout(40):
            while len(over) < 8:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED, timeout=0.1)
                over = [end for end in ends if end.done()]
        for end in over:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await end
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(over) == 8
        for call in begun:
            call.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        assert (await answered_in_the_end(house.grpc_address)).allowed


async def test_a_call_that_sends_no_message_is_denied_in_the_end(house: House) -> None:
    async with grpc.aio.insecure_channel(house.grpc_address) as channel:
        answer = Checked(await _begun(channel)).answer(())
    assert (answer.status, json.loads(answer.body)["reason"]) == (503, "store_busy")


async def test_a_stranger_is_refused_before_its_message_has_come() -> None:
    world = snapshot(ROUTES.replace("127.0.0.1/32", "192.0.2.0/24"), *POLICIES)
    async with opened(world) as house:
        async with grpc.aio.insecure_channel(await house.open_grpc()) as channel:
            answer = Checked(await _begun(channel)).answer(())
        assert answer.status == 403
        assert b"trusted_peers" in answer.body


async def test_of_one_connection_few_calls_are_judged_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is more waits at the client, as HTTP/2 has it (RFC 9113 section 5.1.2)."""
    monkeypatch.setattr(server, "DECIDE_S", 60.0)
    async with grpc.aio.insecure_channel(house.grpc_address) as channel:
        await channel.channel_ready()
        held = [_begun(channel) for _ in range(3)]
        ends = [_ended(call) for call in held]
        whole: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CHECK)
        fourth = asyncio.ensure_future(_answer(whole(PUBLIC, timeout=60)))
        done, _ = await asyncio.wait([*ends, fourth], timeout=0.5)
        assert not done
        # The others have said all that they will, which is nothing.
        for call in held:
            await call.done_writing()
        assert Checked(await fourth).allowed
        for end in ends:
            with suppress(grpc.aio.AioRpcError):
                assert not Checked(await end).allowed


def _begun(channel: grpc.aio.Channel) -> grpc.aio.StreamUnaryCall[bytes, bytes]:
    call: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(CHECK)
    return call(timeout=60)


def _ended(call: grpc.aio.StreamUnaryCall[bytes, bytes]) -> asyncio.Task[bytes]:
    return asyncio.ensure_future(_answer(call))


async def _answer(call: Awaitable[bytes]) -> bytes:
    return bytes(await call)


async def _end_of(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(1_000):
            pass
    except ConnectionError:
        return
