"""`set_headers` and `remove_headers` on the wire, both ways."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.access.definitions import STANDARD_SECURITY_HEADERS, HeaderChanges
from tests.edge.rig import answering, running

BOTH_LOOPS = True

TENANT = HeaderChanges((("X-Tenant", "acme"),), ("X-Debug",))


async def test_what_a_client_sends_under_a_set_or_removed_name_does_not_pass() -> None:
    async with running() as rig:
        rig.route(claimed_headers=TENANT.folded, request=TENANT)
        await rig.ask(
            b"GET /a HTTP/1.1\r\nHost: x\r\nX-Tenant: evil\r\nX_TENANT: evil\r\nx.tenant: evil\r\n"
            b"x_debug: 1\r\nX-Debug: 1\r\nX-Debugger: 1\r\n\r\n"
        )
        received = rig.upstream.requests[0]
        assert [v for n, v in received.fields if n.lower().startswith(b"x-t")] == [b"acme"]
        assert b"evil" not in received.head
        assert b"ebug:" not in received.head
        assert received.values("x-debugger") == [b"1"]


async def test_no_connection_option_takes_a_set_field_away() -> None:
    async with running() as rig:
        rig.route(claimed_headers=TENANT.folded, request=TENANT)
        await rig.ask(
            b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: X-Tenant, close\r\nX-Tenant: evil\r\n\r\n"
        )
        assert rig.upstream.requests[0].values("x-tenant") == [b"acme"]


async def test_cookies_that_the_route_removes_do_not_reach_the_upstream() -> None:
    async with running() as rig:
        rig.route(claimed_headers=HeaderChanges(removed=("Cookie",)).folded)
        await rig.ask(b"GET /a HTTP/1.1\r\nHost: x\r\nCookie: a=b\r\n\r\n")
        assert rig.upstream.requests[0].values("cookie") == []


KEPT = frozenset((b"x-http-method-override", b"cf-connecting-ip"))


@pytest.mark.parametrize("kept", [frozenset(), KEPT])
async def test_only_what_a_route_keeps_of_the_overriding_fields_passes(
    kept: frozenset[bytes],
) -> None:
    async with running() as rig:
        rig.route(kept_headers=kept)
        await rig.ask(
            b"GET /a HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: DELETE\r\n"
            b"x_http_method_override: PUT\r\nX-Original-URL: /b\r\nCF-Connecting-IP: 6.6.6.6\r\n"
            b"Proxy: http://6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Else: 1\r\n\r\n"
        )
        received = rig.upstream.requests[0]
        assert received.values("x-http-method-override") == ([b"DELETE"] if kept else [])
        assert received.values("cf-connecting-ip") == ([b"6.6.6.6"] if kept else [])
        for name in ("x_http_method_override", "x-original-url", "proxy", "x-real-ip"):
            assert received.values(name) == []
        assert received.values("x-else") == [b"1"]


async def test_a_trusted_proxy_passes_no_address_field_of_its_client_either() -> None:
    async with running(trusted=[ip_network("127.0.0.1/32")]) as rig:
        await rig.ask(
            b"GET /a HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 6.6.6.6\r\n\r\n"
        )
        received = rig.upstream.requests[0]
        assert received.values("x-real-ip") == []
        assert received.values("x-forwarded-for") == [b"192.0.2.1, 127.0.0.1"]


@pytest.mark.parametrize(
    "name",
    ["X-Forwarded-User", "X-Forwarded-Email", "x-forwarded-groups", "X-Forwarded-Access-Token",
     "X-Forwarded-Preferred-Username", "X-Forwarded-Ssl"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/a", "/a?q"])
async def test_a_trusted_proxy_passes_nobodys_word_on_who_is_calling(name: str, path: str) -> None:
    async with running(trusted=[ip_network("127.0.0.1/32")]) as rig:
        if path != "/a":
            rig.route(kept_headers=KEPT)
        asked = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-Port: 8443\r\n{name}: root\r\n\r\n"
        assert (await rig.ask(asked.encode())).status == 200
        received = rig.upstream.requests[0]
        assert received.values(name.lower()) == []
        assert received.values("x-forwarded-port") == [b"8443"]


async def test_what_connection_names_is_not_kept() -> None:
    async with running() as rig:
        rig.route(kept_headers=KEPT)
        await rig.ask(
            b"GET /a HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: PUT\r\n"
            b"Connection: x-http-method-override\r\n\r\n"
        )
        assert rig.upstream.requests[0].values("x-http-method-override") == []


async def test_a_field_that_the_route_writes_is_not_kept() -> None:
    async with running() as rig:
        rig.route(kept_headers=KEPT, claimed_headers=KEPT)
        await rig.ask(b"GET /a HTTP/1.1\r\nHost: x\r\nCF-Connecting-IP: 6.6.6.6\r\n\r\n")
        assert rig.upstream.requests[0].values("cf-connecting-ip") == []


ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: old/1\r\nX-Powered-By: PHP\r\n"
    b"Cache-Control: public\r\ncache-control: max-age=9\r\nReferrer-Policy: unsafe-url\r\n"
    b"Set-Cookie: a=b\r\n\r\nok"
)


async def test_an_answer_loses_what_is_removed_and_has_what_is_set_once() -> None:
    async with running(answering(ANSWER)) as rig:
        rig.route(
            response=HeaderChanges((("Cache-Control", "no-store"),), ("X-Powered-By", "set-cookie"))
        )
        answer = await rig.ask(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.values("cache-control") == [b"no-store"]
        assert answer.values("x-powered-by") == answer.values("set-cookie") == []
        assert answer.values("server") == [b"old/1"]
        assert answer.body == b"ok"


async def test_security_headers_stand_for_what_was_removed() -> None:
    async with running(answering(ANSWER)) as rig:
        rig.route(
            response=HeaderChanges(removed=("Referrer-Policy",)),
            security_headers=STANDARD_SECURITY_HEADERS,
        )
        answer = await rig.ask(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.values("referrer-policy") == [b"strict-origin-when-cross-origin"]


async def test_a_removed_field_is_no_trailer_either() -> None:
    chunks = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
        b"X-Powered-By: PHP\r\nX-Sum: 1\r\n\r\n"
    )
    async with running(answering(chunks)) as rig:
        rig.route(response=HeaderChanges(removed=("X-Powered-By",)))
        answer = await rig.ask(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.trailers == [b"X-Sum: 1"]


async def test_what_the_gateway_answers_itself_is_not_changed() -> None:
    async with running() as rig:
        rig.spec(targets=())
        rig.route(max_body_bytes=1, response=HeaderChanges((("X-Served-By", "edge"),)))
        answer = await rig.ask(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab")
        assert answer.status == 413
        assert answer.values("x-served-by") == []


async def test_a_set_field_is_not_set_again_by_the_security_headers() -> None:
    async with running() as rig:
        rig.route(
            response=HeaderChanges((("X-Content-Type-Options", "a"), ("Referrer-Policy", "b"))),
            security_headers=STANDARD_SECURITY_HEADERS,
        )
        client = await rig.client()
        # The first answer is looked through in another way than those behind it.
        for _ in range(2):
            await client.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await client.answer()
            assert answer.values("x-content-type-options") == [b"a"]
            assert answer.values("referrer-policy") == [b"b"]
