"""The attributes of accounts, and their roles in tenants.

Law: as with roles, a change outdates the tokens that were given before, in its own transaction;
what was changed or taken away stays so over a restore.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from gateway.access.attributes import NO_ATTRIBUTES, Attribute, SetBy, Value
from gateway.identity.accounts.account_claims import check_length, may_set
from gateway.identity.accounts.account_rows import Account, locked
from gateway.identity.sessions.callers import is_signed_in
from gateway.identity.sessions.sessions import outdate
from gateway.identity.sessions.token_dates import TooSoon, too_soon
from gateway.identity.tombstones import Ended, add_tombstone, epoch_of, role_target
from gateway.model import Change, Principal, Reason
from gateway.stores.protocols import Database, Transaction


@dataclass(frozen=True, slots=True)
class StoredAttribute:
    name: str
    value: Value
    set_by: str
    set_at: int


@dataclass(frozen=True, slots=True)
class Giver:
    """A provider that says something of an account."""

    issuer: str
    others: Set[str]
    """The other providers of the account, by issuer and by the names that they had: earlier
    versions kept whose a value is by name, and it may be one that nobody has any more."""
    is_alone: bool
    """Whether nobody can sign in by the others: what belongs to none of them is this one's."""


class Chosen(Enum):
    """What became of a tenant that a session chose."""

    CHANGED = auto()
    WOULD_CHANGE = auto()
    AS_BEFORE = auto()
    REFUSED = auto()


class RefusalOf(Protocol):
    async def __call__(
        self, tx: Transaction, account: Account | None, session_id: str
    ) -> Reason | None:
        """Why the session may not go on; None where it may.  The account is held."""


