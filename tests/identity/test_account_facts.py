"""Attributes and tenants of accounts, as they rest in SQL and come out in tokens."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.access.attributes import Attribute, AttributeType, SetBy, TenantRules
from gateway.identity.accounts import account_facts
from gateway.identity.accounts.account_claims import AccountClaims
from gateway.identity.accounts.account_facts import AccountFacts, Chosen, Giver, put_provided
from gateway.identity.accounts.account_rows import Account, locked
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.sessions.sessions import SignInSource
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens, SessionGrant
from gateway.model import ChangeKind, Reason
from gateway.stores.protocols import Database, Transaction
from tests.identity.begun_sessions import caller_of
from tests.identity.test_restore import disowned

SCHEMA = {
    "department": Attribute("department", values=("sales", "support"), claim="dept"),
    "clearance": Attribute("clearance", AttributeType.INTEGER),
    "note": Attribute("note", in_token=False),
}
CLAIMS = AccountClaims(lambda: SCHEMA, lambda: TenantRules(("owner", "member")))
SOURCE = SignInSource("agent", "192.0.2.1")


async def opened(database: Database) -> Account:
    account = await Accounts(database).register("alice@example.com", "hash")
    assert isinstance(account, Account)
    return account


async def claims_of(database: Database) -> dict[str, Any]:
    account = await Accounts(database).by_email("alice@example.com")
    assert account is not None
    return CLAIMS.of(account, None)


async def test_what_is_given_is_in_the_claims(database: Database) -> None:
    account, facts = await opened(database), AccountFacts(database)
    (change,) = await facts.put_attributes(
        account.id, {"department": "sales", "clearance": 3, "note": "x"}
    )
    assert (change.kind, change.target, change.cause) == (
        ChangeKind.SUBJECT, account.id, Reason.TOKEN_OUTDATED,
    )  # fmt: skip
    assert await facts.put_tenant(account.id, "acme", "owner")
    assert await claims_of(database) == {
        "dept": "sales",
        "attributes": {"department": "sales", "clearance": 3},
        "tenants": {"acme": "owner"},
        "tenant": "acme",
    }
    # Of two tenants none is meant unless it was chosen.
    assert await facts.put_tenant(account.id, "globex", "member")
    assert "tenant" not in await claims_of(database)
    # The same once more changes nothing, and so outdates nothing.
    assert not await facts.put_attributes(account.id, {"clearance": 3})
    assert not await facts.put_tenant(account.id, "acme", "owner")
    assert await facts.put_attributes(account.id, {"clearance": None})
    assert await facts.put_tenant(account.id, "globex", None)
    assert not await facts.put_tenant(account.id, "globex", None)
    assert (await claims_of(database))["attributes"] == {"department": "sales"}
    stored = {one.name: (one.value, one.set_by) for one in await facts.attributes(account.id)}
    assert stored == {"department": ("sales", "operator"), "note": ("x", "operator")}
    assert await facts.tenant_counts() == [("acme", 1)]
    assert [row["email"] for row in await facts.members("acme")] == ["alice@example.com"]


def described(
    attributes: dict[str, Any], tenants: dict[str, str], set_by: str = SetBy.OPERATOR
) -> Account:
    return Account(
        "id", "a@x.example", "a@x.example", True, False, 0, 0, (), None,
        attributes=attributes, tenants=tenants, set_by=dict.fromkeys(attributes, set_by),
    )  # fmt: skip


async def test_what_the_configuration_does_not_take_any_more_is_left_out() -> None:
    stored = {"department": "marketing", "clearance": "high", "gone": 1}
    assert CLAIMS.of(described(stored, {"acme": "janitor"}), "acme") == {}
    said = described({"department": "sales"}, {"acme": "owner"})
    assert AccountClaims().of(said, None) == {}


@pytest.mark.parametrize(
    ("set_by", "may_set", "is_told"),
    [
        ("person", ("operator",), False),
        ("person", ("operator", "person"), True),
        ("provider https://id.example", ("operator",), False),
        ("provider https://id.example", ("provider",), True),
        ("provider idp", ("provider",), True),
        ("operator", ("operator",), True),
        # `gateway users attributes` sets any, and says who besides may change it.
        ("operator", ("person",), True),
    ],
)
async def test_what_is_from_somebody_who_may_not_set_it_any_more_is_left_out(
    set_by: str, may_set: tuple[str, ...], is_told: bool
) -> None:
    """Else a rule that asks for an operator's word believes what people said of themselves."""
    nick = Attribute("nick", set_by=frozenset(map(SetBy, may_set)))
    claims = AccountClaims(lambda: {"nick": nick})
    assert bool(claims.of(described({"nick": "al"}, {}, set_by), None)) is is_told


