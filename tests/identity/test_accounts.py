"""Accounts: what an address is, and what a change of an account refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import email_validator  # noqa: F401 (the deadline of a property is not for importing it)
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.email_address import display_email, is_same_mailbox, normalize_email
from gateway.identity.accounts.account_rows import Account, find_by_key
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.role_names import check_roles
from gateway.identity.sessions.sessions import lock
from gateway.model import ChangeKind, Reason
from gateway.stores.protocols import Database, Row, Transaction
from tests.databases import reset_password


async def made(accounts: Accounts, email: str = "Alice@Example.com") -> Account:
    account = await accounts.register(email, "v1$2b$10$hash")
    assert isinstance(account, Account)
    return account


class Counted:
    """Meets `protocols.Transaction`, for who only reads."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self.statements: list[str] = []

    async def all(self, sql: str, /, **parameters: Any) -> list[Row]:
        self.statements.append(sql)
        return await self._tx.all(sql, **parameters)

    async def one(self, sql: str, /, **parameters: Any) -> Row | None:
        self.statements.append(sql)
        return await self._tx.one(sql, **parameters)


async def test_as_much_is_asked_for_an_unknown_address_as_for_a_known_one(
    database: Database,
) -> None:
    """Where the queue of hashing is full nothing else takes time, and no attempt is counted."""
    await made(Accounts(database))
    asked = []
    for email in ("alice@example.com", "nobody@example.com"):
        async with database.read_transaction() as tx:
            counted = Counted(tx)
            await find_by_key(counted, email)  # type: ignore[arg-type]
            asked.append(counted.statements)
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    "spelling",
    [
        "alice@example.com",
        "ALICE@EXAMPLE.COM",
        "  Alice@Example.com\t",
        "ａｌｉｃｅ@example.com",
        "alice＠example.com",
        "Ａlice@exａmple.com",
    ],
)
def test_every_spelling_of_an_address_is_one_account(spelling: str) -> None:
    # CVE-2025-24806: failures were counted for the name as it was typed.
    assert normalize_email(spelling) == "alice@example.com"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "@example.com",
        "alice@",
        "a@evil@company.com",
        "a＠evil@company.com",
        "a@b\u0000.com",
        "a\r\nBcc: x@y.z@b.com",
        "a\ud800@b.com",
        "x" * 250 + "@b.com",
    ],
)
def test_what_is_no_address_has_no_account(text: str) -> None:
    assert normalize_email(text) is None
    assert display_email(text) is None


@pytest.mark.parametrize(
    "text", ["a@localhost", "a@[127.0.0.1]", '"a b"@example.com', "a b@example.com", "a@b..com"]
)
def test_an_address_that_mail_cannot_reach_is_not_registered(text: str) -> None:
    assert display_email(text) is None


def test_an_address_is_shown_as_it_was_typed() -> None:
    assert display_email(" Ünï@Bücher.example ") == "Ünï@Bücher.example"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("bob@straße.de", "bob@strasse.de"),  # two hosts since IDNA 2008
        ("bob@σς.example", "bob@σσ.example"),
        ("bob@a.example", "bob@b.example"),
        ("b.ob@a.example", "bob@a.example"),
    ],
)
def test_two_mailboxes_are_two_accounts(one: str, other: str) -> None:
    assert normalize_email(one) != normalize_email(other)
    assert normalize_email(one) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("bob@bücher.example", "bob@xn--bcher-kva.example"),
        ("bob@BÜCHER.example", "bob@XN--BCHER-KVA.example"),
        ("bob@bu\u0308cher.example", "bob@bücher.example"),
        ("bob@bücher。example", "bob@bücher.example"),
        ("BOB@bücher.example", "bob@bücher.example"),
        ("bob@e\u03f2a.example", "bob@e\u03c3a.example"),  # where mail to it goes
        ("straße@a.example", "STRASSE@a.example"),  # the name is folded, as ever
    ],
)
def test_one_mailbox_is_one_account_in_every_spelling(one: str, other: str) -> None:
    assert normalize_email(one) == normalize_email(other) is not None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Ann@a.example", "aNN@a.example", True),
        ("J\u00dcRGEN@a.example", "ju\u0308rgen@a.example", True),
        (
            "\u03bd\u03af\u03ba\u03bf\u03c2@a.example",
            "\u039d\u038a\u039a\u039f\u03a3@a.example",
            True,
        ),
        ("stra\u00dfe@a.example", "strasse@a.example", False),
        ("\ufb01nn@a.example", "finn@a.example", False),
        ("\uff41nn@a.example", "ann@a.example", False),
        ("\u017fam@a.example", "sam@a.example", False),
    ],
)
def test_one_account_may_be_two_mailboxes(one: str, other: str, same: bool) -> None:
    assert normalize_email(one) == normalize_email(other) is not None
    assert is_same_mailbox(one, other) is is_same_mailbox(other, one) is same


