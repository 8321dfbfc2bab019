"""Whether a call that carries the session cookie was meant, at the gateway's own endpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.stores.redis import RedisStore
from tests.edge.auth_house import CREDENTIALS, House, open_house, reason, told
from tests.edge.endpoints.cookie_calls import APP, CORS, MINT, SAME, ask, signed_in


@pytest.fixture
async def house(tmp_path: Path, redis: RedisStore) -> AsyncIterator[House]:
    async with open_house(tmp_path, redis=redis, auth_cors=CORS) as opened:
        await opened.register()
        yield opened


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (["Sec-Fetch-Site: same-site"], "cross_origin"),
        (["Sec-Fetch-Site: cross-site"], "cross_origin"),
        (["Sec-Fetch-Site: none"], "cross_origin"),
        (["Sec-Fetch-Site: same-site", "Origin: https://gate.example"], "cross_origin"),
        (["Sec-Fetch-Site: same-origin", "Origin: null"], "cross_origin"),
        (["Origin: https://evil.example"], "cross_origin"),
        (["Origin: http://gate.example:8081"], "cross_origin"),
        (["User-Agent: old"], "csrf_invalid"),
        (["X-CSRF-Token: wrong"], "csrf_invalid"),
    ],
)
async def test_what_was_not_meant_is_refused_before_the_cookie_is_looked_up(
    house: House, redis: RedisStore, headers: list[str], expected: str
) -> None:
    await redis.close()
    for method, path in (
        ("POST", "/auth/logout"),
        ("POST", "/auth/refresh"),
        ("POST", "/auth/login"),
        ("POST", "/auth/password/change"),
        ("DELETE", "/auth/sessions/x"),
    ):
        answer = await ask(house, method, path, MINT.new(), *headers)
        assert (path, answer.status, reason(answer)) == (path, 403, expected)
        assert not answer.values("set-cookie")


@pytest.mark.parametrize(
    "headers",
    [[SAME], ["Origin: https://gate.example"], ["Sec-Fetch-Site: cross-site", f"Origin: {APP}"]],
)
async def test_a_meant_call_passes_without_a_csrf_token(house: House, headers: list[str]) -> None:
    cookie, _ = await signed_in(house)
    assert (await ask(house, "POST", "/auth/logout", cookie, *headers)).status == 204


async def test_without_browser_headers_the_csrf_token_proves_it(house: House) -> None:
    cookie, signed = await signed_in(house)
    token = told(signed)["csrf_token"]
    other, other_signed = await signed_in(house)
    wrong = f"X-CSRF-Token: {told(other_signed)['csrf_token']}"
    answer = await ask(house, "POST", "/auth/logout", cookie, wrong)
    assert (answer.status, reason(answer)) == (403, "csrf_invalid")
    answer = await ask(house, "POST", "/auth/logout", cookie, f"X-CSRF-Token: {token}")
    assert answer.status == 204
    assert (await ask(house, "GET", "/auth/me", other)).status == 200


async def test_the_csrf_token_is_told_to_whoever_asks_with_the_cookie_alone(
    house: House,
) -> None:
    """A browser without fetch metadata must get it somewhere after a reload."""
    cookie, signed = await signed_in(house)
    answer = await ask(house, "GET", "/auth/csrf", cookie, "User-Agent: old")
    assert told(answer) == {"csrf_token": told(signed)["csrf_token"]}
    answer = await ask(house, "GET", "/auth/csrf", cookie, "Sec-Fetch-Site: same-site")
    assert (answer.status, reason(answer)) == (401, "no_credential")
    assert (await house.ask("GET", "/auth/csrf")).status == 401


async def test_an_image_of_another_port_is_answered_as_to_a_stranger(house: House) -> None:
    cookie, _ = await signed_in(house)
    image = ["Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"]
    answer = await ask(house, "GET", "/auth/me", cookie, *image)
    assert (answer.status, reason(answer)) == (401, "no_credential")
    assert not answer.values("set-cookie")


async def test_a_sign_in_without_cookie_and_browser_needs_no_proof(house: House) -> None:
    assert (await house.ask("POST", "/auth/login", CREDENTIALS)).status == 200


@pytest.mark.parametrize("path", ["/auth/login", "/auth/register"])
async def test_a_page_of_another_origin_signs_its_visitor_in_to_nothing(
    house: House, path: str
) -> None:
    for site in ("same-site", "cross-site"):
        answer = await house.ask(
            "POST",
            path,
            CREDENTIALS,
            headers=[f"Sec-Fetch-Site: {site}", "Origin: https://evil.example"],
        )
        assert (answer.status, reason(answer)) == (403, "cross_origin")
