"""The second factors of one account, as its owner and operators change them.

Law: each change tells the owner by mail in the transaction that makes it, and ends the other
sessions of the account: whoever has one of them may be the one from whom it is protected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.access.factor_rule import FactorRule
from gateway.identity.accounts.account_rows import Account, locked
from gateway.identity.factors.factor_kinds import (
    AccountVersion,
    FactorKind,
    FactorProof,
    factor_kinds,
    has_given_factor,
    term_began_at,
)
from gateway.identity.factors.passkeys import is_registered, passkeys_of, remove_passkeys
from gateway.identity.factors.recovery_codes import codes_left, make_codes, remove_codes
from gateway.identity.factors.totp import NewTotp, TotpFactor, is_confirmed, remove_totp
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.mail.templates import MailTemplate
from gateway.identity.sessions.session_origins import SessionOrigin, is_linked
from gateway.identity.sessions.sessions import end_every, end_others, is_live
from gateway.model import Change, Reason
from gateway.stores.protocols import Database, Transaction

TOTP_NAME = "an authenticator app"
"""As a mail calls it."""
WHY = "factors"
"""Why the sessions ended."""


@dataclass(frozen=True, slots=True)
class FactorOwner:
    """Who changes the factors of an account: by a session of it, or by a sign-in that waits for a
    factor to be enrolled."""

    account_id: str
    holder: str
    """The id of the session, or of the sign-in."""
    version: AccountVersion | None = None
    """Of a sign-in: what the account was at its first step.  None for a session."""
    origin: SessionOrigin | None = None
    """Of a sign-in: what began it besides the owner."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    proof: FactorProof
    changes: Sequence[Change]
    codes: Sequence[str] = field(repr=False)
    """New recovery codes, where the account had none."""


class ProviderEnds(Protocol):
    """`providers.ended_sessions.EndedSessions`, in whose sessions people sign in."""

    async def has_ended(self, origin: SessionOrigin | None) -> bool: ...


class OriginEnded(Exception):
    """What began the sign-in that was to enrol a factor has ended: nothing is to be written."""


class OwnFactors:
    def __init__(
        self,
        database: Database,
        totp: TotpFactor,
        notifications: SecurityNotifications,
        ends: ProviderEnds | None = None,
    ) -> None:
        """`ends` is for who enrols factors; None for who shows and resets those of others."""
        self._database = database
        self._totp = totp
        self._notifications = notifications
        self._ends = ends

    async def described(self, account_id: str) -> dict[str, Any]:
        async with self._database.read_transaction() as tx:
            return await described_factors(tx, account_id)

    async def kinds(self, account_id: str) -> tuple[FactorKind, ...]:
        async with self._database.read_transaction() as tx:
            return await factor_kinds(tx, account_id)

    async def begin_totp(self, owner: FactorOwner) -> NewTotp | Reason:
        async with self._database.transaction() as tx:
            account = await owned(tx, owner)
            if isinstance(account, Reason):
                return account
            return await self._totp.begin(tx, account.id, owner.holder)

    async def confirm_totp(self, owner: FactorOwner, code: str) -> Enrolled | Reason:
        """INVALID_CREDENTIALS for a wrong code, and where nothing waits to be confirmed by this
        owner; INVALID_TOKEN where what began their sign-in has ended.  Raises StoreUnavailable."""
        try:
            async with self._database.transaction() as tx:
                account = await owned(tx, owner)
                if isinstance(account, Reason):
                    return account
                proof = await self._totp.confirm(tx, account.id, owner.holder, code)
                if proof is None:
                    return Reason.INVALID_CREDENTIALS
                enrolled = await self.enrolled(tx, owner, proof, TOTP_NAME)
        except OriginEnded:
            return Reason.INVALID_TOKEN
        self._notifications.wake()
        return enrolled

    async def enrolled(
        self, tx: Transaction, owner: FactorOwner, proof: FactorProof, name: str
    ) -> Enrolled:
        """What follows from a new factor, in the transaction that writes it; `name` is for the
        mail.  The caller wakes the outbox after the commit, and publishes the changes.

        Last it is looked for what began the owner's sign-in, and raised OriginEnded where it has
        ended: the transaction holds the account, and undoes what it has written.
        """
        account_id = owner.account_id
        await self._notifications.factor_changed(tx, account_id, MailTemplate.FACTOR_ADDED, name)
        codes: Sequence[str] = ()
        if await codes_left(tx, account_id) == 0:
            codes = await make_codes(tx, account_id)
        changes = await end_others(tx, account_id, owner.holder, WHY)
        if self._ends is not None and await self._ends.has_ended(owner.origin):
            raise OriginEnded
        return Enrolled(proof, changes, codes)

    async def remove_totp(self, owner: FactorOwner) -> Sequence[Change] | Reason | None:
        """None where the account has none."""
        async with self._database.transaction() as tx:
            account = await owned(tx, owner)
            if isinstance(account, Reason):
                return account
            if not await remove_totp(tx, account.id):
                return None
            changes = await self.removed(tx, owner, TOTP_NAME)
        self._notifications.wake()
        return changes

    async def removed(self, tx: Transaction, owner: FactorOwner, name: str) -> Sequence[Change]:
        """What follows from the removal of a factor, as `enrolled`.  With the last one go the
        recovery codes."""
        account_id = owner.account_id
        if not await factor_kinds(tx, account_id):
            await remove_codes(tx, account_id)
        await self._notifications.factor_changed(tx, account_id, MailTemplate.FACTOR_REMOVED, name)
        return await end_others(tx, account_id, owner.holder, WHY)

    async def renew_codes(self, owner: FactorOwner) -> Sequence[str] | Reason | None:
        """None where the account has no factor that they could stand in for."""
        async with self._database.transaction() as tx:
            account = await owned(tx, owner)
            if isinstance(account, Reason):
                return account
            if not await factor_kinds(tx, account.id):
                return None
            codes = await make_codes(tx, account.id)
            await self._notifications.notify(tx, account.id, MailTemplate.RECOVERY_CODES_MADE)
        self._notifications.wake()
        return codes

    async def reset(self, account_id: str) -> Sequence[Change] | None:
        """For operators: every factor and every session of the account ends; None where there is
        no such account.  The term in which it has to enrol one does not begin anew."""
        async with self._database.transaction() as tx:
            if await locked(tx, account_id) is None:
                return None
            await erase_factors(tx, account_id)
            await self._notifications.notify(tx, account_id, MailTemplate.FACTORS_RESET)
            changes = await end_every(tx, account_id, WHY)
        self._notifications.wake()
        return changes


