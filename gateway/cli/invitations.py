"""`gateway users invite|invitations|revoke-invitation`: whom an operator lets register."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.access.snapshot import Snapshot
from gateway.audit.operator_events import invitation_event
from gateway.cli.account_names import account_of
from gateway.cli.configuration_files import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.configurations import read
from gateway.cli.context import CommandContext, run, user_name
from gateway.cli.output import AsJson, CliError, ExitCode, echo, record, table, when
from gateway.email_address import display_email, normalize_email
from gateway.identity.accounts.invitations import Invitations, InvitationTerms, NewInvitation
from gateway.identity.accounts.registration_rules import invitation_problem
from gateway.identity.accounts.role_names import check_roles
from gateway.identity.mail.invitations import Invitation
from gateway.identity.mail.links import Purpose
from gateway.identity.mail.options import link
from gateway.model import Reason

_DAY_S = 86_400
_DAYS, _MOST_DAYS = 7, 365

InvitedEmail = Annotated[
    str, typer.Argument(metavar="EMAIL", help="The address that may register.")
]


def invite(
    email: InvitedEmail,
    role: Annotated[
        list[str] | None, typer.Option("--role", help="A role; may be repeated.")
    ] = None,
    days: Annotated[
        int, typer.Option("--days", min=1, max=_MOST_DAYS, help="How long it is good.")
    ] = _DAYS,
    no_mail: Annotated[
        bool, typer.Option("--no-mail", help="Send no mail: bring the printed link yourself.")
    ] = False,
    verified: Annotated[
        bool,
        typer.Option(
            "--verified",
            help="The address is known to be the owner's: the printed link proves it too.",
        ),
    ] = False,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Let one address register, once, and print the link, once.

    A mail brings the invited a link of its own, which also confirms the address.  An account that
    is made with the printed one has to confirm it, unless --verified says that it need not.  A
    new invitation ends the one before it.
    """
    shown = display_email(email)
    if shown is None:
        raise CliError("this is not an address that mail can reach", ExitCode.USAGE)
    roles = role or []
    try:
        check_roles(roles)
    except ValueError as error:
        raise CliError(str(error), ExitCode.USAGE) from error

    async def work(context: CommandContext) -> dict[str, Any]:
        _check_rules(context, shown)
        terms = InvitationTerms(roles, days * _DAY_S, not no_mail, verified, user_name())
        invited = await Invitations(context.database).invite(shown, terms)
        if isinstance(invited, Reason):
            account = await account_of(context, shown)
            told = "`gateway roles grant` gives it roles"
            if not account.email_verified:
                told = (
                    "nobody has confirmed the address, so whoever registered it has it: its owner"
                    " takes it over by a password reset, `gateway users delete` erases it"
                )
            raise CliError(f"there is an account with this address already; {told}")
        _tell(context, shown, "invited", invited.invitation)
        pages = context.settings.pages_of_links(lambda: _uses_pages(config, policies))
        return _new_fields(context, invited, pages)

    fields = run(work)
    if not as_json:
        fields["expires_at"] = when(fields["expires_at"])
    record(fields, as_json=as_json)


def show_invitations(as_json: AsJson = False) -> None:
    """List the invitations that are still good, by address."""

    async def work(context: CommandContext) -> list[Invitation]:
        return await Invitations(context.database).every()

    rows = [_fields(invitation) for invitation in run(work)]
    if not as_json:
        for row in rows:
            row["expires_at"] = when(row["expires_at"])
    columns = ["email", "roles", "verified", "mail", "invited_by", "expires_at"]
    table(rows, columns, as_json=as_json)


def revoke_invitation(email: InvitedEmail) -> None:
    """End the invitation of an address; both of its links are good no more."""
    key = normalize_email(email)
    if key is None:
        raise CliError("this is not an address", ExitCode.USAGE)

    async def work(context: CommandContext) -> bool:
        revoked = await Invitations(context.database).revoke(email)
        if revoked:
            _tell(context, email, "invitation revoked", None)
        return revoked

    if not run(work):
        raise CliError("this address has no invitation; `gateway users invitations` shows them")
    echo(f"revoked: the invitation of {email.strip()}")


def _check_rules(context: CommandContext, email: str) -> None:
    """CliError (exit 2) where the gateway of these settings would take no registration of the
    address."""
    rules = context.settings.registration_rules
    problem = invitation_problem(rules, normalize_email(email) or "")
    if problem:
        raise CliError(problem, ExitCode.USAGE)


def _tell(context: CommandContext, email: str, change: str, invitation: Invitation | None) -> None:
    pseudonym = context.audit.pseudonym(normalize_email(email) or "")
    context.record(invitation_event(pseudonym, change, invitation))


def _new_fields(
    context: CommandContext, invited: NewInvitation, pages: str | None
) -> dict[str, Any]:
    fields = _fields(invited.invitation)
    if invited.invitation.mail_id is not None and context.settings.smtp_url is None:
        fields["mail"] = "kept in the outbox, as there is no GATEWAY_SMTP_URL"
    url = link(context.settings.public_url, pages, Purpose.INVITATION, invited.token)
    return {**fields, "token": invited.token, "link": url}


def _uses_pages(config: Path, policies: Path) -> bool:
    snapshot = read(config, policies)
    return isinstance(snapshot, Snapshot) and snapshot.uses_pages


def _fields(invitation: Invitation) -> dict[str, Any]:
    mail = "none"
    if invitation.mail_id is not None:
        mail = "written" if invitation.mailed else "waiting"
    return {
        "email": invitation.email,
        "roles": list(invitation.roles),
        "verified": invitation.verified,
        "mail": mail,
        "invited_by": invitation.invited_by,
        "expires_at": invitation.expires_at,
    }
