"""The routes that `docs/edge.md` and the examples show, loaded and asked."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import indent

from gateway.access.routing.route_table import Match
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.config.files import read_sources
from tests.edge.rig import Answer, Rig, answering, principal, running

ROOT = Path(__file__).parents[2]


def documented(heading: str) -> Snapshot:
    """The first block of YAML below a heading, with one upstream of every name it uses."""
    text = (ROOT / "docs" / "edge.md").read_text("utf-8").partition(f"## {heading}\n")[2]
    block = text.partition("```yaml\n")[2].partition("```")[0]
    names = set(re.findall(r"upstream: (\w+)", block))
    upstreams = "".join(f"{name}: {{targets: [http://127.0.0.1:1]}}\n" for name in names)
    named = f"upstreams:\n{indent(upstreams, '  ')}" if names and "upstreams:" not in block else ""
    made = compile_snapshot(Sources(("routes.yaml", f"version: 1\n{named}{block}"), ()))
    assert isinstance(made, Snapshot), made
    return made


async def asked(rig: Rig, world: Snapshot, target: str) -> Answer:
    found = world.routes.match("x", "GET", tuple(target.partition("?")[0][1:].split("/")))
    assert isinstance(found, Match)
    upstream = rig.gate.route.upstream
    rig.gate.route = found.route
    if found.route.upstream is not None:
        rig.route(upstream=upstream)
    return await rig.ask(
        b"GET %b HTTP/1.1\r\nHost: x\r\nX_Tenant: evil\r\nCookie: a=b\r\n\r\n" % target.encode()
    )


async def test_the_documented_header_fields_pass_as_it_is_said() -> None:
    old = b"HTTP/1.1 200 OK\r\nServer: a\r\nX-Powered-By: b\r\nContent-Length: 0\r\n\r\n"
    async with running(answering(old)) as rig:
        answer = await asked(rig, documented("Header fields"), "/orders/7")
        received = rig.upstream.requests[0]
        assert received.values("x-tenant") == [b"acme"]
        assert received.values("x_tenant") == received.values("cookie") == []
        assert answer.values("cache-control") == [b"no-store"]
        assert answer.values("server") == answer.values("x-powered-by") == []


async def test_the_documented_identity_headers_are_those_that_are_sent() -> None:
    async with running() as rig:
        rig.gate.principal = principal(
            email_verified=True, roles=("viewer", "ops"), claims={"name": "Zoë"}
        )
        world = documented("Identity headers")
        await asked(rig, world, "/boards/1")
        await asked(rig, world, "/wiki/1")
        boards, wiki = rig.upstream.requests
        assert boards.values("x-webauth-user") == [b"ada@example.com"]
        assert boards.values("x-webauth-role") == [b"Viewer"]
        assert wiki.values("x-user") == [b"u-1"]
        assert wiki.values("x-mail") == [b"ada@example.com"]
        assert wiki.values("x-name") == ["Zoë".encode()]
        assert wiki.values("x-groups") == [b"viewer;ops"]
        assert boards.values("x-auth-user-id") == wiki.values("x-auth-user-id") == []


async def test_the_documented_answers_are_those_that_are_given() -> None:
    world = documented("Answers of a route's own")
    async with running() as rig:
        robots = await asked(rig, world, "/robots.txt")
        assert (robots.status, robots.body) == (200, b"User-agent: *")
        assert robots.values("cache-control") == [b"max-age=3600"]
        gone = await asked(rig, world, "/v1/orders/7")
        assert (gone.status, gone.values("content-type")) == (410, [b"application/json"])
        moved = await asked(rig, world, "/shop?q=1")
        assert (moved.status, moved.values("location")) == (308, [b"https://shop.example.com/?q=1"])
        assert not rig.upstream.requests


async def test_the_shop_redirects_its_old_address() -> None:
    shop = ROOT / "examples" / "shop"
    sources = read_sources(shop / "routes.yaml", shop / "policies")
    assert isinstance(sources, Sources)
    world = compile_snapshot(sources)
    assert isinstance(world, Snapshot)
    async with running() as rig:
        answer = await asked(rig, world, "/products?page=2")
        assert (answer.status, answer.values("location")) == (301, [b"/catalogue/all?page=2"])
        assert b"Disallow: /\n" in (await asked(rig, world, "/robots.txt")).body
