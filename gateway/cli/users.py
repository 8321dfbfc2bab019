"""`gateway users create|list|show|disable|enable|unlock|delete|import|export`, and what is of
`cli.factors`, `cli.invitations` and `cli.personal_keys`."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.app.data_dir import DataFolder
from gateway.audit.log import AuditKind
from gateway.cli.account_names import Email, account_of, named
from gateway.cli.attributes import attributes, shown, tenants
from gateway.cli.context import CommandContext, run
from gateway.cli.factors import factor_fields, reset_factors
from gateway.cli.invitations import invite, revoke_invitation, show_invitations
from gateway.cli.output import (
    AsJson,
    CliError,
    ExitCode,
    confirm_erasing,
    data,
    echo,
    record,
    table,
    warn,
    when,
)
from gateway.cli.personal_keys import keys
from gateway.edge.endpoints.json_body import PASSWORD
from gateway.edge.replies.cookies import erase_sessions
from gateway.email_address import display_email, normalize_email
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.known_passwords import KnownPasswords
from gateway.identity.accounts.passwords import (
    PasswordOptions,
    Passwords,
    WeakPassword,
    calibrated_rounds,
)
from gateway.identity.accounts.role_names import check_roles
from gateway.identity.accounts.user_import import BadLine, BadLines, import_users, read_users
from gateway.identity.sessions.sessions import Sessions
from gateway.identity.sign_in.throttle import forget_failures
from gateway.model import Change, Reason

NewEmail = Annotated[str, typer.Argument(metavar="EMAIL", help="The address of the account.")]
_MOST_LISTED = 1000


def register(app: typer.Typer) -> None:
    users = typer.Typer(no_args_is_help=True, help="Accounts.")
    users.command("create")(create)
    users.command("list")(show_all)
    users.command("show")(show)
    users.command("disable")(disable)
    users.command("enable")(enable)
    users.command("unlock")(unlock)
    users.command("delete")(delete)
    users.command("import")(import_)
    users.command("export")(export)
    users.command("invite")(invite)
    users.command("invitations")(show_invitations)
    users.command("revoke-invitation")(revoke_invitation)
    users.command("keys")(keys)
    users.command("reset-factors")(reset_factors)
    users.command("attributes")(attributes)
    users.command("tenants")(tenants)
    app.add_typer(users, name="users")


def create(
    email: NewEmail,
    role: Annotated[
        list[str] | None, typer.Option("--role", help="A role; may be repeated.")
    ] = None,
    password_stdin: Annotated[
        bool,
        typer.Option(
            "--password-stdin",
            help="Read the password from the first line of standard input.  Without it a random"
            " one is made and printed, once.",
        ),
    ] = False,
    verified: Annotated[
        bool, typer.Option("--verified", help="The address is known to be the owner's.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make an account."""
    shown = display_email(email)
    if shown is None:
        raise CliError("this is not an address that mail can reach", ExitCode.USAGE)
    roles = role or []
    try:
        check_roles(roles)
    except ValueError as error:
        raise CliError(str(error), ExitCode.USAGE) from error
    password = _first_line() if password_stdin else secrets.token_urlsafe(18)

    async def work(context: CommandContext) -> Account:
        account = await add_account(context, shown, password, roles, verified=verified)
        context.tell(AuditKind.ACCOUNT_CHANGED, account.id, "created", roles=",".join(roles))
        return account

    fields = account_fields(run(work))
    if not as_json:
        fields["created_at"] = when(fields["created_at"])
    if not password_stdin:
        fields["password"] = password
    record(fields, as_json=as_json)


