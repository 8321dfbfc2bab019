"""Which account a command is about, and how it is named in its answer."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.context import CommandContext
from gateway.cli.output import CliError, warn
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts

Email = Annotated[
    str, typer.Argument(metavar="EMAIL", help="The address of the account, or its user_id.")
]


async def account_of(context: CommandContext, email: str) -> Account:
    """The account of an address or a `user_id`; CliError (exit 1) where there is none."""
    accounts = Accounts(context.database)
    account = await (accounts.by_email(email) if "@" in email else accounts.by_id(email))
    if account is None:
        raise CliError("there is no account with this address; `gateway users list` shows them")
    return account


def warn_unconfirmed(context: CommandContext, account: Account, email: str) -> None:
    """Where anybody may register an address: who it was named by need not be who has it."""
    optional = context.settings.email_verification == "optional"
    if optional and "@" in email and not account.email_verified:
        warn(
            "nobody has confirmed this address: whoever registered it has the account. Its owner"
            " takes it over by a password reset"
        )


def named(account: Account) -> str:
    """The account that was found: two spellings may be one account, or two that look alike."""
    return f"{account.email} ({account.id})"