async def test_tokens_leave_out_what_the_person_may_not_set_any_more(database: Database) -> None:
    account, facts = await opened(database), AccountFacts(database)
    assert await facts.put_attributes(account.id, {"department": "sales"}, SetBy.PERSON)
    assert await claims_of(database) == {}
    # What the operator says is the operator's, though it was there.
    assert await facts.put_attributes(account.id, {"department": "sales"})
    assert (await claims_of(database))["dept"] == "sales"
    assert not await facts.put_attributes(account.id, {"department": "sales"})
    assert [one.set_by for one in await facts.attributes(account.id)] == ["operator"]


async def test_what_an_operator_said_stays_where_the_provider_says_nothing_any_more(
    database: Database,
) -> None:
    account, facts = await opened(database), AccountFacts(database)
    giver = Giver("https://id.example", frozenset(), is_alone=True)
    async with database.transaction() as tx:
        assert await put_provided(tx, account.id, {"department": "sales"}, giver)
    assert await facts.put_attributes(account.id, {"department": "sales"})
    async with database.transaction() as tx:
        assert not await put_provided(tx, account.id, {"department": None}, giver)
    stored = [(one.value, one.set_by) for one in await facts.attributes(account.id)]
    assert stored == [("sales", "operator")]


async def test_a_number_is_no_truth(database: Database) -> None:
    """To Python they are equal: an attribute that is a `boolean` now, and was an `integer`, could
    not be set."""
    account, facts = await opened(database), AccountFacts(database)
    await facts.put_attributes(account.id, {"admin": 1})
    assert await facts.put_attributes(account.id, {"admin": True})
    assert [one.value for one in await facts.attributes(account.id)] == [True]
    assert not await facts.put_attributes(account.id, {"admin": True})


async def test_what_counts_no_more_is_that_of_whoever_says_it_again(database: Database) -> None:
    account, facts = await opened(database), AccountFacts(database)
    by_provider = {
        "department": Attribute("department", set_by=frozenset((SetBy.PROVIDER, SetBy.OPERATOR)))
    }
    await facts.put_attributes(account.id, {"department": "sales"}, SetBy.PERSON)
    giver = Giver("https://id.example", frozenset(), is_alone=True)
    for definitions, owner in (({}, "person"), (by_provider, "provider https://id.example")):
        async with database.transaction() as tx:
            await put_provided(tx, account.id, {"department": "sales"}, giver, definitions)
        assert [one.set_by for one in await facts.attributes(account.id)] == [owner]


async def test_more_than_a_token_holds_is_refused(database: Database) -> None:
    account, facts = await opened(database), AccountFacts(database)
    with pytest.raises(ValueError, match="too long for a token"):
        await facts.put_attributes(account.id, {f"a{n}": "x" * 256 for n in range(8)})
    assert await facts.attributes(account.id) == []
    for number in range(15):
        await facts.put_tenant(account.id, f"{number:0128}", "m" * 128)
    with pytest.raises(ValueError, match="too long"):
        await facts.put_tenant(account.id, "o" * 128, "m" * 128)
    assert await Accounts(database).grant(account.id, "r" * 128)
    with pytest.raises(ValueError, match="too long"):
        await Accounts(database).grant(account.id, "s" * 128)


async def test_a_session_acts_for_the_tenant_that_was_chosen(database: Database) -> None:
    account, facts = await opened(database), AccountFacts(database)
    refresh = RefreshTokens(database, RefreshOptions(claims=CLAIMS))
    for tenant in ("acme", "globex"):
        await facts.put_tenant(account.id, tenant, "member")
    grant = await refresh.begin(account.id, SOURCE, checked_hash="hash")
    assert isinstance(grant, SessionGrant)
    assert "tenant" not in grant.claims

    async def choose(tenant: str, of: str = account.id, *, change: bool = True) -> Chosen | Reason:
        return await facts.choose_tenant(
            grant.session_id, of, tenant, refresh.live_sessions.refusal_of, change=change
        )

    assert await choose("globex", change=False) is Chosen.WOULD_CHANGE
    assert await choose("globex") is Chosen.CHANGED
    assert await choose("globex") is Chosen.AS_BEFORE
    rotated = await refresh.rotate(grant.refresh_token, SOURCE)
    assert isinstance(rotated, SessionGrant)
    assert rotated.claims["tenant"] == "globex"
    assert await choose("elsewhere") is Chosen.REFUSED
    assert await choose("acme", "another") is Reason.SESSION_UNKNOWN
    # Whoever leaves the tenant does not act for it, whatever the session chose.
    await facts.put_tenant(account.id, "globex", None)
    again = await refresh.renew(grant.session_id, "bearer")
    assert again is not None
    assert again.claims == {"tenants": {"acme": "member"}}


async def test_writers_at_once_leave_what_one_of_them_wrote(database: Database) -> None:
    account, facts = await opened(database), AccountFacts(database)
    await asyncio.gather(
        *(facts.put_attributes(account.id, {"clearance": n}) for n in range(3)),
        *(facts.put_tenant(account.id, f"t{n}", "owner") for n in range(3)),
    )
    claims = await claims_of(database)
    assert claims["attributes"]["clearance"] in range(3)
    assert sorted(claims["tenants"]) == [f"t{n}" for n in range(3)]