class AccountFacts:
    """Gives and takes attributes and tenants.  Every method that writes returns the changes to
    announce, none where nothing changed or there is no such account, and raises ValueError for
    more than a token could hold."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def attributes(self, account_id: str) -> Sequence[StoredAttribute]:
        async with self._database.read_transaction() as tx:
            rows = await tx.all(
                "SELECT name, value, set_by, set_at FROM account_attributes WHERE account_id = :id"
                " ORDER BY name",
                id=account_id,
            )
        return [
            StoredAttribute(
                str(row["name"]), json.loads(row["value"]), str(row["set_by"]), int(row["set_at"])
            )
            for row in rows
        ]

    async def put_attributes(
        self, account_id: str, values: Mapping[str, Value | None], set_by: str = SetBy.OPERATOR
    ) -> Sequence[Change]:
        """None takes the attribute away.  Each value is one that its attribute takes."""
        async with self._database.transaction() as tx:
            return await put_attributes(tx, account_id, values, set_by)

    async def put_own_attributes(
        self,
        person: Principal,
        values: Mapping[str, Value | None],
        definitions: Mapping[str, Attribute] = NO_ATTRIBUTES,
    ) -> Sequence[Change] | TooSoon | Reason:
        """The same by the person, who has to wait where they have just changed so many;
        TOKEN_REVOKED where what they ask with has ended meanwhile.  `definitions` as of
        `put_attributes`."""
        async with self._database.transaction() as tx:
            account = await locked(tx, person.subject)
            if account is not None:
                if not await is_signed_in(tx, person):
                    return Reason.TOKEN_REVOKED
                wait = too_soon(int(await tx.now()), account.not_before)
                if wait is not None:
                    return wait
            return await _put_attributes(tx, account, values, SetBy.PERSON, definitions)

    async def put_tenant(self, account_id: str, tenant: str, role: str | None) -> Sequence[Change]:
        """Gives the account a role in the tenant; None takes it out of it.  Both are of the form
        `access.attributes.is_tenant_name`."""
        async with self._database.transaction() as tx:
            account = await locked(tx, account_id)
            if account is None or account.tenants.get(tenant) == role:
                return []
            target = role_target(account_id, tenant)
            if tenant in account.tenants:
                row = await tx.one(
                    "SELECT granted_at FROM account_tenants"
                    " WHERE account_id = :id AND tenant = :tenant",
                    id=account_id,
                    tenant=tenant,
                )
                assert row is not None
                await _end(tx, Ended.TENANT, target, row["granted_at"])
            if role is None:
                await tx.run(
                    "DELETE FROM account_tenants WHERE account_id = :id AND tenant = :tenant",
                    id=account_id,
                    tenant=tenant,
                )
            else:
                check_length(account.roles, account.attributes, {**account.tenants, tenant: role})
                await tx.run(
                    "INSERT INTO account_tenants (account_id, tenant, role, granted_at) VALUES"
                    " (:id, :tenant, :role, :now) ON CONFLICT (account_id, tenant) DO UPDATE"
                    " SET role = excluded.role, granted_at = excluded.granted_at",
                    id=account_id,
                    tenant=tenant,
                    role=role,
                    now=max(int(await tx.now()), await epoch_of(tx, Ended.TENANT, target)),
                )
            return [await outdate(tx, account_id, Reason.TOKEN_OUTDATED)]

    async def choose_tenant(
        self,
        session_id: str,
        account_id: str,
        tenant: str | None,
        refusal_of: RefusalOf,
        *,
        change: bool,
    ) -> Chosen | Reason:
        """The tenant for which the session acts from now on; REFUSED where the account is not of
        it, and the reason of `refusal_of` where the session may not go on.

        Without `change` the tenant is not written, and WOULD_CHANGE says that it would be; what
        `refusal_of` begins by being asked (the term of `require_factor`) has begun all the same.
        """
        async with self._database.transaction() as tx:
            account = await locked(tx, account_id)
            refusal = await refusal_of(tx, account, session_id)
            if refusal is not None:
                return refusal
            if account is None or (tenant is not None and tenant not in account.tenants):
                return Chosen.REFUSED
            session = await tx.one("SELECT tenant FROM families WHERE id = :id", id=session_id)
            if session is None:
                return Reason.SESSION_UNKNOWN
            if session["tenant"] == tenant:
                return Chosen.AS_BEFORE
            if not change:
                return Chosen.WOULD_CHANGE
            await tx.run(
                "UPDATE families SET tenant = :tenant WHERE id = :id", id=session_id, tenant=tenant
            )
        return Chosen.CHANGED

    async def tenant_counts(self) -> Sequence[tuple[str, int]]:
        """Every tenant that an account is of, and how many are."""
        async with self._database.read_transaction() as tx:
            rows = await tx.all(
                "SELECT tenant, COUNT(*) AS accounts FROM account_tenants GROUP BY tenant"
                " ORDER BY tenant"
            )
        return [(str(row["tenant"]), int(row["accounts"])) for row in rows]

    async def members(self, tenant: str) -> Sequence[Mapping[str, Any]]:
        """E-mail address and role of each account of the tenant."""
        async with self._database.read_transaction() as tx:
            return await tx.all(
                "SELECT a.email, t.role, t.granted_at FROM account_tenants t"
                " JOIN accounts a ON a.id = t.account_id WHERE t.tenant = :tenant"
                " ORDER BY a.email_key LIMIT 1000",
                tenant=tenant,
            )


async def put_attributes(
    tx: Transaction,
    account_id: str,
    values: Mapping[str, Value | None],
    set_by: str,
    definitions: Mapping[str, Attribute] = NO_ATTRIBUTES,
) -> Sequence[Change]:
    """As `AccountFacts.put_attributes`, within a transaction.

    A value that is there already becomes the operator's who gives it, and by `definitions` that of
    whoever gives it where what was given by another does not count any more.
    """
    return await _put_attributes(tx, await locked(tx, account_id), values, set_by, definitions)


async def _put_attributes(
    tx: Transaction,
    account: Account | None,
    values: Mapping[str, Value | None],
    set_by: str,
    definitions: Mapping[str, Attribute] = NO_ATTRIBUTES,
) -> Sequence[Change]:
    """Of one that is locked."""
    if account is None:
        return []
    changed = {
        name: value
        for name, value in values.items()
        if not is_same(account.attributes.get(name), value)
        or (
            value is not None
            and takes_over(account.set_by.get(name, ""), set_by, definitions.get(name))
        )
    }
    if not changed:
        return []
    after = {**account.attributes, **changed}
    kept = {name: value for name, value in after.items() if value is not None}
    check_length(account.roles, kept, account.tenants)
    for name, value in changed.items():
        await _put_attribute(tx, account, name, value, set_by)
    return [await outdate(tx, account.id, Reason.TOKEN_OUTDATED)]


def is_same(before: Value | None, value: Value | None) -> bool:
    """Whether both are one value of one type: to Python `True` is 1."""
    return type(before) is type(value) and before == value


def takes_over(before: str, set_by: str, attribute: Attribute | None) -> bool:
    """Whether who gives the value that is there already is who set it from then on."""
    if before == set_by:
        return False
    return set_by == SetBy.OPERATOR or (attribute is not None and not may_set(attribute, before))


async def take_back_own(tx: Transaction, account_id: str) -> Sequence[Change]:
    """Takes away what the person said of themselves, and nothing that others did: for an account
    of which another person turns out to be the owner."""
    own = await _set_by(tx, account_id, SetBy.PERSON)
    return await put_attributes(tx, account_id, dict.fromkeys(own), SetBy.PERSON)


async def put_provided(
    tx: Transaction,
    account_id: str,
    values: Mapping[str, Value | None],
    giver: Giver,
    definitions: Mapping[str, Attribute] = NO_ATTRIBUTES,
) -> Sequence[Change]:
    """What a provider says of the account now.  All that it gave itself and does not say is taken
    away, and nothing that an operator or the person set."""
    said = {name: value for name, value in values.items() if value is not None}
    for word in await _provided(tx, account_id) - giver.others - {giver.issuer}:
        await hand_over(tx, account_id, word, giver.issuer, None if giver.is_alone else said)
    owner = f"{SetBy.PROVIDER} {giver.issuer}"
    kept: dict[str, Value | None] = dict.fromkeys(await _set_by(tx, account_id, owner))
    return await put_attributes(tx, account_id, kept | said, owner, definitions)


async def hand_over(
    tx: Transaction, account_id: str, word: str, issuer: str, names: Collection[str] | None = None
) -> None:
    """Makes what is kept by the word (as of `Giver`) the issuer's; of `names`, these alone."""
    former = f"{SetBy.PROVIDER} {word}"
    for name in await _set_by(tx, account_id, former):
        if names is None or name in names:
            await tx.run(
                "UPDATE account_attributes SET set_by = :by"
                " WHERE account_id = :id AND name = :name",
                by=f"{SetBy.PROVIDER} {issuer}",
                id=account_id,
                name=name,
            )