def test_the_host_of_a_key_is_in_ascii() -> None:
    assert normalize_email("Jürgen@Bücher.example") == "jürgen@xn--bcher-kva.example"


async def test_hosts_that_differ_have_accounts_of_their_own(database: Database) -> None:
    accounts = Accounts(database)
    for email in ("bob@straße.de", "bob@strasse.de"):
        assert isinstance(await accounts.register(email, "h"), Account)
    assert await accounts.register("bob@xn--strae-oqa.de", "h") is Reason.EMAIL_TAKEN
    account = await accounts.by_email("BOB@STRAẞE.DE".replace("ẞ", "ß"))
    assert account is not None
    assert account.email == "bob@straße.de"


def test_nobody_takes_an_address_whose_mail_goes_to_another_host() -> None:
    """`ϲ` is `σ` to the DNS, and was `ς` to us: another owner's host."""
    lunate, final = "bob@e\u03f2a.example", "bob@e\u03c2a.example"
    assert display_email(lunate) == lunate
    assert normalize_email(lunate) != normalize_email(final)


async def test_an_account_is_found_by_its_key_where_the_name_begins_with_an_accent(
    database: Database,
) -> None:
    """NFKC makes a space and an accent of it: spaces around an address are none of it."""
    accounts = Accounts(database)
    made_of_it = await accounts.register("\u00b4bob@example.com", "h")
    assert isinstance(made_of_it, Account)
    assert await accounts.by_email(made_of_it.normalized_email) == made_of_it


@given(st.text(max_size=300))
@example("\u00b4bob@example.com")
def test_the_key_of_a_key_is_itself(text: str) -> None:
    key = normalize_email(text)
    if key is not None and len(key) <= 254:
        assert normalize_email(key) == key


async def test_an_address_is_taken_in_every_spelling(database: Database) -> None:
    accounts = Accounts(database)
    await made(accounts)
    assert await accounts.register("ALICE@example.COM", "hash") is Reason.EMAIL_TAKEN
    account = await accounts.by_email(" aLICE@example.com ")
    assert account is not None
    assert account.email == "Alice@Example.com"


async def test_of_many_registrations_at_once_one_wins(database: Database) -> None:
    accounts = Accounts(database)
    answers = await asyncio.gather(*(accounts.register("a@example.com", "h") for _ in range(8)))
    assert sum(isinstance(answer, Account) for answer in answers) == 1
    assert answers.count(Reason.EMAIL_TAKEN) == 7


async def test_a_granted_role_outdates_the_tokens_before_it(database: Database) -> None:
    accounts = Accounts(database)
    account = await made(accounts)
    (change,) = await accounts.grant(account.id, "manager")
    assert (change.kind, change.target) == (ChangeKind.SUBJECT, account.id)
    assert change.cause is Reason.TOKEN_OUTDATED
    after = await accounts.by_id(account.id)
    assert after is not None
    assert after.roles == ("manager",)
    assert after.not_before == change.not_before
    assert await accounts.grant(account.id, "manager") == []


async def test_a_revoked_role_outdates_the_tokens_that_carry_it(database: Database) -> None:
    accounts = Accounts(database)
    account = await made(accounts)
    await accounts.grant(account.id, "manager")
    (change,) = await accounts.revoke(account.id, "manager")
    assert change.cause is Reason.TOKEN_OUTDATED
    assert await accounts.revoke(account.id, "manager") == []
    after = await accounts.by_id(account.id)
    assert after is not None
    assert after.roles == ()


