"""What must be proven for a session to begin and to go on, and what is told of it in a tenant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.access.attributes import Attribute, TenantRules
from gateway.access.factor_rule import FactorRule
from gateway.identity.accounts.account_claims import AccountClaims
from gateway.identity.accounts.account_facts import AccountFacts
from gateway.identity.accounts.account_rows import Account
from gateway.identity.factors.factor_kinds import AccountVersion, FactorKind, FactorNeeded
from gateway.identity.sessions.session_origins import SessionOrigin
from gateway.identity.sign_in.refresh_tokens import (
    RefreshOptions,
    RefreshTokens,
    ReuseDetected,
    SessionGrant,
)
from gateway.model import Reason
from gateway.stores.protocols import Database, Transaction
from tests.databases import NOON, Hands, add_account, reset_password
from tests.identity.begun_sessions import COOKIE_HASH, SOURCE, began, run

TERM_S = 1_000
RULE = FactorRule(everyone=True, within_s=TERM_S)
ORIGIN = SessionOrigin("link-1", "https://id.example", "s-1", "corp", "sid-1", NOON - 600, "sealed")


async def enrol(store: Database, account: Account) -> None:
    await run(
        store,
        "INSERT INTO totp_factors (id, account_id, sealed_secret, begun_by, created_at,"
        " confirmed_at, last_step) VALUES ('f', :id, 'sealed', 's', 1, 2, 0)",
        id=account.id,
    )


async def link(store: Database, account_id: str) -> None:
    await run(
        store,
        "INSERT INTO linked_identities (id, account_id, issuer, subject, provider, linked_at,"
        " last_used_at) VALUES ('link-1', :id, 'https://id.example', 's-1', 'corp', 1, 1)",
        id=account_id,
    )


async def test_who_proved_it_a_while_ago_begins_a_session_of_the_account_as_it_was_then(
    tokens: RefreshTokens, account: Account, store: Database
) -> None:
    version = AccountVersion.of(account)
    grant = await tokens.begin(account.id, SOURCE, version=version, amr=("pwd", "otp", "mfa"))
    assert isinstance(grant, SessionGrant)
    await reset_password(store, account.id, "new")
    refused = await tokens.begin(account.id, SOURCE, version=version, amr=("pwd", "otp", "mfa"))
    assert refused is Reason.INVALID_CREDENTIALS


async def test_a_version_counts_for_its_own_account_alone(
    tokens: RefreshTokens, account: Account
) -> None:
    version = AccountVersion.of(account)
    for other in (
        replace(version, password_epoch=version.password_epoch + 1),
        replace(version, not_before=version.not_before + 1),
    ):
        refused = await tokens.begin(account.id, SOURCE, version=other)
        assert refused is Reason.INVALID_CREDENTIALS


async def test_what_proved_the_account_must_still_count(
    tokens: RefreshTokens, account: Account
) -> None:
    answers = [False, True]

    async def still_proven(tx: Transaction) -> bool:
        assert await tx.one("SELECT id FROM accounts") is not None
        return answers.pop(0)

    refused = await tokens.begin(
        account.id, SOURCE, without_password=True, still_proven=still_proven
    )
    assert refused is Reason.INVALID_CREDENTIALS
    good = await tokens.begin(account.id, SOURCE, without_password=True, still_proven=still_proven)
    assert isinstance(good, SessionGrant)


async def test_a_provider_begins_sessions_of_the_account_alone_that_is_linked_with_it(
    tokens: RefreshTokens, account: Account, store: Database
) -> None:
    other = await add_account(store, "bob@x.example")
    for linked in (None, other):
        if linked is not None:
            await link(store, linked)
        refused = await tokens.begin(account.id, SOURCE, without_password=True, origin=ORIGIN)
        assert refused is Reason.INVALID_CREDENTIALS
    async with store.read_transaction() as tx:
        assert await tx.one("SELECT id FROM families") is None


async def test_a_session_that_a_provider_began_is_as_old_as_the_sign_in_there(
    tokens: RefreshTokens, account: Account, store: Database
) -> None:
    await link(store, account.id)
    grant = await tokens.begin(
        account.id, SOURCE, without_password=True, origin=ORIGIN, amr=("fed",)
    )
    assert isinstance(grant, SessionGrant)
    assert (grant.auth_time, grant.amr) == (NOON - 600, ("fed",))
    async with store.read_transaction() as tx:
        family = await tx.one("SELECT auth_time FROM families WHERE id = :id", id=grant.session_id)
        (row,) = await tx.all("SELECT * FROM provider_sessions")
    assert family is not None
    assert family["auth_time"] == NOON - 600
    assert dict(row) == {
        "session_id": grant.session_id,
        "issuer": "https://id.example",
        "subject": "s-1",
        "provider": "corp",
        "provider_session": "sid-1",
        "id_token_sealed": "sealed",
    }


@pytest.mark.parametrize("said", [None, NOON + 1, NOON + 3600])
async def test_a_provider_that_says_no_time_or_one_to_come_makes_no_session_fresher_than_now(
    tokens: RefreshTokens, account: Account, store: Database, said: int | None
) -> None:
    await link(store, account.id)
    origin = replace(ORIGIN, auth_time=said)
    grant = await tokens.begin(account.id, SOURCE, without_password=True, origin=origin)
    assert isinstance(grant, SessionGrant)
    assert grant.auth_time == NOON
    async with store.read_transaction() as tx:
        (family,) = await tx.all("SELECT auth_time FROM families")
    assert family["auth_time"] == NOON


async def test_a_time_of_zero_is_a_time(
    tokens: RefreshTokens, account: Account, store: Database
) -> None:
    """The first token says what the session says: a rule that asks for a fresh sign-in reads it."""
    await link(store, account.id)
    origin = replace(ORIGIN, auth_time=0)
    grant = await tokens.begin(account.id, SOURCE, without_password=True, origin=origin)
    assert isinstance(grant, SessionGrant)
    assert grant.auth_time == 0


async def test_an_account_that_has_a_factor_begins_no_session_without_it(
    tokens: RefreshTokens, account: Account, store: Database
) -> None:
    await enrol(store, account)
    needed = await tokens.begin(account.id, SOURCE, checked_hash="hash")
    assert isinstance(needed, FactorNeeded)
    assert (needed.account.id, needed.amr) == (account.id, ("pwd",))
    assert needed.kinds == (FactorKind.TOTP,)
    async with store.read_transaction() as tx:
        assert await tx.one("SELECT id FROM families") is None
    assert (await began(tokens, account, amr=("pwd", "otp", "mfa"))).amr == ("pwd", "otp", "mfa")


async def test_once_the_term_is_over_no_session_begins_or_goes_on_without_a_factor(
    account: Account, store: Database, hands: Hands
) -> None:
    tokens = RefreshTokens(store, RefreshOptions(), lambda: RULE)
    bearer = await began(tokens, account)
    cookie = await began(tokens, account, cookie_hash=COOKIE_HASH)
    hands.at = NOON + TERM_S - 1
    rotated = await tokens.rotate(bearer.refresh_token, SOURCE)
    assert isinstance(rotated, SessionGrant)
    assert await tokens.renew(cookie.session_id) is not None
    hands.at = NOON + TERM_S
    needed = await tokens.begin(account.id, SOURCE, checked_hash="hash")
    assert isinstance(needed, FactorNeeded)
    assert needed.kinds == ()
    refused = await tokens.rotate(rotated.refresh_token, SOURCE)
    assert refused is Reason.INSUFFICIENT_USER_AUTHENTICATION
    assert await tokens.renew(cookie.session_id) is None
    # It was not used up: once the rule is gone it is as good as before.
    free = RefreshTokens(store, RefreshOptions())
    again = await free.rotate(rotated.refresh_token, SOURCE)
    assert isinstance(again, SessionGrant)
    assert not again.repeated


async def test_a_session_that_began_with_a_factor_outlasts_the_term(
    account: Account, store: Database, hands: Hands
) -> None:
    tokens = RefreshTokens(store, RefreshOptions(), lambda: replace(RULE, within_s=0))
    bearer = await began(tokens, account, amr=("pwd", "otp", "mfa"))
    cookie = await began(tokens, account, amr=("fed", "mfa"), cookie_hash=COOKIE_HASH)
    hands.move(100)
    assert isinstance(await tokens.rotate(bearer.refresh_token, SOURCE), SessionGrant)
    assert await tokens.renew(cookie.session_id) is not None


async def test_a_token_that_comes_twice_ends_the_move_of_its_account_to_another_address(
    tokens: RefreshTokens, account: Account, store: Database
) -> None:
    other = await add_account(store, "bob@x.example")
    links = [(account.id, "address"), (account.id, "verify"), (other, "address")]
    for number, (whose, purpose) in enumerate(links):
        await run(
            store,
            "INSERT INTO mail_tokens (hash, account_id, purpose, email_key, created_at, expires_at)"
            " VALUES (:hash, :id, :purpose, 'x@x.example', 0, 9999999999)",
            hash=str(number),
            id=whose,
            purpose=purpose,
        )
    grant = await began(tokens, account)
    assert isinstance(await tokens.rotate(grant.refresh_token, SOURCE), SessionGrant)
    thief = replace(SOURCE, user_agent="another")
    assert isinstance(await tokens.rotate(grant.refresh_token, thief), ReuseDetected)
    async with store.read_transaction() as tx:
        left = await tx.all("SELECT account_id, purpose FROM mail_tokens ORDER BY hash")
    assert [(row["account_id"], row["purpose"]) for row in left] == links[1:]


@pytest.mark.parametrize("how", ["rotate", "renew"])
async def test_the_term_of_a_session_of_before_the_rule_begins_with_its_next_token(
    account: Account, store: Database, hands: Hands, how: str
) -> None:
    free = RefreshTokens(store, RefreshOptions())
    grant = await began(free, account, cookie_hash=None if how == "rotate" else COOKIE_HASH)
    hands.move(50)
    tokens = RefreshTokens(store, RefreshOptions(), lambda: RULE)
    if how == "rotate":
        assert isinstance(await tokens.rotate(grant.refresh_token, SOURCE), SessionGrant)
    else:
        assert await tokens.renew(grant.session_id) is not None
    async with store.read_transaction() as tx:
        (term,) = await tx.all("SELECT account_id, began_at FROM factor_terms")
    assert dict(term) == {"account_id": account.id, "began_at": NOON + 50}


async def test_each_token_of_a_session_says_what_its_account_is_in_its_tenant(
    account: Account, store: Database
) -> None:
    claims = AccountClaims(
        lambda: {"team": Attribute("team")},
        lambda: TenantRules(("editor",)),
    )
    tokens = RefreshTokens(store, RefreshOptions(claims=claims))
    facts = AccountFacts(store)
    await facts.put_attributes(account.id, {"team": "blue"})
    for tenant in ("north", "south"):
        await facts.put_tenant(account.id, tenant, "editor")
    told = {"attributes": {"team": "blue"}, "tenants": {"north": "editor", "south": "editor"}}
    bearer = await began(tokens, account)
    cookie = await began(tokens, account, cookie_hash=COOKIE_HASH)
    assert bearer.claims == cookie.claims == told
    await run(store, "UPDATE families SET tenant = 'south'")
    rotated = await tokens.rotate(bearer.refresh_token, SOURCE)
    assert isinstance(rotated, SessionGrant)
    renewed = await tokens.renew(cookie.session_id)
    assert renewed is not None
    assert rotated.claims == renewed.claims == told | {"tenant": "south"}
    assert tokens.claim_names() == {"attributes", "tenants", "tenant"}
