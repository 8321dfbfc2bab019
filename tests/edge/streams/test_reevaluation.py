"""Calls that outlast what let them in: their session read again, their policy asked again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from gateway.access.authorizer import Decision
from gateway.edge.streams.reevaluation import PrincipalUpdate
from gateway.edge.streams.registry import LongLivedRequests
from gateway.model import ChangeKind, Principal, Reason
from tests.edge.rig import HUNG_S, OK, Client, Rig, Script, principal, running
from tests.edge.streams.handshakes import echo, exactly, opened
from tests.edge.streams.test_frames import frame
from tests.edge.streams.test_registry import GET, Worker, entered, goodbye, stream, streaming

BOTH_LOOPS = True

STILL = frame(b"still", masked=True)


class Session:
    """One session, as a store would tell of it now.  Meets `reevaluation.PrincipalRefresher`."""

    def __init__(self) -> None:
        self.refusal: Reason | None = None
        self.says: dict[str, Any] = {"issued_at": 501, "expires_at": 3_000}
        self.read = 0
        self.go = asyncio.Event()
        self.go.set()

    async def refresh(self, principal: Principal) -> PrincipalUpdate | Reason:
        self.read += 1
        says = dict(self.says)
        await self.go.wait()
        return self.refusal or (lambda old: replace(old, **says))


class Following(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.session = Session()
        self.calls = LongLivedRequests(self.refusal, lambda: self.now, self.session)

    def outdate(self) -> None:
        self.learn(ChangeKind.SUBJECT, "u-1", cause=Reason.TOKEN_OUTDATED)


@asynccontextmanager
async def signed_in(
    script: Script = echo, *, reevaluates: bool = True, **who: Any
) -> AsyncIterator[tuple[Rig, Following]]:
    worker = Following()
    async with running(script, long_lived=worker.calls) as rig:
        rig.gate.principal = principal(**({"issued_at": 400, "expires_at": 2_000} | who))
        rig.route(reevaluates=reevaluates)
        rig.publish(rig.gate.route)
        yield rig, worker


async def goes_on(client: Client) -> None:
    await client.send(STILL)
    assert await exactly(client, len(STILL)) == STILL


async def read(worker: Following, times: int = 1) -> None:
    async with asyncio.timeout(HUNG_S):
        while worker.session.read < times or worker.calls._refreshing:
            await asyncio.sleep(0.01)


def deny(rig: Rig, reason: str, refusal: Reason | None = None, **more: Any) -> None:
    rig.gate.decision = Decision(False, reason, refusal, route=rig.gate.route, **more)


# --- what came with a session cookie ---


async def test_a_socket_of_a_cookie_outlasts_what_was_read_of_its_account() -> None:
    async with signed_in(reevaluates=False, kid="") as (rig, worker):
        client = await opened(rig)
        worker.now = 2_000.0
        await read(worker)
        await goes_on(client)
        worker.now = 2_999.0  # the time that was read last holds now
        await goes_on(client)
        assert worker.session.read == 1
        worker.now = 3_000.0
        worker.session.says["expires_at"] = 4_000
        await read(worker, 2)
        await goes_on(client)
        assert not rig.gate.again


async def test_a_socket_of_a_cookie_ends_with_its_session() -> None:
    async with signed_in(reevaluates=False, kid="") as (rig, worker):
        client = await opened(rig)
        worker.session.refusal = Reason.SESSION_UNKNOWN
        worker.now = 2_000.0
        assert await client.rest() == goodbye(1008, "session_unknown")


async def test_a_socket_of_a_cookie_ends_with_1013_where_nobody_can_say() -> None:
    async with signed_in(reevaluates=False, kid="") as (rig, worker):
        client = await opened(rig)
        worker.session.refusal = Reason.STORE_UNAVAILABLE
        worker.now = 2_000.0
        assert await client.rest() == goodbye(1013, "store_unavailable")


async def test_a_change_of_roles_ends_the_socket_of_a_cookie_unless_its_route_rejudges() -> None:
    async with signed_in(reevaluates=False, kid="") as (rig, worker):
        client = await opened(rig)
        worker.outdate()
        assert await client.rest() == goodbye(1008, "token_outdated")
        assert not worker.session.read


async def test_the_socket_of_a_bearer_token_ends_with_the_token() -> None:
    async with signed_in(reevaluates=False) as (rig, worker):
        client = await opened(rig)
        worker.now = 2_000.0
        assert await client.rest() == goodbye(1008, "token_expired")
        assert not worker.session.read


async def test_a_stream_of_a_cookie_outlasts_what_was_read_of_its_account() -> None:
    async with signed_in(streaming, reevaluates=False, kid="") as (rig, worker):
        client = await stream(rig)
        await entered(worker)
        worker.now = 2_000.0
        await read(worker)
        worker.learn(ChangeKind.SESSION, "s-1")
        with pytest.raises(ConnectionResetError):
            await client.rest()


# --- what is judged again ---


async def test_an_expired_token_goes_on_with_its_session_where_the_policy_allows_it() -> None:
    async with signed_in() as (rig, worker):
        client = await opened(rig)
        worker.session.says["roles"] = ("reader",)
        worker.now = 2_000.0
        await read(worker)
        await goes_on(client)
        (judged,) = rig.gate.again
        assert judged is not None
        assert (judged.roles, judged.token_id, judged.kid) == (("reader",), "t-1", "k-1")


async def test_an_expired_token_whose_session_is_over_ends() -> None:
    async with signed_in() as (rig, worker):
        client = await opened(rig)
        worker.session.refusal = Reason.SESSION_UNKNOWN
        worker.now = 2_000.0
        assert await client.rest() == goodbye(1008, "session_unknown")
        assert not rig.gate.again


@pytest.mark.parametrize("kid", ["k-1", ""])
async def test_a_change_of_roles_is_judged_with_the_roles_of_that_moment(kid: str) -> None:
    async with signed_in(kid=kid) as (rig, worker):
        client = await opened(rig)
        worker.session.says["roles"] = ("reader",)
        worker.outdate()
        await read(worker)
        await goes_on(client)
        assert [who and who.roles for who in rig.gate.again] == [("reader",)]
        deny(rig, "members_only")
        worker.learn(ChangeKind.SUBJECT, "u-1", cause=Reason.TOKEN_OUTDATED, not_before=501)
        worker.session.says |= {"issued_at": 502, "roles": ()}
        assert await client.rest() == goodbye(1008, "members_only")


async def test_a_change_that_came_while_the_account_was_read_is_read_as_well() -> None:
    async with signed_in() as (rig, worker):
        mine = rig.gate.principal
        rig.gate.principal = principal(subject="u-2", session_id="s-2", token_id="t-2")
        await opened(rig)  # the one by which a sweep finds a worker that is fenced
        rig.gate.principal = mine
        client = await opened(rig)
        worker.session.go.clear()
        worker.outdate()
        while not worker.session.read:
            await asyncio.sleep(0)
        worker.learn(ChangeKind.SUBJECT, "u-1", cause=Reason.TOKEN_OUTDATED, not_before=501)
        worker.session.says |= {"issued_at": 502, "roles": ("newest",)}
        worker.session.go.set()
        await read(worker, 2)
        await goes_on(client)
        assert rig.gate.again[-1] is not None
        assert rig.gate.again[-1].roles == ("newest",)


async def test_a_store_that_does_not_answer_in_time_ends_what_the_old_roles_opened() -> None:
    async with signed_in() as (rig, worker):
        client = await opened(rig)
        worker.session.go.clear()
        worker.outdate()
        assert await client.rest() == goodbye(1013, "store_unavailable")


@pytest.mark.parametrize(
    "named",
    [
        (ChangeKind.SESSION, "s-1"),
        (ChangeKind.TOKEN, "t-1"),
        (ChangeKind.SUBJECT, "u-1"),
        (ChangeKind.CLIENT, "web"),
        (ChangeKind.KEY, "k-1"),
        (ChangeKind.EVERYONE, ""),
    ],
)
async def test_what_is_revoked_ends_although_its_route_rejudges(
    named: tuple[ChangeKind, str],
) -> None:
    async with signed_in() as (rig, worker):
        client = await opened(rig)
        worker.learn(*named)
        assert await client.rest() == goodbye(1008, "token_revoked")
        assert not worker.session.read


async def test_what_is_revoked_while_the_account_is_read_ends_at_once() -> None:
    async with signed_in() as (rig, worker):
        client = await opened(rig)
        worker.session.go.clear()
        worker.outdate()
        worker.learn(ChangeKind.SESSION, "s-1")
        assert await client.rest() == goodbye(1008, "token_revoked")
        worker.session.go.set()


async def test_a_token_and_its_key_are_revoked_by_name_after_the_session_was_read_again() -> None:
    for named in ((ChangeKind.TOKEN, "t-1"), (ChangeKind.KEY, "k-1")):
        async with signed_in() as (rig, worker):
            client = await opened(rig)
            worker.outdate()
            await read(worker)
            await goes_on(client)
            worker.learn(*named)
            assert await client.rest() == goodbye(1008, "token_revoked")


async def test_a_token_without_a_session_has_nothing_to_be_read_again() -> None:
    async with signed_in(session_id=None) as (rig, worker):
        client = await opened(rig)
        worker.outdate()
        assert await client.rest() == goodbye(1008, "token_outdated")
        assert not worker.session.read


async def test_a_session_of_another_issuer_has_no_account_to_be_read() -> None:
    async with signed_in(issuer="company", session_id="company:s-1") as (rig, worker):
        client = await opened(rig)
        worker.now = 2_000.0
        assert await client.rest() == goodbye(1008, "token_expired")
        assert not worker.session.read


async def test_the_account_is_read_once_for_all_sockets_of_a_session() -> None:
    async with signed_in() as (rig, worker):
        rig.spec(timeout_connect_s=30.0)
        rig.publish(rig.gate.route)
        clients = [await opened(rig) for _ in range(150)]
        worker.outdate()
        await read(worker)
        for client in clients:
            await goes_on(client)
        assert worker.session.read == 1
        assert len(rig.gate.again) == 150


# --- another configuration ---


async def test_another_configuration_judges_who_asked_for_it_and_no_others() -> None:
    async with signed_in() as (rig, worker):
        asked = await opened(rig)
        rig.route(reevaluates=False)
        others = await opened(rig)
        deny(rig, Reason.NO_RULE, Reason.NO_RULE)
        worker.calls.reloaded()
        assert await asked.rest() == goodbye(1008, "no_rule")
        await goes_on(others)


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("sends", [False, True])
async def test_a_stream_whose_body_went_by_unread_ends_where_it_is_read_now(
    reads: bool, sends: bool
) -> None:
    """A deny of what it holds would take it for a call without one."""
    request = b'POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"m": 1}\n'
    async with signed_in(streaming) as (rig, worker):
        client = await rig.client()
        await client.send(request if sends else GET)
        assert (await client.head()).status == 200
        await entered(worker)
        rig.route(reads_body=reads)
        worker.calls.reloaded()
        async with asyncio.timeout(HUNG_S):
            while not rig.gate.again:
                await asyncio.sleep(0)
        assert len(worker.calls) == (0 if reads and sends else 1)


async def test_a_concealed_refusal_tells_a_socket_no_more_than_an_unknown_route() -> None:
    async with signed_in() as (rig, worker):
        client = await opened(rig)
        deny(rig, "secret_room", conceal=True)
        worker.calls.reloaded()
        assert await client.rest() == goodbye(1008, "route_unknown")


async def test_a_socket_whose_route_answers_by_itself_now_ends() -> None:
    async with signed_in() as (rig, worker):
        client = await opened(rig)
        rig.route(upstream=None)
        worker.calls.reloaded()
        assert await client.rest() == goodbye(1008, "route_unknown")


async def test_an_anonymous_socket_is_judged_by_another_configuration_too() -> None:
    async with signed_in() as (rig, worker):
        rig.gate.principal = None
        client = await opened(rig)
        worker.calls.reloaded()
        await goes_on(client)
        deny(rig, Reason.NO_CREDENTIAL, Reason.NO_CREDENTIAL)
        worker.calls.reloaded()
        assert await client.rest() == goodbye(1008, "no_credential")
        assert rig.gate.again == [None, None]


async def test_a_configuration_that_came_while_the_upstream_granted_is_not_missed() -> None:
    async def script(exchange: Any) -> None:
        rig.publish(replace(rig.gate.route))
        deny(rig, Reason.NO_RULE, Reason.NO_RULE)
        worker.calls.reloaded()
        await echo(exchange)

    async with signed_in(script) as (rig, worker):
        client = await opened(rig)
        assert await client.rest() == goodbye(1008, "no_rule")


async def test_a_stream_that_may_not_go_on_is_cut() -> None:
    async with signed_in(streaming) as (rig, worker):
        client = await stream(rig)
        await entered(worker)
        deny(rig, Reason.NO_RULE, Reason.NO_RULE)
        worker.calls.reloaded()
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_a_long_poll_that_may_not_go_on_is_answered() -> None:
    async def silent(exchange: Any) -> None:
        await exchange.reader.read()

    async with signed_in(silent) as (rig, worker):
        client = await rig.client()
        await client.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        await entered(worker)
        deny(rig, "members_only")
        worker.outdate()
        answer = await client.answer()
        assert (answer.status, json.loads(answer.body)["reason"]) == (403, "no_rule")


async def test_a_stream_that_came_by_a_second_try_is_judged_again_too() -> None:
    """The first try had lasted long enough to be entered, and was forgotten as it failed."""
    requests = 0

    async def script(exchange: Any) -> None:
        nonlocal requests
        requests += 1
        if requests == 1:
            exchange.send(OK)
        elif requests == 2:  # on the kept connection, which ends once the call is entered
            await entered(worker)
            exchange.abort()
        else:
            await streaming(exchange)

    async with signed_in(script) as (rig, worker):
        assert (await rig.ask(GET)).status == 200
        client = await stream(rig)
        await entered(worker)
        deny(rig, Reason.NO_RULE, Reason.NO_RULE)
        worker.outdate()
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_a_worker_that_cannot_know_what_is_revoked_keeps_no_socket_that_rejudges() -> None:
    async with signed_in() as (rig, worker):
        client = await opened(rig)
        worker.stale = True
        assert await client.rest() == goodbye(1013, "replica_stale")


async def test_a_session_that_another_only_claims_does_not_end_with_that_claim() -> None:
    class Two(Session):
        async def refresh(self, principal: Principal) -> PrincipalUpdate | Reason:
            found = await super().refresh(principal)
            return Reason.SESSION_UNKNOWN if principal.subject == "liar" else found

    async with signed_in() as (rig, worker):
        worker.session = worker.calls._refresher = Two()
        worker.session.go.clear()
        rig.gate.principal = principal(subject="liar", issued_at=400, expires_at=2_000)
        lying = await opened(rig)
        rig.gate.principal = principal(issued_at=400, expires_at=2_000)
        honest = await opened(rig)
        worker.now = 2_000.0
        while worker.session.read < 2:
            await asyncio.sleep(0.01)
        worker.session.go.set()
        assert await lying.rest() == goodbye(1008, "session_unknown")
        await goes_on(honest)
