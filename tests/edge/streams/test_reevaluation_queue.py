"""Who waits to be judged again: held, in turns with all others, and judged as of that moment."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from gateway.edge.proxy.response_relay import ResponseRelay
from gateway.edge.server.connection import Connection
from gateway.edge.streams.reevaluation import Reevaluation
from gateway.edge.streams.reevaluation_queue import REEVALUATE_FOR_S, ReevaluationQueue
from gateway.edge.streams.tunnel import Tunnel
from gateway.edge.upstream.connection import UpstreamConnection
from gateway.model import Principal, Reason
from tests.edge.rig import HUNG_S, OK, Exchange, principal
from tests.edge.streams.handshakes import GRANTED, echo, exactly, granting, handshake, opened
from tests.edge.streams.test_frames import frame
from tests.edge.streams.test_reevaluation import Following, deny, goes_on, signed_in
from tests.edge.streams.test_registry import (
    EVENTS,
    GET,
    HeldRequest,
    entered,
    goodbye,
    stream,
    streaming,
)

BOTH_LOOPS = True

SAID, ASKED = frame(b"secret"), frame(b"please", masked=True)


class Judged(Reevaluation):
    """Tells whom it was asked about, and may take longer than a turn has."""

    is_due = False

    def __init__(self, log: list[Principal | None], spend_s: float = 0.0) -> None:
        self._log = log
        self._spend_s = spend_s
        self.pending = False

    def refusal(self, principal: Principal | None) -> tuple[Reason, str] | None:
        self.pending = False
        self._log.append(principal)
        began = time.perf_counter()
        while time.perf_counter() - began < self._spend_s:
            pass
        return None


def asked(log: list[Principal | None], spend_s: float = 0.0, **who: Any) -> HeldRequest:
    request = HeldRequest(principal(**({"issued_at": 400, "expires_at": 2_000} | who)))
    request.reevaluation = Judged(log, spend_s)
    return request


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(HUNG_S):
        while not holds():
            await asyncio.sleep(0)


# --- nothing passes meanwhile ---


async def test_nothing_passes_a_socket_either_way_before_it_was_judged_again() -> None:
    heard = b""

    async def then(exchange: Exchange) -> None:
        nonlocal heard
        heard = await exchange.reader.read()

    async with signed_in(granting(then=then)) as (rig, worker):
        rig.spec(timeout_connect_s=30.0)
        rig.publish(rig.gate.route)
        clients = [await opened(rig) for _ in range(50)]
        tunnels = [request for request in worker.calls._requests if isinstance(request, Tunnel)]
        deny(rig, "members_only")
        worker.calls.reloaded()
        tunnels[-1].upstream.data_received(SAID)
        tunnels[-1].client.data_received(ASKED)
        assert not rig.gate.again
        for client in clients:
            assert await client.rest() == goodbye(1008, "members_only")
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        assert ASKED not in heard


async def test_nothing_passes_between_new_roles_and_their_judgement() -> None:
    async with signed_in() as (rig, worker):
        client = await opened(rig)
        (tunnel,) = worker.calls._requests
        assert isinstance(tunnel, Tunnel)
        before = tunnel.principal
        deny(rig, "members_only")
        worker.session.says["roles"] = ()
        worker.outdate()
        await until(lambda: tunnel.principal is not before)
        assert not rig.gate.again
        tunnel.upstream.data_received(SAID)
        assert await client.rest() == goodbye(1008, "members_only")


async def test_what_a_socket_said_meanwhile_passes_once_it_may_go_on() -> None:
    async with signed_in() as (rig, worker):
        client = await opened(rig)
        tunnel = rig.tunnel
        worker.calls.reloaded()
        tunnel.upstream.data_received(SAID)
        tunnel.client.data_received(ASKED)
        assert await exactly(client, len(SAID + ASKED)) == SAID + ASKED
        await goes_on(client)


async def test_of_a_frame_that_had_begun_the_rest_passes_who_is_refused_as_ever() -> None:
    async with signed_in(granting(SAID[:4])) as (rig, worker):
        client = await opened(rig)
        assert await exactly(client, 4) == SAID[:4]
        tunnel = rig.tunnel
        deny(rig, "members_only")
        worker.calls.reloaded()
        tunnel.upstream.data_received(SAID[4:] + SAID)
        assert await client.rest() == SAID[4:] + goodbye(1008, "members_only")


def relay_of(worker: Following) -> ResponseRelay:
    (relay,) = worker.calls._requests
    assert isinstance(relay, ResponseRelay)
    return relay


EVENT = b"9\r\ndata: 2\n\n\r\n"


def waiting(relay: ResponseRelay) -> bytes:
    """What its upstream said and was not passed on."""
    assert relay._upstream is not None
    return relay._upstream.rest


def hear(relay: ResponseRelay, data: bytes) -> None:
    """As if its upstream had said so in this moment."""
    assert relay._upstream is not None
    relay._upstream.data_received(data)


async def test_no_event_of_a_stream_passes_before_it_was_judged_again() -> None:
    async with signed_in(streaming) as (rig, worker):
        client = await stream(rig)
        await entered(worker)
        deny(rig, Reason.NO_RULE, Reason.NO_RULE)
        worker.calls.reloaded()
        hear(relay_of(worker), EVENT)
        assert waiting(relay_of(worker)) == EVENT
        assert not rig.gate.again
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_an_event_that_waited_passes_once_its_stream_may_go_on() -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        if exchange.received.connection == 1 and not go.is_set():
            exchange.send(EVENTS + b"9\r\ndata: 1\n\n\r\n")
            await go.wait()
            exchange.send(b"0\r\n\r\n")
        else:
            exchange.send(OK)

    async with signed_in(script) as (rig, worker):
        client = await stream(rig)
        await entered(worker)
        worker.calls.reloaded()
        hear(relay_of(worker), EVENT + EVENT[:6])
        hear(relay_of(worker), EVENT[6:])
        rest = await exactly(client, 4 + 18 + 2)
        assert rest == b"12\r\ndata: 2\n\ndata: 2\n\n\r\n"
        go.set()
        assert await exactly(client, 5) == b"0\r\n\r\n"
        await client.send(GET)  # and both connections may be used again
        assert (await client.answer()).status == 200
        assert rig.upstream.connections == 1


async def test_an_anonymous_stream_is_held_too() -> None:
    async with signed_in(streaming) as (rig, worker):
        rig.gate.principal = None
        client = await stream(rig)
        await entered(worker)
        deny(rig, Reason.NO_CREDENTIAL, Reason.NO_CREDENTIAL)
        worker.calls.reloaded()
        hear(relay_of(worker), EVENT)
        assert waiting(relay_of(worker)) == EVENT
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_an_upload_is_held_until_it_was_judged_again() -> None:
    body = b""

    async def script(exchange: Exchange) -> None:
        nonlocal body
        body = await exchange.body()
        exchange.send(OK)

    async with signed_in(script) as (rig, worker):
        client = await rig.client()
        await client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        await entered(worker)
        relay = relay_of(worker)
        relay.hold()
        assert isinstance(relay.client, Connection)
        relay.client.data_received(b"defghi")
        for _ in range(10):
            await asyncio.sleep(0)
        assert not relay.request_sent
        relay.release()
        assert (await client.answer()).status == 200
        assert body == b"abcdefghi"


async def put_by(relay: ResponseRelay) -> UpstreamConnection:
    """What the backend said while it was held, and its connection."""
    async with asyncio.timeout(HUNG_S):
        while relay._upstream is None or not relay._upstream.rest:
            await asyncio.sleep(0.01)
    return relay._upstream


async def cut(upstream: UpstreamConnection) -> None:
    def is_gone() -> bool:
        return upstream.transport is None

    assert upstream.transport is not None
    upstream.transport.abort()
    async with asyncio.timeout(HUNG_S):
        while not is_gone():
            await asyncio.sleep(0)


@pytest.mark.parametrize("is_cut", [False, True])
async def test_an_upload_that_is_held_waits_though_its_backend_is_gone(is_cut: bool) -> None:
    """Its end waits behind what it said, as over TLS; the pump went round and round meanwhile."""

    async def script(exchange: Exchange) -> None:
        await entered(worker)
        relay_of(worker).hold()
        exchange.send(OK)
        await exchange.body()

    async with signed_in(script) as (rig, worker):
        client = await rig.client()
        await client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        await entered(worker)
        relay = relay_of(worker)
        upstream = await put_by(relay)
        await cut(upstream)
        assert isinstance(relay.client, Connection)
        relay.client.data_received(b"defghi")
        waiting = asyncio.create_task(upstream.drain())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        if is_cut:
            relay.terminate(Reason.NO_RULE)
            assert (await client.answer()).status == 403
        else:
            relay.release()
            assert (await client.answer()).status == 200
        await waiting


async def test_a_socket_that_a_backend_granted_and_left_while_it_was_held_is_refused() -> None:
    async def script(exchange: Exchange) -> None:
        await entered(worker)
        relay_of(worker).hold()
        exchange.send(GRANTED)
        await exchange.reader.read()

    async with signed_in(script) as (rig, worker):
        client = await rig.client()
        await client.send(handshake())
        await entered(worker)
        relay = relay_of(worker)
        upstream = await put_by(relay)
        await cut(upstream)
        relay.release()
        assert (await client.head()).status == 502


async def test_a_socket_that_was_granted_while_it_was_held_opens_and_goes_on() -> None:
    async def script(exchange: Exchange) -> None:
        await entered(worker)
        relay_of(worker).hold()
        exchange.send(GRANTED + SAID)
        while data := await exchange.reader.read(1_000):
            exchange.send(data)

    async with signed_in(script) as (rig, worker):
        client = await rig.client()
        await client.send(handshake())
        await entered(worker)
        relay = relay_of(worker)
        await put_by(relay)
        relay.release()
        assert (await client.head()).status == 101
        assert await exactly(client, len(SAID)) == SAID
        await goes_on(client)


async def test_a_call_whose_attempt_failed_before_its_turn_is_judged_before_the_next_one() -> None:
    requests = 0

    async def script(exchange: Exchange) -> None:
        nonlocal requests
        requests += 1
        if requests == 1:
            exchange.send(OK)
            return
        await entered(worker)
        relay = relay_of(worker)
        worker.calls.discard(relay)  # as its end does
        assert relay.reevaluation is not None
        relay.reevaluation.pending = True
        deny(rig, Reason.NO_RULE, Reason.NO_RULE)
        exchange.abort()

    async with signed_in(script) as (rig, worker):
        assert (await rig.ask(GET)).status == 200
        answer = await rig.ask(GET)
        assert (answer.status, json.loads(answer.body)["reason"]) == (403, "no_rule")
        assert requests == 2


# --- one queue ---


async def test_who_changes_twice_is_judged_once_by_what_is_newest() -> None:
    log: list[Principal | None] = []
    queue, request = ReevaluationQueue(), asked(log, roles=("old",))
    queue.add(request)
    request.principal = newest = principal(roles=("newest",))
    queue.add(request)
    held = request.held
    await until(lambda: not len(queue))
    assert log == [newest]
    assert (held, request.held) == (True, False)
    queue.add(request)
    await until(lambda: not len(queue))
    assert log == [newest, newest]


async def test_a_change_that_comes_while_another_is_judged_is_not_lost() -> None:
    log: list[Principal | None] = []
    queue, request = ReevaluationQueue(), asked(log)

    class Meanwhile(Judged):
        def refusal(self, principal: Principal | None) -> None:
            super().refusal(principal)
            if len(log) == 1:
                queue.add(asked(log, subject="u-2"))

    request.reevaluation = Meanwhile(log)
    queue.add(request)
    await until(lambda: len(log) == 2)


async def test_all_sessions_together_take_no_more_of_a_turn_than_one() -> None:
    log: list[Principal | None] = []
    worker = Following()
    for number in range(6):
        named = {"session_id": f"s-{number % 3}", "token_id": f"t-{number}"}
        worker.calls.add(asked(log, 2 * REEVALUATE_FOR_S, **named))
    worker.outdate()
    worker.calls.reloaded()
    seen = [0]
    async with asyncio.timeout(HUNG_S):
        while seen[-1] < 6 or worker.session.read < 3 or len(worker.calls._reevaluations):
            await asyncio.sleep(0)
            seen.append(len(log))
    assert max(after - before for before, after in pairwise(seen)) == 1


async def test_who_has_many_streams_takes_turns_with_who_has_one() -> None:
    log: list[Principal | None] = []
    queue = ReevaluationQueue()
    for _ in range(50):
        queue.add(asked(log, subject="many"))
    queue.add(asked(log, subject="one"))
    await until(lambda: not len(queue))
    assert [who and who.subject for who in log[:3]] == ["many", "one", "many"]


async def test_who_has_ended_is_forgotten_and_not_judged() -> None:
    log: list[Principal | None] = []
    worker = Following()
    ended, left = asked(log), asked(log, subject="u-2", token_id="t-2", session_id="s-2")
    for request in (ended, left):
        worker.calls.add(request)
    worker.calls.reloaded()
    worker.calls.discard(ended)
    assert len(worker.calls._reevaluations) == 1
    await until(lambda: not len(worker.calls._reevaluations))
    assert log == [left.principal]


async def test_a_judgement_that_fails_ends_its_request_and_the_others_are_judged() -> None:
    log: list[Principal | None] = []

    class Broken(Judged):
        def refusal(self, principal: Principal | None) -> None:
            raise RuntimeError("a defect")

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    queue, broken, other = ReevaluationQueue(), asked(log), asked(log)
    broken.reevaluation = Broken(log)
    queue.add(broken)
    queue.add(other)
    await until(lambda: not len(queue))
    assert broken.ended is Reason.NO_RULE
    assert (log, other.held) == ([other.principal], False)


async def test_the_end_of_the_worker_ends_what_judges() -> None:
    log: list[Principal | None] = []
    worker = Following()
    worker.calls.add(asked(log))
    worker.calls.reloaded()
    task = worker.calls._reevaluations._task
    assert task is not None
    worker.calls.close()
    await asyncio.wait([task])
    assert task.cancelled()
    assert (log, len(worker.calls._reevaluations)) == ([], 0)


async def test_a_stream_that_a_listener_waits_for_at_its_end_is_judged_again_as_before() -> None:
    """It has half a minute yet, and its account was being read as that began."""
    async with signed_in(streaming) as (rig, worker):
        theirs = rig.gate.principal
        rig.gate.principal = principal(subject="u-2", session_id="s-2", expires_at=2_000)
        await stream(rig)
        await entered(worker)
        rig.gate.principal = theirs
        client = await stream(rig)
        await until(lambda: len(worker.calls) == 2)
        deny(rig, "members_only")
        worker.session.go.clear()
        worker.outdate()
        await until(lambda: worker.session.read == 1)
        stopping = asyncio.create_task(rig.listener.stop(HUNG_S))
        for _ in range(10):
            await asyncio.sleep(0)
        worker.session.go.set()
        await until(lambda: rig.gate.again != [])
        with pytest.raises(ConnectionResetError):
            await client.rest()
        stopping.cancel()


async def test_a_paused_socket_is_read_again_only_once_its_other_end_takes_what_it_is_sent() -> (
    None
):
    async with signed_in(echo) as (rig, worker):
        client = await opened(rig)
        tunnel = rig.tunnel
        tunnel.client.pause_writing()  # as its transport does while the client takes nothing
        worker.calls.reloaded()
        tunnel.upstream.data_received(SAID)
        await until(lambda: not tunnel.held)
        assert tunnel.upstream.rest == SAID
        tunnel.client.resume_writing()
        assert await exactly(client, len(SAID)) == SAID
        await goes_on(client)