async def test_a_restore_brings_back_no_older_value(database: Database) -> None:
    account, facts = await opened(database), AccountFacts(database)
    await facts.put_attributes(account.id, {"clearance": 9, "department": "sales"})
    await facts.put_tenant(account.id, "acme", "owner")
    await facts.put_tenant(account.id, "globex", "owner")
    await facts.put_attributes(account.id, {"clearance": None})
    await facts.put_tenant(account.id, "acme", None)
    async with database.transaction() as tx:
        # As a backup had it that is older than both.
        await tx.run(
            "INSERT INTO account_attributes (account_id, name, value, set_by, set_at)"
            " VALUES (:id, 'clearance', '9', 'operator', 1)",
            id=account.id,
        )
        await tx.run(
            "INSERT INTO account_tenants (account_id, tenant, role, granted_at)"
            " VALUES (:id, 'acme', 'owner', 1)",
            id=account.id,
        )
    async with database.transaction() as tx:
        carried, _ = await disowned(tx)
    assert (carried.attributes, carried.tenants) == (1, 1)
    left = await Accounts(database).by_id(account.id)
    assert left is not None
    assert left.attributes == {"department": "sales"}
    assert left.tenants == {"globex": "owner"}


async def given_ahead_of_the_clock(database: Database) -> tuple[Account, AccountFacts]:
    """An account with an attribute and a tenant of an hour from now: the clock was set back."""
    account, facts = await opened(database), AccountFacts(database)
    await facts.put_attributes(account.id, {"clearance": 9})
    await facts.put_tenant(account.id, "acme", "owner")
    async with database.transaction() as tx:
        await tx.run("UPDATE account_attributes SET set_at = set_at + 3600")
        await tx.run("UPDATE account_tenants SET granted_at = granted_at + 3600")
    return account, facts


@pytest.mark.parametrize("is_taken", [True, False])
async def test_a_restore_brings_back_no_older_value_where_the_clock_was_set_back(
    database: Database, is_taken: bool
) -> None:
    account, facts = await given_ahead_of_the_clock(database)
    async with database.transaction() as tx:
        attributes = await tx.all("SELECT * FROM account_attributes")
        tenants = await tx.all("SELECT * FROM account_tenants")
    await facts.put_attributes(account.id, {"clearance": None if is_taken else 1})
    await facts.put_tenant(account.id, "acme", None if is_taken else "member")
    async with database.transaction() as tx:
        for table, rows in (("account_attributes", attributes), ("account_tenants", tenants)):
            await tx.run(f"DELETE FROM {table}")
            names, marks = ", ".join(rows[0]), ", ".join(f":{name}" for name in rows[0])
            await tx.run(f"INSERT INTO {table} ({names}) VALUES ({marks})", **rows[0])
        carried, _ = await disowned(tx)
    assert (carried.attributes, carried.tenants) == (1, 1)


@pytest.mark.parametrize("is_taken", [True, False])
async def test_what_was_given_after_a_clock_was_set_back_outlives_a_restore(
    database: Database, is_taken: bool
) -> None:
    account, facts = await given_ahead_of_the_clock(database)
    if is_taken:
        await facts.put_attributes(account.id, {"clearance": None})
        await facts.put_tenant(account.id, "acme", None)
    await facts.put_attributes(account.id, {"clearance": 1})
    await facts.put_tenant(account.id, "acme", "member")
    async with database.transaction() as tx:
        carried, _ = await disowned(tx)
    assert (carried.attributes, carried.tenants) == (0, 0)
    left = await Accounts(database).by_id(account.id)
    assert left is not None
    assert (left.attributes, left.tenants) == ({"clearance": 1}, {"acme": "member"})


async def test_who_changes_their_own_asks_for_the_account_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def counted(tx: Transaction, account_id: str) -> Account | None:
        asked.append(account_id)
        return await locked(tx, account_id)

    account = await opened(database)
    monkeypatch.setattr(account_facts, "locked", counted)
    grant = await RefreshTokens(database, RefreshOptions()).begin(
        account.id, SOURCE, checked_hash="hash"
    )
    assert isinstance(grant, SessionGrant)
    assert await AccountFacts(database).put_own_attributes(caller_of(grant), {"clearance": 9})
    assert asked == [account.id]


async def test_an_account_that_is_deleted_leaves_nothing(database: Database) -> None:
    account, facts = await opened(database), AccountFacts(database)
    await facts.put_attributes(account.id, {"clearance": 9}, SetBy.PERSON)
    await facts.put_tenant(account.id, "acme", "owner")
    exported = await Accounts(database).export(account.id)
    assert exported is not None
    assert exported["attributes"][0]["value"] == 9
    assert exported["tenants"][0]["tenant"] == "acme"
    await Accounts(database).delete(account.id)
    assert not await facts.put_attributes(account.id, {"clearance": 1})
    assert not await facts.put_tenant(account.id, "acme", "owner")
    async with database.read_transaction() as tx:
        for table in ("account_attributes", "account_tenants"):
            assert await tx.all(f"SELECT * FROM {table}") == []