def show_all(
    after: Annotated[
        str, typer.Option("--after", help="Go on behind this address (1,000 are listed at once).")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """List the accounts by address."""

    async def work(context: CommandContext) -> list[Account]:
        key = normalize_email(after) or after.strip()
        return await Accounts(context.database).page(after=key, limit=_MOST_LISTED)

    rows = [account_fields(account) for account in run(work)]
    if not as_json:
        for row in rows:
            row["created_at"] = when(row["created_at"])
    table(
        rows, ["email", "user_id", "roles", "verified", "disabled", "created_at"], as_json=as_json
    )
    if len(rows) == _MOST_LISTED:
        warn(f"there may be more: --after {rows[-1]['email']}")


def show(email: Email, as_json: AsJson = False) -> None:
    """Show one account, its second factors, and how many sessions it has."""

    async def work(context: CommandContext) -> dict[str, Any]:
        account = await account_of(context, email)
        sessions = await _sessions(context).find_active(account.id)
        return {
            **account_fields(account),
            "attributes": dict(account.attributes),
            "tenants": dict(account.tenants),
            "sessions": len(sessions),
            **await factor_fields(context, account.id),
        }

    fields = run(work)
    if not as_json:
        fields["created_at"] = when(fields["created_at"])
        fields["factor_term_began_at"] = when(fields["factor_term_began_at"])
        for name in ("attributes", "tenants"):
            fields[name] = ", ".join(f"{one}={shown(value)}" for one, value in fields[name].items())
    record(fields, as_json=as_json)


def disable(email: Email) -> None:
    """Shut an account: its sessions end, its tokens are refused at once."""

    async def work(context: CommandContext) -> Account:
        account = await account_of(context, email)
        changes = await Accounts(context.database).disable(account.id)
        context.tell(AuditKind.ACCOUNT_CHANGED, account.id, "disabled")
        await context.publish(changes)
        return account

    echo(f"disabled: {named(run(work))}")


def enable(email: Email) -> None:
    """Open a disabled account again; what was refused stays refused."""

    async def work(context: CommandContext) -> Account:
        account = await account_of(context, email)
        await Accounts(context.database).enable(account.id)
        context.tell(AuditKind.ACCOUNT_CHANGED, account.id, "enabled")
        return account

    echo(f"enabled: {named(run(work))}")


def unlock(email: Email) -> None:
    """Forget the failed attempts to sign in to an account."""

    async def work(context: CommandContext) -> Account | None:
        account = await account_of(context, email)
        attempts = await context.throttle_counters()
        if attempts is None:
            return None
        await forget_failures(
            attempts, account.normalized_email, account.password_epoch, account.id
        )
        context.tell(AuditKind.ACCOUNT_CHANGED, account.id, "unlocked")
        return account

    account = run(work)
    if account is None:
        raise CliError(
            "the counters rest with the gateway: start it, then unlock", ExitCode.UNREACHABLE
        )
    echo(f"unlocked: {named(account)}")


def delete(
    email: Email,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase an account and all that belongs to it."""

    async def look(context: CommandContext) -> Account:
        return await account_of(context, email)

    account = run(look)
    confirm_erasing(named(account), yes=yes)

    async def work(context: CommandContext) -> Sequence[Change]:
        accounts = Accounts(context.database)
        cookies = await accounts.cookie_hashes(account.id)
        changes = await accounts.delete(account.id)
        # By id alone: the address is erased with the account.
        context.tell(AuditKind.ACCOUNT_CHANGED, account.id, "deleted")
        try:
            await context.publish(changes)
        finally:
            if context.redis is not None and context.attempts is not None:
                await erase_sessions(context.redis, cookies)
                await forget_failures(
                    context.attempts, account.normalized_email, account.password_epoch, account.id
                )
        return changes

    run(work)
    echo(f"deleted: {named(account)}")


def import_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="CSV with a header line, or JSON lines (.jsonl)."),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report the bad lines and change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring in accounts of another system with their bcrypt hashes: all of them, or none.

    Fields: email, password_hash (bcrypt; without one a reset by mail gives a password),
    verified (true or false), roles (in CSV separated by spaces).
    """
    try:
        lines = read_users(file.read_bytes(), json_lines=file.suffix == ".jsonl")
    except OSError as error:
        raise CliError(f"{file}: {error.strerror}", ExitCode.USAGE) from error

    async def work(context: CommandContext) -> Sequence[BadLine]:
        if isinstance(lines, BadLines):
            return lines.problems
        problems = await import_users(context.database, lines, dry_run=dry_run)
        if not problems and not dry_run:
            context.tell(AuditKind.ACCOUNT_CHANGED, None, "imported", accounts=str(len(lines)))
        return problems

    problems = run(work)
    count = 0 if isinstance(lines, BadLines) else len(lines)
    if as_json:
        found = [{"line": bad.line, "problem": bad.problem} for bad in problems]
        data({"accounts": 0 if problems or dry_run else count, "problems": found})
    else:
        for bad in problems:
            echo(f"{file}:{bad.line}: {bad.problem}")
    if problems:
        raise CliError(f"{len(problems)} bad lines; nothing was brought in")
    if not as_json:
        echo(f"{count} accounts {'could be ' if dry_run else ''}brought in")


def export(email: Email) -> None:
    """Print all that is held of one person, as JSON: the account, its roles and its sessions."""

    async def work(context: CommandContext) -> dict[str, Any] | None:
        account = await account_of(context, email)
        return await Accounts(context.database).export(account.id)

    data(run(work))


async def add_account(
    context: CommandContext, email: str, password: str, roles: Sequence[str], *, verified: bool
) -> Account:
    """CliError (exit 1) for a weak password or an address that has an account."""
    settings = context.settings
    pepper = settings.password_pepper
    options = PasswordOptions(
        pepper=pepper.get_secret_value().encode() if pepper else None,
        min_length=settings.password_min_length,
        is_known=KnownPasswords(DataFolder(settings.data_dir).known_passwords).hold,
    )
    rounds = await calibrated_rounds(context.database, settings.bcrypt_rounds)
    passwords = Passwords(options, rounds)
    try:
        made = await passwords.hash(password, words=(email,))
    finally:
        passwords.close()
    if isinstance(made, WeakPassword):
        raise CliError(f"the password is refused: {made.hint}")
    if isinstance(made, Reason):
        raise CliError(f"the password could not be hashed: {made}", ExitCode.UNREACHABLE)
    account = await Accounts(context.database).register(email, made, roles=roles, verified=verified)
    if isinstance(account, Reason):
        raise CliError("there is an account with this address already")
    return account


def account_fields(account: Account) -> dict[str, Any]:
    """What is shown of an account: no hash, no token (CVE-2019-12452)."""
    return {
        "user_id": account.id,
        "email": account.email,
        "roles": list(account.roles),
        "verified": account.email_verified,
        "disabled": account.disabled,
        "created_at": account.created_at,
    }


def _sessions(context: CommandContext) -> Sessions:
    return Sessions(context.database, idle_s=context.settings.refresh_idle_s)


def _first_line() -> str:
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise CliError("standard input holds no password", ExitCode.USAGE)
    # What no sign-in could send would make an account that nobody gets into.
    if (problem := PASSWORD.problem(line)) is not None:
        raise CliError(f"the password on standard input {problem}", ExitCode.USAGE)
    return line
