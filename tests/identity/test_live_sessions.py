"""What a session has to meet to go on, wherever it is given something new."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway
from gateway.access.factor_rule import NO_FACTOR_RULE, FactorRule
from gateway.identity.accounts.account_facts import AccountFacts, Chosen
from gateway.identity.accounts.account_rows import Account
from gateway.identity.clients.personal_keys import KeyLimits, NewPersonalKey, PersonalKeys
from gateway.identity.factors.factor_kinds import FactorKind, FactorNeeded, FactorProof
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens, SessionGrant
from gateway.identity.sign_in.step_up import StepUps
from gateway.model import Reason
from gateway.stores.protocols import Database
from tests.databases import NOON, Hands
from tests.identity.begun_sessions import COOKIE_HASH, began, caller_of, run
from tests.identity.test_session_proofs import RULE, TERM_S

PACKAGE = Path(gateway.__file__).parent
IDLE_S = 600
ASKS = frozenset(("refusal", "refusal_of"))
GIVES = frozenset(("SessionGrant", "NewPersonalKey"))
"""Of these every access token, cookie and personal key is made."""
CODE = FactorProof(FactorKind.TOTP, ("otp",))


def rows(word: str) -> dict[str, int]:
    """In which files statements hold these words, and how often."""
    found = {
        str(path.relative_to(PACKAGE)): path.read_text("utf-8").count(word)
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    return {name: count for name, count in found.items() if count}


def functions() -> Iterator[tuple[str, ast.AsyncFunctionDef | ast.FunctionDef]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
                yield f"{path.relative_to(PACKAGE)}:{node.name}", node


def called(function: ast.AST) -> set[str]:
    """The names of what it calls."""
    calls = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
    return {
        func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls
    }


def test_whatever_gives_a_session_something_new_asks_whether_it_may_go_on() -> None:
    gives = {name: called(node) & ASKS for name, node in functions() if called(node) & GIVES}
    begins = "identity/sign_in/refresh_tokens.py:begin"  # it asks `needed_factor`, as a sign-in
    assert gives.pop(begins) == set()
    assert set(gives) == {
        "identity/clients/personal_keys.py:create",
        "identity/sign_in/refresh_tokens.py:renew",
        "identity/sign_in/refresh_tokens.py:rotate",
        "identity/sign_in/step_up.py:_strengthen",
    }
    assert all(gives.values()), gives


def test_what_a_session_lives_by_is_written_beside_what_asks_alone() -> None:
    assert set(rows("INSERT INTO refresh_tokens")) == {"identity/sign_in/refresh_tokens.py"}
    assert set(rows("INSERT INTO personal_keys")) == {"identity/clients/personal_keys.py"}
    assert set(rows("UPDATE families SET last_used_at")) == {"identity/sign_in/refresh_tokens.py"}
    assert set(rows("UPDATE families SET amr")) == {"identity/sign_in/step_up.py"}
    assert set(rows("UPDATE families SET tenant")) == {"identity/accounts/account_facts.py"}
    assert rows("issuer.issue(") == {"edge/endpoints/oauth.py": 1, "edge/endpoints/sessions.py": 1}


class House:
    def __init__(self, store: Database, rule: FactorRule = NO_FACTOR_RULE, idle_s: int = 0) -> None:
        self.tokens = RefreshTokens(store, RefreshOptions(idle_s=idle_s), lambda: rule)
        self.step_ups = StepUps(store, self.tokens.live_sessions, self.tokens.claims_of)
        self.keys = PersonalKeys(store, None, self.tokens.live_sessions)
        self.facts = AccountFacts(store)

    async def by_password(self, grant: SessionGrant) -> SessionGrant | FactorNeeded | Reason:
        return await self.step_ups.by_password(grant.account.id, grant.session_id, "hash")

    async def by_code(self, grant: SessionGrant) -> SessionGrant | Reason:
        return await self.step_ups.by_factor(grant.account.id, grant.session_id, CODE)

    async def key(self, grant: SessionGrant) -> object:
        return await self.keys.create(caller_of(grant), "laptop", KeyLimits(), 900)

    async def tenant(self, grant: SessionGrant) -> Chosen | Reason:
        return await self.facts.choose_tenant(
            grant.session_id,
            grant.account.id,
            "acme",
            self.tokens.live_sessions.refusal_of,
            change=True,
        )


async def test_a_step_up_carries_no_session_past_the_term(
    account: Account, store: Database, hands: Hands
) -> None:
    """With the password a session without a factor went on for the seven days of its family."""
    house = House(store, RULE)
    grant = await began(house.tokens, account)
    await house.facts.put_tenant(account.id, "acme", "member")
    hands.at = NOON + TERM_S - 1
    assert isinstance(await house.by_password(grant), SessionGrant)
    assert isinstance(await house.key(grant), NewPersonalKey)
    hands.at = NOON + TERM_S
    needed = await house.by_password(grant)
    assert isinstance(needed, FactorNeeded)
    assert (needed.account.id, needed.kinds) == (account.id, ())
    assert await house.key(grant) is Reason.INSUFFICIENT_USER_AUTHENTICATION
    assert await house.tenant(grant) is Reason.INSUFFICIENT_USER_AUTHENTICATION
    async with store.read_transaction() as tx:
        family = await tx.one("SELECT auth_time, last_used_at, tenant FROM families")
    assert family is not None
    assert (family["auth_time"], family["tenant"]) == (NOON + TERM_S - 1, None)


async def test_the_term_of_who_is_asked_first_by_a_step_up_begins_with_it(
    account: Account, store: Database, hands: Hands
) -> None:
    grant = await began(House(store).tokens, account)
    house = House(store, RULE)
    assert isinstance(await house.by_password(grant), SessionGrant)
    hands.at = NOON + TERM_S
    assert isinstance(await house.by_password(grant), FactorNeeded)


async def test_whoever_enrols_a_factor_goes_on_behind_the_term(
    account: Account, store: Database, hands: Hands
) -> None:
    house = House(store, RULE)
    grant = await began(house.tokens, account)
    hands.at = NOON + TERM_S
    stronger = await house.by_code(grant)
    assert isinstance(stronger, SessionGrant)
    assert stronger.amr == ("pwd", "otp", "mfa")
    assert isinstance(await house.key(grant), NewPersonalKey)


async def test_a_session_that_a_trusted_provider_asked_for_a_factor_makes_keys_behind_the_term(
    account: Account, store: Database, hands: Hands
) -> None:
    house = House(store, FactorRule(everyone=True))
    grant = await began(house.tokens, account, amr=("fed", "mfa"))
    hands.move(TERM_S)
    assert isinstance(await house.key(grant), NewPersonalKey)
    assert await house.by_password(grant) is Reason.INSUFFICIENT_USER_AUTHENTICATION


@pytest.mark.parametrize("cookie_hash", [None, COOKIE_HASH])
async def test_a_session_that_nobody_used_for_too_long_comes_back_by_nothing(
    account: Account, store: Database, hands: Hands, cookie_hash: str | None
) -> None:
    house = House(store, idle_s=IDLE_S)
    grant = await began(house.tokens, account, cookie_hash=cookie_hash)
    await house.facts.put_tenant(account.id, "acme", "member")
    hands.at = NOON + IDLE_S - 1
    assert isinstance(await house.by_password(grant), SessionGrant)  # it is used by this
    hands.at = NOON + 2 * IDLE_S - 1
    assert await house.by_password(grant) is Reason.SESSION_UNKNOWN
    assert await house.by_code(grant) is Reason.SESSION_UNKNOWN
    assert await house.key(grant) is Reason.TOKEN_REVOKED
    assert await house.tenant(grant) is Reason.SESSION_UNKNOWN
    assert await house.tokens.renew(grant.session_id, "bearer") is None
    assert await house.tokens.renew(grant.session_id, "cookie") is None


@pytest.mark.parametrize("ended", ["families SET ended_at = 1", "accounts SET disabled = 1"])
async def test_what_has_ended_steps_up_no_more_and_makes_no_key(
    account: Account, store: Database, ended: str
) -> None:
    house = House(store)
    grant = await began(house.tokens, account)
    await run(store, f"UPDATE {ended}")
    assert await house.by_password(grant) is Reason.SESSION_UNKNOWN
    assert await house.by_code(grant) is Reason.SESSION_UNKNOWN
    assert await house.key(grant) is Reason.TOKEN_REVOKED
