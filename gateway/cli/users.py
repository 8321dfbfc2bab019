"""`gateway users create|list|show|disable|enable|unlock|delete|import|export`."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.audit.log import AuditKind
from gateway.cli.opening import House, run
from gateway.cli.output import (
    AsJson,
    ExitCode,
    Stop,
    confirm_erasing,
    data,
    record,
    remark,
    say,
    table,
    when,
)
from gateway.edge.replies.cookies import erase_sessions
from gateway.identity.accounts.accounts import Account, Accounts, check_roles
from gateway.identity.accounts.passwords import PasswordOptions, Passwords, Weak, settled_rounds
from gateway.identity.accounts.user_import import BadLine, BadLines, bring_people_in, read_people
from gateway.identity.email_address import address_key, shown_address
from gateway.identity.sessions.sessions import Sessions
from gateway.identity.sign_in.throttle import account_counters
from gateway.model import Change, Reason

Email = Annotated[
    str, typer.Argument(metavar="EMAIL", help="The address of the account, or its user_id.")
]
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
    users.command("import")(bring_in)
    users.command("export")(export)
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
    shown = shown_address(email)
    if shown is None:
        raise Stop("this is not an address that mail can reach", ExitCode.USAGE)
    roles = role or []
    try:
        check_roles(roles)
    except ValueError as error:
        raise Stop(str(error), ExitCode.USAGE) from error
    password = _first_line() if password_stdin else secrets.token_urlsafe(18)

    async def work(house: House) -> Account:
        account = await add_account(house, shown, password, roles, verified=verified)
        house.tell(AuditKind.ACCOUNT_CHANGED, account.id, "created", roles=",".join(roles))
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

    async def work(house: House) -> list[Account]:
        key = address_key(after) or after.strip()
        return await Accounts(house.database).page(after=key, limit=_MOST_LISTED)

    rows = [account_fields(account) for account in run(work)]
    if not as_json:
        for row in rows:
            row["created_at"] = when(row["created_at"])
    table(
        rows, ["email", "user_id", "roles", "verified", "disabled", "created_at"], as_json=as_json
    )
    if len(rows) == _MOST_LISTED:
        remark(f"there may be more: --after {rows[-1]['email']}")


def show(email: Email, as_json: AsJson = False) -> None:
    """Show one account and how many sessions it has."""

    async def work(house: House) -> dict[str, Any]:
        account = await account_of(house, email)
        sessions = await _sessions(house).live(account.id)
        return {**account_fields(account), "sessions": len(sessions)}

    fields = run(work)
    if not as_json:
        fields["created_at"] = when(fields["created_at"])
    record(fields, as_json=as_json)


def disable(email: Email) -> None:
    """Shut an account: its sessions end, its tokens are refused at once."""

    async def work(house: House) -> Account:
        account = await account_of(house, email)
        changes = await Accounts(house.database).disable(account.id)
        house.tell(AuditKind.ACCOUNT_CHANGED, account.id, "disabled")
        await house.publish(changes)
        return account

    say(f"disabled: {named(run(work))}")


def enable(email: Email) -> None:
    """Open a disabled account again; what was refused stays refused."""

    async def work(house: House) -> Account:
        account = await account_of(house, email)
        await Accounts(house.database).enable(account.id)
        house.tell(AuditKind.ACCOUNT_CHANGED, account.id, "enabled")
        return account

    say(f"enabled: {named(run(work))}")


def unlock(email: Email) -> None:
    """Forget the failed attempts to sign in to an account."""

    async def work(house: House) -> Account | None:
        account = await account_of(house, email)
        attempts = await house.throttle_counters()
        if attempts is None:
            return None
        await attempts.clear(account_counters(account.email_key, account.password_epoch))
        house.tell(AuditKind.ACCOUNT_CHANGED, account.id, "unlocked")
        return account

    account = run(work)
    if account is None:
        raise Stop(
            "the counters rest with the gateway: start it, then unlock", ExitCode.UNREACHABLE
        )
    say(f"unlocked: {named(account)}")


def delete(
    email: Email,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase an account and all that belongs to it."""

    async def look(house: House) -> Account:
        return await account_of(house, email)

    account = run(look)
    confirm_erasing(named(account), yes=yes)

    async def work(house: House) -> Sequence[Change]:
        accounts = Accounts(house.database)
        cookies = await accounts.cookie_hashes(account.id)
        changes = await accounts.delete(account.id)
        # By id alone: the address is erased with the account.
        house.tell(AuditKind.ACCOUNT_CHANGED, account.id, "deleted")
        try:
            await house.publish(changes)
        finally:
            if house.redis is not None and house.attempts is not None:
                counters = account_counters(account.email_key, account.password_epoch)
                await erase_sessions(house.redis, cookies)
                await house.attempts.clear(counters)
        return changes

    run(work)
    say(f"deleted: {named(account)}")


