"""Second factors: which kinds there are, which an account has, and what one proves.

Law: whether a sign-in needs a second factor is judged where its session begins, under the lock of
the account: no way to sign in can forget it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.access.factor_rule import FactorRule
from gateway.identity.accounts.account_rows import Account
from gateway.stores.protocols import Transaction

MFA = "mfa"
"""Of `amr` (RFC 8176 section 2): more than one factor was given."""

BEGIN_TERM = (
    "INSERT INTO factor_terms (account_id, began_at) SELECT id, :now FROM accounts"
    " WHERE id = :id ON CONFLICT (account_id) DO NOTHING"
)
"""The term of `require_factor`: never anew, and of no account that is gone."""


class FactorKind(StrEnum):
    TOTP = "totp"
    PASSKEY = "passkey"
    RECOVERY_CODE = "recovery_code"
    """For who has lost the others: an account has none without another factor."""


@dataclass(frozen=True, slots=True)
class AccountVersion:
    """What an account was when somebody proved it to be theirs: another password, and whatever
    outdates its tokens, make another of it."""

    password_epoch: int
    not_before: int

    @classmethod
    def of(cls, account: Account) -> AccountVersion:
        return cls(account.password_epoch, account.not_before)


@dataclass(frozen=True, slots=True)
class FactorProof:
    """A factor that was given and was right.  `amr` is what it adds to the methods of a sign-in,
    `mfa` aside."""

    kind: FactorKind
    amr: tuple[str, ...]
    factor_id: str = ""
    """Of the code generator, or of the passkey."""
    codes_left: int | None = None
    """Of a recovery code: how many are left."""


@dataclass(frozen=True, slots=True)
class FactorNeeded:
    """The account was proven, and that does not suffice: one of `kinds` must come.  Where there is
    none the account has to enrol one first, as its term is over."""

    account: Account
    amr: tuple[str, ...]
    """What was proven so far."""
    kinds: tuple[FactorKind, ...]


async def factor_kinds(tx: Transaction, account_id: str) -> tuple[FactorKind, ...]:
    """The kinds that the account can answer with; empty where it has no factor."""
    rows = await tx.all(
        "SELECT DISTINCT kind FROM ("
        "SELECT 'totp' AS kind FROM totp_factors"
        " WHERE account_id = :id AND confirmed_at IS NOT NULL"
        " UNION ALL SELECT 'passkey' FROM passkeys WHERE account_id = :id"
        " UNION ALL SELECT 'recovery_code' FROM recovery_codes WHERE account_id = :id"
        ") AS held",
        id=account_id,
    )
    kinds = {FactorKind(row["kind"]) for row in rows}
    if kinds <= {FactorKind.RECOVERY_CODE}:
        return ()
    return tuple(kind for kind in FactorKind if kind in kinds)


async def has_given_factor(tx: Transaction, session_id: str) -> bool:
    """Whether the session began with a second factor, of whosever, or has one since."""
    row = await tx.one("SELECT amr FROM families WHERE id = :id", id=session_id)
    return row is not None and MFA in str(row["amr"]).split()


async def needed_factor(
    tx: Transaction, account: Account, amr: tuple[str, ...], rule: FactorRule, now: int
) -> FactorNeeded | None:
    """What a sign-in with these methods needs besides; None where they suffice.

    Whoever has a factor gives it, whatever the rule says; whoever has none enrols one, once the
    term of a rule that holds for them is over.
    """
    if MFA in amr:
        return None
    kinds = await factor_kinds(tx, account.id)
    if kinds or await term_is_over(tx, account, rule, now):
        return FactorNeeded(account, amr, kinds)
    return None


async def term_is_over(tx: Transaction, account: Account, rule: FactorRule, now: int) -> bool:
    """Whether a sign-in without a second factor does not count any more.  The term begins with the
    first sign-in that the rule is asked about, or whatever asks whether the session may go on, and
    never anew."""
    if rule.applies(account.roles) and await term_began_at(tx, account.id) is None:
        await tx.run(BEGIN_TERM, id=account.id, now=now)
    return await would_be_over(tx, account, rule, now)


async def would_be_over(tx: Transaction, account: Account, rule: FactorRule, now: int) -> bool:
    """The same of who only describes: a term that has not begun does not by this."""
    if not rule.applies(account.roles):
        return False
    began_at = await term_began_at(tx, account.id)
    return (now if began_at is None else began_at) + rule.within_s <= now


async def term_began_at(tx: Transaction, account_id: str) -> int | None:
    row = await tx.one("SELECT began_at FROM factor_terms WHERE account_id = :id", id=account_id)
    return None if row is None else int(row["began_at"])


def with_factor(amr: tuple[str, ...], proof: FactorProof) -> tuple[str, ...]:
    """The methods of a sign-in that a factor was added to."""
    return tuple(dict.fromkeys((*amr, *proof.amr, MFA)))
