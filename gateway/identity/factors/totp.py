"""TOTP (RFC 6238): codes of an authenticator app; SHA-1, six digits, 30 s, as every app has them.

Law: a code counts once, on whichever worker or node: the time step of the last one that was taken
is compared and set in SQL.  The secret rests sealed, as this factor's of this account; it is shown
once, when it is drawn, and counts from when a code of it was given.
"""

from __future__ import annotations

import hmac
import secrets
import unicodedata
from dataclasses import dataclass, field
from typing import Any

import pyotp

from gateway.identity.factors.factor_kinds import FactorKind, FactorProof
from gateway.identity.keys.encryption import SealBroken, Sealer
from gateway.identity.keys.signing_keys import WrongSecret, lock
from gateway.identity.tombstones import Ended, add_tombstone
from gateway.stores.protocols import Database, Row, StoreUnavailable, Transaction

STEP_S = 30
DIGITS = 6
DRIFT_STEPS = 1
"""How far the clock of a phone may be off, either way (RFC 6238 section 5.2)."""
SECRET_LENGTH = 32
"""Characters of base32: 160 bits (RFC 4226 section 4, R6)."""
ENROLMENT_S = 600
"""How long a secret that was shown may be confirmed."""


@dataclass(frozen=True, slots=True)
class NewTotp:
    """A secret that was drawn, shown this once."""

    id: str
    secret: str = field(repr=False)

    def uri(self, email: str, site: str) -> str:
        """What an app reads from a QR code."""
        return pyotp.TOTP(self.secret).provisioning_uri(name=email, issuer_name=site)


class TotpFactor:
    """Enrols and verifies the codes of accounts."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def verify(self, account_id: str, answer: Any) -> FactorProof | None:
        """None for a wrong code, and for one that was taken before.  What is taken is used up in
        the same moment, for all workers.  Raises StoreUnavailable."""
        code = code_of(answer)
        async with self._database.read_transaction() as tx:
            row = await tx.one(
                f"{_SELECT} WHERE account_id = :id AND confirmed_at IS NOT NULL", id=account_id
            )
            now = await tx.now()
        step = None if row is None else self._step(row, code or "", now)
        if row is None or step is None:
            return None
        async with self._database.transaction() as tx:
            taken = await tx.run(
                "UPDATE totp_factors SET last_step = :step"
                " WHERE id = :id AND confirmed_at IS NOT NULL AND last_step < :step",
                id=row["id"],
                step=step,
            )
        return FactorProof(FactorKind.TOTP, ("otp",), str(row["id"])) if taken else None

    async def begin(self, tx: Transaction, account_id: str, begun_by: str) -> NewTotp:
        """Draw a secret, in the place of one that waits to be confirmed.  What was confirmed
        counts until the new one is.  Raises StoreUnavailable where the secret would be sealed
        under a key that is no longer the installation's."""
        try:
            await lock(tx, self._sealer)
        except WrongSecret as error:
            raise StoreUnavailable("keys", "the key secret was replaced: restart") from error
        drawn = NewTotp("totp-" + secrets.token_hex(10), pyotp.random_base32(SECRET_LENGTH))
        await tx.run(
            "DELETE FROM totp_factors WHERE account_id = :id AND confirmed_at IS NULL",
            id=account_id,
        )
        await tx.run(
            "INSERT INTO totp_factors (id, account_id, sealed_secret, begun_by, created_at,"
            " last_step) VALUES (:id, :account, :sealed, :begun_by, :now, 0)",
            id=drawn.id,
            account=account_id,
            sealed=self._sealer.seal(_name(drawn.id, account_id), drawn.secret.encode()),
            begun_by=begun_by,
            now=int(await tx.now()),
        )
        return drawn

    async def confirm(
        self, tx: Transaction, account_id: str, begun_by: str, answer: str
    ) -> FactorProof | None:
        """Let the secret count that `begun_by` was shown, in the place of an older one; None for
        a wrong code.  The account's row is held by the transaction."""
        row = await tx.one(
            f"{_SELECT} WHERE account_id = :id AND confirmed_at IS NULL AND begun_by = :begun_by",
            id=account_id,
            begun_by=begun_by,
        )
        now = await tx.now()
        if row is None or int(row["created_at"]) + ENROLMENT_S <= now:
            return None
        step = self._step(row, code_of(answer) or "", now)
        if step is None:
            return None
        await remove_totp(tx, account_id)
        await tx.run(
            "UPDATE totp_factors SET confirmed_at = :now, last_step = :step WHERE id = :id",
            id=row["id"],
            now=int(now),
            step=step,
        )
        return FactorProof(FactorKind.TOTP, ("otp",), str(row["id"]))

    def _step(self, row: Row, code: str, now: float) -> int | None:
        """The time step of the code; None for a wrong one, and for one that was taken."""
        name = _name(str(row["id"]), str(row["account_id"]))
        try:
            secret = self._sealer.unseal(name, str(row["sealed_secret"])).decode()
        except SealBroken as error:
            raise StoreUnavailable("keys", "a factor is sealed under another secret") from error
        generator, current = pyotp.TOTP(secret), int(now) // STEP_S
        matching = None
        for step in range(current - DRIFT_STEPS, current + DRIFT_STEPS + 1):
            # Each is compared, whatever matched: the time says nothing of the phone's clock.
            same = hmac.compare_digest(generator.generate_otp(step).encode(), code.encode())
            if same and step > int(row["last_step"]) and matching is None:
                matching = step
        return matching


