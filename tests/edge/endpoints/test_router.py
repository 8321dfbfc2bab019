"""The form of every answer below `/auth`, through real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.identity.accounts.passwords import PasswordOptions
from tests.edge.auth_house import (
    CREDENTIALS,
    House,
    open_house,
    reason,
    told,
)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/auth/login", b"POST"),
        ("DELETE", "/auth/register", b"POST"),
        ("POST", "/auth/me", b"GET, DELETE, HEAD"),
        ("GET", "/auth/sessions/x", b"DELETE"),
        ("POST", "/.well-known/jwks.json", b"GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_there_is_405_with_allow(
    house: House, method: str, path: str, allow: bytes
) -> None:
    answer = await house.ask(method, path)
    assert (answer.status, reason(answer)) == (405, "method_not_allowed")
    assert answer.values("allow") == [allow]


@pytest.mark.parametrize(
    "path",
    [
        "/auth",
        "/auth/",
        "/auth/nothing",
        "/auth/login/",
        "/auth/login/x",
    ],
)
async def test_an_unknown_endpoint_is_404(house: House, path: str) -> None:
    for method in ("GET", "POST"):
        answer = await house.ask(method, path)
        assert (answer.status, reason(answer)) == (404, "route_unknown")


async def test_head_answers_as_get_without_the_body(house: House) -> None:
    await house.register()
    token = (await house.sign_in())["access_token"]
    answer = await house.ask("HEAD", "/auth/me", token=token)
    assert (answer.status, answer.body) == (200, b"")
    assert (await house.ask("HEAD", "/auth/me")).status == 401


async def test_every_answer_is_kept_by_nobody_and_says_what_a_browser_must_not_do(
    house: House,
) -> None:
    await house.register()
    answers = [
        await house.ask("POST", "/auth/login", CREDENTIALS),
        await house.ask("POST", "/auth/login", {}),
        await house.ask("GET", "/auth/me"),
        await house.ask("GET", "/auth/nothing"),
    ]
    for answer in answers:
        assert answer.values("cache-control") == [b"no-store"]
        assert answer.values("x-content-type-options") == [b"nosniff"]
        assert answer.values("referrer-policy") == [b"no-referrer"]
        assert answer.values("cross-origin-resource-policy") == [b"same-origin"]
        assert answer.values("content-security-policy") == [
            b"default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
        ]
        assert answer.values("strict-transport-security")
        assert answer.values("server") == [b"authgate"]
        assert answer.values("proxy-status")[0].startswith(b"authgate")
        assert answer.values("x-request-id")


async def test_a_problem_holds_the_request_id_of_its_answer(house: House) -> None:
    answer = await house.ask("GET", "/auth/me", headers=["X-Request-Id: abc-1"])
    assert told(answer)["request_id"] == "abc-1"
    assert answer.values("x-request-id") == [b"abc-1"]
    assert answer.values("content-type") == [b"application/problem+json"]
    assert told(answer).keys() == {"type", "title", "status", "detail", "reason", "request_id"}


async def test_the_documents_are_answered_beside_auth(house: House) -> None:
    for path in (
        "/.well-known/jwks.json",
        "/.well-known/oauth-authorization-server",
    ):
        assert (await house.ask("GET", path)).status == 200
    nothing = await house.ask("GET", "/.well-known/oauth-protected-resource")
    assert (nothing.status, reason(nothing)) == (404, "route_unknown")


async def test_hashing_that_is_busy_is_503_and_no_failure(tmp_path: Path) -> None:
    one_thread = PasswordOptions(threads=1, queue=1)
    async with open_house(tmp_path, passwords=one_thread, rounds=10) as house:
        answers = await asyncio.gather(
            *(
                house.ask("POST", "/auth/login", {"email": f"u{n}@b.com", "password": "x y z 1"})
                for n in range(12)
            )
        )
        busy = [a for a in answers if a.status == 503]
        assert busy
        assert {reason(a) for a in busy} == {"hashing_busy"}
        assert all(a.values("retry-after") for a in busy)
        assert {a.status for a in answers} == {401, 503}
