"""Sockets and long answers end with the session that opened them."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gateway.edge.streams.reevaluation import Reevaluation
from gateway.edge.streams.reevaluation_queue import REEVALUATE_FOR_S
from gateway.edge.streams.registry import (
    CLOSE_TIMEOUT_S,
    REFRESH_TIMEOUT_S,
    LongLivedRequests,
)
from gateway.edge.upstream.connection import SWEEP_S
from gateway.model import Change, ChangeKind, Principal, Reason, without_session
from gateway.revocation.revocation_list import RevocationList
from tests.certificates import Authority
from tests.edge.rig import HUNG_S, Client, Exchange, Rig, Script, listen, principal, running
from tests.edge.streams.handshakes import echo, exactly, granting, handshake, opened
from tests.edge.streams.test_frames import frame

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Worker:
    """What a worker knows of revocations, without the stores that tell it."""

    def __init__(self) -> None:
        self.revoked = RevocationList()
        self.stale = False
        self.now = 1_000.0
        self.calls = LongLivedRequests(self.refusal, lambda: self.now)

    def refusal(self, who: Principal) -> Reason | None:
        return Reason.REPLICA_STALE if self.stale else self.revoked.refusal(who)

    def learn(self, kind: ChangeKind, target: str, **changes: Any) -> None:
        fields: dict[str, Any] = {"not_before": 500, "cause": Reason.TOKEN_REVOKED}
        change = Change("c", kind, target, created_at=500, **(fields | changes))
        self.revoked.apply(change, 1e9)
        self.calls.changed(change)


@asynccontextmanager
async def signed_in(script: Script = echo, **who: Any) -> AsyncIterator[tuple[Rig, Worker]]:
    worker = Worker()
    async with running(script, long_lived=worker.calls) as rig:
        rig.gate.principal = principal(**({"issued_at": 400} | who))
        yield rig, worker


def goodbye(code: int, reason: str) -> bytes:
    return bytes((0x88, 2 + len(reason))) + code.to_bytes(2, "big") + reason.encode()


ENDS = {
    "the session ends": (ChangeKind.SESSION, "s-1"),
    "the token is revoked": (ChangeKind.TOKEN, "t-1"),
    "the user is revoked": (ChangeKind.SUBJECT, "u-1"),
    "the client is revoked": (ChangeKind.CLIENT, "web"),
    "the signing key is revoked": (ChangeKind.KEY, "k-1"),
    "a backup is restored": (ChangeKind.EVERYONE, ""),
}


def test_what_has_to_end_has_less_than_a_second() -> None:
    """As many tests here have it.  Whoever is asked to close and does not is cut by a sweep, and
    so is what a store does not answer for."""
    assert max(CLOSE_TIMEOUT_S, REFRESH_TIMEOUT_S) + SWEEP_S < 0.9


@pytest.mark.parametrize("named", ENDS.values(), ids=ENDS.keys())
async def test_a_socket_is_closed_with_1008_when(named: tuple[ChangeKind, str]) -> None:
    async with signed_in() as (rig, worker):
        client = await opened(rig)
        worker.learn(*named)
        assert await client.rest() == goodbye(1008, "token_revoked")
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        await forgotten(worker)


async def test_a_socket_whose_token_names_no_session_ends_with_any_of_its_subject() -> None:
    """Of another issuer: the token may be of the session that has ended."""
    who: dict[str, Any] = {"subject": "company:ann", "session_id": None, "issuer": "company"}
    async with signed_in(**who) as (rig, worker):
        client = await opened(rig)
        worker.learn(ChangeKind.SUBJECT, without_session("company:bob"))
        worker.learn(ChangeKind.SESSION, "company:s-1")
        assert len(worker.calls) == 1
        worker.learn(ChangeKind.SUBJECT, without_session("company:ann"))
        assert await client.rest() == goodbye(1008, "token_revoked")
        await forgotten(worker)


class HeldRequest:
    """Meets `registry.LongLivedRequest`; no listener looks after it meanwhile."""

    reevaluation: Reevaluation | None = None
    closed = False
    credential_text = client_ip = ""

    def __init__(self, who: Principal) -> None:
        self.principal: Principal | None = who
        self.ended: Reason | None = None
        self.held = False

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False

    def terminate(self, reason: Reason, detail: str = "") -> None:
        del detail
        self.ended = reason


@pytest.mark.parametrize(
    ("named", "session"),
    [
        ((ChangeKind.SESSION, "company:s-1"), "company:s-1"),
        ((ChangeKind.TOKEN, "t-1"), "company:s-1"),
        ((ChangeKind.SUBJECT, "company:ann"), "company:s-1"),
        ((ChangeKind.SUBJECT, without_session("company:ann")), None),
    ],
)
async def test_whom_a_change_names_is_ended_once_it_is_told(
    named: tuple[ChangeKind, str], session: str | None
) -> None:
    """The answer to a logout waits for that, and for no look at what lasts."""
    worker = Worker()
    who: dict[str, Any] = {"subject": "company:ann", "issuer": "company", "issued_at": 400}
    request = HeldRequest(principal(**who, session_id=session))
    worker.calls.add(request)
    worker.learn(*named)
    assert request.ended is Reason.TOKEN_REVOKED


async def test_a_change_of_roles_closes_what_the_old_roles_opened() -> None:
    async with signed_in() as (rig, worker):
        client = await opened(rig)
        worker.learn(ChangeKind.SUBJECT, "u-1", cause=Reason.TOKEN_OUTDATED)
        assert await client.rest() == goodbye(1008, "token_outdated")


async def test_what_a_newer_token_opened_stays_open() -> None:
    async with signed_in(issued_at=501) as (rig, worker):
        client = await opened(rig)
        worker.learn(ChangeKind.SUBJECT, "u-1")
        await client.send(frame(b"still", masked=True))
        assert await exactly(client, 11) == frame(b"still", masked=True)


async def test_the_end_of_one_session_leaves_the_others_open() -> None:
    async with signed_in() as (rig, worker):
        mine = await opened(rig)
        rig.gate.principal = principal(session_id="s-2", token_id="t-2")
        other = await opened(rig)
        worker.learn(ChangeKind.SESSION, "s-1")
        assert await mine.rest() == goodbye(1008, "token_revoked")
        await other.send(frame(b"still", masked=True))
        assert await exactly(other, 11) == frame(b"still", masked=True)


async def test_a_socket_ends_when_its_token_expires() -> None:
    async with signed_in(expires_at=2_000) as (rig, worker):
        client = await opened(rig)
        worker.now = 2_000.0
        assert await client.rest() == goodbye(1008, "token_expired")


async def test_a_worker_that_cannot_know_what_is_revoked_keeps_no_socket() -> None:
    async with signed_in() as (rig, worker):
        client = await opened(rig)
        worker.stale = True
        assert await client.rest() == goodbye(1013, "replica_stale")


async def test_an_anonymous_socket_outlives_every_revocation() -> None:
    async with signed_in() as (rig, worker):
        rig.gate.principal = None
        client = await opened(rig)
        worker.learn(ChangeKind.EVERYONE, "")
        await client.send(frame(b"still", masked=True))
        assert await exactly(client, 11) == frame(b"still", masked=True)


async def test_a_session_that_ends_while_the_upstream_grants_leaves_no_socket() -> None:
    async def script(exchange: Exchange) -> None:
        worker.learn(ChangeKind.SESSION, "s-1")
        await echo(exchange)

    async with signed_in(script) as (rig, worker):
        client = await opened(rig)
        assert await client.rest() == goodbye(1008, "token_revoked")


async def test_the_close_frame_waits_for_the_end_of_the_servers_frame() -> None:
    go = asyncio.Event()
    whole = frame(b"x" * 1_000)

    async def then(exchange: Exchange) -> None:
        exchange.send(whole[:500])
        await go.wait()
        exchange.send(whole[500:] + frame(b"one too many"))

    async with signed_in(granting(then=then)) as (rig, worker):
        client = await opened(rig)
        assert await exactly(client, 500) == whole[:500]
        worker.learn(ChangeKind.SESSION, "s-1")
        go.set()
        assert await client.rest() == whole[500:] + goodbye(1008, "token_revoked")


async def test_a_frame_that_does_not_end_is_cut_within_the_second() -> None:
    async with signed_in(granting(frame(b"x" * 1_000)[:500])) as (rig, worker):
        client = await opened(rig)
        assert len(await exactly(client, 500)) == 500
        worker.learn(ChangeKind.SESSION, "s-1")
        assert await client.rest() == b""
        await rig.upstream.until(lambda: rig.upstream.open == 0)


ENDLESS = b"\x82\x7f" + (1 << 40).to_bytes(8, "big")


async def test_of_a_frame_that_had_begun_64_kib_pass_who_was_refused_and_no_more() -> None:
    async with signed_in(granting(ENDLESS)) as (rig, worker):
        client = await opened(rig)
        assert await exactly(client, len(ENDLESS)) == ENDLESS
        tunnel = rig.tunnel
        worker.learn(ChangeKind.SESSION, "s-1")
        tunnel.upstream.data_received(b"x" * 65_536)
        assert len(await exactly(client, 65_536)) == 65_536
        worker.learn(ChangeKind.SUBJECT, "u-1")  # to be refused again gives nothing anew
        tunnel.upstream.data_received(b"x")
        assert await client.rest() == b""
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_a_long_frame_that_had_begun_ends_before_the_goodbye_of_a_worker_that_ends() -> None:
    whole = frame(b"x" * 200_000)
    async with signed_in(granting(whole[:500])) as (rig, _):
        client = await opened(rig)
        assert await exactly(client, 500) == whole[:500]
        tunnel = rig.tunnel
        tunnel.go_away()
        tunnel.upstream.data_received(whole[500:])
        assert await client.rest() == whole[500:] + goodbye(1001, "shutdown")


async def talk_on(client: Client) -> None:
    async with asyncio.timeout(HUNG_S):
        while True:
            await client.send(frame(b"anyone?", masked=True))
            await asyncio.sleep(0.02)


async def test_a_client_that_ignores_the_close_frame_is_cut_within_the_second() -> None:
    async with signed_in() as (rig, worker):
        client = await opened(rig)
        worker.learn(ChangeKind.SESSION, "s-1")
        assert await client.rest() == goodbye(1008, "token_revoked")
        with pytest.raises(ConnectionError):
            await talk_on(client)


async def test_the_upstream_is_told_why_as_well() -> None:
    heard: list[bytes] = []

    async def then(exchange: Exchange) -> None:
        heard.append(await exchange.reader.read())

    async with signed_in(granting(then=then)) as (rig, worker):
        await opened(rig)
        worker.learn(ChangeKind.SESSION, "s-1")
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        assert heard[0][:2] == bytes((0x88, 0x80 | 15))


async def test_over_tls_a_client_is_told_and_cut_within_the_second(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("localhost"))
    async with signed_in() as (rig, worker):
        port = await listen(rig.listener, context)
        trusting = ssl.create_default_context(cafile=authority.file)
        streams = await asyncio.open_connection("localhost", port, ssl=trusting)
        client = Client(*streams)
        rig.clients.append(client)
        await client.send(handshake() + frame(b"early", masked=True))
        assert (await client.head()).status == 101
        assert await exactly(client, 11) == frame(b"early", masked=True)
        worker.learn(ChangeKind.SESSION, "s-1")
        assert await client.rest() == goodbye(1008, "token_revoked")
        await rig.upstream.until(lambda: rig.upstream.open == 0)


# --- streams and long polls ---


async def streaming(exchange: Exchange) -> None:
    exchange.send(EVENTS + b"9\r\ndata: 1\n\n\r\n")
    await exchange.reader.read()


async def stream(rig: Rig) -> Client:
    client = await rig.client()
    await client.send(GET)
    assert (await client.head()).status == 200
    assert await client.reader.readuntil(b"\n\n\r\n") == b"9\r\ndata: 1\n\n\r\n"
    return client


async def entered(worker: Worker) -> None:
    async with asyncio.timeout(HUNG_S):
        while not len(worker.calls):
            await asyncio.sleep(0.01)


async def forgotten(worker: Worker) -> None:
    async with asyncio.timeout(HUNG_S):
        while len(worker.calls):
            await asyncio.sleep(0.01)


async def test_a_stream_is_cut_when_its_session_ends() -> None:
    async with signed_in(streaming) as (rig, worker):
        client = await stream(rig)
        await entered(worker)
        worker.learn(ChangeKind.SESSION, "s-1")
        with pytest.raises(ConnectionResetError):
            await client.rest()
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        assert len(worker.calls) == 0


async def test_a_stream_whose_session_ends_in_its_first_moment_is_cut_within_the_second() -> None:
    async with signed_in(streaming) as (rig, worker):
        client = await stream(rig)
        worker.learn(ChangeKind.SESSION, "s-1")
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_a_long_poll_is_answered_with_the_reason_when_its_session_ends() -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.reader.read()

    async with signed_in(silent) as (rig, worker):
        client = await rig.client()
        await client.send(GET)
        await entered(worker)
        worker.learn(ChangeKind.SESSION, "s-1")
        async with asyncio.timeout(HUNG_S):
            answer = await client.answer()
        assert (answer.status, json.loads(answer.body)["reason"]) == (401, "token_revoked")
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_a_long_upload_is_refused_when_its_session_ends() -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.reader.read()

    async with signed_in(silent) as (rig, worker):
        client = await rig.client()
        await client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        await entered(worker)
        worker.learn(ChangeKind.SESSION, "s-1")
        async with asyncio.timeout(HUNG_S):
            answer = await client.answer()
        assert answer.status == 401
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_a_short_call_is_never_entered_and_a_long_one_leaves_when_it_ends() -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        if exchange.received.line.startswith(b"GET /long"):
            await go.wait()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with signed_in(script) as (rig, worker):
        assert (await rig.ask(GET)).status == 200
        assert len(worker.calls) == 0
        client = await rig.client()
        await client.send(GET.replace(b"/a", b"/long"))
        await entered(worker)
        go.set()
        assert (await client.answer()).status == 200
        assert len(worker.calls) == 0
        worker.learn(ChangeKind.SESSION, "s-1")
        await client.send(GET)
        assert (await client.answer()).status == 200  # the fake gate asks nobody


async def test_what_a_client_left_is_forgotten() -> None:
    async with signed_in(streaming) as (rig, worker):
        client = await stream(rig)
        await entered(worker)
        client.close()
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        await forgotten(worker)


async def test_a_thousand_sockets_of_one_user_are_closed_and_no_other() -> None:
    """How fast that is done, `python -m bench.sockets` measures."""
    async with signed_in() as (rig, worker):
        rig.listener.admission.most_of_one = 0
        rig.spec(timeout_connect_s=30.0)  # this machine may have much else to do
        clients = [await opened(rig) for _ in range(1_000)]
        rig.gate.principal = principal(subject="u-2", session_id="s-2", token_id="t-2")
        other = await opened(rig)
        worker.learn(ChangeKind.SESSION, "s-1")
        ended = await asyncio.gather(*(client.rest() for client in clients))
        assert set(ended) == {goodbye(1008, "token_revoked")}
        await other.send(frame(b"still", masked=True))
        assert await exactly(other, 11) == frame(b"still", masked=True)


class LongReevaluation(Reevaluation):
    """Takes as long as what is served between others may; `spent` counts what was judged."""

    spent = 0
    is_due = False

    def __init__(self) -> None:
        pass

    def refusal(self, who: Principal | None) -> None:
        del who
        LongReevaluation.spent += 1
        began = time.perf_counter()
        while time.perf_counter() - began < 2 * REEVALUATE_FOR_S:
            pass


async def test_others_are_served_between_what_takes_long_to_judge_again() -> None:
    worker = Worker()
    for number in range(5):
        held = HeldRequest(principal(subject=f"u-{number}"))
        held.reevaluation = LongReevaluation()
        worker.calls.add(held)
    LongReevaluation.spent = 0
    worker.calls.reloaded()
    seen = [0]
    while seen[-1] < 5:
        await asyncio.sleep(0)
        seen.append(LongReevaluation.spent)
    assert max(after - before for before, after in pairwise(seen)) == 1
    # A call of theirs takes several turns.
    assert len(seen) > 20