async def is_confirmed(tx: Transaction, factor_id: str) -> bool:
    """Whether it counts, and nobody has removed or replaced it."""
    row = await tx.one(
        "SELECT 1 FROM totp_factors WHERE id = :id AND confirmed_at IS NOT NULL", id=factor_id
    )
    return row is not None


async def remove_totp(tx: Transaction, account_id: str) -> bool:
    """Whether the account had one that was confirmed; a restore does not bring it back."""
    rows = await tx.all(
        "DELETE FROM totp_factors WHERE account_id = :id AND confirmed_at IS NOT NULL RETURNING id",
        id=account_id,
    )
    for row in rows:
        await add_tombstone(tx, Ended.FACTOR, str(row["id"]), of=account_id)
    return bool(rows)


async def purge_enrolments(database: Database) -> None:
    """Delete secrets that nobody has confirmed in time."""
    async with database.transaction() as tx:
        await tx.run(
            "DELETE FROM totp_factors WHERE confirmed_at IS NULL AND created_at < :before",
            before=int(await tx.now()) - ENROLMENT_S,
        )


async def reseal_totp(tx: Transaction, old: Sealer, new: Sealer) -> int:
    """Every secret sealed under another key secret, for `gateway keys reseal`; how many there
    were.  One that `old` does not open stays as it is, and opens to nobody."""
    rows = await tx.all(_SELECT)
    for row in rows:
        name = _name(str(row["id"]), str(row["account_id"]))
        try:
            secret = old.unseal(name, str(row["sealed_secret"]))
        except SealBroken:
            continue
        await tx.run(
            "UPDATE totp_factors SET sealed_secret = :sealed WHERE id = :id",
            id=row["id"],
            sealed=new.seal(name, secret),
        )
    return len(rows)


def code_of(answer: object) -> str | None:
    """The six digits, in ASCII; None for what is no code.  People type them as they are shown, in
    groups, and with the digits of their own keyboard."""
    if not isinstance(answer, str):
        return None
    digits = [c for c in answer if not c.isspace() and c != "-"]
    if len(digits) != DIGITS or not all(c.isdecimal() for c in digits):
        return None
    return "".join(str(unicodedata.decimal(c)) for c in digits)


_SELECT = "SELECT id, account_id, sealed_secret, created_at, last_step FROM totp_factors"


def _name(factor_id: str, account_id: str) -> str:
    """What the secret is sealed as; no `kid` has a space."""
    return f"totp {factor_id} {account_id}"
