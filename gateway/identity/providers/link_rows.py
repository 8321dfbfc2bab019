"""The links of accounts as they rest in SQL, and what one of them says at a sign-in.

Law: a link is with an issuer.  What the configuration called it then is kept for people to read,
and means no other issuer that it calls the same now.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass

from gateway.access.providers import Provider, provider_of
from gateway.identity.accounts.account_facts import Giver, hand_over, put_provided
from gateway.identity.accounts.account_rows import Account, locked
from gateway.identity.accounts.role_names import check_roles
from gateway.identity.providers.identities import IdentityRefused, ProviderIdentity
from gateway.identity.sessions.sessions import outdate
from gateway.identity.tombstones import Ended, has_tombstone, link_target, remove_tombstone
from gateway.model import Change, Reason
from gateway.stores.protocols import Row, Transaction

_SELECT = (
    "SELECT id, account_id, issuer, subject, provider, email, linked_at, last_used_at"
    " FROM linked_identities"
)


@dataclass(frozen=True, slots=True)
class LinkedIdentity:
    """As its owner sees it."""

    id: str
    provider: str
    """What the configuration calls it now; of one that it does not name any more, what it did, and
    its issuer once it calls another so."""
    issuer: str
    subject: str
    email: str | None
    linked_at: int
    last_used_at: int


def linked_identity(row: Row, providers: Mapping[str, Provider]) -> LinkedIdentity:
    issuer, name = str(row["issuer"]), str(row["provider"])
    now = provider_of(providers, issuer)
    return LinkedIdentity(
        str(row["id"]),
        now.name if now is not None else issuer if name in providers else name,
        issuer,
        str(row["subject"]),
        row["email"],
        int(row["linked_at"]),
        int(row["last_used_at"]),
    )


def issuers_of(providers: Mapping[str, Provider]) -> frozenset[str]:
    return frozenset(one.issuer.issuer for one in providers.values())


def named(rows: Sequence[Row], name: str, providers: Mapping[str, Provider]) -> list[Row]:
    """The links that somebody means by the id of one, its issuer, or the name of a provider: by a
    name that with its issuer, and those that were made by it when it had one that no provider has
    now.  By a name that means none of them, what was called so: it was read before the change."""
    one = [row for row in rows if name in (row["id"], row["issuer"])]
    if one:
        return one
    held, issuers = providers.get(name), issuers_of(providers)
    called = [row for row in rows if row["provider"] == name]
    gone = [row for row in called if row["issuer"] not in issuers]
    if held is None:
        return gone or called
    return [row for row in rows if row["issuer"] == held.issuer.issuer or row in gone]


def words_of(rows: Collection[Row]) -> Set[str]:
    """Their issuers and names, by one of which what they gave is told from what others did."""
    return {str(row[column]) for row in rows for column in ("issuer", "provider")}


async def give_by_issuer(tx: Transaction, account_id: str, rows: Collection[Row]) -> None:
    """What is kept by a name that one of these links alone has becomes that of its issuer: once
    they are called otherwise, nobody could say whose it was."""
    counts = Counter(str(row["provider"]) for row in rows)
    for row in rows:
        if counts[row["provider"]] == 1:
            await hand_over(tx, account_id, row["provider"], row["issuer"])


async def links_of(tx: Transaction, account_id: str) -> Sequence[Row]:
    return await tx.all(
        f"{_SELECT} WHERE account_id = :account ORDER BY linked_at, id", account=account_id
    )


async def find_link(tx: Transaction, identity: ProviderIdentity) -> Row | None:
    return await tx.one(
        f"{_SELECT} WHERE issuer = :issuer AND subject = :subject",
        issuer=identity.provider.issuer.issuer,
        subject=identity.subject,
    )


async def link_with_issuer(
    tx: Transaction, identity: ProviderIdentity, account_id: str
) -> Row | None:
    return await tx.one(
        f"{_SELECT} WHERE issuer = :issuer AND account_id = :account",
        issuer=identity.provider.issuer.issuer,
        account=account_id,
    )


async def was_unlinked(tx: Transaction, identity: ProviderIdentity, account_id: str) -> bool:
    target = link_target(account_id, identity.provider.issuer.issuer, identity.subject)
    return await has_tombstone(tx, Ended.LINK, target)


async def insert_link(tx: Transaction, identity: ProviderIdentity, account_id: str) -> str:
    identity_id, now = str(uuid.uuid4()), int(await tx.now())
    issuer = identity.provider.issuer.issuer
    await tx.run(
        "INSERT INTO linked_identities (id, account_id, issuer, subject, provider, email,"
        " linked_at, last_used_at) VALUES (:id, :account, :issuer, :subject, :provider, :email,"
        " :now, :now)",
        id=identity_id,
        account=account_id,
        issuer=issuer,
        subject=identity.subject,
        provider=identity.provider.name,
        email=identity.email,
        now=now,
    )
    await remove_tombstone(tx, Ended.LINK, link_target(account_id, issuer, identity.subject))
    return identity_id


async def has_other_way_in(tx: Transaction, account: Account, others: Collection[Row]) -> bool:
    """Besides the links that are to go; `others` are those by which somebody can sign in."""
    if account.password_hash is not None or others:
        return True
    passkey = await tx.one("SELECT 1 FROM passkeys WHERE account_id = :account", account=account.id)
    return passkey is not None


async def write_what_is_said(
    tx: Transaction,
    identity: ProviderIdentity,
    account: Account,
    identity_id: str,
    *,
    issuers: Set[str],
    is_new: bool,
    was_linked: bool,
) -> tuple[Account, list[Change]]:
    """Writes what the provider says now: the account as it is then, and the changes to announce.
    `account` is held by the transaction, `issuers` are those of the configuration.  Raises
    IdentityRefused.

    What the provider gave while its block named another issuer is over: nobody there would take it
    away.
    """
    name, issuer = identity.provider.name, identity.provider.issuer.issuer
    rows = await links_of(tx, account.id)
    others = [row for row in rows if row["id"] != identity_id]
    # A link that was made just now has had no name before, so what is kept by one is another's.
    await give_by_issuer(tx, account.id, others if is_new or was_linked else rows)
    followed = [
        row for row in others if row["provider"] == name and row["issuer"] not in {issuer, *issuers}
    ]
    left = [row for row in others if row not in followed]
    for word in words_of(followed) - words_of(left):
        await hand_over(tx, account.id, word, issuer)
    await tx.run(
        "UPDATE linked_identities SET last_used_at = :now, provider = :provider, email = :email"
        " WHERE id = :id",
        id=identity_id,
        provider=name,
        email=identity.email,
        now=int(await tx.now()),
    )
    is_changed = False
    for row in followed:
        is_changed |= bool(
            await tx.run("DELETE FROM linked_roles WHERE identity_id = :id", id=row["id"])
        )
    giver = Giver(
        issuer, words_of(left), is_alone=not any(row["issuer"] in issuers for row in left)
    )
    definitions = {attribute.name: attribute for attribute, _ in identity.provider.attributes}
    try:
        changes = list(await put_provided(tx, account.id, identity.attributes, giver, definitions))
    except ValueError as error:
        raise IdentityRefused(str(error)) from error
    gives_others = await _put_roles(tx, identity_id, identity.roles)
    if not (is_changed or gives_others or changes):
        return account, changes
    after = await locked(tx, account.id)
    assert after is not None
    try:
        check_roles(after.roles)
    except ValueError as error:
        raise IdentityRefused(f"it gives too many roles: {error}") from error
    if after.roles != account.roles and not is_new:
        changes.append(await outdate(tx, account.id, Reason.TOKEN_OUTDATED))
    return after, changes


async def _put_roles(tx: Transaction, identity_id: str, roles: Sequence[str]) -> bool:
    """Whether they were others before."""
    rows = await tx.all("SELECT role FROM linked_roles WHERE identity_id = :id", id=identity_id)
    if {str(row["role"]) for row in rows} == set(roles):
        return False
    await tx.run("DELETE FROM linked_roles WHERE identity_id = :id", id=identity_id)
    for role in roles:
        await tx.run(
            "INSERT INTO linked_roles (identity_id, role) VALUES (:id, :role)",
            id=identity_id,
            role=role,
        )
    return True