def bring_in(
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
        lines = read_people(file.read_bytes(), json_lines=file.suffix == ".jsonl")
    except OSError as error:
        raise Stop(f"{file}: {error.strerror}", ExitCode.USAGE) from error

    async def work(house: House) -> Sequence[BadLine]:
        if isinstance(lines, BadLines):
            return lines.problems
        problems = await bring_people_in(house.database, lines, dry_run=dry_run)
        if not problems and not dry_run:
            house.tell(AuditKind.ACCOUNT_CHANGED, None, "imported", accounts=str(len(lines)))
        return problems

    problems = run(work)
    count = 0 if isinstance(lines, BadLines) else len(lines)
    if as_json:
        found = [{"line": bad.line, "problem": bad.problem} for bad in problems]
        data({"accounts": 0 if problems or dry_run else count, "problems": found})
    else:
        for bad in problems:
            say(f"{file}:{bad.line}: {bad.problem}")
    if problems:
        raise Stop(f"{len(problems)} bad lines; nothing was brought in")
    if not as_json:
        say(f"{count} accounts {'could be ' if dry_run else ''}brought in")


def export(email: Email) -> None:
    """Print all that is held of one person, as JSON: the account, its roles and its sessions."""

    async def work(house: House) -> dict[str, Any] | None:
        account = await account_of(house, email)
        return await Accounts(house.database).held_of(account.id)

    data(run(work))


async def account_of(house: House, email: str) -> Account:
    """The account of an address or a `user_id`; Stop(1) where there is none."""
    accounts = Accounts(house.database)
    account = await (accounts.by_email(email) if "@" in email else accounts.by_id(email))
    if account is None:
        raise Stop("there is no account with this address; `gateway users list` shows them")
    return account


def named(account: Account) -> str:
    """The account that was found: two spellings may be one account, or two that look alike."""
    return f"{account.email} ({account.id})"


async def add_account(
    house: House, email: str, password: str, roles: Sequence[str], *, verified: bool
) -> Account:
    """Stop(1) for a weak password or an address that has an account."""
    settings = house.settings
    pepper = settings.password_pepper
    options = PasswordOptions(
        pepper=pepper.get_secret_value().encode() if pepper else None,
        min_length=settings.password_min_length,
    )
    rounds = await settled_rounds(house.database, settings.bcrypt_rounds)
    passwords = await Passwords.open(options, rounds)
    try:
        made = await passwords.hash(password, words=(email,))
    finally:
        passwords.close()
    if isinstance(made, Weak):
        raise Stop(f"the password is refused: {made.hint}")
    if isinstance(made, Reason):
        raise Stop(f"the password could not be hashed: {made}", ExitCode.UNREACHABLE)
    account = await Accounts(house.database).register(email, made, roles=roles, verified=verified)
    if isinstance(account, Reason):
        raise Stop("there is an account with this address already")
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


def _sessions(house: House) -> Sessions:
    return Sessions(house.database, idle_s=house.settings.refresh_idle_s)


def _first_line() -> str:
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise Stop("standard input holds no password", ExitCode.USAGE)
    return line
