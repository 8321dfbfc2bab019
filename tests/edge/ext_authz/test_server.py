"""The listener of ext_authz on a real socket: what it is told beside a good question, and its bounds.

What it decides is held by tests/edge/admin, where `grpc` is one of the dialects.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.edge.ext_authz import server
from gateway.edge.ext_authz.server import ExtAuthzServer
from gateway.edge.server.listener_tls import Certificates
from gateway.model import Reason
from tests.access.worlds import snapshot
from tests.certificates import self_signed
from tests.edge.admin.decision_house import POLICIES, ROUTES, House, opened
from tests.edge.ext_authz.asking import CHECK, Asked, Checked, ask, check, put
from tests.ports import free_port

Call = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
HEALTH = "/grpc.health.v1.Health/Check"


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with opened() as found:
        await found.open_grpc()
        yield found


async def asked(house: House, question: Asked) -> Checked:
    return await check(await house.open_grpc(), question)


async def answered(house: House, question: Asked) -> tuple[int, str, str]:
    """Status, reason and detail of a refusal."""
    answer = (await asked(house, question)).answer(())
    problem = json.loads(answer.body)
    assert answer.values("content-type") == [b"application/problem+json"]
    return answer.status, problem["reason"], problem.get("detail", "")


GOOD = (("Authorization", "Bearer good"),)


async def test_envoy_may_log_who_called_and_why_it_was_decided_so(house: House) -> None:
    good = await asked(house, Asked(fields=(*GOOD, ("X-Request-Id", "r-1"))))
    assert good.metadata == {
        "reason": "signed_in",
        "request_id": "r-1",
        "route": "me",
        "subject": "u-1",
    }
    bad = await asked(house, Asked())
    assert bad.metadata["reason"] == "no_credential"
    assert bad.metadata["route"] == "me"
    assert "subject" not in bad.metadata
    assert json.loads(bad.answer(()).body)["request_id"] == bad.metadata["request_id"]


async def test_the_request_id_of_envoy_is_kept_and_a_bad_one_replaced(house: House) -> None:
    kept = await asked(house, Asked("/public/a", (("X-Request-Id", "r-1"),)))
    assert b"X-Request-Id" not in dict(kept.headers())
    made = await asked(house, Asked("/public/a", (("X-Request-Id", "a b"),)))
    assert dict(made.headers())[b"X-Request-Id"].decode() == made.metadata["request_id"]


async def test_the_client_is_told_of_its_limits_and_the_backend_is_not(house: House) -> None:
    answer = await asked(house, Asked("/few"))
    assert [name for name, _ in answer.headers(6)] == [b"RateLimit-Policy", b"RateLimit"]
    assert not [name for name, _ in answer.headers() if name.lower().startswith(b"ratelimit")]


SPELLINGS = (
    "X-Auth-User-Id", "x_auth_user_id", "X.Auth.Roles", "x-auth_email", "X-Auth-Anything",
    "X_Tenant", "x.tenant", "Proxy", "X-Real-IP", "X_Real_IP", "X-Original-URL", "X-Original-Method",
    "X-Rewrite-Url", "X-HTTP-Method-Override", "X_Forwarded_For", "Forwarded", "X-Forwarded-Host",
    "X-Forwarded-Uri", "X-Forwarded-Method", "X-Auth-Session-Id", "X-Forwarded-Email",
    "X-Forwarded-Groups", "X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token",
    "X-Forwarded-Ssl", "X-Forwarded-Scheme", "X-Forwarded-Port", "X-Forwarded-Anything",
)  # fmt: skip


@pytest.mark.parametrize("raw", [True, False])
async def test_every_spelling_of_a_field_that_speaks_for_the_gateway_is_removed(
    house: House, raw: bool
) -> None:
    fields = tuple((name, "forged") for name in SPELLINGS)
    for target, own in (("/public/a", ()), ("/me", GOOD)):
        question = Asked(target, (*own, *fields, ("X-Mine", "kept")), raw=raw)
        answer = (await asked(house, question)).answer(question.fields)
        assert answer.status == 200
        assert answer.values("x-mine") == [b"kept"]
        assert b"forged" not in answer.head, answer.head
        assert bool(answer.values("x-auth-user-id")) == bool(own)


async def test_what_envoy_writes_itself_stays(house: House) -> None:
    fields = (
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "api.example.com"),
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Client-Cert", "Hash=1"),
        ("X-Envoy-Attempt-Count", "1"),
        ("TE", "trailers"),
        ("Upgrade", "websocket"),
        ("Connection", "upgrade"),
    )
    assert not {name.lower().encode() for name, _ in fields} & set(
        (await asked(house, Asked("/public/a", fields))).removed
    )


async def test_a_proxy_in_front_of_envoy_is_believed_where_it_is_a_trusted_peer(
    house: House,
) -> None:
    fields = (
        ("X-Forwarded-For", "203.0.113.9, 10.9.1.1"),
        ("X-Forwarded-Prefix", "/app"),
        ("X-Forwarded-Email", "root@example.com"),  # what it did not take from its own client
    )
    question = Asked("/maybe", fields, source="10.9.1.1")
    removed = (await asked(house, question)).removed
    assert b"x-forwarded-prefix" not in removed
    assert b"x-forwarded-email" in removed
    assert house.someone.calls[-1].client_ip == "203.0.113.9"
    # A client that calls Envoy itself says what it likes.
    question = Asked("/maybe", fields, source="198.51.100.4")
    assert b"x-forwarded-prefix" in (await asked(house, question)).removed
    assert house.someone.calls[-1].client_ip == "198.51.100.4"


async def test_without_a_word_of_forwarding_the_peer_and_the_scheme_are_envoys(
    house: House,
) -> None:
    await asked(house, Asked("/maybe", source="198.51.100.4", scheme="https"))
    assert (house.someone.calls[-1].client_ip, house.someone.calls[-1].scheme) == (
        "198.51.100.4",
        "https",
    )
    for source in ("", "@pipe", "1.2.3"):
        assert (await answered(house, Asked("/maybe", source=source)))[:2] == (
            400,
            "request_malformed",
        )


@pytest.mark.parametrize(
    "question",
    [
        Asked(method=""),
        Asked(method="get"),
        Asked(target=""),
        Asked(target="/public/a b"),
        Asked(target="/public/a\r\nX-Auth-User-Id: root"),
        Asked(target="/public/\xff"),
        Asked("/public/a", host=""),
        Asked("/public/a", host="a b"),
        Asked("/public/a", host="a\r\nb: c"),
        Asked("/public/a", scheme=""),
        Asked("/public/a", scheme="ftp"),
        Asked("/public/a", (("X-Forwarded-Proto", "http"), ("X-Forwarded-Proto", "https"))),
        Asked("/public/a", (("Host", "elsewhere.example"),)),
        Asked("/public/a", (("X-A", "b\r\nX-Auth-User-Id: root"),)),
        Asked("/public/a", (("X A", "b"),)),
        Asked("/public/a", (("X-A", "b\nc"),)),
        Asked("/public/a", (("Content-Length", "1"), ("Transfer-Encoding", "chunked"))),
        # What is not UTF-8 stands there as something else than Envoy sends on.
        Asked("/public/a!", pseudo={":path": "/public/a\xff"}),
        Asked("/public/a", pseudo={":authority": "other.example.com"}),
    ],
    ids=repr,
)
async def test_what_is_no_request_is_refused(house: House, question: Asked) -> None:
    status, reason, _ = await answered(house, question)
    assert (status, reason) == (400, "request_malformed")
    assert not house.someone.calls


async def test_what_is_too_large_is_told_so(house: House) -> None:
    assert (await answered(house, Asked("/public/" + "a" * 9_000)))[:2] == (414, "target_too_long")
    fields = tuple((f"X-{n}", "a" * 1_000) for n in range(20))
    assert (await answered(house, Asked(fields=fields)))[:2] == (431, "header_too_large")
    for count in (101, 5_000):
        fields = tuple((f"X-{n}", "") for n in range(count))
        assert (await answered(house, Asked(fields=fields)))[:2] == (431, "header_too_large")
    fields = tuple((f"X-{n}", "a") for n in range(101))
    assert (await answered(house, Asked(fields=fields)))[:2] == (431, "header_too_large")


async def test_a_credential_that_came_twice_is_refused(house: House) -> None:
    twice = (*GOOD, ("Authorization", "Bearer other"))
    assert (await answered(house, Asked(fields=twice)))[:2] == (400, "ambiguous_header")
    # Joined by an Envoy that does not tell them apart it is no token at all.
    assert (await answered(house, Asked(fields=twice, raw=False)))[0] == 401


async def test_a_cookie_that_no_message_can_hold_reaches_no_backend(house: House) -> None:
    cookie = ("Cookie", "theirs=\xff; __Host-session=abc")
    question = Asked("/public/a", (cookie,))
    assert (await asked(house, question)).answer((cookie,)).values("cookie") == []
    # One without any of ours goes on as it came.
    cookie = ("Cookie", "theirs=\xff")
    question = Asked("/public/a", (cookie,))
    assert (await asked(house, question)).answer((cookie,)).values("cookie") == [b"theirs=\xff"]


JSON = (*GOOD, ("Content-Type", "application/json"))


async def test_a_policy_reads_the_body_that_envoy_shows(house: House) -> None:
    def question(body: bytes, *fields: tuple[str, str], partial: bool = False) -> Asked:
        return Asked("/bodies", (*JSON, *fields), method="POST", body=body, partial=partial)

    assert (await asked(house, question(b'{"n": 1}'))).allowed
    assert (await answered(house, question(b'{"flag": 1}')))[:2] == (403, "no_rule")
    assert (await answered(house, question(b'{"flag": 1')))[:2] == (400, "body_malformed")
    assert (await answered(house, question(b'{"n": "\xff"}')))[:2] == (400, "body_malformed")
    assert (await answered(house, question(b"null")))[:2] == (400, "body_malformed")
    big = b'{"n": "%b"}' % (b"a" * 65_536)
    assert (await answered(house, question(big)))[:2] == (413, "body_too_large")
    cut = await answered(house, question(b'{"n": 1}', partial=True))
    assert cut[0] == 403
    assert "body" in cut[2]
    other = Asked("/bodies", (*GOOD, ("Content-Type", "text/plain")), "POST", body=b"{}")
    assert (await answered(house, other))[:2] == (415, "media_type_unsupported")


@pytest.mark.parametrize(
    "message", [b"", b"\x00", b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f", put(1, put(4, b"")), b"a"]
)
async def test_a_garbled_message_is_refused_without_a_traceback(
    house: House,
    message: bytes,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    found = Checked(await ask(await house.open_grpc(), message))
    answer = found.answer(())
    assert (answer.status, json.loads(answer.body)["reason"]) == (400, "request_malformed")
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
    assert house.defects.n == 0


async def test_a_stranger_is_refused_whatever_it_sends_and_nothing_of_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "read_check", None)
    world = snapshot(ROUTES.replace("127.0.0.1/32", "192.0.2.0/24"), *POLICIES)
    async with opened(world) as house:
        for message in (Asked(fields=GOOD).message(), Asked("/public/a").message(), b"\xff", b""):
            answer = Checked(await ask(await house.open_grpc(), message)).answer(())
            assert answer.status == 403
            assert b"trusted_peers" in answer.body
        assert not house.someone.calls
        assert house.defects.n == 0


async def failure(address: str, message: bytes, method: str = CHECK) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await ask(address, message, method=method)
    return error.value.code()


async def test_a_huge_message_is_refused_before_it_is_read(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    address = await house.open_grpc()
    assert await failure(address, b"a" * 300_000) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not caplog.records
    assert (await asked(house, Asked("/public/a"))).allowed


async def test_a_compressed_message_is_not_unpacked(house: House) -> None:
    address = await house.open_grpc()
    async with grpc.aio.insecure_channel(address, compression=grpc.Compression.Gzip) as channel:
        call: Call = channel.unary_unary(CHECK)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call(bytes(100_000), timeout=20)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert len(gzip.compress(bytes(100_000))) < 1_000  # of what it would have been


@pytest.mark.parametrize("method", ["/envoy.service.auth.v3.Authorization/Other", "/a.B/Check"])
async def test_no_other_method_is_served(house: House, method: str) -> None:
    code = await failure(await house.open_grpc(), Asked("/public/a").message(), method)
    assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_what_is_no_grpc_is_let_go(house: House) -> None:
    port = int((await house.open_grpc()).rpartition(":")[2])
    for data in (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01" + bytes(200)):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        async with asyncio.timeout(10):
            await reader.read()
        writer.close()
    assert (await asked(house, Asked("/public/a"))).allowed


async def test_the_health_of_the_listener_is_that_of_the_worker(house: House) -> None:
    address = await house.open_grpc()
    assert await ask(address, b"", method=HEALTH) == b"\x08\x01"
    house.live = False
    assert await ask(address, put(1, server.SERVICE.encode()), method=HEALTH) == b"\x08\x02"


async def test_a_fenced_worker_denies_with_its_document_and_is_no_error(house: House) -> None:
    # An error could be let through by `failure_mode_allow`; a denial never is.
    house.live = False
    assert (await answered(house, Asked("/public/a")))[:2] == (503, "replica_stale")


async def test_a_defect_is_a_denial(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(house.someone, "authenticate", broken)
    assert (await answered(house, Asked(fields=GOOD)))[:2] == (500, "internal_error")
    assert house.defects.n == 1


async def test_a_decision_that_does_not_come_is_a_denial(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stuck(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(house.someone, "authenticate", stuck)
    monkeypatch.setattr(server, "DECIDE_S", 0.1)
    assert (await answered(house, Asked(fields=GOOD)))[:2] == (503, "store_busy")


async def test_a_call_that_was_begun_is_answered_while_the_listener_closes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(*_: object) -> Reason:
        begun.set()
        await go.wait()
        return Reason.TOKEN_EXPIRED

    monkeypatch.setattr(house.someone, "authenticate", slow)
    asking = asyncio.ensure_future(answered(house, Asked(fields=GOOD)))
    await begun.wait()
    assert house.grpc is not None
    stopping = asyncio.ensure_future(house.grpc.stop(20))
    port = int(house.grpc_address.rpartition(":")[2])
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                break
            writer.close()
            await asyncio.sleep(0.01)
    go.set()
    assert (await asking)[:2] == (401, "token_expired")
    async with asyncio.timeout(10):
        await stopping


async def test_each_handshake_is_shown_the_certificate_of_the_moment(tmp_path: Path) -> None:
    first, second = self_signed("localhost"), self_signed("localhost")
    certificates = Certificates(*first.write(tmp_path))
    async with opened() as house:
        assert house.point is not None
        listener = ExtAuthzServer(house.point, ready=lambda: True, defects=house.defects)
        port = free_port()
        await listener.start(f"127.0.0.1:{port}", certificates)
        try:
            for shown in (first, second):
                credentials = grpc.ssl_channel_credentials(shown.certificate)
                async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
                    call: Call = channel.unary_unary(CHECK)
                    found = Checked(await call(Asked("/public/a").message(), timeout=20))
                assert found.allowed
                second.write(tmp_path)
                for _ in range(2):  # once they were the same for two polls
                    certificates.poll()
        finally:
            await listener.stop(0.1)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(message=st.binary(max_size=200))
async def test_no_noise_is_allowed(house: House, message: bytes) -> None:
    answer = Checked(await ask(await house.open_grpc(), message))
    assert not answer.allowed


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.integers(min_value=0, max_value=400), byte=st.integers(0, 255), raw=st.booleans())
async def test_no_byte_that_was_changed_makes_a_protected_call_pass(
    house: House, at: int, byte: int, raw: bool
) -> None:
    message = bytearray(Asked("/me", (("Authorization", "Bearer revoked"),), raw=raw).message())
    message[at % len(message)] = byte
    assert not Checked(await ask(await house.open_grpc(), bytes(message))).allowed
