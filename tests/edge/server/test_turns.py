"""Whose bytes are taken when: a share of one connection's, then those of everybody else."""

from __future__ import annotations

import asyncio

from gateway.access.authorizer import Decision
from gateway.edge.http1.chunked import ChunkReader
from gateway.edge.http1.turns import HEAD_SHARE, SHARE, Turns
from gateway.edge.streams.frames import FrameReader
from gateway.model import Reason
from tests.edge.rig import HUNG_S, Exchange, running

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OTHER = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_who_asks_once_is_answered_before_who_asks_a_thousand_times_at_once() -> None:
    async with running() as rig:
        rig.gate.decision = Decision(False, Reason.NO_RULE, Reason.NO_RULE)
        many, once = await rig.client(), await rig.client()
        # Both are there before the loop looks again.
        many.writer.write(GET * 1_000)
        once.writer.write(OTHER)
        assert (await once.answer()).status == 403
        assert [call.path for call in rig.gate.calls].index("/b") <= SHARE // HEAD_SHARE
        for _ in range(1_000):
            assert (await many.answer()).status == 403
        assert len(rig.gate.calls) == 1_001


async def test_who_leaves_while_it_waits_for_its_turn_is_forgotten() -> None:
    async with running() as rig:
        rig.gate.decision = Decision(False, Reason.NO_RULE, Reason.NO_RULE)
        client = await rig.client()
        client.writer.write(GET * 1_000)
        await client.head()
        client.writer.transport.abort()
        async with asyncio.timeout(HUNG_S):
            while rig.listener.open:
                await asyncio.sleep(0.01)
        assert (await rig.ask(OTHER)).status == 403


async def test_a_body_in_chunks_of_a_byte_arrives_whole() -> None:
    async with running() as rig:
        head = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await rig.ask(head + b"1\r\na\r\n" * 5_000 + b"0\r\n\r\n")
        assert (answer.status, answer.body) == (200, b"ok")


async def test_an_answer_in_chunks_of_a_byte_arrives_whole() -> None:
    async with running() as rig:

        async def tiny(exchange: Exchange) -> None:
            exchange.send(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                + b"1\r\na\r\n" * 5_000
                + b"0\r\n\r\n"
            )

        rig.upstream.script = tiny
        client = await rig.client()
        for _ in range(2):
            await client.send(GET)
            assert (await client.answer()).body == b"a" * 5_000
        assert rig.upstream.connections == 1


def test_so_many_chunks_are_taken_and_no_more() -> None:
    reader, out = ChunkReader(), []  # type: ignore[var-annotated]
    data = b"1\r\na\r\n" * 10
    at = reader.feed(data, out, most=3)
    assert (len(out), reader.done) == (3, False)
    assert reader.feed(data, out, at) == len(data)
    assert out == [b"a"] * 10


def test_so_many_frames_are_passed_and_the_rest_is_told() -> None:
    for answer in (b"", b"12345678"):
        reader = FrameReader()
        reader.answer = answer
        assert reader.feed(b"\x81\x01a" * 10, 4) == b"\x81\x01a" * 4
        assert reader.rest == b"\x81\x01a" * 6
        assert reader.feed(reader.rest) == b"\x81\x01a" * 6
        assert reader.rest == b""


async def test_those_who_wait_have_their_turn_one_after_the_other() -> None:
    turns, seen = Turns(), []

    def again() -> None:
        seen.append("a")
        if seen.count("a") < 3:
            turns.wait(again)

    turns.wait(again)
    turns.wait(lambda: seen.append("b"))
    while seen.count("a") < 3:
        await asyncio.sleep(0)
    assert seen == ["a", "b", "a", "a"]
