"""Accounts as an operator looks for them, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.identity.accounts import account_search
from gateway.identity.accounts.account_search import AccountFilter, AccountSearch
from gateway.identity.accounts.accounts import Accounts
from gateway.stores.protocols import Database


async def people(database: Database) -> dict[str, str]:
    """Their ids by the name before the @."""
    accounts, ids = Accounts(database), {}
    for address, roles in (
        ("ada@example.com", ["admin", "viewer"]),
        ("Ad-hoc@example.com", ["viewer"]),
        ("ad.min@example.com", []),
        ("bob@example.com", ["viewer"]),
        ("zoë@bücher.example", ["auditor"]),
    ):
        made = await accounts.register(address, None, roles=roles)
        ids[address.partition("@")[0]] = str(made.id)  # type: ignore[union-attr]
    await accounts.disable(ids["bob"])
    return ids


async def found(
    database: Database, after: str = "", limit: int = 50, **wanted: object
) -> list[str]:
    page = await AccountSearch(database).page(AccountFilter(**wanted), after, limit)  # type: ignore[arg-type]
    return [account.email.partition("@")[0] for account in page]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["Ad-hoc", "ad.min", "ada", "bob", "zoë"]),
        ("ad", ["Ad-hoc", "ad.min", "ada"]),
        ("AD-", ["Ad-hoc"]),
        ("ada@", ["ada"]),
        ("ADA@Example.com", ["ada"]),
        ("zoë@bücher.example", ["zoë"]),
        ("example", []),
        ("%", []),
        ("_da", []),
        ("a\x00da", []),
        ("'; DROP TABLE accounts", []),
    ],
)
async def test_an_address_is_found_by_its_beginning(
    database: Database, text: str, names: Sequence[str]
) -> None:
    await people(database)
    assert await found(database, text=text) == names


async def test_a_whole_id_is_found_and_a_part_of_it_is_not(database: Database) -> None:
    ids = await people(database)
    assert await found(database, text=ids["bob"]) == ["bob"]
    assert await found(database, text=ids["bob"][:-1]) == []


@pytest.mark.parametrize("few", [0, 2_000])
async def test_a_role_and_a_state_narrow_it(
    database: Database, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By either way: a role of few is put in order, one of many is walked to."""
    monkeypatch.setattr(account_search, "_FEW_HOLDERS", few)
    await people(database)
    assert await found(database, role="viewer") == ["Ad-hoc", "ada", "bob"]
    assert await found(database, role="viewer", disabled=True) == ["bob"]
    assert await found(database, role="viewer", disabled=False, text="ad") == ["Ad-hoc", "ada"]
    assert await found(database, role="nobody") == []
    assert await found(database, role="a\x00") == []
    assert await found(database, disabled=True) == ["bob"]


async def test_a_page_goes_on_behind_the_last_row(database: Database) -> None:
    await people(database)
    search = AccountSearch(database)
    first = await search.page(AccountFilter(), "", 2)
    second = await search.page(AccountFilter(), first[-1].normalized_email, 2)
    assert [account.email[:2] for account in (*first, *second)] == ["Ad", "ad", "ad", "bo"]
    assert [account.roles for account in first] == [("viewer",), ()]


async def test_roles_of_a_provider_are_found_and_shown_too(database: Database) -> None:
    ids = await people(database)
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO linked_identities (id, account_id, issuer, subject, provider, linked_at,"
            " last_used_at) VALUES ('i', :id, 'https://i', 's', 'p', 1, 1)",
            id=ids["bob"],
        )
        await tx.run("INSERT INTO linked_roles (identity_id, role) VALUES ('i', 'given')")
    [bob] = await AccountSearch(database).page(AccountFilter(role="given"), "", 5)
    assert bob.roles == ("given", "viewer")