async def take_back_provided(
    tx: Transaction, account_id: str, gone: Set[str], others: Set[str] | None
) -> Sequence[Change]:
    """Takes away what the providers of `gone` gave (words as of `Giver`), and what belongs to none
    of `others`; None: who is left may have given that."""
    taken: dict[str, Value | None] = {}
    for word in await _provided(tx, account_id):
        if word in gone or (others is not None and word not in others):
            taken |= dict.fromkeys(await _set_by(tx, account_id, f"{SetBy.PROVIDER} {word}"))
    return await put_attributes(tx, account_id, taken, SetBy.PROVIDER)


async def _provided(tx: Transaction, account_id: str) -> frozenset[str]:
    """The providers that gave what the account has, by the words that `set_by` names them by."""
    rows = await tx.all(
        "SELECT DISTINCT set_by FROM account_attributes WHERE account_id = :id", id=account_id
    )
    parted = [str(row["set_by"]).partition(" ") for row in rows]
    return frozenset(word for kind, _, word in parted if kind == SetBy.PROVIDER)


async def _set_by(tx: Transaction, account_id: str, set_by: str) -> frozenset[str]:
    rows = await tx.all(
        "SELECT name FROM account_attributes WHERE account_id = :id AND set_by = :by",
        id=account_id,
        by=set_by,
    )
    return frozenset(str(row["name"]) for row in rows)


async def _put_attribute(
    tx: Transaction, account: Account, name: str, value: Value | None, set_by: str
) -> None:
    target = role_target(account.id, name)
    if name in account.attributes:
        row = await tx.one(
            "SELECT set_at FROM account_attributes WHERE account_id = :id AND name = :name",
            id=account.id,
            name=name,
        )
        assert row is not None
        await _end(tx, Ended.ATTRIBUTE, target, row["set_at"], of=account.id)
    if value is None:
        await tx.run(
            "DELETE FROM account_attributes WHERE account_id = :id AND name = :name",
            id=account.id,
            name=name,
        )
        return
    await tx.run(
        "INSERT INTO account_attributes (account_id, name, value, set_by, set_at)"
        " VALUES (:id, :name, :value, :by, :now) ON CONFLICT (account_id, name)"
        " DO UPDATE SET value = excluded.value, set_by = excluded.set_by,"
        " set_at = excluded.set_at",
        id=account.id,
        name=name,
        value=json.dumps(value),
        by=set_by,
        now=max(int(await tx.now()), await epoch_of(tx, Ended.ATTRIBUTE, target, of=account.id)),
    )


async def _end(tx: Transaction, kind: Ended, target: str, given_at: int, *, of: str = "") -> None:
    """What was given then, or before: also where the clock was set back since."""
    await add_tombstone(tx, kind, target, max(int(await tx.now()), given_at + 1), of=of)
