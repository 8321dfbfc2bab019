"""The account behind a call that goes on, as a real store has it now."""

from __future__ import annotations

import pytest

from gateway.access.attributes import (
    Attribute,
    TenantRules,
    tenant_of,
    tenant_role_of,
    tenants_of,
)
from gateway.access.identity_headers import PRESETS
from gateway.edge.streams.reevaluation import SessionReading
from gateway.identity.accounts.account_claims import AccountClaims
from gateway.identity.accounts.account_facts import AccountFacts
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.sessions.sessions import Sessions, SignInSource
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens, SessionGrant
from gateway.identity.sign_in.session_cookies import CookieMint, hash_cookie
from gateway.model import Principal, Reason
from gateway.stores.protocols import Database
from tests.edge.rig import principal

TTL_S = 900
MINT = CookieMint(b"m" * 32)


async def grant_of(database: Database, *, cookie: bool = False) -> SessionGrant:
    accounts = Accounts(database)
    account = await accounts.register("ada@example.com", "hash", roles=["reader"])
    assert isinstance(account, Account)
    grant = await RefreshTokens(database, RefreshOptions()).begin(
        account.id,
        SignInSource("Browser/1", "192.0.2.7"),
        checked_hash="hash",
        cookie_hash=hash_cookie(MINT.new()) if cookie else None,
    )
    assert isinstance(grant, SessionGrant)
    return grant


def caller(grant: SessionGrant, **more: object) -> Principal:
    who = {"subject": grant.account.id, "session_id": grant.session_id, "roles": ("reader",)}
    claims = {"claims": {"roles": ["reader"], "iat": 0, "team": "t-7"}}
    return principal(**(who | claims | more))


def reading(database: Database) -> SessionReading:
    return SessionReading(RefreshTokens(database, RefreshOptions()), TTL_S)


async def now(database: Database, who: Principal) -> Principal | Reason:
    refreshed = await reading(database).refresh(who)
    return refreshed if isinstance(refreshed, Reason) else refreshed(who)


@pytest.mark.parametrize("cookie", [False, True])
async def test_the_roles_of_this_moment_are_read(database: Database, cookie: bool) -> None:
    grant = await grant_of(database, cookie=cookie)
    await Accounts(database).grant(grant.account.id, "editor")
    who = caller(grant, kid="" if cookie else "k-1", identity_headers=b"X-Auth-Roles: reader")
    PRESETS["authelia"].lines(who)
    principal = await now(database, who)
    assert isinstance(principal, Principal)
    assert set(principal.roles) == principal.role_set == {"reader", "editor"}
    assert principal.identity_headers is None
    assert principal.identity_lines is None
    assert principal.claims["roles"] == list(principal.roles)
    assert principal.claims["team"] == "t-7"
    assert (principal.token_id, principal.kid, principal.session_id) == (
        who.token_id,
        who.kid,
        who.session_id,
    )


@pytest.mark.parametrize("cookie", [False, True])
async def test_the_tenants_and_attributes_of_this_moment_are_read(
    database: Database, cookie: bool
) -> None:
    attributes = {"department": Attribute("department", claim="dept"), "floor": Attribute("floor")}
    tenants = TenantRules(("member", "owner"))
    claims = AccountClaims(lambda: attributes, lambda: tenants)
    tokens = RefreshTokens(database, RefreshOptions(claims=claims))
    grant = await grant_of(database, cookie=cookie)
    facts, account_id = AccountFacts(database), grant.account.id
    await facts.put_tenant(account_id, "acme", "owner")
    await facts.put_attributes(account_id, {"department": "hr", "floor": "2"})
    reader = SessionReading(tokens, TTL_S)
    key = {"kid": "" if cookie else "k-1"}

    async def read(who: Principal) -> Principal:
        update = await reader.refresh(who)
        assert not isinstance(update, Reason)
        return update(who)

    before = await read(caller(grant, **key))
    assert (tenant_of(before), tenant_role_of(before)) == ("acme", "owner")
    assert before.claims["dept"] == "hr"
    await facts.put_tenant(account_id, "acme", None)
    await facts.put_attributes(account_id, {"department": None, "floor": None})
    after = await read(before)
    assert (tenant_of(after), tenants_of(after)) == (None, {})
    assert after.claims.keys().isdisjoint({"attributes", "tenants", "tenant", "dept"})
    assert after.claims["team"] == "t-7"


async def test_what_was_read_lies_after_every_change_and_lasts_as_long_as_a_token(
    database: Database,
) -> None:
    grant = await grant_of(database)
    (change,) = await Accounts(database).grant(grant.account.id, "editor")
    principal = await now(database, caller(grant))
    assert isinstance(principal, Principal)
    assert principal.issued_at > change.not_before
    assert principal.expires_at == principal.issued_at + TTL_S


async def test_it_lasts_no_longer_than_its_session(database: Database) -> None:
    grant = await grant_of(database)
    refreshed = await SessionReading(RefreshTokens(database, RefreshOptions()), 10**9).refresh(
        caller(grant)
    )
    assert not isinstance(refreshed, Reason)
    assert refreshed(caller(grant)).expires_at <= grant.issued_at + grant.expires_in_s


async def test_a_session_that_ended_is_none(database: Database) -> None:
    grant = await grant_of(database)
    await Sessions(database).end(grant.session_id, "signed_out")
    assert await now(database, caller(grant)) is Reason.SESSION_UNKNOWN


async def test_a_disabled_account_has_no_session(database: Database) -> None:
    grant = await grant_of(database)
    await Accounts(database).disable(grant.account.id)
    assert await now(database, caller(grant)) is Reason.SESSION_UNKNOWN


@pytest.mark.parametrize("claimed", [{"session_id": "made-up"}, {"subject": "somebody-else"}])
async def test_a_session_of_nobody_or_of_another_is_none(
    database: Database, claimed: dict[str, str]
) -> None:
    # A token of an imported key may say what it likes of its session.
    grant = await grant_of(database)
    assert await now(database, caller(grant, **claimed)) is Reason.SESSION_UNKNOWN


@pytest.mark.parametrize("cookie", [False, True])
async def test_a_cookies_family_is_none_of_a_tokens_and_the_other_way_round(
    database: Database, cookie: bool
) -> None:
    grant = await grant_of(database, cookie=cookie)
    who = caller(grant, kid="k-1" if cookie else "")
    assert await now(database, who) is Reason.SESSION_UNKNOWN
