"""The passkeys of one account, as its owner changes them; each is a factor like the others (see
`own_factors`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.identity.factors.factor_kinds import FactorKind, FactorProof
from gateway.identity.factors.own_factors import (
    Enrolled,
    FactorOwner,
    OriginEnded,
    OwnFactors,
    owned,
)
from gateway.identity.factors.passkey_records import NewCredential
from gateway.identity.factors.passkeys import (
    PASSKEYS_MAX,
    Passkey,
    PasskeyProblem,
    delete_passkey,
    insert_passkey,
    new_passkey,
    passkeys_of,
    rename_passkey,
)
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.model import Change, Reason
from gateway.stores.protocols import Conflict, Database


@dataclass(frozen=True, slots=True)
class AddedPasskey:
    passkey: Passkey
    enrolled: Enrolled


@dataclass(frozen=True, slots=True)
class RemovedPasskey:
    passkey: Passkey
    changes: Sequence[Change]
    """The sessions that ended with it."""


class OwnPasskeys:
    def __init__(
        self, database: Database, factors: OwnFactors, notifications: SecurityNotifications
    ) -> None:
        self._database = database
        self._factors = factors
        self._notifications = notifications

    async def add(
        self, owner: FactorOwner, name: str, new: NewCredential
    ) -> AddedPasskey | PasskeyProblem | Reason:
        """A Reason, as of `own_factors.owned`, where the owner may not any more; INVALID_TOKEN
        as of `OwnFactors.confirm_totp`."""
        try:
            async with self._database.transaction() as tx:
                account = await owned(tx, owner)
                if isinstance(account, Reason):
                    return account
                if len(await passkeys_of(tx, account.id)) >= PASSKEYS_MAX:
                    return PasskeyProblem.TOO_MANY
                passkey = new_passkey(account.id, name, new, int(await tx.now()))
                await insert_passkey(tx, passkey)
                proof = FactorProof(FactorKind.PASSKEY, passkey.amr, passkey.id)
                enrolled = await self._factors.enrolled(tx, owner, proof, _told(name))
        except Conflict:
            return PasskeyProblem.REGISTERED
        except OriginEnded:
            return Reason.INVALID_TOKEN
        self._notifications.wake()
        return AddedPasskey(passkey, enrolled)

    async def rename(self, passkey_id: str, owner: FactorOwner, name: str) -> Passkey | Reason:
        """ROUTE_UNKNOWN where it is not the owner's."""
        async with self._database.transaction() as tx:
            account = await owned(tx, owner)
            if isinstance(account, Reason):
                return account
            renamed = await rename_passkey(tx, passkey_id, account.id, name)
        return renamed or Reason.ROUTE_UNKNOWN

    async def remove(self, passkey_id: str, owner: FactorOwner) -> RemovedPasskey | Reason:
        """ROUTE_UNKNOWN where it is not the owner's."""
        async with self._database.transaction() as tx:
            account = await owned(tx, owner)
            if isinstance(account, Reason):
                return account
            passkey = await delete_passkey(tx, passkey_id, account.id)
            if passkey is None:
                return Reason.ROUTE_UNKNOWN
            changes = await self._factors.removed(tx, owner, _told(passkey.name))
        self._notifications.wake()
        return RemovedPasskey(passkey, changes)


def _told(name: str) -> str:
    """As a mail calls it."""
    return f'the passkey "{name}"'