async def owned(tx: Transaction, owner: FactorOwner) -> Account | Reason:
    """The account, its row held by the transaction; TOKEN_REVOKED where it, or the session, has
    ended meanwhile, or the link by which a provider began a sign-in; and where a sign-in would
    enrol a factor beside one that there is.

    INSUFFICIENT_USER_AUTHENTICATION where the account has got a factor meanwhile and the session
    was not begun with it, nor stepped up: whoever has only stolen it was asked too early.
    """
    account = await locked(tx, owner.account_id)
    if account is None or account.disabled:
        return Reason.TOKEN_REVOKED
    if owner.version is None:
        if not await is_live(tx, owner.holder, account.id):
            return Reason.TOKEN_REVOKED
        if await factor_kinds(tx, account.id) and not await has_given_factor(tx, owner.holder):
            return Reason.INSUFFICIENT_USER_AUTHENTICATION
        return account
    if owner.origin is not None and not await is_linked(tx, owner.origin, account.id):
        return Reason.TOKEN_REVOKED
    # Whoever has the password may have been first: they hold the factor, and this one does not.
    if owner.version != AccountVersion.of(account) or await factor_kinds(tx, account.id):
        return Reason.TOKEN_REVOKED
    return account


async def still_counts(tx: Transaction, account_id: str, proof: FactorProof) -> bool:
    """Whether nobody has removed the factor since it was given; of a recovery code, whether there
    is a factor that it stands in for."""
    match proof.kind:
        case FactorKind.TOTP:
            return await is_confirmed(tx, proof.factor_id)
        case FactorKind.PASSKEY:
            return await is_registered(tx, proof.factor_id)
    return bool(await factor_kinds(tx, account_id))


async def erase_factors(tx: Transaction, account_id: str) -> None:
    """Every factor and every recovery code; no backup brings one back."""
    await remove_totp(tx, account_id)
    await tx.run("DELETE FROM totp_factors WHERE account_id = :id", id=account_id)
    await remove_passkeys(tx, account_id)
    await remove_codes(tx, account_id)


async def described_factors(tx: Transaction, account_id: str) -> dict[str, Any]:
    """What an owner, and an operator, is told: no secret."""
    totp = await tx.one(
        "SELECT confirmed_at FROM totp_factors WHERE account_id = :id AND confirmed_at IS NOT NULL",
        id=account_id,
    )
    return {
        "totp": None if totp is None else {"created_at": int(totp["confirmed_at"])},
        "passkeys": len(await passkeys_of(tx, account_id)),
        "recovery_codes_left": await codes_left(tx, account_id),
        "term_began_at": await term_began_at(tx, account_id),
    }


def with_term(
    described: Mapping[str, Any], rule: FactorRule, roles: Iterable[str]
) -> dict[str, Any]:
    """What is told besides: whether the account must have a factor (`required`), and until when it
    may be without (`enrol_by`; None once it has one, and where its term has not begun)."""
    told = dict(described)
    began_at = told.pop("term_began_at")
    required = rule.applies(roles)
    has_factor = bool(told["totp"] or told["passkeys"])
    enrol_by = None
    if required and not has_factor and began_at is not None:
        enrol_by = began_at + rule.within_s
    return {**told, "required": required, "enrol_by": enrol_by}
