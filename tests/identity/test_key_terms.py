"""Personal keys of accounts that must have a second factor and have none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.access.factor_rule import NO_FACTOR_RULE, FactorRule
from gateway.identity.clients.key_authenticator import CACHED_S, ApiKeyAuthenticator
from gateway.identity.clients.key_terms import KeyTerms
from gateway.identity.clients.personal_keys import KeyLimits, NewPersonalKey, PersonalKeys
from gateway.identity.factors.factor_kinds import term_began_at
from gateway.model import Principal, Reason
from gateway.stores.protocols import Database, StoreUnavailable
from tests.databases import Hands, fresh_database
from tests.edge.house_parts import Fragile
from tests.identity.begun_sessions import run
from tests.identity.test_personal_keys import Person

TERM_S = 1_000
CORP = "https://id.example"
RULE = FactorRule(frozenset(("admin",)), within_s=TERM_S)


class Bound(Person):
    """Whose keys are judged by a rule, which may change while the gateway runs."""

    def __init__(self, database: Database, clock: Hands) -> None:
        super().__init__(database, clock)
        self.clock, self.fragile = clock, Fragile(database)
        self.rule, self.trusted = RULE, frozenset((CORP,))
        self.terms = KeyTerms(lambda: self.rule, lambda: self.trusted)
        self.authenticator = ApiKeyAuthenticator(
            self.fragile, self.revoked, clock, terms=self.terms
        )

    async def calls(self, text: str) -> bool:
        """Once the worker has forgotten what it read before."""
        self.clock.move(CACHED_S)
        found = await self.who(text)
        await self.authenticator.write_uses()
        assert isinstance(found, Principal) or found is Reason.INSUFFICIENT_USER_AUTHENTICATION
        return isinstance(found, Principal)

    async def has_factor(self) -> None:
        await run(
            self.database,
            "INSERT INTO totp_factors (id, account_id, sealed_secret, begun_by, created_at,"
            " confirmed_at, last_step) VALUES ('f', :id, 'sealed', 's', 1, 2, 0)",
            id=self.id,
        )

    async def is_linked_with(self, issuer: str) -> None:
        await run(
            self.database,
            "INSERT INTO linked_identities (id, account_id, issuer, subject, provider, linked_at,"
            " last_used_at) VALUES ('link-1', :id, :issuer, 's-1', 'corp', 1, 1)",
            id=self.id,
            issuer=issuer,
        )


@pytest.fixture
async def ada(tmp_path: Path) -> AsyncIterator[Bound]:
    clock = Hands()
    async with fresh_database(tmp_path, clock) as opened:
        person = Bound(opened, clock)
        await person.enter("reader", "admin")
        yield person


async def test_the_term_begins_with_a_call_by_a_key_and_behind_it_the_key_calls_no_more(
    ada: Bound,
) -> None:
    """Whoever signs in no more goes on by no key that was made before."""
    text = (await ada.make()).text
    assert await ada.calls(text)
    ada.clock.move(TERM_S - CACHED_S - 1)
    assert await ada.calls(text)
    assert not await ada.calls(text)
    assert not await ada.calls(text)


async def test_a_key_without_the_role_is_judged_by_those_of_its_account(ada: Bound) -> None:
    text = (await ada.make(KeyLimits(roles=("reader",)))).text
    ada.rule = FactorRule(frozenset(("admin",)))
    assert not await ada.calls(text)
    ada.rule = FactorRule(frozenset(("owner",)))
    assert await ada.calls(text)


async def test_a_rule_that_comes_and_goes_holds_within_the_minute(ada: Bound) -> None:
    ada.rule = NO_FACTOR_RULE
    text = (await ada.make()).text
    assert await ada.calls(text)
    ada.rule = FactorRule(everyone=True)
    assert not await ada.calls(text)
    ada.rule = NO_FACTOR_RULE
    assert await ada.calls(text)


async def test_a_key_calls_while_its_account_has_a_factor(ada: Bound) -> None:
    text = (await ada.make()).text
    ada.rule = FactorRule(everyone=True)
    assert not await ada.calls(text)
    await ada.has_factor()
    assert await ada.calls(text)


@pytest.mark.parametrize(("issuer", "calls"), [(CORP, True), ("https://old.example", False)])
async def test_a_link_with_a_provider_that_is_trusted_for_factors_counts_as_one(
    ada: Bound, issuer: str, calls: bool
) -> None:
    """The other has the name that the trusted one has now, as the block had that issuer then."""
    text = (await ada.make()).text
    ada.rule = FactorRule(everyone=True)
    await ada.is_linked_with(issuer)
    assert await ada.calls(text) is calls
    ada.trusted = frozenset()
    assert not await ada.calls(text)


async def term_of(ada: Bound) -> int | None:
    async with ada.database.read_transaction() as tx:
        return await term_began_at(tx, ada.id)


async def test_a_term_that_could_not_be_written_is_written_the_next_time(ada: Bound) -> None:
    text = (await ada.make()).text
    assert isinstance(await ada.who(text), Principal)
    await ada.authenticator.write_uses()
    began_at = ada.clock.at
    assert await term_of(ada) == began_at
    await run(ada.database, "DELETE FROM factor_terms")
    ada.clock.move(CACHED_S)
    await ada.who(text)
    ada.fragile.away = True
    with pytest.raises(StoreUnavailable):
        await ada.authenticator.write_uses()
    with pytest.raises(StoreUnavailable):  # what was used is written before it
        await ada.terms.write(ada.fragile)
    ada.fragile.away = False
    await ada.authenticator.write_uses()
    assert await term_of(ada) == began_at + CACHED_S


async def test_a_key_that_is_to_be_made_begins_the_term_in_the_same_step(ada: Bound) -> None:
    keys = PersonalKeys(ada.database, terms=ada.terms)
    assert ada.owner is not None
    assert isinstance(await keys.create(ada.owner, "a", KeyLimits(), 900), NewPersonalKey)
    assert await term_of(ada) == ada.clock.at
    ada.rule = FactorRule(everyone=True)
    made = await keys.create(ada.owner, "b", KeyLimits(), 900)
    assert made is Reason.INSUFFICIENT_USER_AUTHENTICATION
    await ada.is_linked_with(CORP)
    assert isinstance(await keys.create(ada.owner, "c", KeyLimits(), 900), NewPersonalKey)


async def test_a_term_that_has_begun_begins_never_anew(ada: Bound) -> None:
    text = (await ada.make()).text
    await ada.who(text)
    await run(ada.database, "INSERT INTO factor_terms VALUES (:id, 7)", id=ada.id)
    await ada.authenticator.write_uses()
    assert await term_of(ada) == 7


async def test_an_account_that_was_deleted_meanwhile_begins_no_term(ada: Bound) -> None:
    text = (await ada.make()).text
    await ada.who(text)
    ada.apply(await ada.accounts.delete(ada.id))
    await ada.authenticator.write_uses()
    assert await term_of(ada) is None
