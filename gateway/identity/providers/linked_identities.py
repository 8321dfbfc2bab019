"""Whose account it is that somebody signs in to by a provider.

Law: who has an identity has its account, so none is linked by a stranger's word.  An account is
linked by its owner in a session, or by an address that both sides have verified, the provider in a
way that the operator trusts; one whose own address nobody has verified is neither taken over nor
takes over.  Roles that a provider gives are kept apart, and are those of the last sign-in.  Nothing
of it is written once the provider has ended what it gave (`ended_sessions`).
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.access.providers import AccountRule
from gateway.identity.accounts.account_facts import provided, put_provided
from gateway.identity.accounts.account_rows import Account, find_by_key, locked
from gateway.identity.accounts.accounts import add
from gateway.identity.accounts.role_names import check_roles
from gateway.identity.email_address import is_same_mailbox
from gateway.identity.mail import registrations
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.providers.ended_sessions import EndedSessions
from gateway.identity.providers.identities import IdentityRefused, ProviderIdentity
from gateway.identity.providers.provider_sessions import end_sessions_of
from gateway.identity.providers.round_trips import LinkRequest
from gateway.identity.sessions.sessions import is_live, outdate
from gateway.identity.sessions.token_dates import too_soon
from gateway.identity.tombstones import (
    Ended,
    add_tombstone,
    has_tombstone,
    link_target,
    remove_tombstone,
)
from gateway.model import Change, Reason
from gateway.stores.protocols import Conflict, Database, Row, Transaction


class LinkRefusal(StrEnum):
    """Why nobody is signed in, or linked; the value is for the audit log."""

    NOT_LINKED = "not_linked"
    """Nobody here is linked with them, and no account is made."""
    EMAIL_UNVERIFIED = "email_unverified"
    """The provider has not verified the address, or names none."""
    ADDRESS_TAKEN = "address_taken"
    """The address has an account, which they have to link themselves."""
    ACCOUNT_DISABLED = "account_disabled"
    OWN_ADDRESS_UNVERIFIED = "own_address_unverified"
    """Of the account that was to be linked."""
    LINKED_ELSEWHERE = "linked_elsewhere"
    """With another account."""
    LINKED_ALREADY = "linked_already"
    """The account, with somebody else of the same provider."""
    SESSION_ENDED = "session_ended"
    """In which it was asked for."""
    LAST_WAY_IN = "last_way_in"
    """Without it nobody could sign in to the account."""
    ENDED_THERE = "ended_there"
    """The provider has ended what it gave, meanwhile."""
    TOO_SOON = "too_soon"
    """The account has just been changed so often that its tokens are dated ahead."""


@dataclass(frozen=True, slots=True)
class LinkedAccount:
    """Who signed in; the changes are to be announced."""

    account: Account
    identity_id: str
    changes: Sequence[Change]
    is_new: bool = False
    """The account was made just now."""
    was_linked: bool = False
    """It was linked just now."""


@dataclass(frozen=True, slots=True)
class LinkedIdentity:
    """As its owner sees it."""

    provider: str
    issuer: str
    subject: str
    email: str | None
    linked_at: int
    last_used_at: int


class LinkedIdentities:
    def __init__(
        self,
        database: Database,
        notifications: SecurityNotifications,
        ended: EndedSessions | None = None,
    ) -> None:
        """`ended` is for who signs in and links; None for who shows links and takes them away."""
        self._database = database
        self._notifications = notifications
        self._ended = ended

    async def sign_in(self, identity: ProviderIdentity) -> LinkedAccount | LinkRefusal:
        """The account of somebody whom the provider knows; made or linked where the configuration
        lets it be.  Raises IdentityRefused, StoreUnavailable."""
        try:
            return await self._unless_ended(identity, lambda tx: self._sign_in(tx, identity))
        except Conflict:
            # Two tabs of one browser came back at once: it is linked now.
            return await self._unless_ended(identity, lambda tx: self._sign_in(tx, identity))

    async def link(
        self, identity: ProviderIdentity, request: LinkRequest
    ) -> LinkedAccount | LinkRefusal:
        """For the owner of the account, in the session that asked for it.  Raises the same."""
        try:
            return await self._unless_ended(identity, lambda tx: self._link(tx, identity, request))
        except Conflict:
            return LinkRefusal.LINKED_ELSEWHERE

    async def unlink(
        self,
        account_id: str,
        provider: str,
        *,
        label: str,
        session_id: str | None,
        may_be_last: bool = False,
    ) -> Sequence[Change] | LinkRefusal | None:
        """Ends the sessions that it began, but `session_id`; None where there is no such link.
        `may_be_last`: an operator, who needs no session, takes the last way in, too."""
        async with self._database.transaction() as tx:
            account = await locked(tx, account_id)
            row = await tx.one(
                f"{_SELECT} WHERE account_id = :account AND provider = :provider",
                account=account_id,
                provider=provider,
            )
            if account is None or row is None:
                return None
            if not may_be_last:
                refusal = await _not_by_owner(tx, account, session_id or "")
                if refusal is None and not await _has_other_way_in(tx, account, row):
                    refusal = LinkRefusal.LAST_WAY_IN
                if refusal is not None:
                    return refusal
            await tx.run("DELETE FROM linked_roles WHERE identity_id = :id", id=row["id"])
            await tx.run("DELETE FROM linked_identities WHERE id = :id", id=row["id"])
            target = link_target(account_id, row["issuer"], row["subject"])
            await add_tombstone(tx, Ended.LINK, target)
            await self._notifications.provider_unlinked(tx, account_id, label)
            changes = await end_sessions_of(
                tx, row["issuer"], "unlinked", subject=row["subject"], but=session_id
            )
            given = dict.fromkeys(await provided(tx, account_id, provider))
            changes += await put_provided(tx, account_id, given, provider)
            after = await locked(tx, account_id)
            if after is not None and after.roles != account.roles:
                changes.append(await outdate(tx, account_id, Reason.TOKEN_OUTDATED))
        self._notifications.wake()
        return changes

    async def of_account(self, account_id: str) -> list[LinkedIdentity]:
        async with self._database.read_transaction() as tx:
            rows = await tx.all(
                f"{_SELECT} WHERE account_id = :account ORDER BY linked_at, id", account=account_id
            )
        return [
            LinkedIdentity(
                str(row["provider"]),
                str(row["issuer"]),
                str(row["subject"]),
                row["email"],
                int(row["linked_at"]),
                int(row["last_used_at"]),
            )
            for row in rows
        ]

    async def _unless_ended(
        self,
        identity: ProviderIdentity,
        write: Callable[[Transaction], Awaitable[LinkedAccount | LinkRefusal]],
    ) -> LinkedAccount | LinkRefusal:
        """The end is looked for last, while the transaction holds the account: what was written is
        undone where there is one, and where nobody can say."""
        try:
            async with self._database.transaction() as tx:
                found = await write(tx)
                if isinstance(found, LinkRefusal):
                    return found
                if self._ended is not None and await self._ended.has_ended_of(identity):
                    raise _EndedMeanwhile
        except _EndedMeanwhile:
            return LinkRefusal.ENDED_THERE
        if found.is_new or found.was_linked:
            self._notifications.wake()
        return found

    async def _sign_in(
        self, tx: Transaction, identity: ProviderIdentity
    ) -> LinkedAccount | LinkRefusal:
        row = await _find(tx, identity)
        if row is None:
            return await self._by_address(tx, identity)
        account = await locked(tx, str(row["account_id"]))
        # Whoever unlinked it meanwhile held the account.
        row = await _find(tx, identity)
        if account is None or row is None:
            return LinkRefusal.NOT_LINKED
        if account.disabled:
            return LinkRefusal.ACCOUNT_DISABLED
        if too_soon(int(await tx.now()), account.not_before) is not None:
            return LinkRefusal.TOO_SOON
        return await _used(tx, identity, account, str(row["id"]))

    async def _by_address(
        self, tx: Transaction, identity: ProviderIdentity
    ) -> LinkedAccount | LinkRefusal:
        provider, key = identity.provider, identity.normalized_email
        if not provider.trust_email:
            # Anybody may name any address there, and must not be told whether it has an account.
            return LinkRefusal.NOT_LINKED
        if not identity.email_verified or key is None or identity.email is None:
            return LinkRefusal.EMAIL_UNVERIFIED
        known = await find_by_key(tx, key)
        if known is None:
            if provider.accounts is not AccountRule.CREATE:
                return LinkRefusal.NOT_LINKED
            # What a registration of the same address chose as its password must not come true.
            account = await add(tx, identity.email, None, verified=True)
            await registrations.delete(tx, key)
            identity_id = await _insert(tx, identity, account.id)
            return await _used(tx, identity, account, identity_id, is_new=True)
        held = await locked(tx, known.id)
        if held is None or not held.email_verified:
            return LinkRefusal.ADDRESS_TAKEN
        if held.disabled:
            return LinkRefusal.ACCOUNT_DISABLED
        if await _was_unlinked(tx, identity, held.id):
            # Its owner did not want it: they alone link it again.
            return LinkRefusal.ADDRESS_TAKEN
        if held.normalized_email != key or await _of_issuer(tx, identity, held.id) is not None:
            return LinkRefusal.ADDRESS_TAKEN
        if not is_same_mailbox(held.email, identity.email):
            # What the provider has verified may be the mailbox of somebody else.
            return LinkRefusal.ADDRESS_TAKEN
        identity_id = await _insert(tx, identity, held.id)
        await self._notifications.provider_linked(tx, held.id, provider.label)
        return await _used(tx, identity, held, identity_id, was_linked=True)

    async def _link(
        self, tx: Transaction, identity: ProviderIdentity, request: LinkRequest
    ) -> LinkedAccount | LinkRefusal:
        account = await locked(tx, request.account_id)
        if account is None:
            return LinkRefusal.SESSION_ENDED
        refusal = await _not_by_owner(tx, account, request.session_id)
        if refusal is not None:
            return refusal
        row = await _find(tx, identity)
        if row is not None:
            if row["account_id"] != account.id:
                return LinkRefusal.LINKED_ELSEWHERE
            return await _used(tx, identity, account, str(row["id"]))
        if not account.email_verified:
            # Its owner, who may yet come by mail, would share it with whoever links now.
            return LinkRefusal.OWN_ADDRESS_UNVERIFIED
        if await _of_issuer(tx, identity, account.id) is not None:
            return LinkRefusal.LINKED_ALREADY
        identity_id = await _insert(tx, identity, account.id)
        await self._notifications.provider_linked(tx, account.id, identity.provider.label)
        return await _used(tx, identity, account, identity_id, was_linked=True)


class _EndedMeanwhile(Exception):
    """Since an end was looked for first."""


_SELECT = (
    "SELECT id, account_id, issuer, subject, provider, email, linked_at, last_used_at"
    " FROM linked_identities"
)


async def _find(tx: Transaction, identity: ProviderIdentity) -> Row | None:
    return await tx.one(
        f"{_SELECT} WHERE issuer = :issuer AND subject = :subject",
        issuer=identity.provider.issuer.issuer,
        subject=identity.subject,
    )


async def _of_issuer(tx: Transaction, identity: ProviderIdentity, account_id: str) -> Row | None:
    return await tx.one(
        f"{_SELECT} WHERE issuer = :issuer AND account_id = :account",
        issuer=identity.provider.issuer.issuer,
        account=account_id,
    )


async def _was_unlinked(tx: Transaction, identity: ProviderIdentity, account_id: str) -> bool:
    target = link_target(account_id, identity.provider.issuer.issuer, identity.subject)
    return await has_tombstone(tx, Ended.LINK, target)


async def _insert(tx: Transaction, identity: ProviderIdentity, account_id: str) -> str:
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


async def _used(
    tx: Transaction,
    identity: ProviderIdentity,
    account: Account,
    identity_id: str,
    *,
    is_new: bool = False,
    was_linked: bool = False,
) -> LinkedAccount:
    """Writes what the provider says now.  `account` is held by the transaction."""
    await tx.run(
        "UPDATE linked_identities SET last_used_at = :now, provider = :provider, email = :email"
        " WHERE id = :id",
        id=identity_id,
        provider=identity.provider.name,
        email=identity.email,
        now=int(await tx.now()),
    )
    rows = await tx.all("SELECT role FROM linked_roles WHERE identity_id = :id", id=identity_id)
    try:
        name = identity.provider.name
        changes = list(await put_provided(tx, account.id, identity.attributes, name))
    except ValueError as error:
        raise IdentityRefused(str(error)) from error
    if {str(row["role"]) for row in rows} == set(identity.roles):
        if changes:
            account = await locked(tx, account.id) or account
        return LinkedAccount(account, identity_id, changes, is_new, was_linked)
    await tx.run("DELETE FROM linked_roles WHERE identity_id = :id", id=identity_id)
    for role in identity.roles:
        await tx.run(
            "INSERT INTO linked_roles (identity_id, role) VALUES (:id, :role)",
            id=identity_id,
            role=role,
        )
    after = await locked(tx, account.id)
    assert after is not None
    try:
        check_roles(after.roles)
    except ValueError as error:
        raise IdentityRefused(f"it gives too many roles: {error}") from error
    if after.roles != account.roles and not is_new:
        changes.append(await outdate(tx, account.id, Reason.TOKEN_OUTDATED))
    return LinkedAccount(after, identity_id, changes, is_new, was_linked)


async def _not_by_owner(tx: Transaction, account: Account, session_id: str) -> LinkRefusal | None:
    """Why whoever came with this session may change no link of the account now."""
    if not await is_live(tx, session_id, account.id):
        return LinkRefusal.SESSION_ENDED
    if account.disabled:
        return LinkRefusal.ACCOUNT_DISABLED
    if too_soon(int(await tx.now()), account.not_before) is not None:
        return LinkRefusal.TOO_SOON
    return None


async def _has_other_way_in(tx: Transaction, account: Account, row: Row) -> bool:
    if account.password_hash is not None:
        return True
    other = await tx.one(
        "SELECT 1 FROM linked_identities WHERE account_id = :account AND id <> :id"
        " UNION ALL SELECT 1 FROM passkeys WHERE account_id = :account",
        account=account.id,
        id=row["id"],
    )
    return other is not None
