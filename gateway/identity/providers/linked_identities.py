"""Whose account it is that somebody signs in to by a provider.

Law: who has an identity has its account, so none is linked by a stranger's word.  An account is
linked by its owner in a session, or by an address that both sides have verified, the provider in a
way that the operator trusts; one whose own address nobody has verified is neither taken over nor
takes over.  Roles that a provider gives are kept apart, and are those of the last sign-in.  Nothing
of it is written once the provider has ended what it gave (`ended_sessions`).  A provider is its
issuer, whatever the configuration calls it (`link_rows`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from gateway.access.providers import AccountRule, Provider
from gateway.email_address import is_same_mailbox
from gateway.identity.accounts.account_facts import take_back_provided
from gateway.identity.accounts.account_rows import Account, find_by_key, locked
from gateway.identity.accounts.accounts import add
from gateway.identity.mail import registrations
from gateway.identity.mail.links import Purpose, revoke_links
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.providers.ended_sessions import EndedSessions
from gateway.identity.providers.identities import ProviderIdentity
from gateway.identity.providers.link_rows import (
    LinkedIdentity,
    find_link,
    has_other_way_in,
    insert_link,
    issuers_of,
    link_with_issuer,
    linked_identity,
    links_of,
    named,
    was_unlinked,
    words_of,
    write_what_is_said,
)
from gateway.identity.providers.provider_sessions import end_sessions_of
from gateway.identity.providers.round_trips import LinkRequest
from gateway.identity.sessions.sessions import is_live, outdate
from gateway.identity.sessions.token_dates import too_soon
from gateway.identity.tombstones import Ended, add_tombstone, link_target
from gateway.model import Change, Reason
from gateway.stores.protocols import Conflict, Database, Transaction

_NONE: Mapping[str, Provider] = MappingProxyType({})


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
    BARRED = "barred"
    """A role keeps the account away from something: who parts it from a provider could come back
    by that without it."""
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
class Unlinked:
    """What went; the changes are to be announced."""

    providers: str
    """As their owner saw them."""
    changes: Sequence[Change]


class LinkedIdentities:
    def __init__(
        self,
        database: Database,
        notifications: SecurityNotifications,
        ended: EndedSessions | None = None,
        providers: Callable[[], Mapping[str, Provider]] = lambda: _NONE,
        *,
        barring_roles: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        """`ended` is for who signs in and links; None for who shows links and takes them away.
        `providers` are those of the running configuration, and `barring_roles` what nobody takes
        off who has it."""
        self._database = database
        self._notifications = notifications
        self._ended = ended
        self._providers = providers
        self._barring_roles = barring_roles

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
        session_id: str | None,
        may_be_last: bool = False,
    ) -> Unlinked | LinkRefusal | None:
        """`provider` is as `named` takes it.  Ends the sessions that it began, but
        `session_id`; None where there is no such link.
        `may_be_last`: an operator, who needs no session, takes the last way in, too."""
        providers = self._providers()
        async with self._database.transaction() as tx:
            account = await locked(tx, account_id)
            rows = await links_of(tx, account_id)
            gone = named(rows, provider, providers)
            if account is None or not gone:
                return None
            left = [row for row in rows if row not in gone]
            issuers = issuers_of(providers)
            ways = [row for row in left if row["issuer"] in issuers]
            if not may_be_last:
                refusal = await _not_by_owner(tx, account, session_id or "")
                if refusal is None and not self._barring_roles().isdisjoint(account.roles):
                    refusal = LinkRefusal.BARRED
                if refusal is None and not await has_other_way_in(tx, account, ways):
                    refusal = LinkRefusal.LAST_WAY_IN
                if refusal is not None:
                    return refusal
            for row in gone:
                await tx.run("DELETE FROM linked_roles WHERE identity_id = :id", id=row["id"])
                await tx.run("DELETE FROM linked_identities WHERE id = :id", id=row["id"])
                target = link_target(account_id, row["issuer"], row["subject"])
                await add_tombstone(tx, Ended.LINK, target)
            names = list(dict.fromkeys(linked_identity(row, providers).provider for row in gone))
            labels = [providers[name].label if name in providers else name for name in names]
            await self._notifications.provider_unlinked(tx, account_id, ", ".join(labels))
            # Who signed in so may have asked for a change of the address, and have it confirmed.
            await revoke_links(tx, account_id, Purpose.EMAIL_CHANGE)
            changes: list[Change] = []
            for row in gone:
                changes += await end_sessions_of(
                    tx, row["issuer"], "unlinked", subject=row["subject"], but=session_id
                )
            changes += await take_back_provided(
                tx, account_id, words_of(gone), None if ways else words_of(left)
            )
            after = await locked(tx, account_id)
            if after is not None and after.roles != account.roles:
                changes.append(await outdate(tx, account_id, Reason.TOKEN_OUTDATED))
        self._notifications.wake()
        return Unlinked(", ".join(names), changes)

    async def of_account(self, account_id: str) -> list[LinkedIdentity]:
        async with self._database.read_transaction() as tx:
            rows = await links_of(tx, account_id)
        providers = self._providers()
        return [linked_identity(row, providers) for row in rows]

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
        row = await find_link(tx, identity)
        if row is None:
            return await self._by_address(tx, identity)
        account = await locked(tx, str(row["account_id"]))
        # Whoever unlinked it meanwhile held the account.
        row = await find_link(tx, identity)
        if account is None or row is None:
            return LinkRefusal.NOT_LINKED
        if account.disabled:
            return LinkRefusal.ACCOUNT_DISABLED
        if too_soon(int(await tx.now()), account.not_before) is not None:
            return LinkRefusal.TOO_SOON
        return await self._used(tx, identity, account, str(row["id"]))

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
            identity_id = await insert_link(tx, identity, account.id)
            return await self._used(tx, identity, account, identity_id, is_new=True)
        held = await locked(tx, known.id)
        if held is None or not held.email_verified:
            return LinkRefusal.ADDRESS_TAKEN
        if held.disabled:
            return LinkRefusal.ACCOUNT_DISABLED
        if await was_unlinked(tx, identity, held.id):
            # Its owner did not want it: they alone link it again.
            return LinkRefusal.ADDRESS_TAKEN
        if (
            held.normalized_email != key
            or await link_with_issuer(tx, identity, held.id) is not None
        ):
            return LinkRefusal.ADDRESS_TAKEN
        if not is_same_mailbox(held.email, identity.email):
            # What the provider has verified may be the mailbox of somebody else.
            return LinkRefusal.ADDRESS_TAKEN
        identity_id = await insert_link(tx, identity, held.id)
        await self._notifications.provider_linked(tx, held.id, provider.label)
        return await self._used(tx, identity, held, identity_id, was_linked=True)

    async def _link(
        self, tx: Transaction, identity: ProviderIdentity, request: LinkRequest
    ) -> LinkedAccount | LinkRefusal:
        account = await locked(tx, request.account_id)
        if account is None:
            return LinkRefusal.SESSION_ENDED
        refusal = await _not_by_owner(tx, account, request.session_id)
        if refusal is not None:
            return refusal
        row = await find_link(tx, identity)
        if row is not None:
            if row["account_id"] != account.id:
                return LinkRefusal.LINKED_ELSEWHERE
            return await self._used(tx, identity, account, str(row["id"]))
        if not account.email_verified:
            # Its owner, who may yet come by mail, would share it with whoever links now.
            return LinkRefusal.OWN_ADDRESS_UNVERIFIED
        if await link_with_issuer(tx, identity, account.id) is not None:
            return LinkRefusal.LINKED_ALREADY
        identity_id = await insert_link(tx, identity, account.id)
        await self._notifications.provider_linked(tx, account.id, identity.provider.label)
        return await self._used(tx, identity, account, identity_id, was_linked=True)

    async def _used(
        self,
        tx: Transaction,
        identity: ProviderIdentity,
        account: Account,
        identity_id: str,
        *,
        is_new: bool = False,
        was_linked: bool = False,
    ) -> LinkedAccount:
        after, changes = await write_what_is_said(
            tx,
            identity,
            account,
            identity_id,
            issuers=issuers_of(self._providers()),
            is_new=is_new,
            was_linked=was_linked,
        )
        return LinkedAccount(after, identity_id, changes, is_new, was_linked)


class _EndedMeanwhile(Exception):
    """Since an end was looked for first."""


async def _not_by_owner(tx: Transaction, account: Account, session_id: str) -> LinkRefusal | None:
    """Why whoever came with this session may change no link of the account now."""
    if not await is_live(tx, session_id, account.id):
        return LinkRefusal.SESSION_ENDED
    if account.disabled:
        return LinkRefusal.ACCOUNT_DISABLED
    if too_soon(int(await tx.now()), account.not_before) is not None:
        return LinkRefusal.TOO_SOON
    return None
