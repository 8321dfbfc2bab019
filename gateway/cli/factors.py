"""`gateway users reset-factors EMAIL`, and what `gateway users show` tells of second factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.audit.log import AuditKind
from gateway.cli.account_names import Email, account_of, named
from gateway.cli.context import CommandContext, run
from gateway.cli.notifications import notifications_of
from gateway.cli.output import CliError, echo
from gateway.identity.accounts.account_rows import Account
from gateway.identity.factors.own_factors import OwnFactors
from gateway.identity.factors.totp import TotpFactor
from gateway.identity.keys.encryption import Sealer
from gateway.model import Change


def reset_factors(email: Email) -> None:
    """Remove every second factor of an account, for an owner who has lost them.

    Passkeys and recovery codes go too, every session and personal key ends, and the owner is told
    by mail.  Know by other means who is asking: after this the password alone signs in, or
    enrols a factor.
    """

    async def work(context: CommandContext) -> Account:
        account = await account_of(context, email)
        changes: Sequence[Change] | None = await _own_factors(context).reset(account.id)
        if changes is None:
            raise CliError("the account has been deleted meanwhile")
        context.tell(AuditKind.FACTORS_RESET, account.id, "reset")
        await context.publish(changes)
        return account

    echo(f"reset: {named(run(work))}")


async def factor_fields(context: CommandContext, account_id: str) -> dict[str, Any]:
    """Which factors an account has, and from when the term counts in which it needs one."""
    described = await _own_factors(context).described(account_id)
    kinds = ["totp"] if described["totp"] else []
    kinds += ["passkey"] * described["passkeys"]
    return {
        "factors": kinds,
        "recovery_codes_left": described["recovery_codes_left"],
        "factor_term_began_at": described["term_began_at"],
    }


def _own_factors(context: CommandContext) -> OwnFactors:
    totp = TotpFactor(context.database, Sealer(context.key_secret))
    return OwnFactors(context.database, totp, notifications_of(context))
