"""Sockets and streams whose token its issuer is asked about: they end when it says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.edge.streams import asked_tokens as module
from gateway.edge.streams.asked_tokens import AT_ONCE, UNANSWERED_MOST, AskedTokens
from gateway.edge.streams.registry import LongLivedRequests
from gateway.edge.upstream.connection import SWEEP_S
from gateway.model import Principal, Reason
from tests.edge.rig import HUNG_S, Client, Rig, Script, principal, running
from tests.edge.streams.handshakes import echo, opened
from tests.edge.streams.test_registry import HeldRequest, Worker, goodbye, streaming

BOTH_LOOPS = True

TOKEN = "an-opaque-token-of-theirs"
BEARER = f"Authorization: Bearer {TOKEN}".encode()
THEIRS = {"subject": "company:ann", "issuer": "company", "kid": "company:introspection"}


class Issuer:
    """What an issuer says of a token.  Meets `asked_tokens.IssuerQuestions`."""

    def __init__(self) -> None:
        self.says: Reason | None = None
        self.asked: list[tuple[str, str]] = []
        self.go = asyncio.Event()
        self.go.set()

    def is_asked_about(self, principal: Principal) -> bool:
        return principal.kid.endswith(":introspection")

    async def refusal_now(self, principal: Principal, text: str, client_ip: str) -> Reason | None:
        self.asked.append((text, client_ip))
        await self.go.wait()
        return self.says


@asynccontextmanager
async def asked_of(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Rig, Issuer]]:
    monkeypatch.setattr(module, "ASK_EVERY_S", 0.0)
    worker, issuer = Worker(), Issuer()
    worker.calls = LongLivedRequests(worker.refusal, lambda: worker.now, questions=issuer)
    async with running(script, long_lived=worker.calls) as rig:
        rig.gate.principal = principal(**THEIRS)
        yield rig, issuer


async def until_asked(issuer: Issuer, times: int = 1) -> None:
    async with asyncio.timeout(HUNG_S):
        while len(issuer.asked) < times:
            await asyncio.sleep(0.01)


async def streamed(rig: Rig) -> Client:
    client = await rig.client()
    await client.send(b"GET /a HTTP/1.1\r\nHost: x\r\n" + BEARER + b"\r\n\r\n")
    assert (await client.head()).status == 200
    return client


async def test_a_socket_ends_once_its_issuer_says_that_its_token_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with asked_of(echo, monkeypatch) as (rig, issuer):
        client = await opened(rig, BEARER)
        await until_asked(issuer, 2)
        assert issuer.asked[0] == (TOKEN, "127.0.0.1")
        issuer.says = Reason.TOKEN_REVOKED
        assert await client.rest() == goodbye(1008, "token_revoked")


async def test_a_stream_ends_once_its_issuer_says_that_its_token_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with asked_of(streaming, monkeypatch) as (rig, issuer):
        client = await streamed(rig)
        await until_asked(issuer)
        assert issuer.asked[0] == (TOKEN, "127.0.0.1")
        issuer.says = Reason.TOKEN_REVOKED
        with pytest.raises(ConnectionResetError):
            await client.reader.readuntil(b"0\r\n\r\n")


async def test_a_socket_ends_when_its_issuer_cannot_be_asked_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with asked_of(echo, monkeypatch) as (rig, issuer):
        issuer.says = Reason.ISSUER_UNAVAILABLE
        client = await opened(rig, BEARER)
        assert await client.rest() == goodbye(1013, "issuer_unavailable")
        assert len(issuer.asked) == UNANSWERED_MOST


class Held(HeldRequest):
    def __init__(self, text: str) -> None:
        super().__init__(principal(**THEIRS))
        self.credential_text, self.client_ip = text, "192.0.2.1"


async def a_turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_token_is_asked_about_once_for_all_that_it_let_in() -> None:
    issuer = Issuer()
    tokens, now = AskedTokens(issuer), asyncio.get_running_loop().time()
    one, other = Held(TOKEN), Held(TOKEN)
    for request in (one, other):
        tokens.add(request)
    tokens.sweep(now + module.ASK_EVERY_S - 1)
    await a_turn()
    assert issuer.asked == []
    issuer.says = Reason.TOKEN_OUTDATED
    tokens.sweep(now + module.ASK_EVERY_S + 1)
    await a_turn()
    assert len(issuer.asked) == 1
    assert one.ended is other.ended is Reason.TOKEN_OUTDATED


async def test_an_answer_in_between_lets_it_go_on() -> None:
    issuer = Issuer()
    tokens, now = AskedTokens(issuer), asyncio.get_running_loop().time()
    request = Held(TOKEN)
    tokens.add(request)
    for number in range(1, 2 * UNANSWERED_MOST):
        issuer.says = None if number == UNANSWERED_MOST else Reason.ISSUER_UNAVAILABLE
        tokens.sweep(now + number * (module.ASK_EVERY_S + 1))
        await a_turn()
    assert len(issuer.asked) == 2 * UNANSWERED_MOST - 1
    assert request.ended is None


async def test_no_more_than_a_few_questions_are_under_way() -> None:
    issuer = Issuer()
    issuer.go.clear()
    tokens, now = AskedTokens(issuer), asyncio.get_running_loop().time()
    for number in range(2 * AT_ONCE):
        tokens.add(Held(f"{TOKEN}-{number}"))
    tokens.sweep(now + module.ASK_EVERY_S + 1)
    tokens.sweep(now + module.ASK_EVERY_S + 2)
    await a_turn()
    assert len(issuer.asked) == AT_ONCE
    tokens.close()


async def test_however_many_there_are_all_are_asked_about_in_time() -> None:
    issuer = Issuer()
    tokens, now = AskedTokens(issuer), asyncio.get_running_loop().time()
    names = {f"{TOKEN}-{number}" for number in range(3_000)}
    for name in names:
        tokens.add(Held(name))
    sweeps = int(module.ASK_EVERY_S / SWEEP_S)
    for number in range(sweeps):
        tokens.sweep(now + module.ASK_EVERY_S + 1 + number * SWEEP_S)
        for _ in range(len(names) // sweeps):
            await a_turn()
    assert {text for text, _ in issuer.asked} == names


async def test_who_waits_longest_is_next_where_an_issuer_is_slow() -> None:
    issuer = Issuer()
    tokens, now = AskedTokens(issuer), asyncio.get_running_loop().time()
    for number in range(3 * AT_ONCE):
        tokens.add(Held(f"{TOKEN}-{number}"))
    for number in range(1, 4):
        issuer.go.clear()
        tokens.sweep(now + number * (module.ASK_EVERY_S + 1))
        await a_turn()
        issuer.go.set()
        await a_turn()
    assert len(issuer.asked) == len({text for text, _ in issuer.asked}) == 3 * AT_ONCE
    tokens.close()


async def test_what_has_ended_is_asked_about_no_more() -> None:
    issuer = Issuer()
    tokens, now = AskedTokens(issuer), asyncio.get_running_loop().time()
    request, gone = Held(TOKEN), Held("another")
    for one in (request, gone):
        tokens.add(one)
    tokens.discard(request)
    assert len(tokens) == 1
    tokens.sweep(now + module.ASK_EVERY_S + 1)
    tokens.discard(gone)
    await a_turn()
    assert issuer.asked == []
    assert len(tokens) == 0


async def test_nobody_is_asked_about_tokens_that_are_signed() -> None:
    tokens = AskedTokens(Issuer())
    request = Held(TOKEN)
    request.principal = principal(subject="company:ann", issuer="company", kid="company:k-1")
    tokens.add(request)
    assert len(tokens) == 0
