"""Step-up at rest: what a session is once its owner has proven more, and when it is left as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.factors.factor_kinds import FactorKind, FactorNeeded, FactorProof
from gateway.identity.sessions.sessions import Sessions
from gateway.identity.sign_in.live_sessions import LiveSessions
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens, SessionGrant
from gateway.identity.sign_in.step_up import StepUps
from gateway.model import Reason
from gateway.stores.protocols import Database
from tests.databases import NOON, Hands, reset_password
from tests.identity.begun_sessions import LIFE_S, began, run

CODE = FactorProof(FactorKind.TOTP, ("otp",))


def told_claims(account: Account, tenant: str | None) -> Mapping[str, Any]:
    return {"of": account.id, "in": tenant}


@pytest.fixture
def step_ups(store: Database) -> StepUps:
    return StepUps(store, LiveSessions(), told_claims)


async def signed_in(store: Database, account: Account, *amr: str) -> str:
    """The id of a session."""
    tokens = RefreshTokens(store, RefreshOptions())
    return (await began(tokens, account, amr=amr or ("pwd",))).session_id


async def row_of(store: Database, session_id: str) -> tuple[Any, ...]:
    async with store.read_transaction() as tx:
        row = await tx.one(
            "SELECT amr, auth_time, last_used_at FROM families WHERE id = :id", id=session_id
        )
    assert row is not None
    return row["amr"], row["auth_time"], row["last_used_at"]


async def test_a_code_makes_a_session_fresh_and_leaves_its_refresh_token(
    step_ups: StepUps, store: Database, account: Account, hands: Hands
) -> None:
    session_id = await signed_in(store, account)
    other_id = await signed_in(store, account)
    await run(
        store, "INSERT INTO account_tenants VALUES (:id, 'north', 'editor', 1)", id=account.id
    )
    await run(store, "UPDATE families SET tenant = 'north' WHERE id = :id", id=session_id)
    hands.move(100.7)
    grant = await step_ups.by_factor(account.id, session_id, CODE)
    assert isinstance(grant, SessionGrant)
    assert grant.account.id == account.id
    assert grant == SessionGrant(
        account=grant.account,
        session_id=session_id,
        issued_at=NOON + 100,
        auth_time=NOON + 100,
        amr=("pwd", "otp", "mfa"),
        expires_in_s=LIFE_S - 100,
        refresh_token="",
        claims={"of": account.id, "in": "north"},
    )
    assert await row_of(store, session_id) == ("pwd otp mfa", NOON + 100, NOON + 100)
    assert await row_of(store, other_id) == ("pwd", NOON, NOON)


async def test_a_password_makes_the_session_of_an_account_without_a_factor_fresh(
    step_ups: StepUps, store: Database, account: Account, hands: Hands
) -> None:
    session_id = await signed_in(store, account)
    hands.move(100)
    grant = await step_ups.by_password(account.id, session_id, "hash")
    assert isinstance(grant, SessionGrant)
    assert (grant.session_id, grant.amr, grant.auth_time) == (session_id, ("pwd",), NOON + 100)
    assert await row_of(store, session_id) == ("pwd", NOON + 100, NOON + 100)


async def test_a_factor_that_is_given_now_takes_the_place_of_those_of_before(
    step_ups: StepUps, store: Database, account: Account
) -> None:
    session_id = await signed_in(store, account, "fed", "pwd", "hwk", "otp", "mfa")
    proof = FactorProof(FactorKind.PASSKEY, ("hwk", "pin"))
    grant = await step_ups.by_factor(account.id, session_id, proof)
    assert isinstance(grant, SessionGrant)
    assert grant.amr == ("fed", "pwd", "hwk", "pin", "mfa")
    assert (await row_of(store, session_id))[0] == "fed pwd hwk pin mfa"


async def test_a_password_is_told_once_however_often_it_was_given(
    step_ups: StepUps, store: Database, account: Account
) -> None:
    session_id = await signed_in(store, account, "fed")
    for _ in range(2):
        grant = await step_ups.by_password(account.id, session_id, "hash")
        assert isinstance(grant, SessionGrant)
        assert grant.amr == ("fed", "pwd")


async def test_a_new_token_lies_after_every_change_of_the_account(
    step_ups: StepUps, store: Database, account: Account
) -> None:
    session_id = await signed_in(store, account)
    (change,) = await Accounts(store).grant(account.id, "manager")
    grant = await step_ups.by_factor(account.id, session_id, CODE)
    assert isinstance(grant, SessionGrant)
    assert grant.issued_at == change.not_before + 1 > NOON
    assert grant.auth_time == NOON
    assert await row_of(store, session_id) == ("pwd otp mfa", NOON, grant.issued_at)


async def test_a_password_alone_is_answered_with_the_factors_that_the_account_has(
    step_ups: StepUps, store: Database, account: Account, hands: Hands
) -> None:
    session_id = await signed_in(store, account)
    await run(
        store,
        "INSERT INTO totp_factors (id, account_id, sealed_secret, begun_by, created_at,"
        " confirmed_at, last_step) VALUES ('f', :id, 'sealed', 's', 1, 2, 0)",
        id=account.id,
    )
    hands.move(100)
    needed = await step_ups.by_password(account.id, session_id, "hash")
    assert isinstance(needed, FactorNeeded)
    assert (needed.account.id, needed.amr, needed.kinds) == (
        account.id,
        ("pwd",),
        (FactorKind.TOTP,),
    )
    assert await row_of(store, session_id) == ("pwd", NOON, NOON)


async def test_a_password_alone_steps_up_no_session_that_has_the_factor_of_a_provider(
    step_ups: StepUps, store: Database, account: Account, hands: Hands
) -> None:
    session_id = await signed_in(store, account, "fed", "mfa")
    other_id = await signed_in(store, account)
    hands.move(100)
    refused = await step_ups.by_password(account.id, session_id, "hash")
    assert refused is Reason.INSUFFICIENT_USER_AUTHENTICATION
    assert await row_of(store, session_id) == ("fed mfa", NOON, NOON)
    assert isinstance(await step_ups.by_password(account.id, other_id, "hash"), SessionGrant)


async def test_a_password_that_was_replaced_meanwhile_proves_nothing(
    step_ups: StepUps, store: Database, account: Account
) -> None:
    session_id = await signed_in(store, account)
    await reset_password(store, account.id, "new")
    assert await step_ups.by_password(account.id, session_id, "hash") is Reason.INVALID_CREDENTIALS
    assert await step_ups.by_password("nobody", session_id, None) is Reason.INVALID_CREDENTIALS


@pytest.mark.parametrize("how", ["ended", "expired", "disabled", "another's", "unknown", "erased"])
async def test_a_session_that_is_over_or_anothers_is_not_made_fresh(
    step_ups: StepUps, store: Database, account: Account, hands: Hands, how: str
) -> None:
    session_id = await signed_in(store, account)
    whose, before = account.id, await row_of(store, session_id)
    match how:
        case "ended":
            await Sessions(store).end(session_id, "x")
        case "expired":
            hands.at = NOON + LIFE_S
        case "disabled":
            await run(store, "UPDATE accounts SET disabled = 1")
        case "another's":
            made = await Accounts(store).register("bob@x.example", "hash")
            assert isinstance(made, Account)
            whose = made.id
        case "unknown":
            assert await step_ups.by_factor(whose, "unknown", CODE) is Reason.SESSION_UNKNOWN
            return
        case _:
            whose = "nobody"
    assert await step_ups.by_factor(whose, session_id, CODE) is Reason.SESSION_UNKNOWN
    assert await row_of(store, session_id) == before


async def test_in_the_last_second_of_a_session_it_is_still_made_fresh(
    step_ups: StepUps, store: Database, account: Account, hands: Hands
) -> None:
    session_id = await signed_in(store, account)
    hands.at = NOON + LIFE_S - 1
    grant = await step_ups.by_factor(account.id, session_id, CODE)
    assert isinstance(grant, SessionGrant)
    assert grant.expires_in_s == 1
