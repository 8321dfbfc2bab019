"""A judged body is held as objects for as long as it is judged, and no longer."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.access.authorizer import Authorizer, Decision
from gateway.access.simulation import FixedAuthenticator, NoLimits
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.model import Call, Principal
from tests.access.worlds import who
from tests.edge.rig import HUNG_S, OK, Client, Exchange, Rig, Script, running

BOTH_LOOPS = True

ROUTES = """
version: 1
upstreams: {{api: {{targets: ["http://127.0.0.1:{port}"]}}}}
defaults: {{upstream: api}}
routes:
  - id: ask
    match: {{path: /ask, methods: [POST]}}
    policy: p
    action: ask
    resource: {{tags: "{{body.tags}}", owner: "{{body.owner}}"}}
  - id: stream
    match: {{path: /stream, methods: [POST]}}
    policy: p
    action: ask
    on_change: reevaluate
    resource: {{tags: "{{body.tags}}", owner: "{{body.owner}}"}}
"""
POLICY = """
version: 1
policy: p
rules:
  - {id: secret, deny: [ask], when: "resource.tags.exists(t, t == 'TAG')", reason: secret_tag}
  - {id: own, allow: [ask], when: resource.owner == user.id}
"""
MARK = "a list of a judged body"
BODY = json.dumps({"owner": "u1", "tags": ["blue"], "rest": [[MARK]] * 100}).encode()
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"9\r\ndata: 1\n\n\r\n"


def configured(rig: Rig, tag: str) -> Snapshot:
    routes = ROUTES.format(port=rig.upstream.port)
    policy = POLICY.replace("TAG", tag)
    found = compile_snapshot(Sources(("routes.yaml", routes), (("policies/p.yaml", policy),)))
    assert isinstance(found, Snapshot), [str(problem) for problem in found]
    return found


@asynccontextmanager
async def judging(
    script: Script, caller: Principal, judged_again: list[Decision] | None = None
) -> AsyncIterator[Rig]:
    authorizer = Authorizer(FixedAuthenticator(caller), NoLimits())

    def reevaluate(call: Call, snapshot: Snapshot, principal: Principal | None) -> Decision:
        decision = authorizer.reevaluate(call, snapshot, principal)
        if judged_again is not None:
            judged_again.append(decision)
        return decision

    async with running(script) as rig:
        rig.snapshot = configured(rig, "red")
        setattr(rig.gate, "decide", authorizer.decide)  # noqa: B010
        setattr(rig.gate, "reevaluate", reevaluate)  # noqa: B010
        yield rig


async def posted(rig: Rig, path: str) -> Client:
    client = await rig.client()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    await client.send(head.encode() + BODY)
    return client


def lists_held() -> int:
    """Lists of a judged body that somebody holds."""
    held = [one for one in gc.get_objects() if type(one) is list and len(one) == 1]
    return sum(type(one[0]) is str and one[0] == MARK for one in held)


async def test_what_waits_for_its_backend_holds_no_parsed_body() -> None:
    """As objects 64 KiB take 3 MB: 400 calls of a stranger took a worker 1 GB."""
    came, go = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        assert await exchange.body() == BODY
        came.set()
        await go.wait()
        exchange.send(OK)

    async with judging(script, who("u1")) as rig, asyncio.timeout(HUNG_S):
        client = await posted(rig, "/ask")
        await came.wait()
        assert lists_held() == 0
        go.set()
        assert (await client.answer()).status == 200


@pytest.mark.parametrize(("tag", "reason"), [("blue", "secret_tag"), ("green", "rule_allowed")])
async def test_a_stream_is_judged_again_by_all_that_its_body_said(tag: str, reason: str) -> None:
    go = asyncio.Event()
    judged: list[Decision] = []

    async def script(exchange: Exchange) -> None:
        assert await exchange.body() == BODY
        exchange.send(STREAM + CHUNK)
        await go.wait()
        exchange.send(CHUNK + b"0\r\n\r\n")

    async with judging(script, who("u1"), judged) as rig, asyncio.timeout(HUNG_S):
        client = await posted(rig, "/stream")
        assert (await client.head()).status == 200
        assert await client.reader.readuntil(b"\n\n\r\n") == CHUNK
        assert lists_held() == 0
        while not len(rig.long_lived):
            await asyncio.sleep(0.01)
        rig.snapshot = configured(rig, tag)
        rig.long_lived.reloaded()
        go.set()
        if tag == "blue":
            with pytest.raises(ConnectionResetError):
                await client.rest()
        else:
            assert await client.reader.readuntil(b"0\r\n\r\n") == CHUNK + b"0\r\n\r\n"
        assert [decision.reason for decision in judged] == [reason]
        assert lists_held() == 0
