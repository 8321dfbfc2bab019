"""`gateway roles grant|revoke|list`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.audit.log import AuditKind
from gateway.cli.account_names import Email, account_of, named, warn_unconfirmed
from gateway.cli.context import CommandContext, run
from gateway.cli.output import AsJson, CliError, ExitCode, echo, table, warn
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.role_names import check_roles

Role = Annotated[str, typer.Argument(metavar="ROLE", help="1 to 128 of A-Z a-z 0-9 . _ : @ -")]


def register(app: typer.Typer) -> None:
    roles = typer.Typer(no_args_is_help=True, help="Roles; a change holds on the next request.")
    roles.command("grant")(grant)
    roles.command("revoke")(revoke)
    roles.command("list")(show)
    app.add_typer(roles, name="roles")


def grant(email: Email, role: Role) -> None:
    """Give an account a role.  Tokens it holds are outdated; a refresh brings the new roles."""

    async def work(context: CommandContext) -> Account | None:
        account = await account_of(context, email)
        warn_unconfirmed(context, account, email)
        try:
            check_roles([role])
            changes = await Accounts(context.database).grant(account.id, role)
        except ValueError as error:
            raise CliError(str(error), ExitCode.USAGE) from error
        if changes:
            context.tell(AuditKind.ROLE_CHANGED, account.id, "granted", role=role)
            await context.publish(changes)
        return account if changes else None

    account = run(work)
    if account is None:
        warn("the account has this role already")
        return
    echo(f"granted: {named(account)}")


def revoke(email: Email, role: Role) -> None:
    """Take a role from an account; the tokens that carry it are refused at once."""

    async def work(context: CommandContext) -> Account | None:
        account = await account_of(context, email)
        changes = await Accounts(context.database).revoke(account.id, role)
        if changes:
            context.tell(AuditKind.ROLE_CHANGED, account.id, "revoked", role=role)
            await context.publish(changes)
        return account if changes else None

    account = run(work)
    if account is None:
        raise CliError("the account does not have this role")
    echo(f"revoked: {named(account)}")


def show(
    email: Annotated[
        str | None, typer.Argument(metavar="[EMAIL]", help="Only the roles of this account.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the roles that accounts have, and how many have each."""

    async def work(context: CommandContext) -> list[dict[str, Any]]:
        if email is not None:
            account = await account_of(context, email)
            return [{"role": role} for role in account.roles]
        counts = await Accounts(context.database).role_counts()
        return [{"role": role, "accounts": count} for role, count in counts]

    columns = ["role", "accounts"] if email is None else ["role"]
    table(run(work), columns, as_json=as_json)
