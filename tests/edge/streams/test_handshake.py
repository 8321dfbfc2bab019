"""A WebSocket becomes a tunnel after the upstream's own 101, and nothing else does."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json

import pytest

from gateway.access.authorizer import Decision
from gateway.model import Reason
from tests.edge.rig import OK, Exchange, principal, running
from tests.edge.streams.handshakes import (
    ACCEPT,
    GRANTED,
    KEY,
    echo,
    exactly,
    granting,
    handshake,
    opened,
)
from tests.edge.streams.test_frames import frame

BOTH_LOOPS = True


async def test_a_granted_handshake_becomes_a_tunnel_both_ways() -> None:
    async with running(echo) as rig:
        client = await opened(rig)
        sent = frame(b"hello", first=0xC1, masked=True)
        await client.send(sent)
        assert await exactly(client, len(sent)) == sent


async def test_the_upstream_reads_one_handshake_of_ours_with_the_callers_identity() -> None:
    async with running(echo) as rig:
        rig.gate.principal = principal()
        await opened(
            rig,
            b"X-Auth-User-Id: root",
            b"Sec-WebSocket-Protocol: chat, graphql-ws",
            b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        )
        received = rig.upstream.requests[0]
        assert received.values("upgrade") == [b"websocket"]
        assert received.values("connection") == [b"Upgrade"]
        assert received.values("sec-websocket-key") == [KEY]
        assert received.values("x-auth-user-id") == [b"u-1"]
        assert received.values("sec-websocket-protocol") == [b"chat, graphql-ws"]
        assert received.values("sec-websocket-extensions")[0].startswith(b"permessage-deflate")


async def test_a_refused_handshake_reaches_no_upstream() -> None:
    async with running(echo) as rig:
        refused = Reason.CROSS_ORIGIN
        rig.gate.decision = Decision(False, refused, refused, route=rig.gate.route)
        assert (await rig.ask(handshake())).status == 403
        assert not rig.upstream.requests


UNGRANTED = {
    "the accept of another key": GRANTED.replace(ACCEPT, b"AAAA" + ACCEPT[4:]),
    "no accept": GRANTED.replace(b"Sec-WebSocket-Accept", b"X-Accept"),
    "two accepts": GRANTED.replace(
        b"Connection", b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\nConnection"
    ),
    "another protocol": GRANTED.replace(b"websocket", b"h2c"),
    "no Connection": GRANTED.replace(b"Connection: Upgrade", b"Connection: close"),
    "HTTP/1.0": GRANTED.replace(b"HTTP/1.1", b"HTTP/1.0"),
}


@pytest.mark.parametrize("data", UNGRANTED.values(), ids=UNGRANTED.keys())
async def test_a_101_that_does_not_answer_the_handshake_is_502(data: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        exchange.send(data + frame(b"smuggled"))
        await exchange.reader.read()

    async with running(script) as rig:
        answer = await rig.ask(handshake())
        assert answer.status == 502
        await rig.upstream.until(lambda: rig.upstream.open == 0)


@pytest.mark.parametrize(
    "data",
    [
        OK,
        OK.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        OK.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n"),
    ],
)
async def test_a_200_opens_no_tunnel_and_what_follows_is_judged_as_a_request(data: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        exchange.send(data)

    async with running(script) as rig:
        client = await rig.client()
        behind = b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"
        await client.send(handshake() + behind)
        assert (await client.answer()).status == 200
        assert (await client.answer()).status == 200
        assert [call.path for call in rig.gate.calls] == ["/ws", "/admin"]


PLAIN = {
    "a POST": handshake(b"Content-Length: 0", method=b"POST"),
    "a body": handshake(b"Content-Length: 2") + b"ab",
    "HTTP/1.0": handshake(minor=0),
    "no key": handshake().replace(b"Sec-WebSocket-Key", b"X-Key"),
    "a short key": handshake(key=b"AAAA"),
    "two keys": handshake(b"Sec-WebSocket-Key: " + KEY),
    "no Connection": handshake().replace(b"keep-alive, Upgrade", b"keep-alive"),
    "a key that Connection names": handshake().replace(
        b"keep-alive, Upgrade", b"Upgrade, Sec-WebSocket-Key"
    ),
    "two upgrades": handshake(b"Upgrade: websocket"),
}


@pytest.mark.parametrize("data", PLAIN.values(), ids=PLAIN.keys())
async def test_what_is_no_whole_handshake_is_passed_on_without_its_upgrade(data: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.body()
        exchange.send(GRANTED)

    async with running(script) as rig:
        assert (await rig.ask(data)).status == 502
        assert not rig.upstream.requests[0].values("upgrade")


OTHER_VERSIONS = {
    "none": b"",
    "8": b"Sec-WebSocket-Version: 8\r\n",
    "13 twice": b"Sec-WebSocket-Version: 13\r\n" * 2,
    "a list": b"Sec-WebSocket-Version: 13, 8\r\n",
    "013": b"Sec-WebSocket-Version: 013\r\n",
}


@pytest.mark.parametrize("line", OTHER_VERSIONS.values(), ids=OTHER_VERSIONS.keys())
async def test_a_handshake_of_another_version_is_426_and_names_13(line: bytes) -> None:
    async with running(echo) as rig:
        client = await rig.client()
        await client.send(handshake().replace(b"Sec-WebSocket-Version: 13\r\n", line))
        answer = await client.answer()
        assert answer.status == 426
        assert json.loads(answer.body)["reason"] == "upgrade_required"
        assert answer.values("sec-websocket-version") == [b"13"]
        assert answer.values("upgrade") == [b"websocket"]
        assert answer.values("connection") == [b"Upgrade"]
        assert not rig.upstream.requests
        # RFC 6455 section 4.4: the client may try again, on this connection too.
        await client.send(handshake())
        assert (await client.head()).status == 101


async def test_who_may_not_connect_is_told_nothing_of_versions() -> None:
    async with running(echo) as rig:
        refused = Reason.CROSS_ORIGIN
        rig.gate.decision = Decision(False, refused, refused, route=rig.gate.route)
        data = handshake().replace(b"Version: 13", b"Version: 8")
        assert (await rig.ask(data)).status == 403


async def test_h2c_hides_behind_no_second_upgrade() -> None:
    async with running(echo) as rig:
        data = handshake(b"Upgrade: websocket").replace(b"Upgrade: websocket", b"Upgrade: h2c", 1)
        assert (await rig.ask(data)).status == 400
        assert not rig.upstream.requests


async def test_frames_behind_the_handshake_wait_for_the_101() -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(exchange.reader.read(1), 0.05)
        await echo(exchange)

    async with running(script) as rig:
        client = await rig.client()
        early = frame(b"early", masked=True)
        await client.send(handshake() + early)
        await rig.upstream.until(lambda: bool(rig.upstream.requests))
        go.set()
        assert (await client.head()).status == 101
        assert await exactly(client, len(early)) == early


async def test_frames_behind_the_101_are_relayed() -> None:
    async with running(granting(frame(b"welcome"))) as rig:
        client = await opened(rig)
        assert await exactly(client, 9) == frame(b"welcome")


async def test_a_client_that_leaves_before_the_101_ends_its_handshake_upstream() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reader.read()

    async with running(script) as rig:
        client = await rig.client()
        await client.send(handshake())
        await rig.upstream.until(lambda: bool(rig.upstream.requests))
        client.close()
        await rig.upstream.until(lambda: rig.upstream.open == 0)


def test_the_accept_of_these_tests_is_the_rfcs() -> None:
    made = hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    assert base64.b64encode(made) == ACCEPT
