"""`/auth/introspect` and `/auth/revoke`: what a token is told to be, and who ends it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.access.factor_rule import FactorRule
from gateway.identity.clients.api_keys import ApiKeys
from gateway.identity.clients.clients import NewSecret
from tests.edge.auth_house import URL, House, open_house, reason, told
from tests.edge.endpoints.oauth_clients import (
    basic,
    created,
    post,
    token_of,
)
from tests.edge.endpoints.test_factors import later
from tests.edge.rig import Answer


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


async def introspected(house: House, description: NewSecret, token: str) -> dict[str, Any]:
    answer = await post(
        house,
        "/auth/introspect",
        {"token": token},
        basic(description.client_id, description.client_secret),
    )
    assert answer.status == 200, answer.body
    return told(answer)


async def test_a_users_token_is_described(house: House) -> None:
    machine = await created(house)
    account = await house.register()
    signed_in = await house.sign_in()
    description = await introspected(house, machine, signed_in["access_token"])
    assert description["active"] is True
    assert description["sub"] == account.id
    assert description["username"] == "alice@example.com"
    assert (description["iss"], description["aud"], description["token_type"]) == (
        URL,
        URL,
        "Bearer",
    )
    assert description["exp"] - description["iat"] == 900


async def test_a_clients_token_is_described(house: House) -> None:
    client = await created(house)
    description = await introspected(house, client, await token_of(house, client))
    assert (description["active"], description["client_id"]) == (True, client.client_id)
    assert description["roles"] == ["reader", "writer"]
    assert "sid" not in description


async def test_a_refresh_token_is_described_and_not_used_up(house: House) -> None:
    account = await created(house)
    await house.register()
    signed_in = await house.sign_in()
    for _ in range(2):
        description = await introspected(house, account, signed_in["refresh_token"])
        assert (description["active"], description["token_type"]) == (True, "refresh_token")
    refreshed = await house.ask(
        "POST", "/auth/refresh", {"refresh_token": signed_in["refresh_token"]}
    )
    assert refreshed.status == 200
    assert await introspected(house, account, signed_in["refresh_token"]) == {"active": False}


async def test_a_refresh_token_that_is_refused_for_want_of_a_factor_is_not_active(
    tmp_path: Path,
) -> None:
    rule = FactorRule(everyone=True, within_s=600)
    async with open_house(tmp_path, factor_rule=rule) as house:
        machine = await created(house)
        await house.register()
        token = (await house.sign_in())["refresh_token"]
        assert (await introspected(house, machine, token))["active"] is True
        await later(house, 601)
        assert await introspected(house, machine, token) == {"active": False}


async def test_a_term_that_has_not_begun_does_not_by_a_description(tmp_path: Path) -> None:
    """As where the rule was made after the sign-in: a description writes nothing."""
    rule = FactorRule(everyone=True, within_s=600)
    async with open_house(tmp_path, factor_rule=rule) as house:
        machine = await created(house)
        await house.register()
        token = (await house.sign_in())["refresh_token"]
        async with house.database.transaction() as tx:
            await tx.run("DELETE FROM factor_terms")
        for _ in range(2):
            assert (await introspected(house, machine, token))["active"] is True
        async with house.database.read_transaction() as tx:
            assert await tx.all("SELECT account_id FROM factor_terms") == []


async def test_an_api_key_is_described(house: House) -> None:
    client = await created(house)
    key = await ApiKeys(house.database).create(client.client_id, scopes=["orders:read"])
    assert key is not None
    description = await introspected(house, client, key.text)
    assert (description["active"], description["token_type"]) == (True, "api_key")
    assert description["scope"] == "orders:read"


async def test_what_is_not_active_is_nothing_but_that(house: House) -> None:
    account = await created(house)
    await house.register()
    signed_in = await house.sign_in()
    await house.ask("POST", "/auth/logout", token=signed_in["access_token"])
    for token in (signed_in["access_token"], signed_in["refresh_token"], "x", "ag_x"):
        assert await introspected(house, account, token) == {"active": False}


@pytest.mark.parametrize("path", ["/auth/introspect", "/auth/revoke"])
async def test_who_does_not_authenticate_learns_and_ends_nothing(house: House, path: str) -> None:
    await house.register()
    signed_in = await house.sign_in()
    answer = await post(house, path, {"token": signed_in["access_token"]})
    assert (answer.status, told(answer)["error"]) == (401, "invalid_client")
    assert (await house.ask("GET", "/auth/me", token=signed_in["access_token"])).status == 200


@pytest.mark.parametrize("path", ["/auth/introspect", "/auth/revoke"])
async def test_a_missing_token_is_an_invalid_request(house: House, path: str) -> None:
    client = await created(house)
    answer = await post(house, path, {}, basic(client.client_id, client.client_secret))
    assert (answer.status, told(answer)["error"]) == (400, "invalid_request")


async def revoked(house: House, client: NewSecret, token: str) -> Answer:
    return await post(
        house,
        "/auth/revoke",
        {"token": token, "token_type_hint": "access_token"},
        basic(client.client_id, client.client_secret),
    )


async def test_a_client_revokes_its_token(house: House) -> None:
    client = await created(house)
    token = await token_of(house, client)
    other = await token_of(house, client)
    answer = await revoked(house, client, token)
    assert (answer.status, answer.body) == (200, b"")
    assert await introspected(house, client, token) == {"active": False}
    assert (await introspected(house, client, other))["active"] is True


async def test_a_revocation_that_is_not_confirmed_is_503_and_may_be_repeated(
    house: House,
) -> None:
    """CVE-2020-15223: never a 200 for what has not happened."""
    client = await created(house)
    token = await token_of(house, client)
    house.workers.confirm = False
    answer = await revoked(house, client, token)
    assert (answer.status, reason(answer)) == (503, "revocation_pending")
    assert answer.values("retry-after")
    house.workers.confirm = True
    assert (await revoked(house, client, token)).status == 200


async def test_without_sql_a_revocation_is_503(house: House) -> None:
    client = await created(house)
    token = await token_of(house, client)
    house.database.away = True
    assert (await revoked(house, client, token)).status == 503


async def test_nobody_revokes_the_token_of_somebody_else(house: House) -> None:
    account, other = await created(house, "a"), await created(house, "b")
    await house.register()
    signed_in = await house.sign_in()
    for token in (
        await token_of(house, other),
        signed_in["access_token"],
        signed_in["refresh_token"],
    ):
        answer = await revoked(house, account, token)
        assert (answer.status, told(answer)["error"]) == (400, "invalid_grant")
        assert (await introspected(house, account, token))["active"] is True


async def test_a_client_ends_its_api_key_and_nobody_elses(house: House) -> None:
    client, other = await created(house, "a"), await created(house, "b")
    key = await ApiKeys(house.database).create(client.client_id)
    assert key is not None
    refused = await revoked(house, other, key.text)
    assert (refused.status, told(refused)["error"]) == (400, "invalid_grant")
    assert (await introspected(house, client, key.text))["active"] is True
    assert (await revoked(house, client, key.text)).status == 200
    assert await introspected(house, client, key.text) == {"active": False}


@pytest.mark.parametrize("limits", [{}, {"routes": ["orders"]}])
async def test_no_client_is_told_that_the_key_of_a_person_has_ended(
    house: House, limits: dict[str, list[str]]
) -> None:
    """CVE-2020-15223: never a 200 for what has not happened."""
    client = await created(house)
    await house.register()
    token = (await house.sign_in())["access_token"]
    made = told(await house.ask("POST", "/auth/keys", {"name": "mine", **limits}, token=token))
    refused = await revoked(house, client, made["api_key"])
    assert (refused.status, told(refused)["error"]) == (400, "invalid_grant")
    assert (await introspected(house, client, made["api_key"]))["active"] is (not limits)
    ended = await house.ask("DELETE", f"/auth/keys/{made['key_id']}", token=token)
    assert ended.status == 204
    assert (await revoked(house, client, made["api_key"])).status == 200


async def test_a_key_that_has_ended_is_ended_again_without_another_row(house: House) -> None:
    client = await created(house)
    key = await ApiKeys(house.database).create(client.client_id)
    assert key is not None
    assert [(await revoked(house, client, key.text)).status for _ in range(3)] == [200] * 3
    async with house.database.read_transaction() as tx:
        rows = await tx.all("SELECT id FROM changes WHERE target = :id", id=key.id)
    assert len(rows) == 1


@pytest.mark.parametrize("token", ["x", "a.b.c", "ag_x", "é" * 50])
async def test_a_token_that_never_was_is_revoked_already(house: House, token: str) -> None:
    client = await created(house)
    assert (await revoked(house, client, token)).status == 200