async def test_who_takes_a_role_holds_the_account_before_its_roles(database: Database) -> None:
    """As everybody does: who gives one meanwhile would wait for it, and it for them."""
    accounts = Accounts(database)
    ann = await accounts.register("ann@example.com", "hash", roles=["r"])
    assert isinstance(ann, Account)
    async with database.transaction() as tx:
        await lock(tx, ann.id)
        taking = asyncio.ensure_future(accounts.revoke(ann.id, "r"))
        await asyncio.wait([taking], timeout=0.1)
        await tx.run(
            "INSERT INTO account_roles (account_id, role, granted_at) VALUES (:id, 'r', 1)"
            " ON CONFLICT (account_id, role) DO NOTHING",
            id=ann.id,
        )
    assert await taking
    assert await accounts.granted_roles(ann.id) == []


async def test_disabling_revokes_and_may_be_repeated(database: Database) -> None:
    accounts = Accounts(database)
    account = await made(accounts)
    for _ in range(2):
        (change,) = await accounts.disable(account.id)
        assert change.cause is Reason.TOKEN_REVOKED
    await accounts.enable(account.id)
    after = await accounts.by_id(account.id)
    assert after is not None
    assert not after.disabled
    assert after.not_before >= change.not_before


async def test_a_deleted_account_leaves_its_refusal_and_nothing_else(database: Database) -> None:
    accounts = Accounts(database)
    account = await made(accounts)
    await accounts.grant(account.id, "manager")
    (change,) = await accounts.delete(account.id)
    assert change.cause is Reason.TOKEN_REVOKED
    async with database.read_transaction() as tx:
        assert await tx.all("SELECT * FROM accounts") == []
        assert await tx.all("SELECT * FROM account_roles") == []
        assert len(await tx.all("SELECT * FROM changes")) == 2
    assert isinstance(await accounts.register("alice@example.com", "h"), Account)


async def test_a_renewed_hash_never_undoes_a_changed_password(database: Database) -> None:
    accounts = Accounts(database)
    account = await made(accounts)
    await reset_password(database, account.id, "changed")
    await accounts.renew_hash(account.id, "v1$2b$10$hash", "renewed")
    after = await accounts.by_id(account.id)
    assert after is not None
    assert after.password_hash == "changed"


async def test_a_changed_password_raises_the_epoch_and_a_renewed_hash_does_not(
    database: Database,
) -> None:
    accounts = Accounts(database)
    account = await made(accounts)
    epoch = account.password_epoch
    assert await accounts.password_epoch(account.normalized_email) == epoch >= account.created_at
    await accounts.renew_hash(account.id, "v1$2b$10$hash", "renewed")
    assert await accounts.password_epoch(account.normalized_email) == epoch
    await reset_password(database, account.id, "changed")
    assert await accounts.password_epoch(account.normalized_email) == epoch + 1
    assert await accounts.password_epoch("nobody@example.com") is None


@pytest.mark.parametrize("role", ["", "a b", "a,b", "a\r\nX-Auth-Roles: admin", "ä", "x" * 129])
async def test_a_role_that_no_token_may_carry_is_never_granted(
    sqlite_database: Database, role: str
) -> None:
    accounts = Accounts(sqlite_database)
    account = await made(accounts)
    with pytest.raises(ValueError, match="a role is"):
        await accounts.grant(account.id, role)
    with pytest.raises(ValueError, match="a role is"):
        await accounts.register("b@example.com", "h", roles=[role])
    assert await accounts.by_email("b@example.com") is None


def test_roles_that_would_make_a_token_too_long_are_refused() -> None:
    check_roles([f"role-{n}" for n in range(300)])
    with pytest.raises(ValueError, match="at most 4096"):
        check_roles([f"role-{n:0100}" for n in range(50)])


async def test_accounts_are_listed_by_address_from_a_place_on(database: Database) -> None:
    accounts = Accounts(database)
    for name in ("carol", "alice", "bob"):
        await accounts.register(f"{name}@example.com", "h", roles=[name])
    first = await accounts.page(limit=2)
    assert [a.email for a in first] == ["alice@example.com", "bob@example.com"]
    rest = await accounts.page(after=first[-1].normalized_email)
    assert [(a.email, a.roles) for a in rest] == [("carol@example.com", ("carol",))]
    assert await accounts.role_counts() == [("alice", 1), ("bob", 1), ("carol", 1)]


def test_no_hash_is_shown_with_an_account() -> None:
    account = Account("i", "e", "k", True, False, 0, 0, (), "v1$secret")
    assert "secret" not in repr(account)
