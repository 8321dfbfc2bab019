"""Recovery codes: for who has lost the factor.

Law: ten, of 120 random bits each, shown once; only their hashes rest, and each counts once.  A code
that was used, or replaced, does not come back with a backup.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from typing import Any

from gateway.identity.base64url import encoded
from gateway.identity.factors.factor_kinds import FactorKind, FactorProof
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.tombstones import ALL, Ended, add_tombstone, kind_of
from gateway.stores.protocols import Database, Transaction

CODES = 10
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's: no letter that reads like another sign."""
_LENGTH, _GROUP = 24, 6
_READ_AS = str.maketrans("oil", "011")
_CODE = re.compile(f"[{_ALPHABET}]{{{_LENGTH}}}", re.ASCII)


class RecoveryCodeFactor:
    """Verifies the codes of accounts."""

    def __init__(self, database: Database, notifications: SecurityNotifications) -> None:
        """`notifications` tells the owner of each that is used, and how many are left."""
        self._database = database
        self._notifications = notifications

    async def verify(self, account_id: str, answer: Any) -> FactorProof | None:
        """None for a wrong code, and for one that was taken before.  What is taken is used up in
        the same moment, for all workers.  Raises StoreUnavailable."""
        code = recovery_code_of(answer)
        if code is None:
            return None
        digest = _hash(account_id, code)
        async with self._database.transaction() as tx:
            used = await tx.one(
                "DELETE FROM recovery_codes WHERE hash = :hash AND account_id = :id"
                " RETURNING created_at",
                hash=digest,
                id=account_id,
            )
            if used is None:
                return None
            # Its time, too: those that take its place are to be later, whatever the clock says.
            made_at = int(used["created_at"])
            await add_tombstone(tx, Ended.RECOVERY_CODE, digest, made_at, of=account_id)
            left = await codes_left(tx, account_id)
            await self._notifications.recovery_code_used(tx, account_id, left)
        self._notifications.wake()
        return FactorProof(FactorKind.RECOVERY_CODE, ("otp",), codes_left=left)


async def make_codes(tx: Transaction, account_id: str) -> Sequence[str]:
    """Ten new codes in the place of all that are left.  The account's row is held by the
    transaction."""
    made_at = await remove_codes(tx, account_id)
    codes = [_new_code() for _ in range(CODES)]
    await tx.many(
        "INSERT INTO recovery_codes (hash, account_id, created_at) VALUES (:hash, :account, :at)",
        [{"hash": _hash(account_id, code), "account": account_id, "at": made_at} for code in codes],
    )
    return [_shown(code) for code in codes]


async def remove_codes(tx: Transaction, account_id: str) -> int:
    """The second of which the next codes are: a restore drops those of before it, whether they
    were used or replaced, by one tombstone.  The account's row is held by the transaction."""
    rows = await tx.all(
        "DELETE FROM recovery_codes WHERE account_id = :id RETURNING created_at", id=account_id
    )
    kind = kind_of(Ended.RECOVERY_CODE, account_id)
    used = await tx.all(
        "DELETE FROM tombstones WHERE kind = :kind AND target <> :all RETURNING epoch, ended_at",
        kind=kind,
        all=ALL,
    )
    last = await tx.one(
        "SELECT epoch FROM tombstones WHERE kind = :kind AND target = :all", kind=kind, all=ALL
    )
    now = max(int(await tx.now()), 0 if last is None else int(last["epoch"]))
    if not rows and not used:
        return now
    # Later than each of them, within one second and where a clock was set back, too.
    times = [int(row["created_at"]) for row in rows]
    times += [int(row[at]) for row in used for at in ("epoch", "ended_at")]
    epoch = max(now, *times) + 1
    await add_tombstone(tx, Ended.RECOVERY_CODE, ALL, epoch, of=account_id)
    return epoch


async def drop_replaced(tx: Transaction) -> int:
    """For a restore: delete the codes that others have taken the place of; how many."""
    return await tx.run(
        "DELETE FROM recovery_codes WHERE EXISTS (SELECT 1 FROM tombstones t"
        " WHERE t.kind = :prefix || recovery_codes.account_id AND t.target = :all"
        " AND recovery_codes.created_at < t.epoch)",
        prefix=kind_of(Ended.RECOVERY_CODE, ""),
        all=ALL,
    )


async def drop_older_sets(tx: Transaction) -> int:
    """For a restore: of the codes of a backup and of the database that an account has leave those
    that were made last; how many went."""
    return await tx.run(
        "DELETE FROM recovery_codes WHERE EXISTS (SELECT 1 FROM recovery_codes other"
        " WHERE other.account_id = recovery_codes.account_id"
        " AND other.created_at > recovery_codes.created_at)"
    )


async def codes_left(tx: Transaction, account_id: str) -> int:
    row = await tx.one(
        "SELECT COUNT(*) AS codes FROM recovery_codes WHERE account_id = :id", id=account_id
    )
    return 0 if row is None else int(row["codes"])


def recovery_code_of(answer: object) -> str | None:
    """The code as it is hashed; None for what is none.  Case, groups and the letters that read
    like digits are as people write them down."""
    if not isinstance(answer, str):
        return None
    plain = "".join(c for c in answer if not c.isspace() and c != "-")
    plain = plain.lower().translate(_READ_AS)
    return plain if _CODE.fullmatch(plain) else None


def _new_code() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def _shown(code: str) -> str:
    return "-".join(code[at : at + _GROUP] for at in range(0, _LENGTH, _GROUP))


def _hash(account_id: str, code: str) -> str:
    """So many random bits need no slow hash (ASVS v5.0.0-6.5.2: 112); that of one account is of no
    use to another."""
    text = f"authgate recovery code\x00{account_id}\x00{code}"
    return encoded(hashlib.sha256(text.encode()).digest())
